"""The figures of evaluate.py as EVAL.md."""
import datetime

import conditions
import probe

percent = lambda v: '–' if v is None or v != v else f'{100 * v:.1f} %'
ratio = lambda v: '–' if v is None or v != v else f'{v:.3f}'
decibel = lambda v: '–' if v is None or v != v else f'{v:.1f} dB'


def reach(figures, *path):
    for key in path:
        if not isinstance(figures, dict) or key not in figures:
            return None
        figures = figures[key]
    return figures


def least(values):
    values = [v for v in values or () if v is not None and v == v]
    return min(values) if values else None


WANTED = [   # what, how it reads, the figure, what it should be at least (at most where negative)
    ('shape read right, one object', percent, lambda f: reach(f, 'single', 'heads', 'shape'), .96),
    ('all five read right, one object', percent, lambda f: reach(f, 'single', 'all'), .93),
    ('two objects: colour, shape and direction of both right', percent, lambda f: reach(f, 'pairs', 'all'), .75),
    ('outline: IoU with the best-fitting ideal shape', ratio, lambda f: reach(f, 'single', 'outline', 'outline'), .93),
    ('the same, worst shape', ratio, lambda f: least((reach(f, 'single', 'outline', 'by_shape') or {}).values()), .90),
    ('wobble: IoU of neighbouring frames, centres aligned', ratio, lambda f: reach(f, 'single', 'outline', 'wobble'), .945),
    ('bounces and fast motion: shape right in every frame', percent, lambda f: reach(f, 'single', 'hard', 'every_frame'), .85),
    ('VAE, whole frame', decibel, lambda f: (reach(f, 'vae', 'psnr') or [None] * 3)[0], 33),
    ('VAE, inside objects', decibel, lambda f: (reach(f, 'vae', 'psnr') or [None] * 3)[1], 30.5),
    ('VAE, within 2 px of outlines', decibel, lambda f: (reach(f, 'vae', 'psnr') or [None] * 3)[2], 24),
    ('conditions: known part kept, worst kind', decibel, lambda f: least([c['kept'] for c in (reach(f, 'conditions') or {}).values()]), 24),
    ('conditions: made part right, worst kind', percent, lambda f: least([c['right'] for c in (reach(f, 'conditions') or {}).values()]), .80),
    ('one clip in Chromium on two CPU cores', lambda v: '–' if v is None else f'{v:.1f} s', lambda f: reach(f, 'browser'), -4),
    ('download', lambda v: '–' if not v else f'{v / 1e6:.1f} MB', lambda f: reach(f, 'bytes'), -25e6),
]


def wanted_table(figures, old):
    rows = ['| figure | before | now | wanted |', '|---|---|---|---|']
    for what, show, of, bound in WANTED:
        now = of(figures)
        missed = now is not None and now == now and (now < bound if bound > 0 else now > -bound)
        limit = f"{'≥' if bound > 0 else '≤'} {show(abs(bound))}"
        rows.append(f"| {what} | {show(of(old))} | {'**' + show(now) + '**' if missed else show(now)} | {limit} |")
    return rows


def table(head, rows):
    return ['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|', *['| ' + ' | '.join(r) + ' |' for r in rows]]


def single(f):
    s = f['single']; o = s['outline']; h = s['hard']
    return ['## One object\n', f"{s['clips']} clips from held-out captions (combinations of colour, shape, motion, sky and ground never trained on, all said, worded with synonyms and in several orders, the camera still).\n",
            *table(['read from the pixels', *probe.HEADS, 'all five'], [['generated clips', *[percent(s['heads'][k]) for k in probe.HEADS], percent(s['all'])]]),
            f"\nShape if `none` is no answer (the forgiving reading): {percent(s['nearest'])}. Chance: colour 12.5 %, shape 17 %, direction 12.5 % (spinning counts as still), sky 25 %, ground 20 %.\n",
            *[f'- {k}: ' + ', '.join(f'{c} {100 * v:.0f} %' for c, v in s['by_class'][k].items()) for k in probe.HEADS],
            f"\nOutlines of the {o['clips']} clips whose object colour can be told from its background (outline.py): {ratio(o['outline'])} (" + ', '.join(f'{k} {ratio(v)}' for k, v in o['by_shape'].items()) +
            f"); wobble {ratio(o['wobble'])} where the true outline is steady, {ratio(o['wobble_all'])} with those that truly turn or grow. Frames in which the object touches the border are left out.\n",
            f"Bounces and fast motion, {h['clips']} of these clips: the asked shape is the best-fitting one in every frame in {percent(h['every_frame'])} (rendered clips: {percent(h['rendered'])}); of all their frames {percent(h['frames'])}.\n"]


