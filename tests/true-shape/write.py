"""Writes a model folder of a published checkpoint's true shapes with random weights: what a visitor's files are like in
size and types, for tests of loading and memory. What it draws is noise.

    python write.py wan-1.3b OUT [--type q4_0] [--encoder q4_0] [--vae taehv|taehv-super]

The names and shapes come from diffusers and transformers themselves (models built on the meta device).
Kinds: wan-1.3b, vace-1.3b, ti2v-5b. Types: q4_0, q4_k, q8_0, f16.
"""
import argparse
import json
import math
import pathlib
import shutil
import struct

import numpy
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

ROOT = pathlib.Path(__file__).resolve().parents[2]
WAN = dict(patch_size=[1, 2, 2], attention_head_dim=128, text_dim=4096, freq_dim=256, num_layers=30, cross_attn_norm=True,
           qk_norm='rms_norm_across_heads', eps=1e-6, rope_max_seq_len=1024)
SMALL = dict(WAN, num_attention_heads=12, in_channels=16, out_channels=16, ffn_dim=8960)
VAE22 = dict(base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
             scale_factor_spatial=16, scale_factor_temporal=4, latents_mean=[0.] * 48, latents_std=[1.] * 48)
KINDS = {
    'wan-1.3b': ('WanPipeline', WanTransformer3DModel, SMALL, {}, {}),
    'vace-1.3b': ('WanVACEPipeline', WanVACETransformer3DModel, dict(SMALL, vace_layers=list(range(0, 30, 2)), vace_in_channels=96), {}, {}),
    'ti2v-5b': ('WanPipeline', WanTransformer3DModel, dict(WAN, num_attention_heads=24, in_channels=48, out_channels=48, ffn_dim=14336),
                VAE22, {'expand_timesteps': True}),
}
UMT5_XXL = dict(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj='gated-gelu',
                relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6)

# GGUF number, elements and bytes of a block.
TYPES = {'f32': (0, 1, 4), 'f16': (1, 1, 2), 'q4_0': (2, 32, 18), 'q8_0': (8, 32, 34), 'q4_k': (12, 256, 144)}


def blocks(kind, count, columns, rng):
    """`count` blocks of random weights whose rows keep the length of what they are multiplied with."""
    deviation = 1 / math.sqrt(columns)
    half = lambda x: numpy.frombuffer(numpy.float16(x).tobytes(), numpy.uint8)
    if kind == 'f16':
        return (rng.standard_normal(count, numpy.float32) * deviation).astype(numpy.float16).tobytes()
    _, length, size = TYPES[kind]
    out = numpy.empty((count, size), numpy.uint8)
    if kind == 'q8_0':
        out[:, :2] = half(deviation / 74)
        out[:, 2:] = rng.integers(0, 256, (count, 32), numpy.uint8)
    elif kind == 'q4_0':
        out[:, :2] = half(deviation / 4.6)
        out[:, 2:] = rng.integers(0, 256, (count, 16), numpy.uint8)
    else:  # q4_k: all scales and minima 32, the minimum the middle of the values
        out[:, :2] = half(deviation / 4.6 / 32)
        out[:, 2:4] = half(deviation / 4.6 / 32 * 7.5)
        out[:, 4:16] = [160] * 8 + [0] * 4
        out[:, 16:] = rng.integers(0, 256, (count, 128), numpy.uint8)
    return out.tobytes()


