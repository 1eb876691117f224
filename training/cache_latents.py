"""Stage 3: encode clips once, with the condition each was drawn, so that the DiT never waits for the VAE.

    python cache_latents.py --vae FOLDER --clips 12000        # any number of processes with different --seed

Conditions follow diffusers' WanVACEPipeline to the letter: inactive = known pixels (gray elsewhere), reactive = control
pixels inside the mask, both encoded and normalised; mask channels are its side x side unshuffle, nearest-exact in time; a
reference image is one more latent frame in front. Text to video is the all-gray video with the mask all ones.
Writes OUT/shard-SEED-N.pt; train_dit.py picks up new shards while it runs.
"""
import argparse
import os
import random
import time
from dataclasses import asdict

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan

import common
import world

# frames, height, width, share. A quarter are still images.
BUCKETS = [(17, 128, 128, .50), (25, 128, 128, .10), (33, 128, 128, .04), (9, 128, 128, .06), (17, 128, 192, .06), (17, 192, 128, .04),
           (1, 128, 128, .14), (1, 128, 192, .03), (1, 192, 128, .03)]
KINDS = {'none': .50, 'first': .13, 'first_last': .08, 'prefix': .06, 'suffix': .04, 'both_ends': .03, 'boxes': .07, 'edges': .06, 'reference': .03}


class Coder:
    """The frozen VAE: pixels in -1..1 -> normalised latents."""
    def __init__(self, vae):
        self.vae = vae.requires_grad_(False).eval()
        self.mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
        self.std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
        self.side = vae.config.scale_factor_spatial   # pixels a latent cell is wide
        self.gray_cache = {}

    @torch.no_grad()
    def __call__(self, x):
        with torch.autocast('cpu', torch.bfloat16, enabled=common.BF16):
            z = self.vae.encode(x).latent_dist.mode()
        return (z.float() - self.mean) / self.std

    def gray(self, frames, h, w):
        key = frames, h, w
        if key not in self.gray_cache:
            self.gray_cache[key] = self(torch.zeros(1, 3, frames, h, w))
        return self.gray_cache[key]


