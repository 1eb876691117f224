"""Stage 5: few steps and clean outlines. The trained DiT becomes a student that jumps from noise to a clip at once, judged by
what the DiT of stage 4, frozen, sees in its clips (latent adversarial diffusion distillation, 2403.12015).

    ./launch train_few.py --start ../models/small-world --seconds 5400

The squared error asks for the mean of all that may be, and a mean of stars is a lump. The judge asks only whether the clip
could be a real one of this prompt: heads on two blocks of the frozen DiT read the jump, noised again, beside the real clip,
and beside a real clip with another's prompt. The squared error stays where a level leaves little open (below s = .85), so
that the velocity stays one. The student may be deeper than the judge: a fifth of the evaluations pay for it.

Sampling is `stochastic` (the jump, noised again to the next level, as rCM and DMD do), guidance 1.
"""
import collections
import copy
import random
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanVACETransformer3DModel
from torch.nn.utils.parametrizations import spectral_norm

import common
import metric
import optim
import train_dit
import train_text
from cache_latents import Coder

TAPS = (1, 3)         # the judge's blocks whose output the heads read


class Judge(torch.nn.Module):
    """Heads on the features of a frozen transformer: for each token, real or made. Only the heads learn."""
    def __init__(self, transformer, width=64):
        super().__init__()
        dim = train_dit.width_of(transformer)
        self.heads = torch.nn.ModuleList()
        for _ in TAPS:
            self.heads.append(torch.nn.ModuleDict({
                'norm': torch.nn.LayerNorm(dim), 'down': torch.nn.Linear(dim, width),
                'mix': spectral_norm(torch.nn.Conv3d(width, width, 3, padding=1)), 'out': spectral_norm(torch.nn.Conv3d(width, 1, 1))}))

    def forward(self, features, grid):
        """features: [B,tokens,dim] of each tap -> logits [B,taps,f,h,w]"""
        out = []
        with torch.autocast(features[0].device.type, enabled=False):     # the CPU's bf16 convolutions gave NaN for some latent shapes
            for head, x in zip(self.heads, features):
                x = head['down'](head['norm'](x.float())).transpose(1, 2).unflatten(2, grid)
                out.append(head['out'](F.leaky_relu(head['mix'](F.leaky_relu(x, .2)), .2)))
        return torch.cat(out, 1)


class Eye:
    """The frozen DiT: clips noised to a level -> the output of its blocks TAPS."""
    def __init__(self, transformer):
        self.transformer, self.seen = transformer.requires_grad_(False).eval(), []
        del transformer.blocks[max(TAPS) + 1:]     # what no head reads
        for i in TAPS:
            transformer.blocks[i].register_forward_hook(lambda module, args, output: self.seen.append(output))

    def __call__(self, z, level, noise, text, control):
        t = level.view(-1, 1, 1, 1, 1)
        with torch.autocast(z.device.type, torch.bfloat16, enabled=common.BF16):
            self.transformer((1 - t) * z + t * noise, level * 1000, text, control_hidden_states=control)
        seen, self.seen = self.seen, []
        return seen


def levels(n, rng, shift):
    """A third of the batch starts from pure noise; the rest at every level a grid of few steps may hold."""
    u = torch.tensor([1. if rng.random() < .35 else rng.uniform(.08, 1.) for _ in range(n)])
    return shift * u / (1 + (shift - 1) * u)


class Made:
    """The student's own jumps from pure noise, by latent shape: what its later steps will really start from."""
    def __init__(self, size=96):
        self.kept = collections.defaultdict(lambda: collections.deque(maxlen=size))

    def put(self, key, rows):
        self.kept[key].extend(rows)

    def draw(self, key, n, rng):
        return rng.sample(self.kept[key], min(n, len(self.kept[key])))


