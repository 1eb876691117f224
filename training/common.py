"""What every training stage shares: arguments, checkpoints, moving average, learning-rate schedule.

All stages are launched by `accelerate launch`; the same command runs on CPU cores, one GPU, or many hosts (the
batch is per process). Data are procedural: what a step sees depends only on (seed, rank, step), so a resumed run
needs no random state besides torch's own, which is kept too.
"""
import argparse
import math
import os
import random
import time

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

BF16 = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()   # elsewhere bf16 is slower than f32
AMX = BF16 and not torch.cuda.is_available() and torch.cpu._is_amx_tile_supported() and 'ONEDNN_MAX_CPU_ISA' not in os.environ
RUNS = os.environ.get('TABREEL_TRAIN', os.path.expanduser('~/.cache/tabreel/train'))


def arguments(description, **defaults):
    p = argparse.ArgumentParser(description=description)
    p.add_argument('--seconds', type=float, default=defaults.pop('seconds', 3600), help='training time in all, resumed time included')
    p.add_argument('--out', default=defaults.pop('out'), help='run folder: checkpoint.pt, log.txt, exported weights')
    p.add_argument('--lr', type=float, default=defaults.pop('lr', 1e-3))
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--threads', type=int, default=1, help='CPU threads per process')
    p.add_argument('--save-every', type=float, default=180, help='seconds between checkpoints')
    for k, v in defaults.items():
        p.add_argument('--' + k.replace('_', '-'), type=type(v) if v is not None else str, default=v)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    return a


def begin(a, some_unused=False):
    """some_unused: not every parameter takes part in every step. Accelerator in bf16 where the machine has it; env.sh says which."""
    torch.set_num_threads(a.threads)
    acc = Accelerator(mixed_precision='bf16' if BF16 else 'no', kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=some_unused)])
    torch.manual_seed(a.seed * 1000 + acc.process_index)
    return acc


def step_rng(a, acc, step):
    return random.Random((a.seed * 1_000_003 + step) * 4099 + acc.process_index)


def schedule(elapsed, seconds, step, warm=50, floor=.02):
    """Linear warm-up over steps, cosine over time."""
    return min(1, (step + 1) / warm) * (floor + (1 - floor) * .5 * (1 + math.cos(math.pi * min(1, elapsed / seconds))))


class Ema:
    """Moving average of the parameters (rate rises to `decay`)."""
    def __init__(self, module, decay=.999):
        self.decay, self.module = decay, module
        self.shadow = {k: v.detach().clone().float() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, step):
        d = min(self.decay, (1 + step) / (10 + step))
        for k, v in self.module.state_dict().items():
            self.shadow[k].lerp_(v.float(), 1 - d)

    def __enter__(self):  # use the averaged weights for a while
        self.kept = {k: v.clone() for k, v in self.module.state_dict().items()}
        self.module.load_state_dict(self.shadow)
        return self.module

    def __exit__(self, *_):
        self.module.load_state_dict(self.kept); del self.kept


class Clock:
    """Training time over all resumes, without the time between them."""
    def __init__(self, before=0.):
        self.start = time.time() - before

    def __call__(self):
        return time.time() - self.start


def goes_on(acc, clock, seconds):
    """The first process decides for all: clocks differ, and one that stops alone leaves the others waiting for its gradients."""
    more = torch.tensor([clock() < seconds], dtype=torch.int32, device=acc.device)
    if acc.num_processes > 1:
        torch.distributed.broadcast(more, 0)
    return bool(more)


def save(acc, a, module, ema, opts, step, elapsed):
    if acc.is_main_process:
        torch.save({'model': module.state_dict(), 'ema': ema.shadow, 'opts': [o.state_dict() for o in opts], 'step': step,
                    'elapsed': elapsed, 'rng': torch.get_rng_state()}, f'{a.out}/checkpoint.tmp')
        os.replace(f'{a.out}/checkpoint.tmp', f'{a.out}/checkpoint.pt')


def keep(acc, a, module, ema, opts, step, elapsed, export):
    """Checkpoint, and the averaged weights as `export(module)` writes them."""
    save(acc, a, module, ema, opts, step, elapsed)
    with ema as averaged:
        if acc.is_main_process:
            export(averaged)


def resume(acc, a, module, ema, opts):
    """-> step, seconds trained so far"""
    f = f'{a.out}/checkpoint.pt'
    if not os.path.exists(f):
        return 0, 0.
    c = torch.load(f, map_location='cpu', weights_only=True)
    module.load_state_dict(c['model']); ema.shadow = c['ema']
    for o, s in zip(opts, c['opts']):
        scales = [g.get('scale', 1.) for g in o.param_groups]
        o.load_state_dict(s)
        for g, k in zip(o.param_groups, scales):   # what the code says now, not what it said then
            g['scale'] = k
    torch.set_rng_state(c['rng'])
    log(acc, a, f"resumed at step {c['step']}, {c['elapsed']:.0f} s")
    return c['step'], c['elapsed']


def log(acc, a, text):
    if acc.is_main_process:
        print(text, flush=True)
        open(f'{a.out}/log.txt', 'a').write(f"{time.strftime('%H:%M:%S')} {text}\n")