def mask_channels(mask, side):
    """[B,F,H,W] of 0/1 -> [B,side*side,f,h,w], as WanVACEPipeline.prepare_masks"""
    b, f, h, w = mask.shape
    m = mask.view(b, f, h // side, side, w // side, side).permute(0, 3, 5, 1, 2, 4).flatten(1, 2)
    return F.interpolate(m, size=((f + 3) // 4, h // side, w // side), mode='nearest-exact')


def cells(objects, side):
    """Coverage [B,1,F,H,W] -> how far objects reach into each latent cell, [B,1,f,h,w] in 0..1."""
    first, rest = objects[:, :, :1], objects[:, :, 1:]
    parts = [first] + ([rest.unflatten(2, (-1, 4)).amax(3)] if rest.shape[2] else [])
    return (2 * F.avg_pool3d(torch.cat(parts, 2), (1, side, side))).clamp(max=1)


GRAIN = 8   # the truth's mask has this many squares to a side of a latent cell


def truth(scenes, frames, h, w, side):
    """What is in each latent cell, for the side loss of train_dit.py: the objects' mask in 4 frames of GRAIN x GRAIN squares
    packed to bytes [B,32,f,h,w], and shape and colour of what covers most of it, 0 for nothing [B,2,f,h,w]; both uint8."""
    out = []
    for s in scenes:
        top = world.topmost(s, frames, h * GRAIN // side, w * GRAIN // side)           # [F,H,W], 0 or 1 + index
        top = torch.cat([top[:1].expand(4, -1, -1), top[1:]]).unflatten(0, (-1, 4))    # the first cell is one frame long
        c = top.unflatten(3, (-1, GRAIN)).unflatten(2, (-1, GRAIN)).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)   # [256,f,h,w]
        bits = ((c > 0).view(-1, 8, *c.shape[1:]) * (1 << torch.arange(8)).view(1, 8, 1, 1, 1)).sum(1)
        share = torch.stack([(c == i + 1).float().mean(0) for i in range(len(s.things))])
        most, which = share.max(0)
        kind = torch.tensor([[1 + world.SHAPES.index(o.shape), 1 + list(world.COLORS).index(o.color)] for o in s.things])[which].permute(3, 0, 1, 2)
        out.append((bits.byte(), (kind * (most > .02)).byte()))
    return torch.stack([b for b, _ in out]), torch.stack([k for _, k in out])


def edges(x):
    """White lines on black where brightness changes: what a sketch looks like."""
    g = x.mean(1)
    gx = F.pad(g[..., :, 2:] - g[..., :, :-2], (1, 1)); gy = F.pad(g[..., 2:, :] - g[..., :-2, :], (0, 0, 1, 1))
    e = ((gx ** 2 + gy ** 2).sqrt() > .18).float() * 2 - 1
    return e.unsqueeze(1).expand(-1, 3, -1, -1, -1)


def condition(kind, x, rng):
    """-> known (gray where unknown), control (gray where none), mask (1 = to be made), all for a batch of clips."""
    b, _, f, h, w = x.shape
    mask = torch.ones(b, f, h, w); control = torch.zeros_like(x)
    if kind == 'first':
        mask[:, 0] = 0
    elif kind == 'first_last':
        mask[:, 0] = 0; mask[:, -1] = 0
    elif kind == 'prefix':
        mask[:, :rng.choice([5, 9]) if f > 9 else 5] = 0
    elif kind == 'both_ends':
        mask[:, :5 if f > 9 else 1] = 0; mask[:, -4:] = 0
    elif kind == 'suffix':
        mask[:, -(rng.choice([4, 8]) if f > 9 else 4):] = 0
    elif kind == 'boxes':
        for i in range(b):
            bh, bw = (rng.randint(round(n * .3), round(n * .7)) for n in (h, w)); y, z = rng.randint(0, h - bh), rng.randint(0, w - bw)
            inside = torch.zeros(h, w); inside[y:y + bh, z:z + bw] = 1
            mask[i] = inside if rng.random() < .6 else 1 - inside   # fill a hole, or paint around a piece
    elif kind == 'edges':
        control = edges(x).clone()
        if f > 1 and rng.random() < .4:
            control[:, :, 1:] = 0      # only a first drawing
    return x * (1 - mask).unsqueeze(1), control, mask


def reference(scene, h, w):
    """The first object alone, large, on white: what a visitor hands over as 'this thing'."""
    o = scene.things[0]
    yy = ((torch.arange(h) + .5) / h * 2 - 1).view(1, h, 1).expand(1, h, w)
    xx = (((torch.arange(w) + .5) / w * 2 - 1) * w / h).view(1, 1, w).expand(1, h, w)
    r = .6 * min(1, w / h)
    al = (.5 - world.distance(o.shape, xx, yy, torch.tensor(r)) * h / 2).clamp(0, 1).unsqueeze(1)
    shade = (.80 - .35 * (xx * .5 + yy * .8) / r).clamp(.45, 1.15).unsqueeze(1)
    v = 1 - al + (torch.tensor(world.COLORS[o.color]).view(1, 3, 1, 1) * shade).clamp(0, 1) * al
    return (v * 2 - 1).permute(1, 0, 2, 3)


def control_latents(code, x, kind, rng, scenes):
    """-> (reference latents or None, inactive, reactive, mask channels)"""
    b, _, f, h, w = x.shape
    known, control, mask = condition(kind, x, rng)
    gray = code.gray(f, h, w).expand(b, -1, -1, -1, -1)
    inactive = code(known) if (mask == 0).any() else gray
    reactive = code(control) if kind == 'edges' else gray
    ref = code(torch.stack([reference(s, h, w) for s in scenes])) if kind == 'reference' else None
    return ref, inactive, reactive, mask_channels(mask, code.side)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--vae', default=common.RUNS + '/vae/vae'); p.add_argument('--out', default=common.RUNS + '/latents')
    p.add_argument('--clips', type=int, default=12000); p.add_argument('--seed', type=int, default=11); p.add_argument('--size', type=int, default=16)
    p.add_argument('--frames', type=int, default=0, help='only clips of this many frames; 0 = every bucket')
    a = p.parse_args()
    torch.set_num_threads(1); os.makedirs(a.out, exist_ok=True)
    code = Coder(AutoencoderKLWan.from_pretrained(a.vae))
    n, made, start = 0, 0, time.time()
    buckets = [b for b in BUCKETS if a.frames in (0, b[0])]
    while made < a.clips:
        rng = random.Random(a.seed * 100003 + n)
        f, h, w, _ = rng.choices(buckets, [b[3] for b in buckets])[0]
        allowed = {k: s for k, s in KINDS.items() if f > 1 or k in ('none', 'boxes', 'edges', 'reference')}
        kind = rng.choices(list(allowed), list(allowed.values()))[0]
        size = a.size * (4 if f == 1 else 1)
        file = f'{a.out}/shard-{a.seed}-{n}.pt'; n += 1
        if not os.path.exists(file):
            x, _, objects, scenes = world.batch(rng, size, f, h, w)
            z, where = code(x), cells(objects, code.side)
            bits, kinds = truth(scenes, f, h, w, code.side)
            item = {'kind': kind, 'scenes': [asdict(s) for s in scenes], 'frames': f}
            if kind != 'none':
                ref, inactive, reactive, mask = control_latents(code, x, kind, rng, scenes)
                if ref is not None:
                    z = torch.cat([ref, z], 2); where, bits, kinds = (torch.cat([torch.zeros_like(t[:, :, :1]), t], 2) for t in (where, bits, kinds))
                    inactive = torch.cat([ref, inactive], 2); reactive = torch.cat([torch.zeros_like(ref), reactive], 2)
                    mask = torch.cat([torch.zeros_like(mask[:, :, :1]), mask], 2)
                item |= {'control': torch.cat([inactive, reactive], 1).half(), 'mask': mask.bool()}
            item |= {'z': z.half(), 'objects': where.half(), 'bits': bits, 'kinds': kinds}
            torch.save(item, file + '.tmp'); os.replace(file + '.tmp', file)
        made += size
        if n % 20 == 0:
            print(f'{made} clips, {time.time() - start:.0f} s', flush=True)


if __name__ == '__main__':
    main()
