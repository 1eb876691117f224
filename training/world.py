"""The small world the default model knows: procedural, captioned, labelled clips.

A scene is a sky, a ground, perhaps hills and a camera pan, and one or two moving, shaded objects that may hide
each other. `sample_scene` draws one, `render` paints it (0.1-0.3 ms per 64x64 frame), `caption` says it in one of
many ordinary wordings, `labels` gives the structured truth that evaluate.py measures against.

Held-out rule: a combination (colour, shape, motion, sky, ground) whose hash is 0 modulo 12 never appears in
training; `sample_scene(rng, held_out=True)` draws only such scenes.

    python world.py OUT.png     # contact sheet and a few captions
"""
import hashlib
import math
import random
from dataclasses import dataclass, field

import torch

FPS = 16
COLORS = {'red': (.88, .16, .14), 'green': (.16, .66, .22), 'blue': (.16, .32, .88), 'yellow': (.96, .84, .18),
          'purple': (.58, .22, .78), 'orange': (.95, .53, .10), 'white': (.95, .95, .95), 'pink': (.96, .55, .70)}
SKIES = {'day': ((.35, .62, .95), (.80, .90, 1.0)), 'sunset': ((.30, .18, .42), (.98, .58, .28)),
         'night': ((.02, .03, .10), (.10, .12, .28)), 'fog': ((.62, .66, .70), (.80, .82, .84))}
LIGHT = {'day': 1., 'sunset': .75, 'night': .38, 'fog': .9}
DISC = {'day': (1, .96, .7), 'sunset': (1, .75, .35), 'night': (.93, .94, .98)}  # sun or moon
GROUNDS = {'grass': (.25, .55, .20), 'sand': (.86, .76, .50), 'snow': (.90, .93, .97), 'sea': (.10, .32, .55),
           'road': (.30, .30, .33)}
SHAPES = ['ball', 'cube', 'triangle', 'ring', 'star']
MOTIONS = ['moves left', 'moves right', 'rolls left', 'rolls right', 'rises', 'falls', 'bounces', 'grows', 'shrinks',
           'spins', 'stays still']
# what the eye sees on the screen; rolling left and moving left are the same direction
DIRECTION = {'moves left': 'left', 'rolls left': 'left', 'moves right': 'right', 'rolls right': 'right',
             'rises': 'up', 'falls': 'down', 'bounces': 'bounce', 'grows': 'grow', 'shrinks': 'shrink',
             'spins': 'still', 'stays still': 'still'}


@dataclass
class Thing:
    shape: str
    color: str
    large: bool
    motion: str
    fast: bool
    r: float       # radius; the frame is 2 units high
    x: float       # centre of the path, -1..1 over the width
    lift: float    # height above the resting place
    phase: float   # where a bounce starts: 0 on the ground, .5 at its top


@dataclass
class Scene:
    sky: str
    ground: str
    horizon: float
    disc: tuple    # sun or moon: x (-1..1), y, radius
    hills: float | None
    pan: float
    things: list = field(default_factory=list)


def is_held_out(color, shape, motion, sky, ground):
    key = '|'.join((color, shape, motion, sky, ground)).encode()
    return int.from_bytes(hashlib.md5(key).digest()[:4], 'big') % 12 == 0


def sample_thing(rng, slot=None):
    """slot -1 / +1: left / right half, for scenes of two."""
    shape = rng.choice(SHAPES)
    motions = [m for m in MOTIONS if m != 'spins' or shape not in ('ball', 'ring')]  # their spin cannot be seen
    large = rng.random() < .5
    r = rng.uniform(.46, .54) if large else rng.uniform(.33, .39)
    if slot is not None:
        r *= .75
    x = rng.uniform(-.3, .3) if slot is None else slot * rng.uniform(.35, .55)
    return Thing(shape, rng.choice(list(COLORS)), large, rng.choice(motions), rng.random() < .5, r, x,
                 rng.choice([0., 0., rng.uniform(.1, .4)]), rng.uniform(.35, .65))


