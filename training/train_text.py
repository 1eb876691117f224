"""Stage 2: the tokenizer (unigram SentencePiece, case-folding) and a head start for the text encoder (UMT5, 2 layers).

    accelerate launch train_text.py --seconds 600

The encoder learns to tell, from the end-of-text position, what the caption says: sky, ground, hills, pan, and for each
object colour, shape, size, motion, speed. Captions and truth cost nothing, so this takes minutes, and the DiT then
starts from embeddings that mean something; it goes on training the encoder jointly (stage 4).
Writes OUT/tokenizer and OUT/text_encoder, and OUT/reader.pt (the read-out head, kept as a side loss in stage 4).
"""
import collections
import copy
import json
import math
import os
import random
import shutil
import tempfile

import torch
import torch.nn.functional as F
import transformers

import common
import world

LENGTH = 32   # tokens the DiT sees: the prompt's, then zeros
VOCAB = 768
HEADS = {'sky': list(world.SKIES), 'ground': list(world.GROUNDS), 'hills': [False, True], 'pan': ['none', 'left', 'right'], 'two': [False, True]}
for i in (0, 1):
    HEADS |= {f'color{i}': list(world.COLORS), f'shape{i}': world.SHAPES, f'size{i}': ['large', 'small'], f'motion{i}': world.MOTIONS, f'fast{i}': [False, True]}


def targets(scene):
    """Index per head; -100 (ignored) where there is no second object."""
    t = {'sky': scene.sky, 'ground': scene.ground, 'hills': scene.hills is not None,
         'pan': 'left' if scene.pan < 0 else 'right' if scene.pan > 0 else 'none', 'two': len(scene.things) > 1}
    for i, o in enumerate(scene.things):
        t |= {f'color{i}': o.color, f'shape{i}': o.shape, f'size{i}': 'large' if o.large else 'small', f'motion{i}': o.motion, f'fast{i}': o.fast}
    return [HEADS[h].index(t[h]) if h in t else -100 for h in HEADS]


class Reader(torch.nn.Module):
    """Linear read-out of all heads from the end-of-text embedding."""
    def __init__(self, dim=128):
        super().__init__()
        self.out = torch.nn.Linear(dim, sum(len(v) for v in HEADS.values()))

    def forward(self, states, mask):
        last = mask.sum(1) - 1
        return self.out(states[torch.arange(len(last)), last]).split([len(v) for v in HEADS.values()], 1)

    def loss(self, states, mask, target, keep=None):
        parts = [F.cross_entropy(l.float(), target[:, i]) for i, l in enumerate(self(states, mask))]
        return torch.stack(parts).nan_to_num(0.).mean()


class Binder(torch.nn.Module):
    """Reads at the word of an object's colour, and of its shape, what that object is and does. With two objects the DiT
    must know whose motion is whose; from the end of the text it cannot be read by position."""
    KINDS = {'color': list(world.COLORS), 'shape': world.SHAPES, 'size': ['large', 'small'], 'motion': world.MOTIONS, 'fast': [False, True]}

    def __init__(self, dim=128):
        super().__init__()
        self.out = torch.nn.Linear(dim, sum(len(v) for v in self.KINDS.values()))

    @classmethod
    def places(cls, tok, ids, scenes):
        """-> caption, position, one index per kind, for every word of a colour or shape that only one object has"""
        rows = []
        for b, s in enumerate(scenes):
            pieces = [p.lstrip('▁') for p in tok.convert_ids_to_tokens(ids[b].tolist())]
            for o in s.things:
                want = [o.color, o.shape, 'large' if o.large else 'small', o.motion, o.fast]
                for word in (o.color, o.shape):
                    at = [i for i, p in enumerate(pieces) if p in world.WORDS[word]]
                    if len(at) == 1:
                        rows.append([b, at[0], *(v.index(w) for v, w in zip(cls.KINDS.values(), want))])
        return torch.tensor(rows)

    def forward(self, states, rows):
        return self.out(states[rows[:, 0], rows[:, 1]].float()).split([len(v) for v in self.KINDS.values()], 1)


