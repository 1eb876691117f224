"""Measures every task of the command line on the default model, on held-out scenes, and writes TASKS.md and tasks.png.

    python tasks.py [--model ../models/small-world] [--cases 8] [--jobs 2] [--only extend loop …] [--write 0]

Clips come from the Rust command line ($TABREEL_BIN, `--device cpu`) at the card's default settings and are kept
(RUNS/tasks/HASH): a run that was stopped goes on. What is given is drawn by world.py, so what the rest should look like is
known. Read without a network where that is possible: colours and shapes by outline.py's masks, sky and ground by the colours
of the scene.
"""
import argparse
import concurrent.futures
import copy
import dataclasses
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time

import diffusers
import torch
from PIL import Image
from safetensors.torch import load_file

import cache_latents
import clips
import common
import conditions
import export
import outline
import world

HERE = os.path.dirname(os.path.abspath(__file__))
SIZE = 17, 128, 128
STAYS = ('spins', 'bounces')      # a thing that moves off has left long before a clip's extension ends; one that is still makes no median


@dataclasses.dataclass
class Case:
    """One call of the command line. scene: what the whole result shows. known: which of its pixels were given [F,H,W], and
    the pixels themselves, `want` [3,F,H,W] (elsewhere the truth, where there is one). joins: frames that begin another part."""
    scene: object
    prompt: str
    seed: int
    files: dict
    more: list = dataclasses.field(default_factory=list)
    want: torch.Tensor = None
    known: torch.Tensor = None
    joins: tuple = ()
    ends: tuple = ()     # clips that the result begins and ends with, where its length is the command line's choice
    loop: bool = False


# ------------------------------------------------------------------------------------------------ given pictures
def frames(x):
    return [conditions.image(x[:, i]) for i in range(x.shape[1])]


def lossless(x, path):
    """A clip as an animated WebP, every bit kept but one where a picture stands still: PIL writes equal pictures once."""
    pictures = frames(x)
    for i in range(1, len(pictures)):
        if pictures[i].tobytes() == pictures[i - 1].tobytes():
            r, g, b = pictures[i].getpixel((0, 0)); pictures[i].putpixel((0, 0), (r, g, b ^ 1))
    durations = [62 + i % 2 for i in range(len(pictures))]     # ms, 16 a second
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, lossless=True, quality=0, method=0)


def scenes(name, n, motions=None):
    """n held-out scenes of one object that outline.py can cut out, the camera still, with a caption that says all."""
    rng = random.Random(f'task {name}')
    while n:
        s = world.sample_scene(rng, True, things=1); s.pan = 0.
        if (not motions or s.things[0].motion in motions) and outline.separable(s, *SIZE) and (motions != STAYS or moves(s)):
            n -= 1
            yield s, world.caption(s, rng, full=True), rng.randrange(1 << 30), rng


def moves(scene):
    """A ball that spins does not."""
    return statistics.median(steps(world.render(scene, *SIZE)[0]).tolist()) > .004


def recolored(scene, rng):
    """The same scene with its thing in another colour that can be told from the background."""
    for _ in range(50):
        other = copy.deepcopy(scene); other.things[0].color = rng.choice([c for c in world.COLORS if c != scene.things[0].color])
        if outline.separable(other, *SIZE):
            return other
    return None


def nothing(f=17, h=128, w=128):
    return torch.zeros(f, h, w, dtype=torch.bool)


def at(known, *places):
    for p in places:
        known[p] = True
    return known


# ------------------------------------------------------------------------------------------------ the tasks
def text_to_video(n):
    for s, text, seed, _ in scenes('text', n):
        yield Case(s, text, seed, {})


def text_to_image(n):
    for s, text, seed, rng in scenes('image', n, ('stays still',)):
        yield Case(s, world.caption(s, rng, True, full=True), seed, {}, ['--frames', '1'])


def sized(h, w, f):
    def make(n):
        for s, text, seed, _ in scenes(f'{w}x{h}x{f}', n):
            yield Case(s, text, seed, {}, ['--width', str(w), '--height', str(h), '--frames', str(f)])
    return make


def given_frames(*places):
    """Pictures for the first, the last or any frame."""
    def make(n):
        for s, text, seed, _ in scenes(f'frames {places}', n):
            x = world.render(s, *SIZE)[0]; known = at(nothing(), *places); files, more = {}, []
            for p in places:
                if p in (0, -1):
                    files['--image' if p == 0 else '--last-image'] = conditions.image(x[:, p])
                else:
                    files[f'--keyframe {p}='] = conditions.image(x[:, p])
            yield Case(s, text, seed, files, more, x, known)
    return make


