"""Stage 4: the diffusion transformer (WanVACETransformer3DModel); the text encoder of stage 2 stays as it is.

    accelerate launch train_dit.py --seconds 4800

Flow matching: x = (1 - s) z + s noise, the model sees (x, 1000 s, text, control) and learns noise - z. s is
logit-normal, shifted by --shift. Captions are worded anew at every use, dropped (empty prompt) one time in ten.
Matrices of the blocks are trained by Muon, all else by AdamW. Exports averaged weights to OUT/export as it goes.
"""
import glob
import json
import os
import random
import sys
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel

import common
import metric
import optim
import train_text
import world
from cache_latents import GRAIN, Coder

SHAPE = dict(patch_size=(1, 1, 1), num_attention_heads=6, attention_head_dim=32, in_channels=48, out_channels=48, text_dim=128, freq_dim=256,
             ffn_dim=768, num_layers=6, vace_layers=[0, 3], vace_in_channels=352, cross_attn_norm=True, rope_max_seq_len=256)
DROP_CONDITION = .4   # of the conditioned clips, trained as if they had none


class FloatAttention:
    """The Wan attention with its scores in f32: the CPU's bf16 attention is several times slower backwards."""
    def __init__(self, inner):
        self.inner = inner

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source)
        with torch.autocast(hidden_states.device.type, enabled=False):
            q, k, v = attn.norm_q(q.float()), attn.norm_k(k.float()), v.float()
            q, k, v = (t.unflatten(2, (attn.heads, -1)) for t in (q, k, v))
            if rotary_emb is not None:
                cos, sin = (r[..., ::2] for r in rotary_emb)   # [1,tokens,1,head/2], each value stands twice in the table
                cos, sin = cos.float(), sin.float()
                def turn(t):
                    a, b = t.unflatten(-1, (-1, 2)).unbind(-1)
                    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
                q, k = turn(q), turn(k)
            out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


class Truth(torch.nn.Module):
    """A linear head that reads the picture's truth out of a middle block: representation alignment (2410.06940) with what the
    program that drew the scene knows in place of a foreign encoder. Training only, it is not exported."""
    BITS, SHAPES, COLORS = 4 * GRAIN * GRAIN, 1 + len(world.SHAPES), 1 + len(world.COLORS)

    def __init__(self, dim):
        super().__init__()
        self.norm = torch.nn.LayerNorm(dim)
        self.out = torch.nn.Linear(dim, self.BITS + self.SHAPES + self.COLORS)

    def forward(self, tokens, bits, kinds):
        """tokens [B,n,dim]; bits [B,32,f,h,w] and kinds [B,2,f,h,w] as cache_latents.truth gives them -> mask loss, kind loss"""
        mask, shape, color = self.out(self.norm(tokens.float())).split([self.BITS, self.SHAPES, self.COLORS], -1)
        want = ((bits.flatten(2).transpose(1, 2).unsqueeze(-1) >> torch.arange(8, device=bits.device)) & 1).flatten(2).float()
        kinds = kinds.flatten(2).long()
        return (F.binary_cross_entropy_with_logits(mask, want),
                F.cross_entropy(shape.transpose(1, 2), kinds[:, 0]) + F.cross_entropy(color.transpose(1, 2), kinds[:, 1]))


class Model(torch.nn.Module):
    def __init__(self, transformer, encoder, truth):
        super().__init__()
        self.transformer, self.encoder, self.truth = transformer, encoder, truth
        transformer.blocks[2 * len(transformer.blocks) // 3 - 1].register_forward_hook(self.keep)   # the block whose output the side loss reads

    def keep(self, module, args, output):
        self.middle = output

    def forward(self, x, sigma, control, ids, mask, bits, kinds):
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):   # the encoder of stage 2 stays as it is
            states = self.encoder(ids, mask).last_hidden_state.float()
        text = states * mask.unsqueeze(-1)           # zeros after the prompt, as WanPipeline pads
        out = self.transformer(x, sigma * 1000, text, control_hidden_states=control).sample
        with torch.autocast(x.device.type, enabled=False):
            seen = self.truth(self.middle, bits, kinds)
        del self.middle
        return out, *seen


