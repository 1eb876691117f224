"""Small networks that read a clip: colour, direction, sky and ground from nine frames, shape from single frames.

They are trained on rendered clips, half of them softened a little or passed through the VAE. The shape probe may also answer
`none`: it is shown rendered objects whose outlines were melted (the picture warped by a smooth random field, as weak models
draw) and told that these are no shape any more. So it is strict: `turned_on_itself` measures how its answers fall as outlines melt.

    python probe.py [--size 128] [--vae FOLDER]     # trains RUNS/probe128.pt (some minutes) and prints what it reads right
"""
import argparse
import os
import random
import time

import torch
import torch.nn.functional as F

import common
import outline
import world

HEADS = {'colour': list(world.COLORS), 'shape': world.SHAPES, 'direction': ['left', 'right', 'up', 'down', 'bounce', 'grow', 'shrink', 'still'],
         'sky': list(world.SKIES), 'ground': list(world.GROUNDS)}
NONE = len(world.SHAPES)
FINE, GONE = .55, 2.4     # melted by less (px at 128) an outline is still one, by more it is none; between the two it is not trained on


def truth(scene):
    l = world.labels(scene); o = l['things'][0]
    return [HEADS['colour'].index(o['color']), HEADS['shape'].index(o['shape']), HEADS['direction'].index(o['direction']),
            HEADS['sky'].index(l['sky']), HEADS['ground'].index(l['ground'])]


class Probe(torch.nn.Module):
    """9 of the 17 frames, as 64 px pictures, as channels; four strided convolutions, one linear read-out per question."""
    def __init__(self):
        super().__init__()
        layers, n = [], 27
        for m in (32, 64, 96, 128):
            layers += [torch.nn.Conv2d(n, m, 3, 2, 1), torch.nn.BatchNorm2d(m), torch.nn.ReLU()]; n = m
        self.body = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Dropout(.2))
        self.out = torch.nn.Linear(n * 16, sum(len(v) for v in HEADS.values()))

    def forward(self, x):
        return self.out(self.body(x.flatten(1, 2))).split([len(v) for v in HEADS.values()], 1)


class ShapeProbe(torch.nn.Module):
    """Shape, or none, from one frame at the clip's own size, wherever in the frame it is: convolutions, then maximum and mean."""
    def __init__(self):
        super().__init__()
        layers, n = [], 3
        for m, stride in ((16, 2), (32, 2), (64, 1), (96, 2), (96, 1), (128, 2)):
            layers += [torch.nn.Conv2d(n, m, 3, stride, 1), torch.nn.BatchNorm2d(m), torch.nn.ReLU()]; n = m
        self.body = torch.nn.Sequential(*layers); self.out = torch.nn.Linear(2 * n, NONE + 1)

    def forward(self, x):
        y = self.body(x)
        return self.out(torch.cat([y.amax((2, 3)), y.mean((2, 3))], 1))


def small(x):
    """Clips [N,3,17,H,W] -> their even frames at 64 px, [N,3,9,64,64]."""
    return F.interpolate(x[:, :, ::2].flatten(1, 2), (64, 64), mode='area').unflatten(1, (3, 9))