def write_gguf(path, tensors, kind, architecture):
    """`tensors`: names and shapes in torch order. A stretch of 64 MB of random blocks is made once and used again."""
    def type_of(name, shape):
        if len(shape) == 2 and shape[1] % TYPES[kind][1] == 0 and 'relative_attention_bias' not in name:
            return kind
        return 'f16' if len(shape) > 2 and 'patch_embedding' not in name and math.prod(shape) > 4096 else 'f32'

    chosen = [(name, shape, type_of(name, shape)) for name, shape in tensors]
    string = lambda text: struct.pack('<Q', len(text)) + text.encode()
    header = b'GGUF' + struct.pack('<IQQ', 3, len(chosen), 1) + string('general.architecture') + struct.pack('<I', 8) + string(architecture)
    offset = 0
    for name, shape, t in chosen:
        number, length, size = TYPES[t]
        header += string(name) + struct.pack('<I', len(shape)) + b''.join(struct.pack('<Q', d) for d in reversed(shape))
        header += struct.pack('<IQ', number, offset)
        offset += -(-math.prod(shape) // length * size // 32) * 32
    rng, made = numpy.random.default_rng(0), {}
    with open(path, 'wb') as out:
        out.write(header + bytes(-len(header) % 32))
        for name, shape, t in chosen:
            _, length, size = TYPES[t]
            count = math.prod(shape) // length
            if t == 'f32':
                data = (numpy.ones if 'norm' in name or 'gamma' in name or name.endswith('layer_norm.weight') else numpy.zeros)(count, numpy.float32)
                if len(shape) > 1 and 'gamma' not in name:
                    data = rng.standard_normal(count, numpy.float32) / math.sqrt(math.prod(shape[1:]))
                out.write(data.astype(numpy.float32).tobytes())
            else:
                columns = math.prod(shape[1:])
                if (t, columns) not in made:
                    made[t, columns] = blocks(t, min(max(count, 1), (64 << 20) // size), columns, rng)
                stretch, left = made[t, columns], count * size
                while left:
                    out.write(stretch[:left])
                    left -= min(left, len(stretch))
            out.write(bytes(-(count * size) % 32))


def shapes(build):
    with torch.device('meta'):
        model = build()
    seen = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    seen.pop('encoder.embed_tokens.weight', None)
    return list(seen.items())


def taehv(z, patch, larger=False):
    """Names and shapes of taew2_1 (z = 16, patch 1), taew2_2 (48, 2) and taew2_2_super (the larger one), as tests/reference builds them."""
    widths, pixels, out = (512, 256, 128, 64) if larger else (256, 128, 64, 64), 3 * patch * patch, []

    def conv(name, i, o, side=3, bias=True):
        out.append((f'{name}.weight', [o, i, side, side]))
        if bias:
            out.append((f'{name}.bias', [o]))

    def blocks_at(side, first, width):
        for block in range(first, first + 3):
            for layer, i in ((0, 2 * width), (2, width), (4, width)):
                conv(f'{side}.{block}.conv.{layer}', i, width)

    if larger:
        conv('decoder.0', z, widths[0], 1, bias=False)
    else:
        conv('decoder.1', z, widths[0])
    for level, times in enumerate((1, 2, 2)):
        width, after = widths[level], widths[level + 1]
        if larger:
            first = 1 + 7 * level
            for block in range(first, first + 3):
                conv(f'decoder.{block}.conv.0', 1, 2 * width, 7, bias=False)
                conv(f'decoder.{block}.conv.1', 2 * width, 4 * width, 1)
                conv(f'decoder.{block}.conv.3', 4 * width, width, 1, bias=False)
            conv(f'decoder.{first + 3}', width, 4 * after)
            conv(f'decoder.{first + 6}.conv', after, after * times, 1, bias=False)
        else:
            first = 3 + 6 * level
            blocks_at('decoder', first, width)
            conv(f'decoder.{first + 4}.conv', width, width * times, 1, bias=False)
            conv(f'decoder.{first + 5}', width, after, bias=False)
    conv('decoder.22', widths[3], pixels)
    conv('encoder.0', pixels, 64)
    for level, times in enumerate((2, 2, 1)):
        first = 2 + 5 * level
        conv(f'encoder.{first}.conv', 64 * times, 64, 1, bias=False)
        conv(f'encoder.{first + 1}', 64, 64, bias=False)
        blocks_at('encoder', first + 2, 64)
    conv('encoder.17', 64, z)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kind', choices=KINDS)
    parser.add_argument('out', type=pathlib.Path)
    parser.add_argument('--type', default='q4_0', choices=[t for t in TYPES if t != 'f32'])
    parser.add_argument('--encoder', default='q4_0', choices=[t for t in TYPES if t != 'f32'])
    parser.add_argument('--encoder-of', type=pathlib.Path, help='take the text encoder of this folder, by a link')
    parser.add_argument('--parts-of', type=pathlib.Path, help='take every part but the video codec from this folder, by links')
    parser.add_argument('--vae', default='wan', choices=['wan', 'taehv', 'taehv-super'], help='taehv-super: of Wan 2.2 alone')
    parser.add_argument('--layers', type=int, help='write only so many of the transformer\'s layers: as wide, and sooner through')
    a = parser.parse_args()
    pipeline, transformer, config, vae, index = KINDS[a.kind]
    if a.layers:
        config = dict(config, num_layers=a.layers)
        if 'vace_layers' in config:
            config['vace_layers'] = [layer for layer in config['vace_layers'] if layer < a.layers]
    parts = {
        'transformer': (lambda: transformer(**config), dict(config, _class_name=transformer.__name__), a.type, 'wan'),
        'vae': (lambda: AutoencoderKLWan(**vae), None, 'f16', 'wan-vae'),
        'text_encoder': (lambda: UMT5EncoderModel(UMT5Config(**UMT5_XXL)), dict(UMT5_XXL, architectures=['UMT5EncoderModel']), a.encoder, 't5encoder'),
    }
    for name, (build, settings, kind, architecture) in parts.items():
        folder = a.out / name
        of = a.parts_of if a.parts_of and name != 'vae' and not (a.layers and name == 'transformer') else a.encoder_of if name == 'text_encoder' else None
        if of:
            a.out.mkdir(parents=True, exist_ok=True)
            folder.symlink_to((of / name).resolve())
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if name == 'vae' and a.vae != 'wan':
            # No config.json: what it is, its tensors tell.
            z, patch = (48, 2) if vae else (16, 1)
            write_gguf(folder / 'taehv.gguf', taehv(z, patch, a.vae == 'taehv-super'), kind, 'taehv')
            continue
        if settings is None:
            settings = {k: v for k, v in AutoencoderKLWan(**dict(vae, base_dim=8, decoder_base_dim=8)).config.items() if not k.startswith('_')}
            settings.update(vae, _class_name='AutoencoderKLWan')
            if not vae:
                settings.update(base_dim=96, decoder_base_dim=None)
        (folder / 'config.json').write_text(json.dumps(settings, indent=1))
        write_gguf(folder / 'model.gguf', shapes(build), kind, architecture)
    (a.out / 'scheduler').mkdir(exist_ok=True)
    scheduler = dict(_class_name='UniPCMultistepScheduler', prediction_type='flow_prediction', use_flow_sigmas=True, flow_shift=3.0,
                     num_train_timesteps=1000, solver_order=2, solver_type='bh2')
    (a.out / 'scheduler/scheduler_config.json').write_text(json.dumps(scheduler))
    (a.out / 'model_index.json').write_text(json.dumps(dict(_class_name=pipeline, **index)))
    # A vocabulary of ours: its ids are all within umT5's.
    shutil.copytree(ROOT / 'models/small-world/tokenizer', a.out / 'tokenizer', dirs_exist_ok=True)


main()