def main():
    a = common.arguments(__doc__, out=common.RUNS + '/few', seconds=5400, lr=2.5e-4, text=common.RUNS + '/text', vae=common.RUNS + '/vae/vae', start='../models/small-world',
                         latents=common.RUNS + '/latents', tokens=4480, shift=3., muon=1, ema=.995, objects=4., plain=.2, hard=1.5, deeper='', judged=2.5, guidance=2.5, alone=80, own=.4)
    acc = common.begin(a, some_unused=False)
    import transformers
    tok = train_text.load_tokenizer(a.text + '/tokenizer')
    encoder = transformers.UMT5EncoderModel.from_pretrained(a.text + '/text_encoder', dtype=torch.float32).requires_grad_(False)
    teacher = WanVACETransformer3DModel(**train_dit.shape_of(a.start))
    train_dit.start_from(a.start, type('Holder', (), {'transformer': teacher}))
    student = train_dit.deepen(teacher, train_dit.numbers(a.deeper))
    for t in (teacher, student):
        t.set_attn_processor({k: train_dit.FloatAttention(p) for k, p in t.attn_processors.items()})
    guide = copy.deepcopy(teacher).to(acc.device).requires_grad_(False).eval()
    judge = Judge(teacher); eye = Eye(teacher.to(acc.device))
    inner = [p for n, p in student.named_parameters() if a.muon and p.ndim == 2 and 'blocks.' in n]
    ids = {id(p) for p in inner}
    opts = [torch.optim.AdamW([{'params': [p for p in student.parameters() if id(p) not in ids], 'scale': 1.}], lr=a.lr, betas=(.9, .98), weight_decay=0.),
            optim.Muon([{'params': inner, 'scale': 2.}], lr=a.lr, weight_decay=.01, momentum=.95, steps=4),
            torch.optim.AdamW([{'params': list(judge.parameters()), 'scale': 4.}], lr=a.lr, betas=(.5, .99), weight_decay=1e-4)]
    model = torch.nn.ModuleDict({'transformer': student, 'judge': judge})
    ema = common.Ema(model, a.ema)
    step, elapsed = common.resume(acc, a, model, ema, opts)
    jump, read, *opts = acc.prepare(student, judge, *opts)
    encoder.to(acc.device)
    code = Coder(AutoencoderKLWan.from_pretrained(a.vae))
    root = metric.loss_root(code, a.out + '/metric.pt', a.plain).to(acc.device)
    clips, made = train_dit.Clips(a.latents, code.gray, a.hard), Made()
    empty = train_text.tokenize(tok, [''])
    with torch.no_grad():
        nothing = (encoder(*empty).last_hidden_state.float() * empty[1].unsqueeze(-1)).to(acc.device)
    written = lambda m: train_dit.export(type('Parts', (), {'transformer': m['transformer'], 'encoder': encoder}), a.out + '/export')
    clock = common.Clock(elapsed); saved = clock(); seen = []
    common.log(acc, a, f'student {sum(p.numel() for p in student.parameters()) / 1e6:.2f} M, judge {sum(p.numel() for p in judge.parameters()) / 1e6:.2f} M beside {sum(p.numel() for p in teacher.parameters()) / 1e6:.2f} M frozen')
    while common.goes_on(acc, clock, a.seconds):
        clips.refresh()
        rng = common.step_rng(a, acc, step)
        items, key = clips.draw(rng, int(a.tokens))
        z, control, ids, mask, objects, _, _ = train_dit.collate(items, rng, code, tok, acc.device)
        n = len(z)
        with torch.no_grad():
            text = encoder(ids, mask).last_hidden_state.float() * mask.unsqueeze(-1)
        own = torch.zeros(n, dtype=torch.bool, device=z.device)
        base, s = z.clone(), levels(n, rng, a.shift).to(z.device)
        for i, (b, r, t, c, o) in enumerate(made.draw(key, int(n * a.own), rng)):     # from its own jumps, with their prompts
            base[i], z[i], text[i], control[i], objects[i], own[i] = b, r, t, c, o, True
            s[i] = min(float(s[i]), .95)
        noise, at = torch.randn_like(z), s.view(-1, 1, 1, 1, 1)
        rate = common.schedule(clock(), a.seconds, step, warm=40)
        for o in opts:
            for g in o.param_groups:
                g['lr'] = a.lr * rate * g['scale']

        x = (1 - at) * base + at * noise
        learns = step >= a.alone
        with torch.set_grad_enabled(learns):
            v = jump(x, s * 1000, text, control_hidden_states=control, return_dict=False)[0].float()
        clean = x - at * v
        # The clip's own velocity, moved by what a prompt adds to the DiT's: guidance without a second evaluation.
        with torch.no_grad(), torch.autocast(z.device.type, torch.bfloat16, enabled=common.BF16):
            said = guide(x, s * 1000, text, control_hidden_states=control, return_dict=False)[0].float()
            unsaid = guide(x, s * 1000, nothing.expand(n, -1, -1), control_hidden_states=control, return_dict=False)[0].float()
        # what the eye sees of the error, where the clip is given and the level leaves little open
        more = (a.guidance - 1) * ((at - .35) / .3).clamp(0, 1)      # what is nearly drawn needs no guidance
        error = torch.einsum('dc,bcfhw->bdfhw', root, v - (noise - z) - more * (said - unsaid)) ** 2
        weight = (1 + a.objects * objects * ((1 - at) / .15).clamp(max=1)) * (~own).view(-1, 1, 1, 1, 1)
        weight = weight * torch.where(at < .85, 1., .15)
        squared = (weight * error).sum() / (weight.sum() * error.shape[1]).clamp(min=1)

        level = torch.sigmoid(torch.randn(n, device=z.device) * 1.2 - .2); veil = torch.randn_like(z)
        jumped = clean.detach().requires_grad_()
        features = eye(jumped, level, veil, text, control)
        grid = z.shape[2:]
        by_judge, = torch.autograd.grad(-judge(features, grid).mean(), jumped)
        # A fixed weight: at the start, the judge's pull at the output is then a third of the squared error's. It learns alone at first.
        if learns:
            acc.backward(squared + a.judged * min(1., (step - a.alone) / 150) * (clean * by_judge).sum())
            acc.clip_grad_norm_(student.parameters(), 1.)

        with torch.no_grad():
            true = eye(z, level, veil, text, control)
            half = max(1, n // 2)
            wrong = eye(z[:half], level[:half], veil[:half], text.roll(1, 0)[:half], control[:half])
        logits = read([torch.cat([t.float(), f.detach().float(), w.float()]) for t, f, w in zip(true, features, wrong)], grid)
        real, fake, other = logits.split([n, n, half])
        judged = F.relu(1 - real).mean() + .75 * F.relu(1 + fake).mean() + .25 * F.relu(1 + other).mean()
        acc.backward(judged)
        for o in opts if learns else opts[2:]:
            o.step(); o.zero_grad()
        made.put(key, [(clean[i].detach(), z[i], text[i], control[i], objects[i]) for i in range(n) if float(s[i]) == 1. and not own[i]])
        step += 1; ema.update(step)
        low = (s < .85) & ~own
        seen.append((error[low].mean().item() if low.any() else squared.item(), judged.item(), real.mean().item(), fake.mean().item(), other.mean().item()))
        if step % 25 == 0:
            common.log(acc, a, f'{step} {clock():.0f}s cpu {time.process_time():.0f}s squared below .85, judge, real, made, other prompt {" ".join(f"{sum(l) / len(l):.4f}" for l in zip(*seen))} lr {a.lr * rate:.1e} clips {clips.count()}')
            seen = []
        if clock() - saved > a.save_every:
            saved = clock(); common.keep(acc, a, model, ema, opts, step, clock(), written)
    common.log(acc, a, f'end: {step} steps, {clock():.0f} s')
    common.keep(acc, a, model, ema, opts, step, clock(), written)


if __name__ == '__main__':
    main()