def predict(k):
    def make(n):
        for s, text, seed, _ in scenes(f'predict {k}', n):
            x = world.render(s, *SIZE)[0]
            yield Case(s, text, seed, {'--clip': x[:, :k]}, [], x, at(nothing(), slice(0, k)), (k,))
    return make


def extend(backward, by=16):
    def make(n):
        for s, text, seed, _ in scenes(f'extend {backward}', n, STAYS):
            whole = world.render(s, 17 + by, 128, 128)[0]
            x = whole[:, by:] if backward else whole[:, :17]
            known = at(nothing(17 + by), slice(by, None) if backward else slice(0, 17))
            yield Case(s, text, seed, {'--extend': x}, ['--by', str(by)] + ['--backward'] * backward, whole, known, (by if backward else 17,))
    return make


def loop(n):
    for s, text, seed, _ in scenes('loop', n, STAYS):
        x = world.render(s, *SIZE)[0]
        yield Case(s, text, seed, {'--loop': x}, [], ends=(x,), loop=True)


def connect(n):
    for s, text, seed, _ in scenes('connect', n, STAYS):
        other = copy.deepcopy(s); other.things[0].x = -s.things[0].x if abs(s.things[0].x) > .15 else s.things[0].x + .3
        both = world.render(s, *SIZE)[0], world.render(other, *SIZE)[0]
        yield Case(s, text, seed, {'--connect': both}, [], joins=(17, -17), ends=both)


def inpaint(n):
    for s, _, seed, rng in scenes('inpaint', 3 * n, STAYS):
        other = recolored(s, rng)
        if other and n:
            n -= 1
            x, cover = world.render(s, *SIZE)
            hole = outline.around(cover[0].amax(0, keepdim=True) > 0, 5).expand(17, -1, -1)
            yield Case(other, world.caption(other, rng, full=True), seed, {'--clip': x, '--mask': (hole[0].float() * 2 - 1).expand(3, 1, -1, -1)}, [], x, ~hole)


def outpaint(n):
    for s, text, seed, _ in scenes('outpaint', n, STAYS):
        s.things[0].x *= .5
        wide = world.render(s, 17, 128, 192)[0]
        known = nothing(17, 128, 192); known[:, :, 32:160] = True
        yield Case(s, text, seed, {'--outpaint': wide[..., 32:160]}, ['--width', '192'], wide, known)


def edit(n):
    for s, _, seed, rng in scenes('edit', 3 * n):
        other = recolored(s, rng)
        if other and n:
            n -= 1
            yield Case(other, world.caption(other, rng, full=True), seed, {'--source': world.render(s, *SIZE)[0]}, ['--strength', '0.8'], world.render(other, *SIZE)[0])


def sketch(picture):
    def make(n):
        for s, text, seed, rng in scenes(f'sketch {picture}', n, ('stays still',) if picture else None):
            x = world.render(s, 1 if picture else 17, 128, 128)[0]
            if picture:
                lines = cache_latents.edges(x.unsqueeze(0))[0]
                yield Case(s, world.caption(s, rng, True, full=True), seed, {'--control': conditions.image(lines[:, 0])}, ['--frames', '1'], x)
            else:
                yield Case(s, text, seed, {'--edges': x}, [], x)
    return make


def reference(n):
    for s, text, seed, _ in scenes('reference', n):
        yield Case(s, text, seed, {'--reference': conditions.image(cache_latents.reference(s, 128, 128)[:, 0])})


def upscale(n):
    for s, text, seed, _ in scenes('upscale', n):
        yield Case(s, text, seed, {'--upscale': world.render(s, *SIZE)[0]}, [], world.render(s, 17, 256, 256)[0])


TASKS = {
    'text to video': text_to_video, 'text to image': text_to_image, 'wide, 192x128': sized(128, 192, 17), 'tall, 128x192': sized(192, 128, 17),
    'long, 33 frames': sized(128, 128, 33), 'first frame': given_frames(0), 'first and last frame': given_frames(0, -1),
    'keyframes 4 and 12': given_frames(4, 12), 'predict from 5 frames': predict(5), 'extend by 16': extend(False), 'extend backward by 16': extend(True),
    'loop': loop, 'connect': connect, 'inpaint': inpaint, 'outpaint to 192': outpaint, 'edit, strength .8': edit, 'sketch to video': sketch(False),
    'sketch to image': sketch(True), 'reference': reference, 'upscale to 256': upscale,
}