def sample_scene(rng, held_out=False, things=None):
    """held_out False: never a held-out combination; True: every object is one; None: no matter."""
    while True:
        s = Scene(rng.choice(list(SKIES)), rng.choice(list(GROUNDS)), rng.uniform(.08, .42),
                  (rng.uniform(-.8, .8), rng.uniform(-.8, -.4), rng.uniform(.10, .17)),
                  rng.uniform(0, 6) if rng.random() < .3 else None, rng.choice([0., 0., 0., 0., 0., 0., -.5, .5]))
        n = things or (2 if rng.random() < .3 else 1)
        side = rng.choice([-1, 1])
        s.things = [sample_thing(rng, None if n == 1 else (side if i == 0 else -side)) for i in range(n)]
        hidden = [is_held_out(o.color, o.shape, o.motion, s.sky, s.ground) for o in s.things]
        if held_out is None or (held_out and all(hidden)) or (held_out is False and not any(hidden)):
            return s


# ------------------------------------------------------------------------------------------------ painting
def distance(shape, x, y, r):
    """Signed distance to the outline, in frame units."""
    d = (x * x + y * y).sqrt()
    if shape == 'ball':
        return d - r
    if shape == 'ring':
        return (d - r * .74).abs() - r * .27
    if shape == 'cube':
        return torch.maximum(x.abs(), y.abs()) - r * .88
    if shape == 'star':  # five points: fold the plane over the star's mirror lines, then the distance to one edge
        y, r = -y, r * 1.15
        x = x.abs()
        for kx in (.809017, -.809017):
            f = 2 * (kx * x - .587785 * y).clamp(min=0)
            x, y = x - f * kx, y + f * .587785
        x = x.abs(); y = y - r
        bx, by = .48 * .587785, .48 * .809017 - 1
        h = torch.minimum(((x * bx + y * by) / (bx * bx + by * by)).clamp(min=0), torch.as_tensor(r))
        return ((x - bx * h) ** 2 + (y - by * h) ** 2).sqrt() * torch.sign(y * bx - x * by)
    y = y - .15 * r                                    # triangle standing on its base
    return torch.maximum(y - r * .6, x.abs() * .866 - y * .5 - r * .55)


def path(o, s, t, ar):
    """Centre, radius and turn of an object at the times t (seconds). Nothing moves more than 11 px of 128 from frame to frame or
    turns more than 13 degrees: faster is a smear to the eye too, and to a code of four frames."""
    T = float(t.max())
    speed = .85 if o.fast else .5
    rest = min(s.horizon + .38, .88) - o.r     # standing on the ground
    X = torch.full_like(t, o.x * ar); Y = torch.full_like(t, max(rest - o.lift, -.55)); R = torch.full_like(t, o.r)
    A = torch.zeros_like(t)
    m = o.motion
    if m in ('rolls left', 'rolls right'):
        Y = torch.full_like(t, rest)
    if m in ('moves left', 'rolls left'):
        X = X * .4 - speed * (t - T / 2)
    elif m in ('moves right', 'rolls right'):
        X = X * .4 + speed * (t - T / 2)
    elif m == 'rises':
        Y = rest - speed * t
    elif m == 'falls':
        Y = rest - speed * (T - t)
    elif m == 'bounces':
        Y = rest - min(.65, rest + 1 - o.r * .8) * torch.sin(math.pi * (t * (1.3 if o.fast else .95) + o.phase)).abs()
    elif m == 'grows':
        R = o.r * (.62 + .56 * t.clamp(max=1.2))
    elif m == 'shrinks':
        R = o.r * (1.22 - .56 * t.clamp(max=1.2))
    elif m == 'spins':
        A = math.pi * t * (.9 if o.fast else .5)
    if m == 'rolls left':
        A = -speed * t / o.r
    elif m == 'rolls right':
        A = speed * t / o.r
    return X, Y, R, A, rest


