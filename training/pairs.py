"""Reads two objects from a clip: colour, shape and direction of each, from masks cut out by colour (outline.py).

Shape is the ideal shape that fits best, over the frames in which the two do not touch; direction is the mask's track.
Captions whose rendered clip this reader itself misreads (colours lost in the background, one hidden most of the time) are
of no use as a measure: `readable` says so. The two colours of a caption differ.

    python pairs.py     # how many rendered clips are read right
"""
import random

import torch
import torch.nn.functional as F

import outline
import world

SEEN = .012   # an object that is there covers at least this share of the frame's square height in its larger half of frames


def direction(masks, apart):
    """Track of masks [F,H,W] -> one of world.DIRECTION's values. apart: frames in which the whole object is seen."""
    x, y, area = outline.centres(masks)
    seen = area > 0
    if seen.sum() < 4:
        return 'none'
    h, n = masks.shape[1], len(masks)
    whole = seen & apart if (seen & apart).sum() >= 6 else seen
    time = torch.arange(n).float()

    def slope(v, use):    # change over the whole clip
        t = time[use] - time[use].mean()
        return float((t * (v[use] - v[use].mean())).sum() / (t ** 2).sum()) * (n - 1)

    x, y = x / h * 2, y / h * 2
    dx, dy = slope(x, seen), slope(y, seen)
    growth = slope(area.clamp(min=1).log(), whole)
    if abs(growth) > 1 and (seen & apart).sum() >= 6:   # one that slips behind the other, or out of the frame, loses area too
        return 'grow' if growth > 0 else 'shrink'
    y = y[seen]
    y = F.avg_pool1d(F.pad(y.view(1, 1, -1), (1, 1), mode='replicate'), 3, 1).flatten()   # a wavering outline is no bounce
    way, net, span = float((y[1:] - y[:-1]).abs().sum()), float((y[-1] - y[0]).abs()), float(y.max() - y.min())
    if span > .25 and way > 1.6 * net:
        return 'bounce'
    if max(abs(dx), abs(dy)) > .3:
        return ('left' if dx < 0 else 'right') if abs(dx) > abs(dy) else ('up' if dy < 0 else 'down')
    return 'grow' if growth > .5 else 'shrink' if growth < -.5 else 'still'


def color(clip, mask, scene):
    """The world's colour that most of a mask's inside is nearest to."""
    inner = outline.inside(mask, 2)
    p = ((clip.float() + 1) / 2).permute(1, 2, 3, 0)[inner if inner.any() else mask]
    if not len(p):
        return 'none'
    near = torch.stack([torch.cdist(p, outline.shades(c, scene.sky)).amin(1) for c in world.COLORS]).argmin(0)
    return list(world.COLORS)[int(near.mode().values)]


def shape(masks, frames):
    """The ideal shape that fits the masks of the given frames best."""
    return world.SHAPES[int(outline.best(masks[frames], steps=12).mean(0).argmax())]


def read(clip, scene):
    """-> for each object of the scene (colour, shape, direction) as read, 'none' where nothing of its colour is seen"""
    masks = outline.cut(clip, scene)
    grown = [outline.around(m, 2) for m in masks]
    touch = (grown[0] & grown[1]).flatten(1).any(1) if len(masks) > 1 else torch.zeros(len(masks[0]), dtype=torch.bool)
    out = []
    for m in masks:
        area = m.flatten(1).sum(1).float()
        if float(area.median()) < SEEN * m.shape[1] ** 2:
            out.append(('none', 'none', 'none')); continue
        whole = ~touch & ~outline.at_border(m)
        good = whole & (area > 0)
        use = (good if good.any() else area > 0).nonzero().flatten()
        use = use[torch.linspace(0, len(use) - 1, min(6, len(use))).round().long()]
        out.append((color(clip, m, scene), shape(m, use), direction(m, whole)))
    return out


def wanted(scene):
    return [(o.color, o.shape, world.DIRECTION[o.motion]) for o in scene.things]


def readable(scene, f, h, w):
    return read(world.render(scene, f, h, w)[0], scene) == wanted(scene)


def sample(rng):
    """A scene of two held-out objects of different colours, the camera still."""
    while True:
        s = world.sample_scene(rng, True, things=2); s.pan = 0.
        if s.things[0].color != s.things[1].color:
            return s


def main():
    torch.set_num_threads(1); rng = random.Random(1); right = 0
    for i in range(60):
        s = sample(rng); got = read(world.render(s, 17, 128, 128)[0], s); right += got == wanted(s)
        if got != wanted(s):
            print(s.sky, s.ground, [(g, w, o.motion, o.fast) for g, w, o in zip(got, wanted(s), s.things)])
    print(f'{right} of 60')


if __name__ == '__main__':
    main()
