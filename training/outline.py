"""Outlines: cuts objects out of a clip by their colour and asks how well an ideal shape fits the cut-out.

A pixel belongs to an object when it is nearer to the object's colour under the scene's light (from shadow side to lit side)
than to every colour of the scene's background and of the other object. What is left of the largest patch is the mask. The
ideal shape is `world.distance` with the position, size and turn of the best overlap. No network takes part.

    python outline.py [--vae FOLDER] [--size 128]   # what rendered clips reach, and rendered clips after the VAE
"""
import argparse
import functools
import math
import random

import torch
import torch.nn.functional as F

import world

TURNS = {'ball': 0., 'ring': 0., 'cube': math.pi / 2, 'triangle': 2 * math.pi / 3, 'star': 2 * math.pi / 5}   # a turn by so much shows the same
REACH = .22      # a pixel further than this from the object's colour (distance in RGB, 0..1) is not the object's


def shades(color, sky):
    """The colours [15,3] that an object of one colour takes under a sky's light."""
    light = world.LIGHT[sky] * .45 + .55
    return (torch.tensor(world.COLORS[color]) * torch.linspace(.45, 1.15, 15).view(-1, 1) * light).clamp(0, 1)


def backdrop(scene):
    """Colours [N,3] of all that is not an object: sky, ground with and without shadow, hills, sun or moon."""
    light = world.LIGHT[scene.sky]
    top, low = (torch.tensor(c) for c in world.SKIES[scene.sky])
    u = torch.linspace(0, 1, 16).view(-1, 1)
    ground = torch.tensor(world.GROUNDS[scene.ground]) * light
    parts = [top * (1 - u) + low * u, (ground * (1 - .25 * u)).unsqueeze(0).mul(1 - .45 * torch.linspace(0, 1, 8).view(-1, 1, 1)).flatten(0, 1)]
    if scene.ground == 'sea':
        parts += [parts[1][:16] - .03, parts[1][:16] + .03]
    if scene.hills is not None:
        parts.append((torch.tensor((.22, .32, .30)) * light + low * .25).view(1, 3))
    if scene.sky in world.DISC:
        parts.append(torch.tensor(world.DISC[scene.sky]).view(1, 3).float())
    return torch.cat(parts).clamp(0, 1)


def patches(masks):
    """Of the masks [N,H,W] what hangs together with the largest patch, or is at least a quarter as large."""
    n, h, w = masks.shape
    label = (torch.arange(1, h * w + 1).view(1, h, w) * masks).float()
    for i in range(4 * (h + w)):
        grown = F.max_pool2d(label.unsqueeze(1), 3, 1, 1).squeeze(1) * masks
        if i % 8 == 7 and torch.equal(grown, label):
            break
        label = grown
    size = torch.zeros(n, h * w + 1).scatter_add_(1, label.long().flatten(1), masks.float().flatten(1))
    keep = size >= .25 * size.amax(1, keepdim=True).clamp(min=1)
    return masks & keep.gather(1, label.long().flatten(1)).view(masks.shape)


def around(masks, px):
    """The masks grown by px pixels."""
    return F.max_pool2d(masks.float().unsqueeze(1), 2 * px + 1, 1, px).squeeze(1) > .5


def inside(masks, px):
    """The masks without their outermost px pixels."""
    return ~around(~masks, px)


def sharpen(p, mask):
    """Draws the mask's edge anew where a pixel is as much object as background, by the colours of either side near it: a soft
    edge passes through colours that are nearest to something else. p [F,H,W,3] in 0..1, mask [F,H,W]."""
    inner, outer = inside(mask, 1), ~around(mask, 1)
    p = p.permute(0, 3, 1, 2)

    def near(where):     # the mean colour of the chosen pixels around each pixel, and whether there is one
        sums = torch.cat([p * where.unsqueeze(1), where.unsqueeze(1).float()], 1)
        for _ in range(2):
            sums = F.avg_pool2d(sums, 5, 1, 2)
        return sums[:, :3] / sums[:, 3:].clamp(min=1e-6), sums[:, 3] > 1e-5

    (own, a), (ground, b) = near(inner), near(outer)
    way = own - ground
    share = ((p - ground) * way).sum(1) / (way * way).sum(1).clamp(min=1e-4)
    band = a & b & ~inner & ~outer
    return torch.where(band, share > .5, mask)


def cut(clip, scene):
    """clip [3,F,H,W] in -1..1 -> a mask [F,H,W] for every object of the scene."""
    video = ((clip.float() + 1) / 2).permute(1, 2, 3, 0)
    p = video.reshape(-1, 3)
    far = lambda colors: torch.cdist(p, colors).amin(1)
    own = torch.stack([far(shades(o.color, scene.sky)) for o in scene.things])
    other = far(backdrop(scene))
    masks = []
    for i in range(len(own)):
        rest = torch.cat([own[:i], own[i + 1:], other.unsqueeze(0)]).amin(0)
        masks.append(patches(sharpen(video, patches(((own[i] < rest) & (own[i] < REACH)).view(clip.shape[1:])))))
    return masks


