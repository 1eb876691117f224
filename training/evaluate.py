"""Measures a model folder on captions never trained on and writes EVAL.md and samples.png into it.

    python evaluate.py [--model ../models/small-world] [--engine cli|python] [--clips 120] [--notes FILE]

Clips come from the Rust command line (`tabreel generate … --device cpu`, binary in $TABREEL_BIN) or from diffusers.
A small network, the probe, reads colour, shape, direction of motion, sky and ground from the pixels. It is trained here
on rendered clips, half of them blurred or passed through the VAE so that it reads soft pictures too, and its own accuracy
on real clips and on VAE round trips of real clips stands beside the model's: no model can be measured better than that.
"""
import argparse
import datetime
import json
import os
import random
import subprocess
import tempfile
import time

import torch
import torch.nn.functional as F

import common
import world
from export import TABREEL

HEADS = {'colour': list(world.COLORS), 'shape': world.SHAPES, 'direction': ['left', 'right', 'up', 'down', 'bounce', 'grow', 'shrink', 'still'],
         'sky': list(world.SKIES), 'ground': list(world.GROUNDS)}
HERE = os.path.dirname(os.path.abspath(__file__))


def truth(scene):
    l = world.labels(scene); o = l['things'][0]
    return [HEADS['colour'].index(o['color']), HEADS['shape'].index(o['shape']), HEADS['direction'].index(o['direction']),
            HEADS['sky'].index(l['sky']), HEADS['ground'].index(l['ground'])]


class Probe(torch.nn.Module):
    """9 of the 17 frames as channels, five strided convolutions, one linear read-out per question."""
    def __init__(self):
        super().__init__()
        layers, n = [], 27
        for m in (32, 64, 96, 128):
            layers += [torch.nn.Conv2d(n, m, 3, 2, 1), torch.nn.BatchNorm2d(m), torch.nn.ReLU()]; n = m
        self.body = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Dropout(.2))
        self.out = torch.nn.Linear(n * 16, sum(len(v) for v in HEADS.values()))

    def forward(self, x):
        return self.out(self.body(x[:, :, ::2].flatten(1, 2))).split([len(v) for v in HEADS.values()], 1)


class ShapeProbe(torch.nn.Module):
    """Shape from single frames, wherever in the frame it is: convolutions, then maximum and mean over the picture."""
    def __init__(self):
        super().__init__()
        layers, n = [], 3
        for m, stride in ((24, 2), (48, 1), (64, 2), (64, 1), (96, 2), (96, 1)):
            layers += [torch.nn.Conv2d(n, m, 3, stride, 1), torch.nn.BatchNorm2d(m), torch.nn.ReLU()]; n = m
        self.body = torch.nn.Sequential(*layers); self.out = torch.nn.Linear(2 * n, len(world.SHAPES))

    def forward(self, x):
        y = self.body(x)
        return self.out(torch.cat([y.amax((2, 3)), y.mean((2, 3))], 1))


def answers(probes, x):
    """The first probe reads motion, colour, sky and ground; the second reads shape, averaged over six frames."""
    probe, shape = probes
    with torch.no_grad():
        got = torch.cat([torch.stack([o.argmax(1) for o in probe(c)], 1) for c in x.split(64)])
        got[:, 1] = torch.cat([sum(shape(c[:, :, i]).log_softmax(1) for i in (1, 4, 7, 10, 13, 16)).argmax(1) for c in x.split(64)])
    return got


