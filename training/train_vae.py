"""Stage 1: the video autoencoder (AutoencoderKLWan, Wan 2.2 style: patch 4, residual, 16x16x4, 48 channels).

    accelerate launch train_vae.py --seconds 2400 --start FOLDER       # joint training (from scratch without --start)
    accelerate launch train_vae.py --decoder-only 1 --start FOLDER …   # encoder frozen: latents stay what the DiT knows
    accelerate launch train_vae.py --decoder-only 1 --start FOLDER --repair .7 …   # and seven batches of ten as the DiT draws them

Objects weigh four times the background: the plain loss leaves them washed out. Writes OUT/vae (diffusers folder,
averaged weights, latent statistics).
"""
import os
import random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan

import common
import train_text
import world
from cache_latents import Coder
from optim import Muon

SHAPES = [(1, 24, 128, 128), (5, 8, 128, 128), (9, 5, 128, 128), (9, 3, 128, 192), (9, 3, 192, 128), (17, 3, 128, 128), (17, 3, 128, 128), (17, 3, 128, 128)]  # frames, clips, H, W
LONG = [(17, 3, 128, 128), (17, 3, 128, 128), (17, 3, 128, 128), (9, 5, 128, 128), (17, 2, 128, 192), (1, 24, 128, 128)]  # decoder stage: whole clips
EIGHT = dict(z_dim=16, num_res_blocks=1, temperal_downsample=[True, True], is_residual=True, in_channels=12, out_channels=12,
             patch_size=2, scale_factor_spatial=8, base_dim=24, decoder_base_dim=32, dim_mult=[1, 2, 2])
FOUR = dict(z_dim=4, num_res_blocks=1, temperal_downsample=[True, True], is_residual=True, scale_factor_spatial=4, base_dim=12,
            decoder_base_dim=16, dim_mult=[1, 2, 2])  # 4x4x4, 4 channels, no patches: compared and not taken, see README


class Redraw:
    """Latents as the trained DiT leaves them: real ones noised to a middle level and denoised again by the sampler's last
    steps, with guidance. The layout stays the clip's, the drawing is the DiT's, so the pair teaches the decoder to mend it."""
    def __init__(self, dit, text, code, shift=3., steps=12, guidance=3.):
        import transformers
        from diffusers import WanVACETransformer3DModel
        self.code, self.guidance = code, guidance
        self.tok = train_text.load_tokenizer(text + '/tokenizer')
        self.encoder = transformers.UMT5EncoderModel.from_pretrained(text + '/text_encoder', dtype=torch.float32).requires_grad_(False)
        self.dit = WanVACETransformer3DModel.from_pretrained(dit).requires_grad_(False).eval()
        u = torch.linspace(1, 0, steps + 1)
        self.grid = (shift * u / (1 + (shift - 1) * u)).tolist()

    @torch.no_grad()
    def __call__(self, z, captions, rng, frames, h, w):
        """z: latents as the VAE gives them; from the 6th to the 3rd last step on, level .81 to .5 -> the same, redrawn"""
        z = (z.float() - self.code.mean) / self.code.std
        at = rng.randrange(5, 10); s = self.grid[at]
        ids, mask = train_text.tokenize(self.tok, captions + [''] * len(captions))
        states = self.encoder(ids, mask).last_hidden_state.float() * mask.unsqueeze(-1)
        gray = self.code.gray(frames, h, w)[0]
        control = torch.cat([gray, gray, torch.ones(self.code.side ** 2, *gray.shape[1:])]).expand(2 * len(z), -1, -1, -1, -1)
        x = (1 - s) * z + s * torch.randn_like(z)
        for s, after in zip(self.grid[at:], self.grid[at + 1:]):
            v = self.dit(torch.cat([x, x]), torch.full((2 * len(x),), s * 1000), states, control_hidden_states=control).sample.float()
            with_text, without = v.chunk(2)
            x = x + (after - s) * (without + self.guidance * (with_text - without))
        return x * self.code.std + self.code.mean


class RoundTrip(torch.nn.Module):
    """Encode, sample, decode in one forward, so that mixed precision and many processes see one module."""
    def __init__(self, vae, decoder_only):
        super().__init__()
        self.vae, self.decoder_only = vae, decoder_only

    def forward(self, x, noise, redraw=None):
        if self.decoder_only:
            with torch.no_grad():
                q = self.vae.encode(x).latent_dist
                z = q.mode()
                if redraw:
                    z = redraw(z).to(z.dtype)
                else:
                    z = z + noise * z.std((0, 2, 3, 4), keepdim=True) * torch.randn_like(z)  # stands for the DiT's errors
        else:
            q = self.vae.encode(x).latent_dist
            z = q.sample()
        return self.vae.decode(z).sample, q.mean, q.logvar


