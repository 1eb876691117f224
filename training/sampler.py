"""What the sampler's settings do to the drawing: steps, shift, guidance, guidance on part of the noise only, guidance kept
from step to step. Nothing is trained; the figures are those of evaluate.py that need no network (outline.py, pairs.py).

    python sampler.py --pairs 0 --setting steps=12,guidance=3 --setting steps=12,guidance=3,every=2 [--model FOLDER]

A setting: steps, guidance, shift; above (guidance only where s is at least this, 1 below: 2404.07724); every (the way from the
negative prompt to the prompt is computed on every n-th step and reused between: one evaluation there in place of two).
"""
import argparse
import os
import random
import time

import torch
import diffusers

import clips
import evaluate
import outline
import pairs
import train_text
import world
from cache_latents import Coder

SIZE = 17, 128, 128
DEFAULTS = {'steps': 12, 'guidance': 3., 'shift': 3., 'above': 0., 'every': 1}


class Sampler:
    """UniPC over a batch of prompts, text only. The pipeline of diffusers takes one prompt at a time."""
    def __init__(self, folder):
        self.pipe = clips.pipeline(folder); self.code = Coder(self.pipe.vae); torch.set_grad_enabled(False)
        gray = self.code.gray(*SIZE)[0]
        self.control = torch.cat([gray, gray, torch.ones(self.code.side ** 2, *gray.shape[1:])]).unsqueeze(0)

    def text(self, prompts):
        ids, mask = train_text.tokenize(self.pipe.tokenizer, prompts)
        return self.pipe.text_encoder(ids, mask).last_hidden_state * mask.unsqueeze(-1)

    def predict(self, x, t, text):
        return self.pipe.transformer(x, t.expand(len(x)), text, control_hidden_states=self.control.expand(len(x), -1, -1, -1, -1)).sample

    def __call__(self, prompts, seeds, steps, guidance, shift, above, every):
        """-> clips [3,F,H,W] in -1..1, evaluations of the model for each"""
        shape = self.pipe.transformer.config.in_channels, *self.control.shape[2:]
        x = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds])
        asked, free = self.text(prompts), self.text([''] * len(prompts))
        scheduler = diffusers.UniPCMultistepScheduler.from_config(self.pipe.scheduler.config, flow_shift=shift); scheduler.set_timesteps(steps)
        evaluations, way = 0, None
        for i, t in enumerate(scheduler.timesteps):
            if guidance == 1 or float(t) < 1000 * above:
                v = self.predict(x, t, asked); evaluations += 1
            elif way is None or i % every == 0:
                v, without = self.predict(torch.cat([x, x]), t, torch.cat([asked, free])).chunk(2); evaluations += 2
                way = v - without; v = v + (guidance - 1) * way
            else:
                v = self.predict(x, t, asked) + (guidance - 1) * way; evaluations += 1
            x = scheduler.step(v, t, x).prev_sample
        z = x * self.code.std + self.code.mean
        return [self.pipe.vae.decode(c).sample[0].clamp(-1, 1) for c in z.split(1)], evaluations


def single_scenes(n, seed):
    """The first n of evaluate.py's one-object captions whose object colour cuts out."""
    found = [(s, p) for s, p in zip(*evaluate.one_object(4 * n, seed)) if outline.separable(s, *SIZE)][:n]
    return [s for s, _ in found], [p for _, p in found]


def pair_scenes(n, seed):
    rng = random.Random(seed + 1); scenes = []
    while len(scenes) < n:
        s = pairs.sample(rng)
        if pairs.readable(s, *SIZE):
            scenes.append(s)
    return scenes, [world.caption(s, rng, full=True) for s in scenes]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default=evaluate.HERE + '/../models/small-world'); p.add_argument('--single', type=int, default=24); p.add_argument('--pairs', type=int, default=16)
    p.add_argument('--seed', type=int, default=2000); p.add_argument('--setting', action='append', required=True, help='steps=12,guidance=3,shift=3,above=0,every=1'); p.add_argument('--sheets', default='', help='folder for contact sheets')
    a = p.parse_args(); torch.set_num_threads(1)
    sampler = Sampler(os.path.abspath(a.model))
    for text in a.setting:
        given = dict(part.split('=') for part in text.split(','))
        setting = {k: type(v)(given.pop(k, v)) for k, v in DEFAULTS.items()}
        if given:
            raise SystemExit(f'unknown in a setting: {", ".join(given)}; known are {", ".join(DEFAULTS)}')
        for what, (scenes, prompts) in (('one object', single_scenes(a.single, a.seed)), ('two objects', pair_scenes(a.pairs, a.seed))):
            start, made = time.process_time(), []
            for i in range(0, len(prompts), 8):
                new, evaluations = sampler(prompts[i:i + 8], [a.seed + k for k in range(i, min(i + 8, len(prompts)))], **setting); made += new
            if not made:
                continue
            spent = (time.process_time() - start) / len(made)
            if what == 'one object':
                got = outline.aggregate(scenes, [outline.measure(c, s) for c, s in zip(made, scenes)])
            else:
                right = torch.tensor([[[g == w for g, w in zip(*o)] for o in zip(pairs.read(c, s), pairs.wanted(s))] for c, s in zip(made, scenes)]).float()
                got = dict(zip(('colour', 'shape', 'direction'), right.mean((0, 1)).tolist())) | {'all of both': right.amin((1, 2)).mean().item()}
            print(text, what, len(made), 'clips', evaluations, 'evaluations', f'{spent:.2f} s of CPU a clip', {k: round(v, 3) if isinstance(v, float) else v for k, v in got.items()}, flush=True)
            if a.sheets:
                world.sheet(torch.stack(made), scale=1, per_row=6).save(f'{a.sheets}/{what.replace(" ", "-")}-{text}.png')


if __name__ == '__main__':
    main()
