"""Looks at a model while it trains: clips for fixed prompts through diffusers' own WanVACEPipeline.

    python sample.py OUT.png [--model FOLDER | --vae … --dit … --text …] [--steps 12 --guidance 1 --shift 3 | --sigmas 1,.9,.75,.5] [PROMPT …]
    python sample.py OUT.png --measure 40 …     # held-out scenes in place of the prompts, and how their outlines measure
"""
import argparse
import json
import random

import torch
import diffusers

import clips
import common
import export
import outline
import train_text
import world

PROMPTS = ['a large red ball bounces over grass at sunset', 'a small blue cube moves right over snow by day', 'a large yellow star falls over the sea at night',
           'a big green triangle moves to the left over sand by day', 'a large purple ring rolls right over a road at sunset', 'a large white ball rises over grass in fog',
           'a large pink cube spins over sand at night', 'a small orange star stays still over snow in fog', 'a large blue ball shrinks over grass by day',
           'a red ring moves left over the sea at sunset with hills', 'a large green cube grows over a road at night', 'a small red ball rises and a large blue triangle stays still over grass by day']


class Levels(diffusers.FlowMatchEulerDiscreteScheduler):
    """The sampler `stochastic` on given levels, which diffusers' pipelines cannot be handed."""
    def set_timesteps(self, num_inference_steps=None, device=None, **_):
        super().set_timesteps(sigmas=self.config.levels, device=device)

    @diffusers.configuration_utils.register_to_config
    def __init__(self, levels=(1.,), num_train_timesteps=1000, shift=1., stochastic_sampling=True):
        super().__init__(num_train_timesteps=num_train_timesteps, shift=shift, stochastic_sampling=stochastic_sampling)


def scheduler(pipe, shift, sigmas=None):
    if sigmas:
        return Levels(list(sigmas))
    own = type(pipe.scheduler)
    return own.from_config(pipe.scheduler.config, **{'shift' if own is diffusers.FlowMatchEulerDiscreteScheduler else 'flow_shift': shift})


def generate(pipe, prompt, seed, steps, guidance, width=128, height=128, frames=17, **kw):
    """-> video [3,F,H,W] in -1..1, latents"""
    g = torch.Generator('cpu').manual_seed(seed)
    torch.manual_seed(seed)      # diffusers draws the noise between steps from torch's own
    with torch.no_grad():
        z = pipe(prompt=prompt, height=height, width=width, num_frames=frames, num_inference_steps=steps, guidance_scale=guidance, generator=g,
                 max_sequence_length=train_text.LENGTH, output_type='latent', **kw).frames
        z = z[:, :, -((frames + 3) // 4):]     # without a reference picture's latents in front
        c = pipe.vae.config
        v = pipe.vae.decode(z * torch.tensor(c.latents_std).view(1, -1, 1, 1, 1) + torch.tensor(c.latents_mean).view(1, -1, 1, 1, 1)).sample
    return v[0].clamp(-1, 1), z


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('out'); p.add_argument('prompts', nargs='*')
    p.add_argument('--model'); p.add_argument('--vae', default=common.RUNS + '/vae/vae'); p.add_argument('--dit', default=common.RUNS + '/dit/export'); p.add_argument('--text', default=common.RUNS + '/text')
    p.add_argument('--steps', type=int, default=12); p.add_argument('--guidance', type=float, default=1.); p.add_argument('--shift', type=float, default=3.); p.add_argument('--seed', type=int, default=7)
    p.add_argument('--sigmas', type=lambda t: [float(x) for x in t.split(',')]); p.add_argument('--measure', type=int, default=0)
    a = p.parse_args()
    torch.set_num_threads(1)
    pipe = clips.pipeline(a.model) if a.model else export.load(a.vae, a.dit, a.text)
    pipe.scheduler = scheduler(pipe, a.shift, a.sigmas)
    steps, guidance = len(a.sigmas) if a.sigmas else a.steps, a.guidance
    rng, scenes = random.Random(a.seed), []
    while len(scenes) < a.measure:
        s = world.sample_scene(rng, True, things=1); s.pan = 0.; s.things[0].shape = world.SHAPES[len(scenes) % 5]
        if outline.separable(s, 17, 128, 128):
            scenes.append(s)
    prompts = [world.caption(s, rng, full=True) for s in scenes] or a.prompts or PROMPTS
    made = [generate(pipe, t, a.seed + i, steps, guidance)[0] for i, t in enumerate(prompts)]
    world.sheet(torch.stack(made[:30])).save(a.out)
    if scenes:
        found = outline.aggregate(scenes, [outline.measure(x, s) for x, s in zip(made, scenes)])
        frames = [outline.in_every_frame(x, s) for x, s in zip(made, scenes)]
        found |= {'shape in frames': sum(g for g, _ in frames) / sum(n for _, n in frames), 'in every frame': sum(g == n for g, n in frames if n) / sum(n > 0 for _, n in frames)}
        print(json.dumps({k: [round(x, 3) for x in v.values()] if isinstance(v, dict) else round(v, 3) for k, v in found.items()}))


if __name__ == '__main__':
    main()