def widen(vae, z):
    """The same autoencoder with more latent channels; the new ones start almost silent."""
    old = vae.config.z_dim
    new = AutoencoderKLWan(**{**vae.config, 'z_dim': z, 'latents_mean': [0.] * z, 'latents_std': [1.] * z})
    mine, theirs = new.state_dict(), vae.state_dict()
    kept = {k: v for k, v in theirs.items() if v.shape == mine[k].shape}
    half = torch.cat([torch.arange(old), z + torch.arange(old)])      # mean | log-variance
    fresh = torch.cat([torch.arange(old, z), z + torch.arange(old, z)])
    k = 'encoder.conv_out.'
    kept[k + 'weight'], kept[k + 'bias'] = mine[k + 'weight'].clone(), mine[k + 'bias'].clone()
    kept[k + 'weight'][z + old:] = 0; kept[k + 'bias'][z + old:] = -4
    kept[k + 'weight'][half] = theirs[k + 'weight']; kept[k + 'bias'][half] = theirs[k + 'bias']
    for k, at, other in (('quant_conv.', half, fresh), ('post_quant_conv.', torch.arange(old), torch.arange(old, z))):
        w, b = torch.zeros_like(mine[k + 'weight']), torch.zeros_like(mine[k + 'bias'])
        w[at.view(-1, 1), at.view(1, -1)] = theirs[k + 'weight']; b[at] = theirs[k + 'bias']; w[other, other] = 1
        kept[k + 'weight'], kept[k + 'bias'] = w, b
    k = 'decoder.conv_in.'
    kept[k + 'weight'] = mine[k + 'weight'] * .3; kept[k + 'weight'][:, :old] = theirs[k + 'weight']; kept[k + 'bias'] = theirs[k + 'bias']
    new.load_state_dict(kept)
    return new


