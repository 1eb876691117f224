"""Assembles the diffusers folder that ships: models/small-world.

    python export.py [--gguf 1] [--out FOLDER]     # from the newest exports of the training stages

VAE and text encoder are stored in f16. The transformer is written in f32 to RUNS/export/transformer (input of
`tabreel convert`), and into the folder as GGUF Q8_0 with --gguf (made by the Rust command line) or as f16 without.
Every file is written beside its place and renamed, so a reader never sees half of one.
"""
import argparse
import json
import os
import shutil
import subprocess

import diffusers
import torch
import transformers

import card
import common
import train_text

HERE = os.path.dirname(os.path.abspath(__file__))
TABREEL = os.environ.get('TABREEL_BIN', os.path.join(os.environ.get('CARGO_TARGET_DIR', HERE + '/../target'), 'release/tabreel'))
EXAMPLES = ['a large orange ring rolls left over grass by day',
            'a small blue cube moves to the right on the beach by day',
            'a large purple triangle rises over a road in fog',
            'a big pink cube rests over sand at sunset',
            'a large red ball bounces over grass at sunset',
            'a large yellow ball falls over the sea at night']
DEFAULT = {'width': 128, 'height': 128, 'num_frames': 17, 'fps': 16, 'num_steps': 12, 'guidance_scale': 1.0, 'flow_shift': 5.0}
PRESETS = {'draft': {'about': '6 steps: half the time, softer.', 'num_steps': 6}, 'fine': {'about': '24 steps: twice the time.', 'num_steps': 24},
           'guided': {'about': 'Guidance 2: heeds a negative prompt, in twice the time.', 'guidance_scale': 2.0}}


def load(vae, dit, text, dtype=torch.float32):
    # Fresh noise at each step: what an early step has drawn askew is drawn again. It made outlines .82 -> .86 (README.md).
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=DEFAULT['flow_shift'], stochastic_sampling=True)
    return fix(diffusers.WanVACEPipeline(
        tokenizer=train_text.load_tokenizer(text + '/tokenizer'), scheduler=scheduler,
        text_encoder=transformers.UMT5EncoderModel.from_pretrained(dit + '/text_encoder', dtype=dtype),
        vae=diffusers.AutoencoderKLWan.from_pretrained(vae, torch_dtype=dtype),
        transformer=diffusers.WanVACETransformer3DModel.from_pretrained(dit + '/transformer', torch_dtype=dtype)))


def fix(pipe):
    """diffusers 0.42.1's WanVACEPipeline takes the VAE's scale from the number of its down-samplings and forgets the VAE's
    own patch (Wan 2.2 style); WanPipeline reads it from the VAE's config, as it should be. Call this after from_pretrained."""
    pipe.vae_scale_factor_spatial = pipe.vae.config.scale_factor_spatial
    pipe.video_processor = diffusers.video_processor.VideoProcessor(vae_scale_factor=pipe.vae_scale_factor_spatial)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def replace_tree(src, dst):
    for d, _, files in os.walk(src):
        to = os.path.join(dst, os.path.relpath(d, src)); os.makedirs(to, exist_ok=True)
        for f in files:
            shutil.copyfile(os.path.join(d, f), os.path.join(to, f + '.tmp')); os.replace(os.path.join(to, f + '.tmp'), os.path.join(to, f))


def without_paths(folder):
    """Takes the build machine's paths (`_name_or_path`) out of every JSON of a folder."""
    for d, _, names in os.walk(folder):
        for f in (os.path.join(d, n) for n in names if n.endswith('.json')):
            config = json.load(open(f))
            if isinstance(config, dict) and config.pop('_name_or_path', None) is not None:
                json.dump(config, open(f, 'w'), indent=2, sort_keys=True)


def write_card(folder, trained):
    """tabreel.json of a finished folder: label, vocabulary, and the files with sizes and SHA-256 (pkg/README.md)."""
    words = card.vocabulary(); card.check(words)
    text = {'name': 'small-world', 'license': 'MIT OR Apache-2.0',
            'trained_on': 'Procedural clips of training/world.py (no outside data). ' + trained,
            'max_sequence_length': train_text.LENGTH, 'default': DEFAULT, 'presets': PRESETS, 'multiples': card.multiples(folder), 'sizes': [[128, 128], [192, 128], [128, 192]], 'num_frames': [1, 9, 17, 25, 33],
            'examples': EXAMPLES, 'vocabulary': words, 'files': card.files(folder)}
    json.dump(text, open(folder + '/tabreel.json.tmp', 'w'), indent=1); os.replace(folder + '/tabreel.json.tmp', folder + '/tabreel.json')


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--vae', default=common.RUNS + '/vae/vae'); p.add_argument('--dit', default=common.RUNS + '/dit/export'); p.add_argument('--text', default=common.RUNS + '/text')
    p.add_argument('--out', default=HERE + '/../models/small-world'); p.add_argument('--gguf', type=int, default=0); p.add_argument('--trained', default='')
    a = p.parse_args()
    pipe = load(a.vae, a.dit, a.text)
    work = common.RUNS + '/export'; tmp = common.RUNS + '/export/folder'
    shutil.rmtree(tmp, ignore_errors=True)
    pipe.transformer.save_pretrained(work + '/transformer')
    pipe.vae.half(); pipe.text_encoder.half(); pipe.transformer.half()
    pipe.save_pretrained(tmp)
    for f in os.listdir(a.text + '/tokenizer'):
        shutil.copyfile(f'{a.text}/tokenizer/{f}', f'{tmp}/tokenizer/{f}')
    config = json.load(open(tmp + '/text_encoder/config.json'))
    config['dtype'] = 'float16'; json.dump(config, open(tmp + '/text_encoder/config.json', 'w'), indent=2)
    if a.gguf:
        subprocess.run([TABREEL, 'convert', work + '/transformer/diffusion_pytorch_model.safetensors', tmp + '/transformer/diffusion_pytorch_model.gguf', '--type', 'q8_0'], check=True)
        os.remove(tmp + '/transformer/diffusion_pytorch_model.safetensors')
    without_paths(tmp)
    replace_tree(tmp, a.out)
    if a.gguf and os.path.exists(a.out + '/transformer/diffusion_pytorch_model.safetensors'):
        os.remove(a.out + '/transformer/diffusion_pytorch_model.safetensors')
    shutil.rmtree(tmp)
    write_card(a.out, a.trained)
    sizes = {os.path.relpath(os.path.join(d, f), a.out): os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(a.out) for f in fs}
    print(json.dumps(sizes, indent=1), f'{sum(sizes.values()) / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