def encoder():
    return transformers.UMT5EncoderModel(transformers.UMT5Config(
        vocab_size=VOCAB, d_model=128, d_kv=32, d_ff=384, num_layers=2, num_heads=4, relative_attention_num_buckets=32,
        relative_attention_max_distance=64, dropout_rate=0., feed_forward_proj='gated-gelu', pad_token_id=0, eos_token_id=1,
        decoder_start_token_id=0, is_encoder_decoder=False, use_cache=False, architectures=['UMT5EncoderModel']))


def train_tokenizer(out, seed=3):
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    os.makedirs(out, exist_ok=True)
    rng = random.Random(seed)
    lines = []
    for _ in range(20000):
        s = world.sample_scene(rng)
        lines.append(world.caption(s, rng, rng.random() < .2))
    extra = [w for v in world.WORDS.values() for w in v] + [v for t in world.VERBS.values() for p in t for v in p]
    with tempfile.TemporaryDirectory() as d:
        open(d + '/t', 'w').write('\n'.join(lines + extra * 20))
        # the alphabet is given so that any English word can be spelt; other characters fall back to bytes
        spm.SentencePieceTrainer.train(input=d + '/t', model_prefix=d + '/m', vocab_size=VOCAB, model_type='unigram', byte_fallback=True,
                                       required_chars="abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()", character_coverage=1., pad_id=0, eos_id=1, unk_id=2,
                                       bos_id=-1, normalization_rule_name='nmt_nfkc_cf', hard_vocab_limit=False, minloglevel=2, num_threads=1)
        mp = pb.ModelProto(); mp.ParseFromString(open(d + '/m.model', 'rb').read())
    # every word of the world is one piece, scored by its frequency; the trained pieces spell all other words
    counts = collections.Counter(w for l in lines + extra * 20 for w in l.lower().replace(',', ' ,').split())
    have = {p.piece: p for p in mp.pieces}
    for p in mp.pieces:
        if p.type == p.NORMAL:
            p.score = min(p.score, -7) - 4
    for w, n in counts.items():
        piece = have.get('▁' + w)
        if piece is None:
            piece = mp.pieces.add(); piece.piece = '▁' + w; piece.type = piece.NORMAL
        piece.score = math.log(n / sum(counts.values()))
    assert len(mp.pieces) <= VOCAB
    mp.trainer_spec.vocab_size = len(mp.pieces)
    mp.trainer_spec.ClearField('input'); mp.trainer_spec.ClearField('model_prefix')
    open(out + '/spiece.model', 'wb').write(mp.SerializeToString())
    json.dump({'tokenizer_class': 'T5Tokenizer', 'extra_ids': 0}, open(out + '/tokenizer_config.json', 'w'))
    t = transformers.AutoTokenizer.from_pretrained(out)   # builds the fast tokenizer from spiece.model
    t.backend_tokenizer.save(out + '/tokenizer.json')
    json.dump({'tokenizer_class': 'T5Tokenizer', 'extra_ids': 0, 'eos_token': '</s>', 'pad_token': '<pad>', 'unk_token': '<unk>', 'model_max_length': 512},
              open(out + '/tokenizer_config.json', 'w'), indent=1)
    json.dump({'eos_token': '</s>', 'pad_token': '<pad>', 'unk_token': '<unk>'}, open(out + '/special_tokens_map.json', 'w'), indent=1)
    return len(mp.pieces)


def load_tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


def tokenize(tok, texts):
    """As WanPipeline does: end-of-text appended, cut to LENGTH."""
    t = tok(texts, padding='max_length', max_length=LENGTH, truncation=True, add_special_tokens=True, return_attention_mask=True, return_tensors='pt')
    return t.input_ids, t.attention_mask


