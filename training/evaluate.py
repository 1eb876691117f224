"""Measures a model folder on captions never trained on and writes EVAL.md and samples.png into it.

    python evaluate.py [--model ../models/small-world] [--engine cli|python] [--jobs 2] [--old FIGURES.json] [--notes FILE]

Clips have the size and length of the card's `default` and come from the Rust command line (`tabreel generate … --device cpu`,
binary in $TABREEL_BIN) or from diffusers. They are kept (clips.py): a run that was stopped goes on where it was. Figures are
also written to RUNS/eval/HASH/figures.json; `--old` puts another model's, measured by this same script, beside them.
`--parts` takes some of: probes, single, pairs, vae, conditions; the figures of the others are taken from that file.
"""
import argparse
import json
import os
import random
import time

import torch

import clips
import common
import conditions
import outline
import pairs
import probe
import report
import world

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ['probes', 'single', 'pairs', 'vae', 'conditions']


def one_object(n, seed):
    """n held-out scenes of one object, the camera still, and a full caption each."""
    rng = random.Random(seed); scenes = []
    for _ in range(n):
        s = world.sample_scene(rng, True, things=1); s.pan = 0.
        scenes.append(s)
    return scenes, [world.caption(s, rng, full=True) for s in scenes]


def demanding(scene):
    """Bounces and fast motion."""
    o = scene.things[0]
    return o.motion == 'bounces' or (o.fast and o.motion not in ('grows', 'shrinks', 'stays still'))


def single(maker, probes, n, seed, model):
    scenes, prompts = one_object(n, seed)
    start = time.time(); made = [c for c, _ in maker.all([(p, seed + i) for i, p in enumerate(prompts)], 'one object')]
    spent = time.time() - start
    s = maker.settings; size = s['num_frames'], s['height'], s['width']
    y = torch.tensor([probe.truth(s) for s in scenes])
    parts = [probe.answers(probes, torch.stack(made[i:i + 32])) for i in range(0, n, 32)]
    got, _, nearest = (torch.cat(p) for p in zip(*parts))
    right = got == y
    names = {h: [*v, 'none'] if h == 'shape' else v for h, v in probe.HEADS.items()}
    measured = [i for i, s in enumerate(scenes) if outline.separable(s, *size)]
    fits = []
    for i in measured:
        fits.append(outline.measure(made[i], scenes[i]))
        if len(fits) % 32 == 0:
            print(f'outlines: {len(fits)} of {len(measured)}', flush=True)
    hard = [i for i in measured if demanding(scenes[i])]
    held = [(good, of) for good, of in (outline.in_every_frame(made[i], scenes[i]) for i in hard) if of]
    order = list(range(min(32, n)))
    if model:
        world.sheet(torch.stack([made[i] for i in order]), scale=1, per_row=6).save(model + '/samples.png', optimize=True)
    wrong = lambda i: [f'{h} read as {names[h][int(got[i, k])]}' for k, h in enumerate(probe.HEADS) if not right[i, k]]
    return {'clips': n, 'seconds': spent, 'heads': dict(zip(probe.HEADS, right.float().mean(0).tolist())), 'all': right.all(1).float().mean().item(),
            'nearest': (nearest == y[:, 1]).float().mean().item(),
            'by_class': {h: {c: right[y[:, k] == i, k].float().mean().item() for i, c in enumerate(v) if (y[:, k] == i).any()} for k, (h, v) in enumerate(probe.HEADS.items())},
            'hard': {'clips': len(held), 'every_frame': sum(g == n for g, n in held) / max(1, len(held)), 'frames': sum(g for g, _ in held) / max(1, sum(n for _, n in held)),
                     'rendered': sum(g == n for g, n in (outline.in_every_frame(world.render(scenes[i], *size)[0], scenes[i]) for i in hard)) / max(1, len(hard))},
            'outline': outline.aggregate([scenes[i] for i in measured], fits),
            'samples': [{'prompt': prompts[i], 'seed': seed + i, 'wrong': wrong(i)} for i in order]}


def two_objects(maker, n, seed):
    rng = random.Random(seed + 1); s = maker.settings; size = s['num_frames'], s['height'], s['width']
    scenes, tried = [], 0
    while len(scenes) < n:
        scene = pairs.sample(rng); tried += 1
        if pairs.readable(scene, *size):
            scenes.append(scene)
    prompts = [world.caption(s, rng, full=True) for s in scenes]
    made = maker.all([(p, seed + i) for i, p in enumerate(prompts)], 'two objects')
    right = torch.tensor([[[g == w for g, w in zip(got, want)] for got, want in zip(pairs.read(c, scene), pairs.wanted(scene))] for (c, _), scene in zip(made, scenes)])
    return {'clips': n, 'tried': tried, 'heads': dict(zip(('colour', 'shape', 'direction'), right.all(1).float().mean(0).tolist())),
            'objects': dict(zip(('colour', 'shape', 'direction'), right.float().mean((0, 1)).tolist())), 'all': right.all(2).all(1).float().mean().item()}