def enlarge(vae):
    """The same autoencoder for pictures twice as large: patches of 4 x 4 where 2 x 2 stood; it starts as the old one on halved pictures."""
    new = AutoencoderKLWan(**{**vae.config, 'patch_size': 4, 'scale_factor_spatial': 16, 'in_channels': 48, 'out_channels': 48})
    kept = dict(vae.state_dict())
    at = torch.tensor([c * 4 + (w // 2) * 2 + h // 2 for c in range(3) for w in range(4) for h in range(4)])   # order (C, w, h)
    kept['encoder.conv_in.weight'] = kept['encoder.conv_in.weight'][:, at] / 4
    kept['decoder.conv_out.weight'] = kept['decoder.conv_out.weight'][at]; kept['decoder.conv_out.bias'] = kept['decoder.conv_out.bias'][at]
    new.load_state_dict(kept)
    return new


def outline(mask):
    """1 within 2 px of an object's outline."""
    y = mask.flatten(0, 2).unsqueeze(1)
    return ((F.max_pool2d(y, 5, 1, 2) + F.max_pool2d(-y, 5, 1, 2)) > .5).float().view(mask.shape)


def held_redrawn(vae, redraw, x, scenes):
    rng = random.Random(7); torch.manual_seed(7)
    with torch.no_grad():
        return redraw(vae.encode(x).latent_dist.mode(), [world.caption(s, rng, full=True) for s in scenes], rng, 17, 128, 128)


def psnr(vae, x, mask):
    """-> dB over the frame, inside the objects, at their outlines (mean over clips)"""
    with torch.no_grad():
        return compared(x, mask, vae, torch.cat([vae.encode(c).latent_dist.mode() for c in x.split(8)]))


def compared(x, mask, vae, z):
    """psnr of latents decoded"""
    with torch.no_grad():
        d = torch.cat([(vae.decode(l).sample.clamp(-1, 1) - c) ** 2 for c, l in zip(x.split(8), z.split(8))])
    whole = 10 * torch.log10(4 / d.mean((1, 2, 3, 4)))
    inside = 10 * torch.log10(4 / ((d * mask).sum((1, 2, 3, 4)) / (3 * mask.sum((1, 2, 3, 4)) + 1e-6)))
    edge = outline(mask); at = 10 * torch.log10(4 / ((d * edge).sum((1, 2, 3, 4)) / (3 * edge.sum((1, 2, 3, 4)) + 1e-6)))
    return whole.mean().item(), inside.mean().item(), at.mean().item()


def statistics(vae, seed=5):
    """Mean and standard deviation of every latent channel over 96 clips and 64 images."""
    rng = random.Random(seed)
    with torch.no_grad():
        z = torch.cat([vae.encode(world.batch(rng, n, f, 128)[0]).latent_dist.mode().transpose(0, 1).flatten(1)
                       for f, n in [(17, 8)] * 12 + [(1, 32)] * 2], 1)
    return z.mean(1).tolist(), z.std(1).tolist()


def slope(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def export(vae, out, keep_statistics):
    if not keep_statistics:
        mean, std = statistics(vae)
        vae.register_to_config(latents_mean=mean, latents_std=std)
    vae.save_pretrained(out + '/vae.tmp')
    os.makedirs(out + '/vae', exist_ok=True)
    for f in os.listdir(out + '/vae.tmp'):
        os.replace(f'{out}/vae.tmp/{f}', f'{out}/vae/{f}')


def main():
    a = common.arguments(__doc__, out=common.RUNS + '/vae', seconds=2400, lr=1e-3, start='', decoder_only=0, shape='eight', noise=.04, z=0, muon=1,
                         repair=0., dit=common.RUNS + '/dit/export/transformer', text=common.RUNS + '/text')
    acc = common.begin(a, some_unused=True)   # stills pass by the convolutions over time
    vae = AutoencoderKLWan.from_pretrained(a.start) if a.start else AutoencoderKLWan(
        **dict(EIGHT if a.shape == 'eight' else FOUR, latents_mean=[0.] * (16 if a.shape == 'eight' else 4), latents_std=[1.] * (16 if a.shape == 'eight' else 4)))
    if a.z and a.z != vae.config.z_dim:
        vae = widen(vae, a.z)
    if vae.config.patch_size == 2:
        vae = enlarge(vae)
    for m in vae.modules():  # convolutions are a third faster so on the CPU
        if isinstance(m, torch.nn.Conv3d):
            m.weight.data = m.weight.data.to(memory_format=torch.channels_last_3d)
    trip = RoundTrip(vae, a.decoder_only)
    params = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()] if a.decoder_only else list(vae.parameters())
    if a.decoder_only:
        vae.encoder.requires_grad_(False); vae.quant_conv.requires_grad_(False)
    kernels = [p for p in params if a.muon and p.ndim >= 4]
    rest = [p for p in params if not (a.muon and p.ndim >= 4)]
    opts = [torch.optim.AdamW(rest, lr=a.lr, betas=(.9, .95), weight_decay=.01)] + ([Muon(kernels, lr=a.lr)] if kernels else [])
    ema = common.Ema(vae, .995)
    step, elapsed = common.resume(acc, a, vae, ema, opts)
    trip, *opts = acc.prepare(trip, *opts)
    held, _, mask, scenes = world.batch(random.Random(99), 16, 17, 128, held_out=True)
    redraw = Redraw(a.dit, a.text, Coder(AutoencoderKLWan.from_pretrained(a.start))) if a.repair else None
    drawn = held_redrawn(vae, redraw, held, scenes) if redraw else None
    clock = common.Clock(elapsed); saved = clock()
    common.log(acc, a, f'{sum(p.numel() for p in vae.parameters()) / 1e6:.2f} M parameters, start {psnr(vae, held, mask)} dB whole, inside objects')
    while common.goes_on(acc, clock, a.seconds):
        rng = common.step_rng(a, acc, step)
        f, n, h, w = random.Random(a.seed * 7919 + step).choice(LONG if a.decoder_only else SHAPES)   # the same in every process
        x, _, om, scenes = world.batch(rng, n, f, h, w)
        x, om = x.to(acc.device), om.to(acc.device)
        rate = a.lr * common.schedule(clock(), a.seconds, step)
        for g in (g for o in opts for g in o.param_groups):
            g['lr'] = rate
        again = None
        if redraw and random.Random(a.seed * 104729 + step).random() < a.repair:
            captions = [world.caption(c, rng, f == 1, full=True) for c in scenes]
            again = lambda z: redraw(z, captions, rng, f, h, w)
        r, mean, logvar = trip(x, a.noise * rng.random(), again)
        r, wt = r.float(), 1 + 3 * om + 3 * outline(om)
        edges = sum((p - q).abs().mean() for p, q in zip(slope(r), slope(x)))
        kl = .5 * (mean.float() ** 2 + logvar.float().exp() - 1 - logvar.float()).sum((1, 2, 3, 4)).mean()
        loss = (wt * (r - x).abs()).mean() + 2 * (wt * (r - x) ** 2).mean() + .5 * edges + (0 if a.decoder_only else 5e-3 * kl / x[0].numel())
        acc.backward(loss)
        acc.clip_grad_norm_(params, 1.)
        for o in opts:
            o.step(); o.zero_grad()
        step += 1
        ema.update(step)
        if step % (150 if a.decoder_only else 100) == 0:
            with ema as m:
                p = psnr(m, held, mask)
                if redraw:
                    q = compared(held, mask, m, drawn)
                    common.log(acc, a, f'{step} of redrawn latents: {q[0]:.2f} dB whole {q[1]:.2f} inside {q[2]:.2f} at outlines')
            common.log(acc, a, f"{step} {clock():.0f}s loss {loss.item():.4f} lr {rate:.1e} held-out {p[0]:.2f} dB whole {p[1]:.2f} dB inside {p[2]:.2f} dB at outlines")
        if clock() - saved > a.save_every:
            saved = clock(); common.save(acc, a, vae, ema, opts, step, clock())
    common.save(acc, a, vae, ema, opts, step, clock())
    with ema as m:
        common.log(acc, a, f'end: {step} steps, {clock():.0f} s, {psnr(m, held, mask)}')
        if acc.is_main_process:
            export(m, a.out, a.decoder_only)


if __name__ == '__main__':
    main()