def blur(x, rng):
    k = rng.choice([3, 5, 7]); s = rng.uniform(.5, 2.2)
    g = torch.exp(-((torch.arange(k) - k // 2).float() / s) ** 2 / 2); g = g / g.sum()
    b, c, f, h, w = x.shape
    y = x.reshape(-1, 1, h, w)
    y = F.conv2d(F.pad(y, (k // 2, k // 2, k // 2, k // 2), mode='replicate'), (g.view(-1, 1) * g.view(1, -1)).view(1, 1, k, k))
    return y.view(x.shape) + torch.randn_like(x) * rng.uniform(0, .06)


def round_trip(vae, x):
    with torch.no_grad():
        return torch.cat([vae.decode(vae.encode(c).latent_dist.mode()).sample.clamp(-1, 1) for c in x.split(8)])


def real_clips(rng, n, held_out=None):
    scenes = [world.sample_scene(rng, held_out, things=1) for _ in range(n)]
    return torch.stack([world.render(s, 17, 64, 64)[0] for s in scenes]), torch.tensor([truth(s) for s in scenes])


def train_probes(vae, file, clips, trips, epochs):
    """-> (probe, shape probe), their accuracy on held-out real clips, and on the same after the VAE"""
    rng = random.Random(2024); torch.manual_seed(0); start = time.time()
    known = torch.load(file, weights_only=True) if os.path.exists(file) else {}
    probes = Probe(), ShapeProbe()
    hx, hy = real_clips(random.Random(4048), 128, True)
    if 'shape' not in known:
        ht = round_trip(vae, hx)
    if 'probe' in known:
        probes[0].load_state_dict(known['probe'])
    else:
        x, y = real_clips(rng, clips); x = x.half()
        soft = round_trip(vae, x[:trips].float()).half(); print(f'probe data {time.time() - start:.0f} s', flush=True)
        fit(probes[0], torch.cat([x, soft]), torch.cat([y, y[:trips]]), epochs, rng, lambda p, b, t: sum(F.cross_entropy(o, t[:, k]) for k, o in enumerate(p(b))))
    if 'shape' in known:
        probes[1].load_state_dict(known['shape'])
    else:
        scenes = [world.sample_scene(rng, None, things=1) for _ in range(2200)]
        x = torch.stack([world.render(s, 9, 64, 64)[0] for s in scenes]); y = torch.tensor([truth(s) for s in scenes])
        soft = round_trip(vae, x[:200]); print(f'shape data {time.time() - start:.0f} s', flush=True)
        x, y = torch.cat([x, soft])[:, :, 1::3].transpose(1, 2).flatten(0, 1), torch.cat([y, y[:200]]).repeat_interleave(3, 0)
        fit(probes[1], x.unsqueeze(2), y, 7, rng, lambda p, b, t: F.cross_entropy(p(b[:, :, 0]), t[:, 1]))
    for p in probes:
        p.eval()
    if 'shape' not in known:
        known['real'] = (answers(probes, hx) == hy).float().mean(0).tolist(); known['trip'] = (answers(probes, ht) == hy).float().mean(0).tolist()
        torch.save({'probe': probes[0].state_dict(), 'shape': probes[1].state_dict(), 'real': known['real'], 'trip': known['trip']}, file)
        print('probes on held-out real clips', known['real'], 'after the VAE', known['trip'], flush=True)
    return probes, known['real'], known['trip']


def fit(p, x, y, epochs, rng, loss_of):
    start = time.time(); steps = epochs * len(x) // 64
    opt = torch.optim.AdamW(p.parameters(), lr=2e-3, weight_decay=.02); sched = torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, total_steps=steps)
    for i in range(steps):
        at = torch.tensor([rng.randrange(len(x)) for _ in range(64)])
        b, t = x[at].float(), y[at]
        if rng.random() < .5:
            b = blur(b, rng)
        loss = loss_of(p, b, t); opt.zero_grad(); loss.backward(); opt.step(); sched.step()
        if i % 100 == 0:
            print(f'{type(p).__name__} {i}/{steps} loss {loss.item():.3f} {time.time() - start:.0f} s', flush=True)


def generate(a, prompts, settings):
    """-> [N,3,17,64,64] in -1..1"""
    if a.engine == 'python':
        import diffusers
        import export
        import sample
        pipe = export.fix(diffusers.WanVACEPipeline.from_pretrained(a.model, torch_dtype=torch.float32))
        pipe.scheduler = diffusers.UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=settings['flow_shift'])
        return torch.stack([sample.generate(pipe, p, a.seed + i, settings['num_steps'], settings['guidance_scale'])[0] for i, p in enumerate(prompts)])
    from safetensors.torch import load_file
    out = []
    with tempfile.TemporaryDirectory() as d:
        for i, p in enumerate(prompts):
            subprocess.run([TABREEL, 'generate', '--model', a.model, '--prompt', p, '--seed', str(a.seed + i), '--width', '64', '--height', '64', '--frames', '17',
                            '--steps', str(settings['num_steps']), '--guidance', str(settings['guidance_scale']), '--device', 'cpu', '--out', d + '/x.safetensors'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            out.append(load_file(d + '/x.safetensors')['frames'].permute(3, 0, 1, 2).float() / 127.5 - 1)
            if i % 10 == 9:
                print(f'{i + 1} clips', flush=True)
    return torch.stack(out)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--model', default=HERE + '/../models/small-world'); p.add_argument('--engine', default='cli', choices=['cli', 'python'])
    p.add_argument('--clips', type=int, default=120); p.add_argument('--seed', type=int, default=1000); p.add_argument('--notes', default='')
    p.add_argument('--probe', default=common.RUNS + '/probe.pt'); p.add_argument('--probe-clips', type=int, default=5000); p.add_argument('--probe-trips', type=int, default=700); p.add_argument('--probe-epochs', type=int, default=8)
    p.add_argument('--steps', type=int); p.add_argument('--guidance', type=float); p.add_argument('--shift', type=float); p.add_argument('--write', type=int, default=1)
    p.add_argument('--only-probe', type=int, default=0)
    a = p.parse_args(); torch.set_num_threads(1); a.model = os.path.abspath(a.model)
    import diffusers
    import train_vae
    vae = diffusers.AutoencoderKLWan.from_pretrained(a.model + '/vae', torch_dtype=torch.float32)
    probe, real, trip = train_probes(vae, a.probe, a.probe_clips, a.probe_trips, a.probe_epochs)
    if a.only_probe:
        return
    settings = json.load(open(a.model + '/tabreel.json'))['default']
    for k, v in (('num_steps', a.steps), ('guidance_scale', a.guidance), ('flow_shift', a.shift)):
        if v is not None:
            settings[k] = v
    rng = random.Random(a.seed)
    scenes = [world.sample_scene(rng, True, things=1) for _ in range(a.clips)]
    for s in scenes:
        s.pan = 0.
    prompts = [world.caption(s, rng, full=True) for s in scenes]
    start = time.time(); x = generate(a, prompts, settings); spent = time.time() - start
    y = torch.tensor([truth(s) for s in scenes]); got = answers(probe, x); right = got == y
    score = right.float().mean(0).tolist()
    print(a.engine, settings, {h: round(s, 3) for h, s in zip(HEADS, score)}, f'{spent:.0f} s', flush=True)
    by_class = {h: {c: f'{right[y[:, k] == i, k].float().mean():.2f}' for i, c in enumerate(names) if (y[:, k] == i).any()} for k, (h, names) in enumerate(HEADS.items())}
    for h in HEADS:
        print(h, by_class[h])
    if not a.write:
        torch.save({'x': x.half(), 'prompts': prompts, 'right': right}, common.RUNS + '/eval.pt'); return
    hv, _, hm, _ = world.batch(random.Random(4242), 48, 17, 64, held_out=True)
    whole, inside = train_vae.psnr(vae, hv, hm)
    order = list(range(16))
    im = world.sheet(x[order], scale=1, per_row=6)
    im.save(a.model + '/samples.png', optimize=True)
    row = lambda name, v: f'| {name} | ' + ' | '.join(f'{100 * t:.1f} %' for t in v) + ' |'
    text = [f'# small-world: what was measured\n', f'{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, written by `training/evaluate.py`.\n',
            '```', f"{'TABREEL_BIN=…/target/release/tabreel ' if a.engine == 'cli' else ''}python training/evaluate.py --engine {a.engine} --clips {a.clips} --seed {a.seed}", '```\n',
            f"{a.clips} clips of 64x64x17 from held-out captions (combinations of colour, shape, motion, sky and ground never trained on, worded with synonyms and in several orders), "
            f"made by {'the Rust command line on the CPU' if a.engine == 'cli' else 'diffusers'} in {spent:.0f} s: {settings['num_steps']} steps, guidance {settings['guidance_scale']}, flow shift {settings['flow_shift']}.\n",
            '| read from the pixels | ' + ' | '.join(HEADS) + ' |', '|---' * 6 + '|', row('**generated clips**', score), row('gate (CPU training)', [.8] * 5),
            row('probe on real clips', real), row('probe on real clips after the VAE', trip),
            '\nChance: colour 12.5 %, shape 20 %, direction 12.5 % (spinning counts as still), sky 25 %, ground 20 %. Clips with all five right: '
            f'{100 * right.all(1).float().mean():.1f} %.\n',
            '## By class\n', *[f'- {h}: ' + ', '.join(f'{c} {100 * float(v):.0f} %' for c, v in by_class[h].items()) for h in HEADS],
            '\n## VAE\n', '| 48 held-out clips, 64x64x17, f16 weights | whole frame | inside the objects |', '|---|---|---|', f'| **PSNR** | {whole:.2f} dB | {inside:.2f} dB |', '| gate (CPU training) | 28 dB | 22 dB |',
            '\n## Clips\n', 'First sixteen of the clips above, six of seventeen frames each:\n', '![samples](samples.png)\n',
            *[f'{i + 1}. {prompts[j]} (seed {a.seed + j})' + ('' if right[j].all() else ' — wrong: ' + ', '.join(f'{h} read as {HEADS[h][got[j, k]]}' for k, h in enumerate(HEADS) if not right[j, k])) for i, j in enumerate(order)], '']
    if a.notes:
        text.append(open(a.notes).read())
    open(a.model + '/EVAL.md', 'w').write('\n'.join(text) + '\n')
    print(f'VAE {whole:.2f} / {inside:.2f} dB')


if __name__ == '__main__':
    main()
