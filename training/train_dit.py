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


def attend(q, k, v):
    """[B,heads,tokens,head] in f32 -> the same. The CPU's bf16 attention is several times slower backwards than its f32 one;
    plain bf16 products are faster than both where there is AMX and the rest is compiled."""
    if not common.AMX:
        return F.scaled_dot_product_attention(q, k, v)
    q, k, v = (q * q.shape[-1] ** -.5).bfloat16(), k.bfloat16(), v.bfloat16()
    return torch.softmax((q @ k.transpose(-1, -2)).float(), -1).bfloat16() @ v


class FloatAttention:
    """The Wan attention with normed and turned queries and keys in f32."""
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
            out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2).flatten(2)
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

    def velocity(self, x, sigma, control, ids, mask):
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):   # the encoder of stage 2 stays as it is
            states = self.encoder(ids, mask).last_hidden_state.float()
        text = states * mask.unsqueeze(-1)           # zeros after the prompt, as WanPipeline pads
        return self.transformer(x, sigma * 1000, text, control_hidden_states=control).sample

    def forward(self, x, sigma, control, ids, mask, bits, kinds):
        out = self.velocity(x, sigma, control, ids, mask)
        with torch.autocast(x.device.type, enabled=False):
            seen = self.truth(self.middle, bits, kinds)
        del self.middle
        return out, *seen


class Compiled:
    """Blocks compiled for the shapes that most steps have; each shape costs the compiler most of a minute, so the rest run as they are."""
    def __init__(self, transformer, hot=(320, 448, 480, 576)):
        self.blocks, self.hot = [*transformer.blocks, *transformer.vace_blocks], hot
        torch._dynamo.config.recompile_limit = 16
        for b in self.blocks:
            b.compile(dynamic=False)
        self.calls = [b._compiled_call_impl for b in self.blocks]

    def suit(self, z):
        on = z[0, 0].numel() in self.hot
        for b, call in zip(self.blocks, self.calls):
            b._compiled_call_impl = call if on else None


class Clips:
    """All shards so far, grouped by latent shape; new ones are taken in as they appear."""
    def __init__(self, folder, gray, hard, pairs=1.):
        self.hard, self.pairs = hard, pairs
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
        """Two objects, stars and bounces are the hardest to draw (EVAL.md): --hard times as likely as in the world, two objects
        --pairs times as likely again."""
        while True:
            item = group[rng.randrange(len(group))]
            things = item[3].things
            keep = 1. if len(things) > 1 else 1 / self.pairs
            if not (len(things) > 1 or any(o.shape == 'star' or o.motion == 'bounces' for o in things)):
                keep /= self.hard
            if rng.random() < keep:
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


def width_of(transformer):
    return transformer.config.num_attention_heads * transformer.config.attention_head_dim


def widen(transformer, heads, rng):
    """Nearly the same function with more heads, and width and FFN in step with them (Net2Net, 1511.05641). A new coordinate of the stream is a
    twin of an old one: what writes it is copied, what reads it is split between the twins, unevenly, so that they part as they
    learn. New heads are twins too; new hidden units are fresh and silent. Layer norms see the twins twice, so twins are chosen
    by `probe`: those with which the stream's mean square stays what it was."""
    config = dict(transformer.config)
    head, old_heads = config['attention_head_dim'], config['num_attention_heads']
    if heads == old_heads:
        return transformer
    if not old_heads < heads <= 2 * old_heads:
        raise ValueError(f'--heads must be {old_heads} to {2 * old_heads} (at most twice as many as there are), got {heads}')
    width, wide, more = old_heads * head, heads * head, config['ffn_dim'] * heads // old_heads
    wider = WanVACETransformer3DModel.from_config({**config, 'num_attention_heads': heads, 'ffn_dim': more})
    twins = probe(transformer, wide - width, rng)
    stream = torch.cat([torch.arange(width), twins])
    inner = torch.cat([torch.arange(width), *(torch.arange(h * head, (h + 1) * head) for h in (i % old_heads for i in range(heads - old_heads)))])

    def copied(w, order):                    # rows that are twins of others
        return w[order]

    def split(w, order):                     # columns that read twins
        count = torch.bincount(order, minlength=w.shape[1]).to(w)
        out = (w / count)[:, order]
        noise = .3 * w.std() * torch.randn(w.shape[0], w.shape[1], *w.shape[2:], generator=rng)
        for new in range(w.shape[1], len(order)):
            old = order[new]
            out[:, new] -= noise[:, old]; out[:, old] += noise[:, old]
        return out

    def grown(w, size, dim, fresh):          # rows or columns of new hidden units
        shape = list(w.shape); shape[dim] = size - w.shape[dim]
        return torch.cat([w, fresh * w.std() * torch.randn(shape, generator=rng)], dim)

    want = {}
    for k, v in transformer.state_dict().items():
        name, _, kind = k.rpartition('.')
        bias = kind == 'bias'
        if 'patch_embedding' in name or name.endswith('norm2'):
            v = copied(v, stream)
        elif kind == 'scale_shift_table':
            v = v[..., stream]
        elif name.endswith('time_embedder.linear_1') or name.endswith('text_embedder.linear_1'):
            v = grown(v, wide, 0, 0. if bias else 1.)
        elif name.endswith('time_embedder.linear_2'):
            v = copied(v if bias else grown(v, wide, 1, 0.), stream)
        elif name.endswith('text_embedder.linear_2'):
            v = grown(v if bias else grown(v, wide, 1, 0.), wide, 0, 0. if bias else 1.)
        elif name.endswith('time_proj'):
            v = v if bias else split(v, stream)
            v = v.unflatten(0, (6, width))[:, stream].flatten(0, 1)
        elif name.endswith(('norm_q', 'norm_k')):
            v = copied(v, inner)
        elif name.endswith(('to_q', 'to_k', 'to_v')):
            text = 'attn2' in name and not name.endswith('to_q')
            v = v if bias else grown(v, wide, 1, 0.) if text else split(v, stream)
            v = copied(v, inner)
        elif name.endswith('to_out.0'):
            v = copied(v if bias else split(v, inner), stream)
        elif name.endswith('net.0.proj'):
            v = grown(v if bias else split(v, stream), more, 0, 0. if bias else 1.)
        elif name.endswith('net.2'):
            v = copied(v if bias else grown(v, more, 1, 0.), stream)
        elif 'vace_blocks' in name and name.endswith(('proj_in', 'proj_out')):
            v = copied(v if bias else split(v, stream), stream)
        elif name == 'proj_out':
            v = v if bias else split(v, stream)
        else:
            raise KeyError(f'no rule to widen {k}')
        want[k] = v.contiguous()
    wider.load_state_dict(want)
    return wider