def main():
    a = common.arguments(__doc__, out=common.RUNS + '/text', seconds=600, lr=2e-3, batch=192, start='', near=20.)
    acc = common.begin(a)
    if acc.is_main_process and a.start and not os.path.exists(a.out + '/tokenizer'):
        shutil.copytree(a.start + '/tokenizer', a.out + '/tokenizer')
    if acc.is_main_process and not os.path.exists(a.out + '/tokenizer/tokenizer.json'):
        common.log(acc, a, f"{train_tokenizer(a.out + '/tokenizer')} pieces")
    acc.wait_for_everyone()
    tok = load_tokenizer(a.out + '/tokenizer')
    both = torch.nn.ModuleDict({'encoder': encoder(), 'reader': Reader(), 'binder': Binder()})
    old = None
    if a.start:      # a DiT knows this encoder's states already: what it says must stay near what it said
        both['encoder'] = transformers.UMT5EncoderModel.from_pretrained(a.start + '/text_encoder', dtype=torch.float32)
        old = copy.deepcopy(both['encoder']).requires_grad_(False).to(acc.device)
    opt = torch.optim.AdamW(both.parameters(), lr=a.lr, betas=(.9, .98), weight_decay=.01)
    ema = common.Ema(both, .995)
    step, elapsed = common.resume(acc, a, both, ema, [opt])
    enc, opt = acc.prepare(both['encoder'], opt)
    both.to(acc.device)
    clock = common.Clock(elapsed); saved = clock()
    common.log(acc, a, f"encoder {sum(p.numel() for p in both['encoder'].parameters()) / 1e6:.2f} M parameters")

    def examples(rng, n, held_out):
        scenes = [world.sample_scene(rng, held_out, 2 if rng.random() < .3 else None) for _ in range(n)]
        ids, mask = tokenize(tok, [world.caption(s, rng) for s in scenes])
        return ids.to(acc.device), mask.to(acc.device), torch.tensor([targets(s) for s in scenes], device=acc.device), Binder.places(tok, ids, scenes).to(acc.device)

    while common.goes_on(acc, clock, a.seconds):
        ids, mask, target, rows = examples(common.step_rng(a, acc, step), int(a.batch), False)
        for g in opt.param_groups:
            g['lr'] = a.lr * common.schedule(clock(), a.seconds, step, warm=100)
        states = enc(ids, mask).last_hidden_state.float()
        loss = both['reader'].loss(states, mask, target) + sum(F.cross_entropy(l, rows[:, 2 + i]) for i, l in enumerate(both['binder'](states, rows))) / 3
        if old is not None:
            with torch.no_grad():
                was = old(ids, mask).last_hidden_state.float()
            moved = ((states - was) ** 2)[mask > 0].mean() / (was ** 2)[mask > 0].mean()
            loss = loss + a.near * moved
        acc.backward(loss); acc.clip_grad_norm_(both.parameters(), 1.)
        opt.step(); opt.zero_grad(); step += 1; ema.update(step)
        if step % 200 == 0:
            with torch.no_grad():
                ids, mask, target, rows = examples(random.Random(77), 512, True)
                states = enc(ids, mask).last_hidden_state.float()
                out = both['reader'](states, mask)
                bound = [(l.argmax(1) == rows[:, 2 + i]).float().mean().item() for i, l in enumerate(both['binder'](states, rows))]
            right = [((l.argmax(1) == target[:, i])[target[:, i] >= 0]).float().mean().item() for i, l in enumerate(out)]
            common.log(acc, a, f'{step} {clock():.0f}s loss {loss.item():.3f} held-out right: ' + ' '.join(f'{h} {r:.2f}' for h, r in zip(HEADS, right)) +
                       ' at the words: ' + ' '.join(f'{k} {r:.2f}' for k, r in zip(Binder.KINDS, bound)) + (f' moved {moved.item():.4f}' if old is not None else ''))
        if clock() - saved > a.save_every:
            saved = clock(); common.save(acc, a, both, ema, [opt], step, clock())
    common.save(acc, a, both, ema, [opt], step, clock())
    with ema:
        if acc.is_main_process:
            both['encoder'].save_pretrained(a.out + '/text_encoder')
            torch.save(both['reader'].state_dict(), a.out + '/reader.pt')


if __name__ == '__main__':
    main()