# ------------------------------------------------------------------------------------------------ running
class Runner:
    def __init__(self, model, jobs):
        self.model, self.jobs = model, jobs
        self.kept = f'{common.RUNS}/tasks/{clips.model_hash(model)}'; os.makedirs(self.kept, exist_ok=True)

    def command(self, case, folder, out):
        words = [export.TABREEL, 'generate', '--model', self.model, '--prompt', case.prompt, '--seed', str(case.seed), '--device', 'cpu', '--out', out, *case.more]
        for i, (flag, what) in enumerate(case.files.items()):
            paths = []
            for j, one in enumerate(what if isinstance(what, tuple) else (what,)):
                paths.append(f'{folder}/{i}-{j}.' + ('png' if isinstance(one, Image.Image) else 'webp'))
                one.save(paths[-1]) if isinstance(one, Image.Image) else lossless(one, paths[-1])
            name, _, place = flag.partition(' ')
            words += [name, *[place + p for p in paths]]
        return words

    def run(self, task, index, case):
        """-> clip [3,F,H,W] in -1..1, latents or None"""
        key = hashlib.sha256(json.dumps([task, index, case.prompt, case.seed, case.more]).encode()).hexdigest()[:20]
        path = f'{self.kept}/{key}.safetensors'
        if not os.path.exists(path):
            with tempfile.TemporaryDirectory() as d:
                done = subprocess.run(self.command(case, d, f'{d}/out.safetensors'), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                      env=dict(os.environ, RAYON_NUM_THREADS='1') if self.jobs > 1 else None)
                if done.returncode:
                    raise RuntimeError(f'{task}: {done.stderr[-600:]}')
                shutil.copyfile(f'{d}/out.safetensors', path + '.part')
                os.replace(path + '.part', path)
        got = load_file(path)
        return got['frames'].permute(3, 0, 1, 2).float() / 127.5 - 1, got.get('latents')

    def all(self, task, cases):
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(lambda i: self.run(task, i, cases[i]), range(len(cases))))


# ------------------------------------------------------------------------------------------------ reading
def db(a, b, where):
    where = where.expand(a.shape[1:])
    return 10 * float(torch.log10(4 / ((a - b) ** 2).mean(0)[where].mean().clamp(min=4e-10)))


def steps(clip):
    """Mean absolute difference of each frame from the one before."""
    return (clip[:, 1:] - clip[:, :-1]).abs().mean((0, 2, 3))


def jump(clip, join):
    """The difference at a join beside the median of all others in the clip."""
    d = steps(clip); k = join % clip.shape[1] - 1
    return float(d[k]) / max(1e-4, statistics.median(float(v) for i, v in enumerate(d) if i != k))


def object_right(clip, scene, made):
    """In the frames that show the thing whole and most of it made [F,H,W]: is it there in its colour, is its outline best fitted
    by its shape? None where no frame does."""
    mask = outline.cut(clip, scene)[0]
    fresh = (mask & made).flatten(1).sum(1) * 2 > mask.flatten(1).sum(1)
    fresh |= ~mask.flatten(1).any(1) & made.flatten(1).all(1)     # nothing there, where it should have been made
    mask = mask[fresh]
    if not len(mask):
        return None, None
    there = mask.flatten(1).sum(1) > 40
    whole = mask[there & ~outline.at_border(mask)]
    color = float(there.float().mean()) >= .75
    if not len(whole):
        return color, None
    shape = outline.best(whole).argmax(1) == world.SHAPES.index(scene.things[0].shape)
    return color, float(shape.float().mean()) >= .5


def background_right(clip, scene, made):
    """Nine of ten of the pixels made away from the thing have a colour of the scene's background."""
    away = made & ~outline.around(outline.cut(clip, scene)[0], 4)
    p = ((clip + 1) / 2).permute(1, 2, 3, 0)[away]
    return float((torch.cdist(p, outline.backdrop(scene)).amin(1) < .16).float().mean()) >= .9 if len(p) else None


def between(clip, ends):
    """What a result with these clips at its ends was given: which of its pixels, and the pixels."""
    known, want = nothing(*clip.shape[1:]), torch.zeros_like(clip)
    for x, place in zip(ends, (slice(0, ends[0].shape[1]), slice(-ends[-1].shape[1], None))):
        known[place] = True; want[:, place] = x
    return known, want


