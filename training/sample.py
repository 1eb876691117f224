"""Looks at a model while it trains: clips for fixed prompts through diffusers' own WanVACEPipeline.

    python sample.py OUT.png [--model FOLDER | --vae … --dit … --text …] [--steps 12 --guidance 4 --shift 3] [PROMPT …]
"""
import argparse

import torch
import diffusers

import common
import export
import train_text
import world

PROMPTS = ['a large red ball bounces over grass at sunset', 'a small blue cube moves right over snow by day', 'a large yellow star falls over the sea at night',
           'a big green triangle moves to the left over sand by day', 'a large purple ring rolls right over a road at sunset', 'a large white ball rises over grass in fog',
           'a large pink cube spins over sand at night', 'a small orange star stays still over snow in fog', 'a large blue ball shrinks over grass by day',
           'a red ring moves left over the sea at sunset with hills', 'a large green cube grows over a road at night', 'a small red ball rises and a large blue triangle stays still over grass by day']


def generate(pipe, prompt, seed, steps, guidance, width=128, height=128, frames=17, **kw):
    """-> video [3,F,H,W] in -1..1, latents"""
    g = torch.Generator('cpu').manual_seed(seed)
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
    p.add_argument('--steps', type=int, default=12); p.add_argument('--guidance', type=float, default=4.); p.add_argument('--shift', type=float, default=3.); p.add_argument('--seed', type=int, default=7)
    a = p.parse_args()
    torch.set_num_threads(1)
    pipe = export.fix(diffusers.WanVACEPipeline.from_pretrained(a.model, torch_dtype=torch.float32)) if a.model else export.load(a.vae, a.dit, a.text)
    pipe.scheduler = diffusers.UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=a.shift)
    clips = [generate(pipe, t, a.seed + i, a.steps, a.guidance)[0] for i, t in enumerate(a.prompts or PROMPTS)]
    world.sheet(torch.stack(clips)).save(a.out)


if __name__ == '__main__':
    main()