def at_border(masks):
    return (masks[:, 0].any(1) | masks[:, -1].any(1) | masks[:, :, 0].any(1) | masks[:, :, -1].any(1))


def centres(masks):
    """-> x, y, area [N] in px; the centre of an empty mask is 0, 0"""
    m = masks.float(); area = m.sum((1, 2))
    x = (m.sum(1) * torch.arange(m.shape[2])).sum(1) / area.clamp(min=1)
    y = (m.sum(2) * torch.arange(m.shape[1])).sum(1) / area.clamp(min=1)
    return x, y, area


@functools.cache
def form(shape):
    """Area and centre (x, y) of the ideal shape of radius 1."""
    v = (torch.arange(600) + .5) / 200 - 1.5
    y, x = torch.meshgrid(v, v, indexing='ij')
    inside = (world.distance(shape, x, y, torch.tensor(1.)) < 0).float()
    return float(inside.sum() / 200 ** 2), float((inside * x).sum() / inside.sum()), float((inside * y).sum() / inside.sum())


def covered(shape, x, y, r, a, px, py):
    """Signed distance in px of the points px, py to the shapes at x, y, of radius r, turned by a."""
    x, y, r, a = (t.view(-1, 1, 1) for t in (x, y, r, a))
    dx, dy = (px - x) / r, (py - y) / r
    one = torch.ones_like(r)
    return world.distance(shape, dx * torch.cos(a) + dy * torch.sin(a), -dx * torch.sin(a) + dy * torch.cos(a), one) * r


def overlap(a, b):
    """IoU [N] of masks [N,H,W]; 0 for two empty ones."""
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp(min=1)


def fit(masks, shape, steps=24):
    """masks [N,H,W] -> IoU [N] with the best ideal shape. From the mask's centre and area and a search over turns, then by
    gradients of a soft overlap; 0 for an empty mask."""
    full = masks
    cx, cy, area = centres(masks)
    rows, columns = masks.any(2).float(), masks.any(1).float()
    reach = int(max(rows.sum(1).max(), columns.sum(1).max(), 8)) // 2 + 8
    k, ox, oy = form(shape)
    span = torch.arange(-reach, reach + 1)
    n, h, w = masks.shape
    ys, xs = (cy.round().long().view(-1, 1) + span), (cx.round().long().view(-1, 1) + span)
    inside = ((ys >= 0) & (ys < h)).unsqueeze(2) & ((xs >= 0) & (xs < w)).unsqueeze(1)
    m = masks[torch.arange(n).view(-1, 1, 1), ys.clamp(0, h - 1).unsqueeze(2), xs.clamp(0, w - 1).unsqueeze(1)] & inside
    px, py = xs.unsqueeze(1).float(), ys.unsqueeze(2).float()
    r = (area / k).sqrt().clamp(min=1)
    half = (m[:, ::2, ::2], px[:, :, ::2], py[:, ::2])

    def start(a):
        a = torch.as_tensor(a, dtype=torch.float32).expand(n)
        x = cx - r * (ox * torch.cos(a) - oy * torch.sin(a)); y = cy - r * (ox * torch.sin(a) + oy * torch.cos(a))
        return x, y, r, a

    most, found = torch.full((n,), -1.), [torch.zeros(n)] * 4
    for i in range(12 if TURNS[shape] else 1):
        guess = start(TURNS[shape] * i / 12)
        got = overlap(half[0], covered(shape, *guess, *half[1:]) < 0)
        found = [torch.where(got > most, g, f) for g, f in zip(guess, found)]; most = torch.maximum(most, got)
    x, y, size, a = (t.clone().requires_grad_(True) for t in (found[0], found[1], found[2].log(), found[3]))
    opt = torch.optim.Adam([{'params': [x, y], 'lr': .3}, {'params': [size], 'lr': .012}, {'params': [a], 'lr': .03}])
    mf, final = half[0].float(), overlap(m, covered(shape, *found, px, py) < 0)
    with torch.enable_grad():
        for i in range(steps):
            c = torch.sigmoid(-covered(shape, x, y, size.exp(), a, *half[1:]) / .6)
            both = (c * mf).sum((1, 2)); loss = -(both / (c.sum((1, 2)) + mf.sum((1, 2)) - both)).sum()
            opt.zero_grad(); loss.backward(); opt.step()
            for g in opt.param_groups:
                g['lr'] *= .93
    with torch.no_grad():
        final = torch.maximum(final, overlap(m, covered(shape, x, y, size.exp(), a, px, py) < 0))
    return torch.where(full.flatten(1).any(1), final, torch.zeros(n))


def best(masks, steps=8):
    """masks [N,H,W] -> the overlap of every ideal shape, [N,shapes] in the order of world.SHAPES."""
    return torch.stack([fit(masks, s, steps) for s in world.SHAPES], 1)