def read(case, clip, latents, vae):
    """-> the figures of one result"""
    out = {}; known, want = between(clip, case.ends) if case.ends else (case.known, case.want)
    if known is not None:
        out['kept'] = db(clip, want, known)
        if latents is not None and 4 * latents.shape[2] - 3 == clip.shape[1]:
            out['before paste'] = db(conditions.before_paste(vae, latents, clip.shape[1]), want, known)
    made = ~known if known is not None else torch.ones(clip.shape[1:], dtype=torch.bool)
    out['colour'], out['shape'] = object_right(clip, case.scene, made)
    out['background'] = background_right(clip, case.scene, made)
    for j in case.joins:
        out['seam'] = max(out.get('seam', 0), jump(clip, j))
    if case.loop:
        out['seam'] = float((clip[:, 0] - clip[:, -1]).abs().mean()) / max(1e-4, statistics.median(steps(clip).tolist()))
    return out


def compare(case, clip):
    """IoU of the thing's mask with the true one, over frames that show it whole."""
    scene = case.scene
    true = world.render(scene, *clip.shape[1:])[1][0] > .5
    usable = ~outline.at_border(true)
    return float(outline.overlap(outline.cut(clip, scene)[0][usable], true[usable]).mean()) if usable.any() else None


def mean(values):
    values = [float(v) for v in values if v is not None and v == v]
    return sum(values) / len(values) if values else None


def measure(name, runner, vae, n):
    cases = list(TASKS[name](n)); made = runner.all(name, cases); rows = []
    for case, (clip, latents) in zip(cases, made):
        row = read(case, clip, latents.float() if latents is not None else None, vae)
        if name.startswith('sketch'):
            row['IoU'] = compare(case, clip)
        if name.startswith('upscale'):
            small = torch.nn.functional.interpolate(next(iter(case.files.values())).transpose(0, 1), (256, 256), mode='bicubic').transpose(0, 1).clamp(-1, 1)
            everywhere = torch.ones(clip.shape[1:], dtype=torch.bool)
            row['PSNR'], row['bicubic'] = db(clip, case.want, everywhere), db(small, case.want, everywhere)
        rows.append(row)
    keys = dict.fromkeys(k for r in rows for k in r)
    figures = {k: mean(r.get(k) for r in rows) for k in keys} | {'clips': len(rows)}
    print(name, {k: round(v, 3) if v is not None else v for k, v in figures.items()}, flush=True)
    return figures, made[0][0]


def most_memory(words):
    """Runs a command -> the most memory it had, MB, as Linux counts it since the program itself began."""
    most, done = 0, subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while done.poll() is None:
        lines = open(f'/proc/{done.pid}/status').read().splitlines()
        most = max([most, *(int(l.split()[1]) / 1024 for l in lines if l.startswith('VmHWM'))]); time.sleep(.1)
    if done.returncode:
        raise RuntimeError(f'the command line failed with {done.returncode}')
    return most


def longest(runner, windows=10):
    """A clip extended to ten times its length: how colours drift, and what memory the process took, beside one window's."""
    s, text, seed, _ = next(scenes('long', 1, ('spins',)))
    out = {}
    for times in (1, windows):
        case = Case(s, text, seed, {'--extend': world.render(s, *SIZE)[0]}, ['--by', str(16 * times)])
        with tempfile.TemporaryDirectory() as d:
            out[f'memory {times}'] = most_memory(runner.command(case, d, f'{d}/out.safetensors'))
            clip = load_file(f'{d}/out.safetensors')['frames'].permute(3, 0, 1, 2).float() / 127.5 - 1
        out[f'frames {times}'] = clip.shape[1]
        away = ~outline.around(outline.cut(clip, s)[0], 4)
        shade = torch.stack([clip[:, i][:, away[i]].mean(1) for i in range(clip.shape[1])])
        out[f'drift {times}'] = float((shade[-8:].mean(0) - shade[:8].mean(0)).abs().max() * 127.5)
        last = nothing(*clip.shape[1:]); last[-17:] = True
        out[f'object {times}'] = object_right(clip, s, last)
    return out, clip


# ------------------------------------------------------------------------------------------------ report
COLUMNS = [('kept', 'known pixels kept, dB', lambda v: v >= 30), ('before paste', 'before paste, dB', lambda v: v >= 24), ('colour', 'colour right', lambda v: v >= .8),
           ('shape', 'shape right', lambda v: v >= .8), ('background', 'background right', lambda v: v >= .8), ('seam', 'seam or closure', lambda v: v <= 1.5), ('IoU', 'IoU', lambda v: v >= .6)]