def pairs(f):
    s = f['pairs']
    return ['## Two objects\n', f"{s['clips']} held-out captions of two objects of different colours, read by masks (pairs.py). Taken from {s['tried']} drawn: those whose rendered clip this reader reads right itself.\n",
            *table(['', 'colour', 'shape', 'direction', 'all three'], [['both objects', *[percent(s['heads'][k]) for k in ('colour', 'shape', 'direction')], percent(s['all'])],
                                                                         ['each object', *[percent(s['objects'][k]) for k in ('colour', 'shape', 'direction')], '']]), '']


def given(f):
    rows = [[conditions.KINDS[k], decibel(c['kept']), percent(c['right']), *[percent(v) for v in c['heads']], str(c['clips']), 'Rust command line' if c['engine'] == 'cli' else 'diffusers'] for k, c in f['conditions'].items()]
    return ['## Conditions\n', 'Kept: PSNR of the known pixels as the model made them, before any is pasted. Right: all five read right, shape from the frames that were not given.\n',
            *table(['given', 'kept', 'right', *probe.HEADS, 'clips', 'engine'], rows), '']


def readers(f):
    rows = [[r['what'], ratio(r['outline']), *[percent(v) for v in r['right']], percent(r['all']), percent(r['nearest']), percent(r['every_frame']), str(r['clips'])] for r in f['probes']]
    return ['## The probe turned on itself\n', 'Held-out rendered clips, as they are and spoilt. Its shape reading must fall where outlines are as bad as a weak model\'s (compare the outline column).\n',
            *table(['clips', 'outline', *probe.HEADS, 'all five', 'shape, `none` no answer', 'in every frame', 'clips'], rows), '']


def text(figures, old, notes):
    """-> EVAL.md. Sections of parts that were not measured are left out."""
    s = figures['settings']
    steps = f"levels {', '.join(map(str, s['sigmas']))} ({s['sampler']})" if 'sigmas' in s else f"{s['num_steps']} steps, flow shift {s['flow_shift']}"
    cli = figures['engine'] == 'cli'
    head = ['# small-world: what was measured\n', f'{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, written by `training/evaluate.py`.\n',
            f"Clips of {s['width']}x{s['height']}x{s['num_frames']}, made by {'the Rust command line on the CPU' if cli else 'diffusers (not the Rust build)'}: {steps}, guidance {s['guidance_scale']}, seeds from {figures['seed']}. "
            'A figure that misses what was wanted is bold; before: the model that shipped until now, by the same script.\n', *wanted_table(figures, old), '']
    parts = [(k, make) for k, make in (('single', single), ('pairs', pairs), ('conditions', given), ('probes', readers)) if k in figures]
    body = [line for _, make in parts for line in make(figures)]
    if 'single' in figures:
        samples = figures['single']['samples']
        body += ['## Clips\n', f'The first {len(samples)} of the one-object captions, six frames each:\n', '![samples](samples.png)\n',
                 *[f"{i + 1}. {c['prompt']} (seed {c['seed']})" + (' — wrong: ' + ', '.join(c['wrong']) if c['wrong'] else '') for i, c in enumerate(samples)], '']
    return '\n'.join([*head, *body, notes or '']) .rstrip() + '\n'
