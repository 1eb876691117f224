"""What `tabreel.json` says of the model: the words it was trained on, by role, and the folder's files.

    python card.py      # checks that the vocabulary covers what world.caption says, prints it
"""
import hashlib
import json
import os
import random
import re

import world

# Words that carry no content of a scene: how captions are put together.
OTHER = ['a', 'an', 'the', 'one', 'and', 'with', 'to', 'there', 'is', 'video', 'clip', 'of']
NEEDED = re.compile(r'\.(json|safetensors|gguf)$')   # what a model is loaded from, as www/plugins/models.ts has it


def vocabulary():
    """-> {role: {plain: [other wordings]}, 'other': [words without content]}. Every plain wording can stand in a prompt as it is."""
    said = lambda plain, more=(): {plain[0]: [*dict.fromkeys([*plain[1:], *more])]}
    words = lambda keys, tags={}: {k: v for key in keys for k, v in said(world.WORDS[key], tags.get(key, ())).items()}
    motion = {}
    for m in world.MOTIONS:
        verb, side = (m.split() + [''])[:2] if m.endswith(('left', 'right')) else (m, '')
        motion |= said([f'{v} {side}'.strip() for form in (0, 1) for v in (pair[form] for pair in world.VERBS[verb])])
    return {
        'size': words(['large', 'small']), 'colour': words(world.COLORS), 'shape': words(world.SHAPES), 'motion': motion,
        'speed': {'fast': ['quickly', 'rapidly'], 'slowly': ['gently']},
        'direction': {side: [f'to the {side}', f'towards the {side}'] for side in ('left', 'right')},
        'ground': words(world.GROUNDS, world.TAGS), 'sky': words(world.SKIES, world.TAGS),
        'camera': {f'camera pans {side}': [f'the camera moves {side}', f'panning {side}'] for side in ('left', 'right')},
        'extra': {'with hills': ['with hills in the background', 'hills behind', 'in front of hills']},
        'other': OTHER}


def words_of(text):
    return re.findall(r"[^\W\d_]+", text.lower())


def known(vocabulary):
    """All single words of a vocabulary."""
    roles = {k: v for k, v in vocabulary.items() if k != 'other'}
    said = [w for role in roles.values() for plain, more in role.items() for w in (plain, *more)]
    return {w for text in [*said, *vocabulary['other']] for w in words_of(text)}


def check(vocabulary, captions=20000):
    """Raises ValueError with the words that some caption holds and the vocabulary does not."""
    rng, have, missing = random.Random(0), known(vocabulary), set()
    for i in range(captions):
        missing |= set(words_of(world.caption(world.sample_scene(rng, None), rng, still_image=i % 4 == 0))) - have
    if missing:
        raise ValueError(f'the vocabulary must hold every word of world.caption, it lacks {sorted(missing)}')


def multiples(folder):
    """What a clip's sides and its frames (less one) must be multiples of: a latent cell times a patch, as `tabreel card` has it."""
    read = lambda part: json.load(open(os.path.join(folder, part, 'config.json')))
    vae, (t, h, w) = read('vae'), read('transformer')['patch_size']
    return {'width': vae['scale_factor_spatial'] * w, 'height': vae['scale_factor_spatial'] * h, 'frames': vae['scale_factor_temporal'] * t}


def files(folder):
    """[{path, bytes, sha256}] of what a model folder is loaded from, in the order of the paths."""
    paths = sorted(os.path.relpath(os.path.join(d, f), folder).replace(os.sep, '/') for d, _, names in os.walk(folder) for f in names if NEEDED.search(f))
    out = []
    for path in paths:
        if path != 'tabreel.json':
            data = open(os.path.join(folder, path), 'rb').read()
            out.append({'path': path, 'bytes': len(data), 'sha256': hashlib.sha256(data).hexdigest()})
    return out


if __name__ == '__main__':
    v = vocabulary(); check(v); print(json.dumps(v, indent=1))