def show(key, value, good):
    if value is None:
        return '–'
    text = f'{100 * value:.0f} %' if key in ('colour', 'shape', 'background') else '∞' if value > 99 else f'{value:.1f}' if key in ('kept', 'before paste') else f'{value:.2f}'
    return text if good(value) else f'**{text}**'


def report(model, figures, long, cases):
    import datetime
    lines = ['# small-world: every task, measured', '', f'{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, written by `training/tasks.py` on the Rust command line (CPU, the card\'s default settings); {cases} held-out scenes a task.', '',
             'Known pixels: PSNR of what was given, in the finished clip and before it is pasted (– where a task has several windows). Colour, shape, background: read from the pixels that were made, over clips (– where the thing itself was given). Seam: the difference between two frames at a join beside the median inside the clip; for a loop, from the last frame to the first. IoU: of the thing cut out by its colour with the true one. Bold misses what issue 12 wants: kept ≥ 30 dB, before ≥ 24 dB, right ≥ 80 %, seam ≤ 1.5, IoU ≥ 0.6.', '',
             '| task | ' + ' | '.join(c[1] for c in COLUMNS) + ' |', '|---' * (len(COLUMNS) + 1) + '|']
    for name, f in figures.items():
        lines.append(f'| {name} | ' + ' | '.join(show(k, f.get(k), good) for k, _, good in COLUMNS) + ' |')
    if 'upscale to 256' in figures:
        f = figures['upscale to 256']
        lines += ['', f"Upscaled clips have {f['PSNR']:.1f} dB against the scene drawn at 256 px; the same clips enlarged by bicubic interpolation {f['bicubic']:.1f} dB."]
    if long:
        lines += ['', f"Extended to {long['frames 10']} frames: the background drifts by {long['drift 10']:.1f} of 255 (one window: {long['drift 1']:.1f}), at most {long['memory 10']:.0f} MB resident (one window: {long['memory 1']:.0f} MB); the thing in the last 17 frames: colour {'right' if long['object 10'][0] else 'wrong'}, shape {'right' if long['object 10'][1] else 'wrong'}."]
    lines += ['', 'The first case of each task, in the order of the table, five frames each:', '', '![tasks](tasks.png)', '']
    open(f'{model}/TASKS.md', 'w').write('\n'.join(lines))


def sheet(firsts):
    rows = []
    for clip in firsts:
        if clip.shape[1] == 1:
            clip = clip.expand(-1, 5, -1, -1)
        at = [round(i * (clip.shape[1] - 1) / 4) for i in range(5)]
        h, w = clip.shape[2:]; k = min(128 / h, 128 / w)
        small = torch.nn.functional.interpolate(clip[:, at].transpose(0, 1), (round(h * k), round(w * k)), mode='area').transpose(0, 1)
        small = torch.nn.functional.pad(small, ((128 - small.shape[3]) // 2, 128 - small.shape[3] - (128 - small.shape[3]) // 2, (128 - small.shape[2]) // 2, 128 - small.shape[2] - (128 - small.shape[2]) // 2), value=1.)
        rows.append(small)
    return world.sheet(torch.stack(rows), scale=1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default=HERE + '/../models/small-world'); p.add_argument('--cases', type=int, default=8); p.add_argument('--jobs', type=int, default=1, choices=[1, 2])
    p.add_argument('--only', nargs='*', default=list(TASKS), help='tasks whose names begin so'); p.add_argument('--long', type=int, default=1); p.add_argument('--write', type=int, default=1)
    a = p.parse_args(); torch.set_num_threads(1); a.model = os.path.abspath(a.model)
    vae = diffusers.AutoencoderKLWan.from_pretrained(a.model + '/vae', torch_dtype=torch.float32)
    runner = Runner(a.model, a.jobs); firsts = []
    kept = f'{runner.kept}/figures.json'; earlier = json.load(open(kept)) if os.path.exists(kept) else {}
    figures, long = earlier.get('figures', {}), earlier.get('long')
    for name in TASKS:
        if name.startswith(tuple(a.only)):
            figures[name], first = measure(name, runner, vae, a.cases); firsts.append(first)
        elif name in figures:
            firsts.append(runner.run(name, 0, next(iter(TASKS[name](1))))[0])
    if a.long:
        long, clip = longest(runner); print(long, flush=True); firsts.append(clip)
    json.dump({'figures': figures, 'long': long}, open(kept, 'w'))
    if a.write:
        report(a.model, {name: figures[name] for name in TASKS if name in figures}, long, a.cases); sheet(firsts).save(f'{a.model}/tasks.png', optimize=True)


if __name__ == '__main__':
    main()