def in_every_frame(clip, scene):
    """One object: -> frames whose outline is best fitted by the shape asked for, frames looked at (the object off the border;
    one that has vanished is not the shape)."""
    mask = cut(clip, scene)[0]
    mask = mask[~at_border(mask)]
    if not len(mask):
        return 0, 0
    read = best(mask).argmax(1).masked_fill(~mask.flatten(1).any(1), -1)
    return int((read == world.SHAPES.index(scene.things[0].shape)).sum()), len(read)


def wobble(masks, usable):
    """Mean IoU of neighbouring frames after laying their centres on one another; nan where no two neighbours are usable."""
    pairs = usable[1:] & usable[:-1]
    if not pairs.any():
        return math.nan
    a, b = masks[:-1][pairs], masks[1:][pairs]
    (ax, ay, _), (bx, by, _) = centres(a), centres(b)
    n, h, w = a.shape
    move = torch.eye(2, 3).repeat(n, 1, 1)
    move[:, 0, 2] = 2 * (bx - ax) / w; move[:, 1, 2] = 2 * (by - ay) / h
    moved = F.grid_sample(b.float().unsqueeze(1), F.affine_grid(move, (n, 1, h, w), align_corners=False), align_corners=False).squeeze(1) > .5
    return float(overlap(a, moved).mean())


def measure(clip, scene):
    """One object: -> mean IoU with its ideal shape, wobble; both over the frames whose mask does not touch the border, nan
    where there is none. A frame without the object counts as 0."""
    mask = cut(clip, scene)[0]
    usable = ~at_border(mask)
    if not usable.any():
        return math.nan, math.nan
    return float(fit(mask[usable], scene.things[0].shape).mean()), wobble(mask, usable & mask.flatten(1).any(1))


def separable(scene, f, h, w):
    """Whether colour cuts the scene's object out at all: masks of the rendered clip, sharp and softened a little, against the true
    one. A white ball in fog is not to be cut out, nor a blue one at night once its edge is soft."""
    clip, true = world.render(scene, f, h, w)
    true = true[0] > .5; within = ~at_border(true)
    if not within.any():
        return False
    grain = 128 / h     # of coarser pixels more lie on the outline
    soft = torch.lerp(clip, F.avg_pool2d(F.pad(clip, (1, 1, 1, 1), mode='replicate'), 3, 1), min(1., 1 / grain ** 2))
    return all(float(overlap(cut(c, scene)[0][within], true[within]).mean()) >= 1 - lost * grain for c, lost in ((clip, .05), (soft, .025)))


def steady(thing):
    """Whether the true outline is the same in every frame: it neither turns to the eye nor grows."""
    return thing.motion not in ('grows', 'shrinks') and (thing.motion not in ('rolls left', 'rolls right', 'spins') or not TURNS[thing.shape])


def aggregate(scenes, values):
    """values: (IoU, wobble) per clip -> the outline's mean over shapes of the mean over clips, and wobble's over the clips whose
    true outline is steady (others wobble in truth: a cube that rolls fast has .75) and over all."""
    mean = lambda v: (lambda v: sum(v) / len(v) if v else math.nan)([x for x in v if x == x])
    by = {s: mean([i for o, (i, _) in zip(scenes, values) if o.things[0].shape == s]) for s in world.SHAPES}
    return {'outline': mean(by.values()), 'wobble': mean([q for o, (_, q) in zip(scenes, values) if steady(o.things[0])]),
            'wobble_all': mean([q for _, q in values]), 'by_shape': by, 'clips': len(values)}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--vae', default=''); p.add_argument('--clips', type=int, default=20); p.add_argument('--size', type=int, default=128)
    p.add_argument('--large', type=int, default=0, help='1: only large objects'); p.add_argument('--seed', type=int, default=5)
    a = p.parse_args(); torch.set_num_threads(1)
    rng = random.Random(a.seed); scenes = []
    while len(scenes) < a.clips:
        s = world.sample_scene(rng, True, things=1); s.pan = 0.
        s.things[0].shape = world.SHAPES[len(scenes) % 5]
        if (s.things[0].large or not a.large) and separable(s, 17, a.size, a.size):
            scenes.append(s)
    clips = [world.render(s, 17, a.size, a.size)[0] for s in scenes]
    report = lambda name, clips: print(name, aggregate(scenes, [measure(x, s) for x, s in zip(clips, scenes)]), flush=True)
    report('rendered', clips)
    if a.vae:
        import diffusers
        vae = diffusers.AutoencoderKLWan.from_pretrained(a.vae, torch_dtype=torch.float32)
        with torch.no_grad():
            report('after the VAE', [vae.decode(vae.encode(x.unsqueeze(0)).latent_dist.mode()).sample[0].clamp(-1, 1) for x in clips])


if __name__ == '__main__':
    main()