def render(s, F, H, W):
    """-> video [3,F,H,W] in -1..1 and object coverage [1,F,H,W] in 0..1"""
    t = torch.arange(F).float().view(F, 1, 1) / FPS
    ar = W / H; soft = H / 2
    yy = ((torch.arange(H) + .5) / H * 2 - 1).view(1, H, 1).expand(F, H, W)
    xx = (((torch.arange(W) + .5) / W * 2 - 1) * ar).view(1, 1, W).expand(F, H, W)
    px = xx + s.pan * t
    rgb = lambda c: torch.tensor(c).view(1, 3, 1, 1)
    cover = lambda d: (.5 - d * soft).clamp(0, 1).unsqueeze(1)  # anti-aliased inside of a distance
    hz = s.horizon
    top, low = (rgb(c) for c in SKIES[s.sky])
    u = ((yy + 1) / (hz + 1)).clamp(0, 1).unsqueeze(1)
    v = top * (1 - u) + low * u
    light = LIGHT[s.sky]
    if s.sky in DISC:
        al = cover(((px - s.disc[0] * ar) ** 2 + (yy - s.disc[1]) ** 2).sqrt() - s.disc[2])
        v = v * (1 - al) + rgb(DISC[s.sky]) * al
    if s.hills is not None:
        h = hz - .22 - .12 * torch.sin(px * 2.1 + s.hills) - .06 * torch.sin(px * 4.7 + 2 * s.hills)
        al = cover(h - yy); v = v * (1 - al) + (rgb((.22, .32, .30)) * light + low * .25) * al
    g = rgb(GROUNDS[s.ground]) * light * (1 - .25 * ((yy - hz) / (1 - hz)).clamp(0, 1).unsqueeze(1))
    if s.ground == 'sea':
        g = g + (.03 * torch.sin(yy * 14 + t * 6 + px * 3)).unsqueeze(1)
    al = cover(hz - yy); v = v * (1 - al) + g * al
    mask = torch.zeros(F, 1, H, W)
    for o in s.things:
        X, Y, R, A, rest = path(o, s, t, ar)
        dx, dy = xx - X, yy - Y
        if s.ground != 'sea':  # shadow where it would stand
            d = ((xx - X) / (R * 1.1)) ** 2 + ((yy - (rest + R)) / (R * .28)) ** 2
            v = v * (1 - (1 - d).clamp(0, 1).unsqueeze(1) * .45 * (yy > hz).unsqueeze(1))
        al = cover(distance(o.shape, dx * torch.cos(A) + dy * torch.sin(A), -dx * torch.sin(A) + dy * torch.cos(A), R))
        shade = (.80 - .35 * (dx * .5 + dy * .8) / R).clamp(.45, 1.15).unsqueeze(1) * (light * .45 + .55)
        v = v * (1 - al) + (rgb(COLORS[o.color]) * shade).clamp(0, 1) * al
        mask = torch.maximum(mask, al)
    return (v.permute(1, 0, 2, 3) * 2 - 1).clamp(-1, 1).contiguous(), mask.permute(1, 0, 2, 3).contiguous()


def topmost(s, F, H, W):
    """Which object is seen at the middle of each pixel: [F,H,W], 0 for none, else 1 + its index."""
    t = torch.arange(F).float().view(F, 1, 1) / FPS
    ar = W / H
    yy = ((torch.arange(H) + .5) / H * 2 - 1).view(1, H, 1).expand(F, H, W)
    xx = (((torch.arange(W) + .5) / W * 2 - 1) * ar).view(1, 1, W).expand(F, H, W)
    top = torch.zeros(F, H, W, dtype=torch.long)
    for i, o in enumerate(s.things):
        X, Y, R, A, _ = path(o, s, t, ar)
        dx, dy = xx - X, yy - Y
        top[distance(o.shape, dx * torch.cos(A) + dy * torch.sin(A), -dx * torch.sin(A) + dy * torch.cos(A), R) < 0] = i + 1
    return top


