"""How much each latent channel matters to the eye: what a unit of error in it does to the decoded pixels.

The VAE's channels are normalised to unit variance, but not to equal importance: in the shipped VAE one channel moves the
pixels 350 times (squared) as much as another, and half of the 32 hardly matter. A diffusion loss that counts all alike
spends most of the model on what nobody sees.

    python metric.py       # prints the channels' shares
"""
import os
import random

import torch
from diffusers import AutoencoderKLWan

import common
import world
from cache_latents import Coder


@torch.no_grad()
def pixel_metric(code, clips=6, frames=9, seed=4711):
    """-> M [C,C] with mean diagonal 1: an error e [C] of one cell changes the pixels by about e' M e (squared)."""
    rng = random.Random(seed); signs = torch.Generator().manual_seed(seed)
    z = code(world.batch(rng, clips, frames, 64)[0])
    decode = lambda z: code.vae.decode(z * code.std + code.mean).sample.float().clamp(-1, 1)
    with torch.autocast('cpu', torch.bfloat16):
        base = decode(z)
        # one random sign a cell, the same for all channels: the cells' cross terms vanish in the mean, the channels' stay
        sign = torch.randint(0, 2, (clips, *z.shape[2:]), generator=signs) * .5 - .25
        change = []
        for c in range(z.shape[1]):
            moved = z.clone(); moved[:, c] += sign
            change.append((decode(moved) - base).flatten())
    change = torch.stack(change)
    metric = change @ change.T
    return metric / metric.diag().mean()


def loss_root(code, file, plain=.2):
    """-> R [C,C]: |R e|^2 is `plain` times the plain square plus the rest of the pixels' share. Kept in `file`."""
    if not os.path.exists(file):
        torch.save(pixel_metric(code), f'{file}.{os.getpid()}'); os.replace(f'{file}.{os.getpid()}', file)
    metric = torch.load(file, weights_only=True)
    return torch.linalg.cholesky((1 - plain) * metric + plain * torch.eye(len(metric))).T


if __name__ == '__main__':
    torch.set_num_threads(1)
    m = pixel_metric(Coder(AutoencoderKLWan.from_pretrained(common.RUNS + '/vae/vae')))
    print('channels', m.diag().sort(descending=True)[0].numpy().round(2)); print('directions', torch.linalg.eigvalsh(m).flip(0).numpy().round(2))