@torch.no_grad()
def probe(transformer, count, rng, tries=4000):
    """The `count` coordinates of the stream whose doubling leaves the mean square before each layer norm as it was, most nearly."""
    seen = []
    hooks = [m.register_forward_hook(lambda module, args, out: seen.append((args[0].float() ** 2).mean((0, 1))))
             for n, m in transformer.named_modules() if n.endswith(('norm1', 'norm2', 'norm3')) or n == 'norm_out']
    c = transformer.config
    x = torch.randn(4, c['in_channels'], 5, 8, 8, generator=rng)
    transformer(x, torch.tensor([990., 800., 500., 200.]), torch.randn(4, 32, c['text_dim'], generator=rng), control_hidden_states=torch.zeros(4, c['vace_in_channels'], 5, 8, 8))
    for h in hooks:
        h.remove()
    power = torch.stack(seen); power /= power.mean(1, keepdim=True)                     # [norms, width]
    sets = torch.stack([torch.randperm(power.shape[1], generator=rng)[:count] for _ in range(tries)])
    off = (power[:, sets].mean(2) - 1).abs().amax(0)
    return sets[off.argmin()]


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
        stored = torch.load(folder, map_location='cpu', weights_only=True)['ema']
        model.load_state_dict({**stored, **{f'encoder.{k}': v for k, v in model.encoder.state_dict().items()}}); return     # --text says which encoder
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
                         latents=common.RUNS + '/latents', tokens=5120, shift=3., muon=1, compile=0, ema=.995, truth=.25, objects=4., start='', plain=.2, hard=1., deeper='', heads=0, guided=0., guided_from=0., pairs=1.)
    acc = common.begin(a)
    import transformers
    tok = train_text.load_tokenizer(a.text + '/tokenizer')
    encoder = transformers.UMT5EncoderModel.from_pretrained(a.text + '/text_encoder', dtype=torch.float32).requires_grad_(False)
    transformer = WanVACETransformer3DModel(**shape_of(a.start))
    with torch.no_grad():      # start as the mean: no output, no hints, blocks that add little (adaLN-Zero)
        transformer.proj_out.weight.zero_(); transformer.proj_out.bias.zero_()
        for b in transformer.vace_blocks:
            b.proj_out.weight.zero_(); b.proj_out.bias.zero_()
    grows = a.deeper or a.heads not in (0, transformer.config.num_attention_heads)
    if a.start and (grows or not a.start.endswith('.pt')):
        start_from(a.start, Model(transformer, encoder, Truth(width_of(transformer))))
    transformer = deepen(transformer, numbers(a.deeper))
    if a.heads:
        transformer = widen(transformer, a.heads, torch.Generator().manual_seed(a.seed))
    model = Model(transformer, encoder, Truth(width_of(transformer)))
    if a.start.endswith('.pt') and not grows:
        start_from(a.start, model)      # its side loss too
    plain = dict(transformer.attn_processors)
    transformer.set_attn_processor({k: FloatAttention(p) for k, p in plain.items()})
    opts = optimizers(model, a.lr, a.muon)
    ema = common.Ema(model, a.ema)
    step, elapsed = common.resume(acc, a, model, ema, opts)
    wrapped, *opts = acc.prepare(model, *opts)
    fast = Compiled(model.transformer) if a.compile else None
    empty = train_text.tokenize(tok, [''])
    code = Coder(AutoencoderKLWan.from_pretrained(a.vae))
    root = metric.loss_root(code, a.out + '/metric.pt', a.plain).to(acc.device)
    clips = Clips(a.latents, code.gray, a.hard, a.pairs)
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
        x = (1 - s) * z + s * noise
        if fast:
            fast.suit(z)
        guided = a.guided and clock() >= a.guided_from * a.seconds     # the plain velocity is cheaper to learn, guidance comes last
        if guided:
            with torch.no_grad(), acc.autocast():
                unsaid = model.velocity(x, sigma, control, *(t.expand(len(z), -1).to(z.device) for t in empty)).float()
        v, outline, kind = wrapped(x, sigma, control, ids, mask, bits, kinds)
        error = v.float() - (noise - z)
        loss = (error ** 2).mean()
        if guided:
            # Guidance learnt (2502.12154): the target is moved by what the prompt adds to the model's own velocity, so that one evaluation
            # draws what guidance 1 / (1 - guided) drew with two. What is nearly drawn needs none.
            more = a.guided * ((s - .35) / .3).clamp(0, 1)
            error = error - more * (v.detach().float() - unsaid)
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
