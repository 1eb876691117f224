"""How good can a linear code of a given shape be on this world? (PCA of pixel blocks, held-out PSNR.) A yardstick for the
choice of latent shape: training reached about this bound quickly and passed it slowly.    python linear_bound.py"""
import random

import torch

import world


def blocks(x, t, s):
    B, C, F, H, W = x.shape
    return x.reshape(B, C, F // t, t, H // s, s, W // s, s).permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(-1, C * t * s * s)


def main():
    torch.set_num_threads(1)
    x = world.batch(random.Random(3), 150, 5, 64)[0]; h, _, m, _ = world.batch(random.Random(4), 60, 5, 64, held_out=True)
    for t in (1, 4):        # the first frame has a latent of its own, then four frames share one
        for s, channels in ((8, (16, 24, 32, 48)), (4, (4, 6, 8))):
            part = slice(0, 1) if t == 1 else slice(1, 5)
            a = blocks(x[:, :, part], t, s)[::1 if s == 8 else 3]; mean = a.mean(0)
            U = torch.linalg.svd((a - mean).T @ (a - mean))[0]
            b, w = blocks(h[:, :, part], t, s) - mean, blocks(m[:, :, part].expand(-1, 3, -1, -1, -1), t, s)
            for k in channels:
                d = ((b @ U[:, :k]) @ U[:, :k].T - b) ** 2; n = len(h)
                whole = 10 * torch.log10(4 / d.view(n, -1).mean(1)); inside = 10 * torch.log10(4 / ((d * w).view(n, -1).sum(1) / (w.view(n, -1).sum(1) + 1e-6)))
                print(f'{s}x{s}x{t}, {k} channels: {whole.mean():.1f} dB whole, {inside.mean():.1f} dB inside objects', flush=True)


main()