def soften(x, width):
    """Pictures [N,C,H,W] with the blur of a Gaussian of `width` px."""
    k = 2 * max(1, round(2.5 * width)) + 1
    g = torch.exp(-((torch.arange(k) - k // 2).float() / width) ** 2 / 2); g = g / g.sum()
    y = F.pad(x.flatten(0, 1).unsqueeze(1), (k // 2,) * 4, mode='replicate')
    return F.conv2d(F.conv2d(y, g.view(1, 1, 1, k)), g.view(1, 1, k, 1)).view(x.shape)


def melt(x, amount, generator):
    """Pictures [N,C,H,W] warped by smooth random fields, by `amount` px at 128 (root mean square), each picture by its own."""
    n, _, h, w = x.shape
    field = F.interpolate(torch.randn(n, 2, max(2, h // 14), max(2, w // 14), generator=generator), (h, w), mode='bicubic', align_corners=True)
    field = field / field.pow(2).mean((1, 2, 3), keepdim=True).sqrt() * amount * 2 / 128
    grid = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), (n, 1, h, w), align_corners=False)
    return F.grid_sample(x, grid + field.permute(0, 2, 3, 1), padding_mode='border', align_corners=False)


def round_trip(vae, x):
    with torch.no_grad():
        return torch.cat([vae.decode(vae.encode(c).latent_dist.mode()).sample.clamp(-1, 1) for c in x.split(2)])


def scenes_of(rng, n, held_out=None):
    """Scenes of one object, the camera still in half of the panning ones."""
    return [world.sample_scene(rng, held_out, things=1) for _ in range(n)]


def rendered(scenes, size, frames=17):
    return torch.stack([world.render(s, frames, size, size)[0] for s in scenes])


def answers(probes, x):
    """Clips [N,3,17,H,W] -> what is read, [N,5] (shape from six frames together; NONE is no shape), the shape frame by frame
    [N,17], and the shape when `none` is no answer [N]."""
    probe, shape = probes
    with torch.no_grad():
        got = torch.cat([torch.stack([o.argmax(1) for o in probe(small(c))], 1) for c in x.split(64)])
        frames = torch.stack([torch.cat([shape(c[:, :, i]).log_softmax(1) for c in x.split(64)]) for i in range(x.shape[2])], 1)
    got[:, 1] = frames[:, 1::3].sum(1).argmax(1)
    return got, frames.argmax(2), frames[:, 1::3, :NONE].sum(1).argmax(1)


def byte(x):
    return ((x + 1) * 127.5).round().clamp(0, 255).byte()


def pictures(x):
    return x.float() / 127.5 - 1


def fit(p, steps, batch, name):
    """batch() -> inputs, loss function of the outputs."""
    start = time.process_time()
    opt = torch.optim.AdamW(p.parameters(), lr=2e-3, weight_decay=.02); sched = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=steps)
    for i in range(steps):
        x, loss_of = batch()
        with torch.autocast('cpu', torch.bfloat16, enabled=common.BF16):
            out = p(x)
        loss = loss_of(out); opt.zero_grad(); loss.backward(); opt.step(); sched.step()
        if i % 100 == 0:
            print(f'{name} {i}/{steps} loss {loss.item():.3f} {time.process_time() - start:.0f} s of CPU', flush=True)
    p.eval()


def train(vae, size, clips=2600, trips=56, steps=(520, 800), seed=2024):
    """-> (probe, shape probe), trained from nothing"""
    rng = random.Random(seed); torch.manual_seed(seed); generator = torch.Generator().manual_seed(seed); start = time.process_time()
    wide, single, labels, kinds = [], [], [], []
    for s in scenes_of(rng, clips):
        x = rendered([s], size); y = truth(s)
        wide.append(byte(small(x))); labels.append(y)
        single.append(byte(x[0, :, torch.randperm(17, generator=generator)[:4]].transpose(0, 1))); kinds += [y[1]] * 4
    scenes = scenes_of(rng, trips)
    for s in scenes:
        x = round_trip(vae, rendered([s], size)); y = truth(s)
        wide.append(byte(small(x))); labels.append(y)
        single.append(byte(x[0, :, ::2].transpose(0, 1))); kinds += [y[1]] * 9
    wide, single, labels, kinds = torch.cat(wide), torch.cat(single), torch.tensor(labels), torch.tensor(kinds)
    print(f'{len(wide)} clips, {len(single)} pictures, {time.process_time() - start:.0f} s of CPU', flush=True)
    probes = Probe(), ShapeProbe()
    swap = torch.arange(8); swap[0], swap[1] = 1, 0          # seen in a mirror, left is right
    px = size / 128

    def clips_of():
        at = torch.randint(len(wide), (64,)); x, y = pictures(wide[at]), labels[at].clone()
        if rng.random() < .5:
            x = x.flip(4); y[:, 2] = swap[y[:, 2]]
        if rng.random() < .5:
            x = soften(x.flatten(1, 2), rng.uniform(.3, 1.2)).view(x.shape) + torch.randn_like(x) * rng.uniform(0, .05)
        return x, lambda out: sum(F.cross_entropy(o.float(), y[:, k]) for k, o in enumerate(out))

    def pictures_of():
        at = torch.cat([torch.randint(len(single), (38,)), torch.randint(len(single) - 9 * trips, len(single), (26,))])[torch.randperm(64)]
        x, y = pictures(single[at]), kinds[at].clone()     # two of five have been through the VAE
        if rng.random() < .5:
            x = x.flip(3)
        # All in every batch, since the norms go by the batch: as it is, softened a little, melted a little, melted away.
        soft = soften(x[20:32], rng.uniform(.3, 1.1) * px); soft = soft + torch.randn_like(soft) * rng.uniform(0, .04)
        gone = melt(x[42:], rng.uniform(GONE, 6), generator); y[42:] = NONE
        if rng.random() < .6:
            gone = soften(gone, rng.uniform(.3, 1.1) * px)
        x = torch.cat([x[:20], soft, melt(x[32:42], rng.uniform(.1, FINE), generator), gone])
        return x.contiguous(memory_format=torch.channels_last), lambda out: F.cross_entropy(out.float(), y)

    fit(probes[0], steps[0], clips_of, 'probe'); fit(probes[1], steps[1], pictures_of, 'shape probe')
    return probes


def load(file, vae, size):
    """The probes of a file, trained first where there is none."""
    if not os.path.exists(file):
        probes = train(vae, size)
        torch.save({'probe': probes[0].state_dict(), 'shape': probes[1].state_dict(), 'size': size}, file)
    known = torch.load(file, weights_only=True)
    if known['size'] != size:
        raise SystemExit(f"{file} holds probes for {known['size']} px, these clips have {size} px: give another --probe")
    probes = Probe().eval(), ShapeProbe().eval()
    probes[0].load_state_dict(known['probe']); probes[1].load_state_dict(known['shape'])
    return probes


def turned_on_itself(probes, vae, size, clips=96, trips=48, amounts=(.5, 1, 1.5, 2, 3, 4)):
    """[(what, right of the five heads, all five, shape right when `none` is no answer, frames with the shape right, outline IoU)]
    on held-out rendered clips: as they are, after the VAE, blurred, and melted more and more."""
    rng = random.Random(4048); scenes = []
    while len(scenes) < clips:
        s = scenes_of(rng, 1, True)[0]; s.pan = 0.
        if outline.separable(s, 17, size, size):
            scenes.append(s)
    x = rendered(scenes, size); generator = torch.Generator().manual_seed(7); rows = []

    def row(what, x, measured=15):
        n = len(x); y = torch.tensor([truth(s) for s in scenes[:n]])
        got, frames, nearest = answers(probes, x); right = got == y
        iou = outline.aggregate(scenes[:measured], [outline.measure(c, s) for c, s in zip(x[:measured], scenes)])['outline']
        rows.append({'what': what, 'right': right.float().mean(0).tolist(), 'all': right.all(1).float().mean().item(), 'nearest': (nearest == y[:, 1]).float().mean().item(),
                     'every_frame': (frames == y[:, 1:2]).all(1).float().mean().item(), 'outline': iou, 'clips': n})
        print({k: [round(t, 3) for t in v] if isinstance(v, list) else v if isinstance(v, (str, int)) else round(v, 3) for k, v in rows[-1].items()}, flush=True)

    of_frames = lambda f: f(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (clips, 17)).transpose(1, 2)
    row('rendered', x)
    row('rendered, through the VAE', round_trip(vae, x[:trips]))
    for width in (1, 2):
        row(f'blurred by {width * size / 128:g} px', of_frames(lambda v: soften(v, width * size / 128)))
    for amount in amounts:
        row(f'outlines melted by {amount * size / 128:g} px', of_frames(lambda v: soften(melt(v, amount, generator), .7 * size / 128)))
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--size', type=int, default=128); p.add_argument('--vae', default=common.RUNS + '/vae/vae'); p.add_argument('--file', default='')
    a = p.parse_args(); torch.set_num_threads(1)
    import diffusers
    vae = diffusers.AutoencoderKLWan.from_pretrained(a.vae, torch_dtype=torch.float32)
    turned_on_itself(load(a.file or f'{common.RUNS}/probe{a.size}.pt', vae, a.size), vae, a.size)


if __name__ == '__main__':
    main()
