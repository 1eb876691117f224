"""Measures each condition the model is trained on: is the known part kept, is what it makes right?

First frame and first + last frame go through the Rust command line (`--image`, `--last-image`), the other kinds through
diffusers' WanVACEPipeline, the reference for all of them. Known part: PSNR between what was given and what the model made
there, decoded from its latents, so before any known pixel is pasted. Made part: all five of colour, shape, direction, sky and
ground read right, the shape from frames (or a region) that were not given.
"""
import math
import random

import torch

import cache_latents
import probe
import world

KINDS = {'first': 'first frame', 'first_last': 'first and last frame', 'prefix': 'first frames', 'suffix': 'last frames', 'both_ends': 'both ends',
         'boxes': 'inside or around a box', 'edges': 'edge sketch', 'reference': 'reference picture'}
BY_CLI = ('first', 'first_last')


def image(x):
    """[3,H,W] in -1..1 -> PIL"""
    from PIL import Image
    return Image.fromarray(((x + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy())


def scenes(kind, n, seed):
    """Held-out scenes of one object, the camera still, and a full caption each."""
    rng = random.Random(f'{kind}{seed}'); out = []
    for _ in range(n):
        s = world.sample_scene(rng, True, things=1); s.pan = 0.
        out.append((s, world.caption(s, rng, full=True), rng.randrange(1 << 30)))
    return out


def given(kind, scene, f, h, w, draw, cli):
    """-> the rendered clip [3,F,H,W], which pixels are known [F,H,W], what the pipeline (or the command line) is given"""
    x = world.render(scene, f, h, w)[0]
    if kind == 'reference':
        return x, torch.zeros(f, h, w, dtype=torch.bool), {'reference_images': [image(cache_latents.reference(scene, h, w)[:, 0])]}
    known, control, mask = cache_latents.condition(kind, x.unsqueeze(0), random.Random(draw))
    shown = control[0] if kind == 'edges' else known[0]
    if cli:
        pictures = {'image': image(x[:, 0])} | ({'last-image': image(x[:, -1])} if kind == 'first_last' else {})
    else:
        pictures = {'video': [image(shown[:, i]) for i in range(f)], 'mask': [image(mask[0, i].expand(3, -1, -1) * 2 - 1) for i in range(f)]}
    return x, mask[0] == 0, pictures


def before_paste(vae, latents, frames):
    """The clip that latents [1,C,f,h,w] (those of a reference picture in front) stand for."""
    c = vae.config
    latents = latents[:, :, -((frames + 3) // 4):]
    with torch.no_grad():
        return vae.decode(latents * torch.tensor(c.latents_std).view(1, -1, 1, 1, 1) + torch.tensor(c.latents_mean).view(1, -1, 1, 1, 1)).sample[0].clamp(-1, 1)


def measure(kind, maker, probes, vae, n, seed, cli):
    """-> {'kept': dB or None, 'right': share, 'heads': shares, 'clips': n, 'engine'}"""
    s = maker.settings; f, h, w = s['num_frames'], s['height'], s['width']
    kept, ys, got, clips = [], [], [], []
    items = scenes(kind, n, seed)
    prepared = [given(kind, scene, f, h, w, draw, cli) for scene, _, draw in items]
    made = maker.all([(text, seed + i, p[2], f'{kind} {items[i][2]} {items[i][0]}') for i, ((_, text, _), p) in enumerate(zip(items, prepared))], kind)
    for (scene, _, _), (x, known, _), (clip, latents) in zip(items, prepared, made):
        y = before_paste(vae, latents, f)
        if known.any():
            kept.append(10 * math.log10(4 / float(((y - x) ** 2).mean(0)[known].mean())))
        ys.append(probe.truth(scene)); clips.append(clip)
        read, each, _ = probe.answers(probes, clip.unsqueeze(0))
        fresh = ~known.flatten(1).all(1)       # shape: the most frequent answer of the frames that were made
        read[0, 1] = each[0, fresh].mode().values
        got.append(read[0])
    right = torch.stack(got) == torch.tensor(ys)
    return {'kept': sum(kept) / len(kept) if kept else None, 'right': right.all(1).float().mean().item(), 'heads': right.float().mean(0).tolist(),
            'clips': n, 'engine': maker.engine}