class Clips:
    """All shards so far, grouped by latent shape; new ones are taken in as they appear."""
    def __init__(self, folder, gray, hard):
        self.hard = hard
        self.folder, self.gray, self.seen, self.groups, self.last = folder, gray, set(), {}, 0.

    def refresh(self, every=45):
        if time.time() - self.last < every:
            return
        self.last = time.time()
        for f in sorted(glob.glob(self.folder + '/shard-*.pt')):
            if f not in self.seen:
                self.seen.add(f)
                s = torch.load(f, weights_only=True)
                scenes = [world.Scene(**{**c, 'things': [world.Thing(**o) for o in c['things']]}) for c in s['scenes']]
                ref = s['kind'] == 'reference'
                group = self.groups.setdefault((s['frames'], *s['z'].shape[3:], ref), [])
                for i, scene in enumerate(scenes):
                    group.append((s['z'][i], s['control'][i] if 'control' in s else None, s['mask'][i] if 'control' in s else None, scene, s['frames'], s['objects'][i], s['bits'][i], s['kinds'][i]))

    def count(self):
        return sum(len(g) for g in self.groups.values())

    def draw(self, rng, tokens):
        keys = list(self.groups)
        # by clips, so that every clip is as likely; a batch of stills holds more of them
        key = rng.choices(keys, [len(self.groups[k]) / self.size(k, tokens) for k in keys])[0]
        group = self.groups[key]
        return [self.pick(group, rng) for _ in range(self.size(key, tokens))], key

    def pick(self, group, rng):
        """Two objects, stars and bounces are the hardest to draw (EVAL.md): --hard times as likely as in the world."""
        while True:
            item = group[rng.randrange(len(group))]
            if rng.random() < 1 / self.hard or len(item[3].things) > 1 or any(o.shape == 'star' or o.motion == 'bounces' for o in item[3].things):
                return item

    def size(self, key, tokens):
        z = self.groups[key][0][0]
        return max(2, min(96, tokens // (z.shape[1] * z.shape[2] * z.shape[3])))


def collate(items, rng, code, tok, device):
    z = torch.stack([i[0] for i in items]).float()
    frames = items[0][4]
    gray = code.gray(frames, z.shape[3] * code.side, z.shape[4] * code.side)[0]
    none = torch.cat([gray, gray, torch.ones(code.side ** 2, *gray.shape[1:])])
    control, texts = [], []
    for _, c, m, scene, *_ in items:
        has_ref = z.shape[2] > gray.shape[1]
        control.append(none if c is None or (not has_ref and rng.random() < DROP_CONDITION) else torch.cat([c.float(), m.float()]))
        texts.append('' if rng.random() < .1 else world.caption(scene, rng, frames == 1))
    ids, mask = train_text.tokenize(tok, texts)
    objects, bits, kinds = (torch.stack([i[k] for i in items]) for k in (5, 6, 7))
    return [t.to(device) for t in (z, torch.stack(control), ids, mask, objects.float(), bits, kinds)]


def optimizers(model, lr, muon):
    """Muon for the blocks' matrices, AdamW for embeddings, norms, biases, tables, in and out projections, text encoder."""
    inner = [p for n, p in model.transformer.named_parameters() if muon and p.ndim == 2 and 'blocks.' in n]
    ids = {id(p) for p in inner}
    rest = [p for p in [*model.transformer.parameters(), *model.truth.parameters()] if id(p) not in ids]
    groups = [{'params': rest, 'scale': 1.}]
    opts = [torch.optim.AdamW(groups, lr=lr, betas=(.9, .98), weight_decay=.0)]
    if inner:
        opts.append(optim.Muon([{'params': inner, 'scale': 2.}], lr=lr, weight_decay=.01, momentum=.95, steps=4))
    return opts


def export(model, out):
    """transformer/ and text_encoder/ in f32, replaced file by file so that readers never see half of one."""
    for name, part in (('transformer', model.transformer), ('text_encoder', model.encoder)):
        part.save_pretrained(f'{out}/tmp-{name}')
        os.makedirs(f'{out}/{name}', exist_ok=True)
        for f in os.listdir(f'{out}/tmp-{name}'):
            os.replace(f'{out}/tmp-{name}/{f}', f'{out}/{name}/{f}')


def numbers(text):
    return [int(i) for i in text.split(',')] if text else []


def deepen(transformer, after):
    """The same function with a copy of a block behind each of the blocks `after`, its outputs zero."""
    config = dict(transformer.config)
    order = [(i, new) for i in range(config['num_layers']) for new in ([False, True] if i in after else [False])]
    kept = [at for at, (_, new) in enumerate(order) if not new]
    deeper = WanVACETransformer3DModel.from_config({**config, 'num_layers': len(order), 'vace_layers': [kept[i] for i in config['vace_layers']]})
    state = transformer.state_dict()
    want = {k: v for k, v in state.items() if not k.startswith('blocks.')}
    for at, (i, new) in enumerate(order):
        for k, v in state.items():
            if k.startswith(f'blocks.{i}.'):
                name = k.split('.', 2)[2]
                silent = new and name.startswith(('attn1.to_out', 'attn2.to_out', 'ffn.net.2'))
                want[f'blocks.{at}.{name}'] = torch.zeros_like(v) if silent else v.clone()
    deeper.load_state_dict(want)
    return deeper


def shape_of(start):
    """The configuration of what --start names: an export beside a checkpoint.pt, a diffusers folder, a shipped model; else SHAPE."""
    for f in (os.path.dirname(start) + '/export/transformer', start, start + '/transformer'):
        if start and os.path.exists(f + '/config.json'):
            return {k: v for k, v in json.load(open(f + '/config.json')).items() if not k.startswith('_')}
    return SHAPE


def start_from(folder, model):
    """Weights of an earlier run's checkpoint.pt (averaged ones), of a diffusers folder of the transformer, or of a shipped model
    (its transformer from the GGUF, Q8_0, original Wan names)."""
    if folder.endswith('.pt'):
        model.load_state_dict(torch.load(folder, map_location='cpu', weights_only=True)['ema']); return
    transformer = model.transformer
    from safetensors.torch import load_file
    if os.path.exists(f'{folder}/diffusion_pytorch_model.safetensors'):
        transformer.load_state_dict({k: v.float() for k, v in load_file(f'{folder}/diffusion_pytorch_model.safetensors').items()}); return
    import gguf
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../tests/reference'))
    from make_fixtures import dit_to_original
    torch.set_grad_enabled(True)      # importing it switches gradients off
    own = transformer.state_dict()
    names = dict(zip(dit_to_original(own), own))
    stored = gguf.GGUFReader(f'{folder}/transformer/diffusion_pytorch_model.gguf').tensors
    found = {names[t.name]: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).copy()).float() for t in stored}
    transformer.load_state_dict({k: v.reshape(own[k].shape) for k, v in found.items()})