def autoencoder(vae, settings, n=48):
    import train_vae
    held, _, mask, _ = world.batch(random.Random(4242), n, settings['num_frames'], settings['height'], settings['width'], held_out=True)
    return {'clips': n, 'psnr': list(train_vae.psnr(vae, held, mask))}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default=HERE + '/../models/small-world'); p.add_argument('--engine', default='cli', choices=['cli', 'python'])
    p.add_argument('--clips', type=int, default=256); p.add_argument('--pairs', type=int, default=96); p.add_argument('--given', type=int, default=16, help='clips per condition')
    p.add_argument('--vae-clips', type=int, default=48); p.add_argument('--seed', type=int, default=2000); p.add_argument('--jobs', type=int, default=1, choices=[1, 2])
    p.add_argument('--parts', nargs='*', default=PARTS, choices=PARTS); p.add_argument('--probe', default='', help='RUNS/probeSIZE.pt; trained where there is none')
    p.add_argument('--old', default='', help="another model's figures.json"); p.add_argument('--notes', default='', help='appended to EVAL.md')
    p.add_argument('--browser', type=float, default=0., help='seconds that one clip takes in Chromium, as bench measured it'); p.add_argument('--write', type=int, default=1, help='0: figures only')
    p.add_argument('--steps', type=int); p.add_argument('--guidance', type=float); p.add_argument('--shift', type=float)
    a = p.parse_args(); torch.set_num_threads(1); a.model = os.path.abspath(a.model)
    import diffusers
    vae = diffusers.AutoencoderKLWan.from_pretrained(a.model + '/vae', torch_dtype=torch.float32)
    settings = {'flow_shift': 3.} | json.load(open(a.model + '/tabreel.json'))['default']
    settings |= {k: v for k, v in (('num_steps', a.steps), ('guidance_scale', a.guidance), ('flow_shift', a.shift)) if v is not None}
    if a.steps:
        settings = {k: v for k, v in settings.items() if k not in ('sampler', 'sigmas')}
    maker = clips.Maker(a.model, settings, a.engine, a.jobs)
    file = f'{maker.kept}/figures.json'
    figures = json.load(open(file)) if os.path.exists(file) else {}
    if figures.get('settings', settings) != settings or figures.get('engine', a.engine) != a.engine:
        figures = {}     # measured otherwise
    figures |= {'settings': settings, 'engine': a.engine, 'seed': a.seed, 'bytes': sum(f['bytes'] for f in json.load(open(a.model + '/tabreel.json')).get('files', []))}
    if a.browser:
        figures['browser'] = a.browser

    def keep(part, value):
        figures[part] = value
        json.dump(figures, open(file + '.tmp', 'w'), indent=1); os.replace(file + '.tmp', file)
        print(part, json.dumps(value)[:1500], flush=True)

    probes = probe.load(a.probe or f"{common.RUNS}/probe{settings['height']}.pt", vae, settings['height'])
    if 'single' in a.parts:
        keep('single', single(maker, probes, a.clips, a.seed, a.model if a.write else ''))
    if 'pairs' in a.parts:
        keep('pairs', two_objects(maker, a.pairs, a.seed))
    if 'vae' in a.parts:
        keep('vae', autoencoder(vae, settings, a.vae_clips))
    if 'probes' in a.parts:
        keep('probes', probe.turned_on_itself(probes, vae, settings['height']))
    if 'conditions' in a.parts:
        by_python = maker if a.engine == 'python' else clips.Maker(a.model, settings, 'python', 1)
        given = {}
        for kind in conditions.KINDS:
            cli = a.engine == 'cli' and kind in conditions.BY_CLI
            given[kind] = conditions.measure(kind, maker if cli else by_python, probes, vae, a.given, a.seed, cli)
            keep('conditions', given)
    if a.write:
        old = json.load(open(a.old)) if a.old else {}
        open(a.model + '/EVAL.md', 'w').write(report.text(figures, old, a.notes and open(a.notes).read()))
    print(file)


if __name__ == '__main__':
    main()