# ------------------------------------------------------------------------------------------------- wording
WORDS = {  # the first of each list is the plain word and is taken most of the time
    'large': ['large', 'big', 'huge', 'giant'], 'small': ['small', 'little', 'tiny'],
    'red': ['red', 'crimson', 'scarlet'], 'green': ['green', 'emerald'], 'blue': ['blue', 'azure'],
    'yellow': ['yellow', 'golden'], 'purple': ['purple', 'violet'], 'orange': ['orange'], 'white': ['white'],
    'pink': ['pink', 'rose'],
    'ball': ['ball', 'sphere', 'circle', 'disc'], 'cube': ['cube', 'square', 'box', 'block'],
    'triangle': ['triangle', 'pyramid'], 'ring': ['ring', 'donut', 'hoop'], 'star': ['star'],
    'grass': ['over grass', 'over the grass', 'on grass', 'on the lawn', 'over a meadow', 'on a green field', 'over a lawn', 'in a meadow'],
    'sand': ['over sand', 'on the beach', 'over the sand', 'on a beach', 'in the desert', 'over a sandy beach', 'on sand'],
    'snow': ['over snow', 'on the snow', 'over a snowfield', 'in the snow', 'over snowy ground', 'on snow'],
    'sea': ['over the sea', 'over sea', 'over the ocean', 'over water', 'above the waves', 'on the sea', 'over a lake', 'at sea'],
    'road': ['over a road', 'over road', 'on the road', 'on a street', 'over the street', 'over asphalt', 'in the street'],
    'day': ['by day', 'at day', 'in the daytime', 'under a blue sky', 'on a sunny day', 'in daylight', 'at noon', 'during the day'],
    'sunset': ['at sunset', 'at dusk', 'in the evening', 'at sundown', 'under an orange sky', 'during sunset'],
    'night': ['at night', 'in the night', 'under the moon', 'at midnight', 'under a dark sky', 'by moonlight'],
    'fog': ['in fog', 'in the fog', 'on a foggy day', 'in mist', 'in the mist', 'under a gray sky'],
}
TAGS = {'grass': ['grass', 'lawn', 'meadow'], 'sand': ['sand', 'beach', 'desert'], 'snow': ['snow', 'snowfield'],
        'sea': ['sea', 'ocean', 'water'], 'road': ['road', 'street'], 'day': ['day', 'daytime', 'blue sky', 'sunny'],
        'sunset': ['sunset', 'dusk', 'evening'], 'night': ['night', 'moonlight'], 'fog': ['fog', 'mist', 'foggy']}
VERBS = {  # (third person, -ing form)
    'moves': [('moves', 'moving'), ('slides', 'sliding'), ('drifts', 'drifting'), ('flies', 'flying'), ('goes', 'going'), ('glides', 'gliding')],
    'rolls': [('rolls', 'rolling')],
    'rises': [('rises', 'rising'), ('floats up', 'floating up'), ('goes up', 'going up'), ('flies up', 'flying up'), ('moves up', 'moving up'), ('rises into the air', 'rising into the air')],
    'falls': [('falls', 'falling'), ('drops', 'dropping'), ('falls down', 'falling down'), ('comes down', 'coming down'), ('moves down', 'moving down'), ('drops from the sky', 'dropping from the sky')],
    'bounces': [('bounces', 'bouncing'), ('hops', 'hopping'), ('jumps', 'jumping'), ('bounces up and down', 'bouncing up and down'), ('jumps up and down', 'jumping up and down')],
    'grows': [('grows', 'growing'), ('grows bigger', 'growing bigger'), ('gets bigger', 'getting bigger'), ('expands', 'expanding')],
    'shrinks': [('shrinks', 'shrinking'), ('gets smaller', 'getting smaller'), ('becomes smaller', 'becoming smaller')],
    'spins': [('spins', 'spinning'), ('rotates', 'rotating'), ('turns', 'turning'), ('spins around', 'spinning around')],
    'stays still': [('stays still', 'staying still'), ('rests', 'resting'), ('stands still', 'standing still'), ('does not move', 'not moving'), ('stands', 'standing')],
}


def pick(rng, words, plain=.55):
    return words[0] if rng.random() < plain else rng.choice(words)


def say_thing(rng, o, ing, still_image, full=False):
    size = '' if rng.random() < .2 else pick(rng, WORDS['large' if o.large else 'small'], .5) + ' '
    noun = f"{size}{pick(rng, WORDS[o.color], .75)} {pick(rng, WORDS[o.shape], .65)}"
    article = rng.choices(['a', 'the', 'one', ''], [.8, .08, .03, .09])[0]
    if article == 'a' and noun[0] in 'aeiou':
        article = 'an'
    noun = f"{article} {noun}".strip()
    if not full and rng.random() < (.75 if still_image else .02):
        return noun
    m, side = o.motion, ''
    if m.endswith(('left', 'right')):
        m, side = m.split()
        side = rng.choice([' ' + side, ' ' + side, ' to the ' + side, ' to the ' + side, f' towards the {side}'])
    verb = pick(rng, VERBS[m], .5)[ing] + side
    speed = ''
    if m not in ('grows', 'shrinks', 'stays still'):
        if o.fast and rng.random() < .5:
            speed = rng.choice([' fast', ' quickly', ' rapidly'])
        elif not o.fast and rng.random() < .3:
            speed = rng.choice([' slowly', ' gently'])
    return f"{noun} {verb}{speed}"