def main():
    a = common.arguments(__doc__, out=common.RUNS + '/dit', seconds=4800, lr=2e-3, text=common.RUNS + '/text', vae=common.RUNS + '/vae/vae',
                         latents=common.RUNS + '/latents', tokens=5120, shift=3., muon=1, compile=0, ema=.995, truth=.25, objects=4., start='', plain=.2, hard=1., deeper='')
    acc = common.begin(a)
    import transformers
    tok = train_text.load_tokenizer(a.text + '/tokenizer')
    encoder = transformers.UMT5EncoderModel.from_pretrained(a.text + '/text_encoder', dtype=torch.float32).requires_grad_(False)
    transformer = WanVACETransformer3DModel(**shape_of(a.start))
    with torch.no_grad():      # start as the mean: no output, no hints, blocks that add little (adaLN-Zero)
        transformer.proj_out.weight.zero_(); transformer.proj_out.bias.zero_()
        for b in transformer.vace_blocks:
            b.proj_out.weight.zero_(); b.proj_out.bias.zero_()
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    if a.start and (a.deeper or not a.start.endswith('.pt')):
        start_from(a.start, Model(transformer, encoder, Truth(width)))
    transformer = deepen(transformer, numbers(a.deeper))
    model = Model(transformer, encoder, Truth(width))
    if a.start.endswith('.pt') and not a.deeper:
        start_from(a.start, model)      # its side loss too
    plain = dict(transformer.attn_processors)
    transformer.set_attn_processor({k: FloatAttention(p) for k, p in plain.items()})
    opts = optimizers(model, a.lr, a.muon)
    ema = common.Ema(model, a.ema)
    step, elapsed = common.resume(acc, a, model, ema, opts)
    wrapped, *opts = acc.prepare(model, *opts)
    if a.compile:
        model.transformer.compile_repeated_blocks(dynamic=False)
    code = Coder(AutoencoderKLWan.from_pretrained(a.vae))
    root = metric.loss_root(code, a.out + '/metric.pt', a.plain).to(acc.device)
    clips = Clips(a.latents, code.gray, a.hard)
    written = lambda m: export(m, a.out + '/export')
    clock = common.Clock(elapsed); saved = clock(); losses = []
    common.log(acc, a, f'transformer {sum(p.numel() for p in transformer.parameters()) / 1e6:.2f} M, text encoder {sum(p.numel() for p in encoder.parameters()) / 1e6:.2f} M')
    while common.goes_on(acc, clock, a.seconds):
        clips.refresh()
        rng = common.step_rng(a, acc, step)
        items, key = clips.draw(rng, int(a.tokens))
        z, control, ids, mask, objects, bits, kinds = collate(items, rng, code, tok, acc.device)
        u = torch.sigmoid(torch.randn(len(z), device=z.device) * 1.1)
        sigma = a.shift * u / (1 + (a.shift - 1) * u)
        noise = torch.randn_like(z); s = sigma.view(-1, 1, 1, 1, 1)
        rate = common.schedule(clock(), a.seconds, step, warm=60)
        for o in opts:
            for g in o.param_groups:
                g['lr'] = a.lr * rate * g['scale']
        v, outline, kind = wrapped((1 - s) * z + s * noise, sigma, control, ids, mask, bits, kinds)
        error = v.float() - (noise - z)
        loss = (error ** 2).mean()
        error = torch.einsum('dc,bcfhw->bdfhw', root, error) ** 2   # what the eye sees of it
        # Outlines are a few cells: weigh them once the layout stands (above s = 0.85 the weight would call objects
        # where there are none).
        weight = 1 + a.objects * objects * ((1 - s) / .15).clamp(max=1)
        acc.backward((weight * error).mean() / weight.mean() + a.truth * (outline + .2 * kind))
        acc.clip_grad_norm_(model.parameters(), 1.)
        for o in opts:
            o.step(); o.zero_grad()
        step += 1; ema.update(step)
        if key[0] == 17:
            losses.append((loss.item(), error.mean().item(), outline.item(), kind.item()))
        if step % 50 == 0:
            common.log(acc, a, f'{step} {clock():.0f}s cpu {time.process_time():.0f}s 17 frames: loss, seen, mask, kind {" ".join(f"{sum(l) / len(l):.4f}" for l in zip(*losses))} lr {a.lr * rate:.1e} clips {clips.count()}')
            losses = []
        if clock() - saved > a.save_every:
            saved = clock(); common.keep(acc, a, model, ema, opts, step, clock(), written)
    common.log(acc, a, f'end: {step} steps, {clock():.0f} s')
    common.keep(acc, a, model, ema, opts, step, clock(), written)


if __name__ == '__main__':
    main()
