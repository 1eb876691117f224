"""Makes the clips that evaluate.py measures, once each: by the Rust command line, or by diffusers.

A clip is kept in RUNS/eval under the model's hash and a key of prompt, seed, settings, engine and given pictures, so that a
stopped run goes on where it stopped. (A new build of the command line does not void what is kept: delete the folder then.)
"""
import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import common
import export


def model_hash(folder):
    """Of all that decides a clip: weights, configs and tokenizer, not the card or the reports."""
    h = hashlib.sha256()
    for d, _, names in sorted(os.walk(folder)):
        for f in sorted(names):
            if f not in ('tabreel.json', 'EVAL.md', 'samples.png', 'TASKS.md', 'tasks.png', 'README.md'):
                h.update(f.encode()); h.update(open(os.path.join(d, f), 'rb').read())
    return h.hexdigest()[:16]


def pipeline(folder):
    """A model folder in diffusers, f32; a transformer kept as GGUF is read back to diffusers' names."""
    import diffusers
    if os.path.exists(folder + '/transformer/diffusion_pytorch_model.safetensors'):
        return export.fix(diffusers.WanVACEPipeline.from_pretrained(folder, torch_dtype=torch.float32))
    import train_dit
    transformer = diffusers.WanVACETransformer3DModel.from_config(diffusers.WanVACETransformer3DModel.load_config(folder + '/transformer'))
    train_dit.start_from(folder, type('Holder', (), {'transformer': transformer}))
    return export.fix(diffusers.WanVACEPipeline.from_pretrained(folder, transformer=transformer, torch_dtype=torch.float32))


SETTLED = ('width', 'height', 'num_frames', 'num_steps', 'guidance_scale', 'flow_shift', 'sampler', 'sigmas')


class Maker:
    """settings: the card's `default` (width, height, num_frames, num_steps or sampler and sigmas, guidance_scale, flow_shift)."""
    def __init__(self, folder, settings, engine, jobs):
        self.folder, self.settings, self.engine, self.jobs, self.pipe = folder, settings, engine, jobs, None
        self.kept = f'{common.RUNS}/eval/{model_hash(folder)}'; os.makedirs(self.kept, exist_ok=True)
        if engine == 'cli' and not os.access(export.TABREEL, os.X_OK):
            sys.exit(f'{export.TABREEL} is no program: build the command line (cargo build --release), set TABREEL_BIN, or take --engine python')

    def path(self, prompt, seed, given=''):
        key = json.dumps([prompt, seed, {k: self.settings[k] for k in SETTLED if k in self.settings}, self.engine, given])
        return f'{self.kept}/{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors'

    def diffusers(self):
        if self.pipe is None:
            import sample
            self.pipe = pipeline(self.folder)
            self.pipe.scheduler = sample.scheduler(self.pipe, self.settings['flow_shift'], self.settings.get('sigmas'))
        return self.pipe

    def by_cli(self, prompt, seed, out, images):
        s = self.settings
        command = [export.TABREEL, 'generate', '--model', self.folder, '--prompt', prompt, '--seed', str(seed), '--width', str(s['width']), '--height', str(s['height']),
                   '--frames', str(s['num_frames']), '--guidance', str(s['guidance_scale']), '--device', 'cpu', '--out', out]
        if 'sigmas' in s:
            command += ['--sampler', s['sampler'], '--sigmas', ','.join(map(str, s['sigmas']))]
        else:
            command += ['--steps', str(s['num_steps']), '--shift', str(s['flow_shift'])]
        with tempfile.TemporaryDirectory() as d:
            for flag, image in images.items():
                image.save(f'{d}/{flag}.png'); command += [f'--{flag}', f'{d}/{flag}.png']
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ, RAYON_NUM_THREADS='1') if self.jobs > 1 else None)
        if done.returncode:
            raise RuntimeError(f'tabreel generate failed on {prompt!r}: {done.stderr[-600:]}')

    def by_python(self, prompt, seed, out, given):
        """given: what WanVACEPipeline takes besides (video, mask, reference_images)"""
        import sample
        s = self.settings
        v, z = sample.generate(self.diffusers(), prompt, seed, len(s['sigmas']) if 'sigmas' in s else s['num_steps'], s['guidance_scale'], s['width'], s['height'], s['num_frames'], **given)
        save_file({'frames': ((v + 1) * 127.5).round().byte().permute(1, 2, 3, 0).contiguous(), 'latents': z.contiguous()}, out)

    def one(self, prompt, seed, given=None, name=''):
        """-> clip [3,F,H,W] in -1..1, latents [1,C,f,h,w] as the scheduler leaves them. given: pictures by flag of the command
        line, or arguments of diffusers' pipeline; `name` stands for them in the key."""
        path = self.path(prompt, seed, name)
        if not os.path.exists(path):
            part = path[:-len('.safetensors')] + f'.{os.getpid()}.part.safetensors'
            (self.by_cli if self.engine == 'cli' else self.by_python)(prompt, seed, part, given or {})
            os.replace(part, path)
        kept = load_file(path)
        return kept['frames'].permute(3, 0, 1, 2).float() / 127.5 - 1, kept['latents'].float()

    def all(self, jobs, what):
        """jobs: (prompt, seed, given, name) each -> [(clip, latents)], in the order of the jobs; progress on the terminal."""
        workers = self.jobs if self.engine == 'cli' else 1
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            out = []
            for made in pool.map(lambda j: self.one(*j), jobs):
                out.append(made)
                if len(out) % 16 == 0:
                    print(f'{what}: {len(out)} of {len(jobs)}', flush=True)
        return out