def caption(s, rng, still_image=False, full=False):
    """One wording of the scene. Parts may be left out, as people leave them out, unless `full`."""
    ing = int(rng.random() < .35)
    things = [say_thing(rng, o, ing, still_image, full) for o in s.things]
    subject = rng.choice([' and ', ' and ', ', ']).join(things)
    ground = '' if rng.random() < .06 and not full else pick(rng, WORDS[s.ground], .4)
    sky = '' if rng.random() < .06 and not full else pick(rng, WORDS[s.sky], .45)
    order = rng.random()
    if order < .45:
        text = f"{subject} {ground} {sky}"
    elif order < .58:
        text = f"{subject} {sky} {ground}"
    elif order < .66:
        text = f"{sky}, {subject} {ground}" if sky else f"{subject} {ground}"
    elif order < .74:
        text = f"{ground} {sky} {subject}"
    elif order < .82:
        text = f"{ground} {subject} {sky}"
    elif order < .90:
        text = f"{rng.choice(TAGS[s.sky])}, {subject} {ground}"
    else:
        text = f"{subject}, {rng.choice(TAGS[s.ground])}, {rng.choice(TAGS[s.sky])}"
    if ing and rng.random() < .15:
        text = rng.choice(['a video of ', 'a clip of ', 'there is ']) + text
    if s.hills is not None and rng.random() < .85:
        text += rng.choice([' with hills', ' with hills', ' with hills in the background', ', hills behind', ' in front of hills'])
    if s.pan and rng.random() < .9:
        side = 'left' if s.pan < 0 else 'right'
        text += rng.choice([f', camera pans {side}', f', the camera moves {side}', f', panning {side}'])
    return ' '.join(text.split()).replace(' ,', ',').lstrip(', ')


def labels(s):
    return {'sky': s.sky, 'ground': s.ground, 'hills': s.hills is not None,
            'pan': 'left' if s.pan < 0 else 'right' if s.pan > 0 else 'none',
            'things': [{'color': o.color, 'shape': o.shape, 'size': 'large' if o.large else 'small',
                        'motion': o.motion, 'direction': DIRECTION[o.motion]} for o in s.things]}


def batch(rng, B, F, H, W=None, **kw):
    """-> videos [B,3,F,H,W], captions, object masks [B,1,F,H,W], scenes"""
    scenes = [sample_scene(rng, **kw) for _ in range(B)]
    painted = [render(s, F, H, W or H) for s in scenes]
    return torch.stack([p[0] for p in painted]), [caption(s, rng, F == 1) for s in scenes], torch.stack([p[1] for p in painted]), scenes


def sheet(videos, scale=2, per_row=5, columns=2):
    """Contact sheet of clips [N,3,F,H,W]: some frames of each clip side by side."""
    from PIL import Image
    F = videos.shape[2]
    at = [round(i * (F - 1) / (per_row - 1)) for i in range(per_row)] if F > 1 else [0]
    rows = [torch.cat([v[:, i] for i in at], 2) for v in videos]
    rows = [torch.nn.functional.pad(r, (2, 2, 2, 2), value=1.) for r in rows]
    while len(rows) % columns:
        rows.append(torch.ones_like(rows[0]))
    n = len(rows) // columns
    im = torch.cat([torch.cat(rows[i * n:(i + 1) * n], 1) for i in range(columns)], 2)
    im = Image.fromarray(((im.permute(1, 2, 0).float().clamp(-1, 1) + 1) * 127.5).round().byte().numpy())
    return im.resize((im.width * scale, im.height * scale), Image.BICUBIC)


if __name__ == '__main__':
    import sys
    import time
    rng = random.Random(1); start = time.time()
    x, words, _, _ = batch(rng, 24, 17, 64)
    print((time.time() - start) / 24 / 17 * 1e3, 'ms/frame'); print('\n'.join(words))
    sheet(x).save(sys.argv[1] if len(sys.argv) > 1 else 'world.png')
