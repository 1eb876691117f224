import { expect, test, vi } from 'vitest';
import hashes from '../../tests/fixtures/model_hash.json' with { type: 'json' };
import { gifText } from '../src/gif-text.js';
import { givenParts } from '../src/inputs.js';
import { pngText, withPngText } from '../src/png-text.js';
import { modelHash, parseRecipe, readRecipe, type FullRecipe } from '../src/recipe.js';
import { describeModel } from '../src/source/index.js';

const RECIPE = {
  tabreel: 1,
  model: { name: 'tiny', hash: 'ab' },
  task: { name: 'extend', direction: 'backward' },
  options: { prompt: 'der Ball, “rot”', seed: 7 },
  given: { clips: 1 },
} as unknown as FullRecipe;

/** The chunks of a PNG; what is in them does not matter here. */
function png(): Blob {
  const chunk = (type: string, data: Uint8Array): Uint8Array => {
    const bytes = new Uint8Array(12 + data.length);
    new DataView(bytes.buffer).setUint32(0, data.length);
    bytes.set(new TextEncoder().encode(type), 4);
    bytes.set(data, 8);
    return bytes;
  };
  const signature = Uint8Array.from([137, 80, 78, 71, 13, 10, 26, 10]);
  const header = Uint8Array.from([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
  return new Blob([signature, chunk('IHDR', header), chunk('IDAT', new Uint8Array(10)), chunk('IEND', new Uint8Array())] as BlobPart[]);
}

test('a PNG carries its recipe, whatever the prompt’s letters', async () => {
  const file = await withPngText(png(), JSON.stringify(RECIPE));
  expect(await readRecipe(file)).toEqual(RECIPE);
  // the checksum of "iTXt" and an empty comment, from another implementation
  const bytes = new Uint8Array(await (await withPngText(png(), '')).arrayBuffer());
  expect(new DataView(bytes.buffer).getUint32(33 + 8 + 12)).toBe(0xe1994435);
});

test('of a large picture no more than its head is read', async () => {
  const file = new Blob([await withPngText(png(), JSON.stringify(RECIPE)), new Uint8Array(3 * 2 ** 20)]);
  const slice = vi.spyOn(file, 'slice');
  expect(await readRecipe(file)).toEqual(RECIPE);
  expect(Math.max(...slice.mock.calls.map(([start = 0, end = file.size]) => end - start))).toBeLessThanOrEqual(2 ** 20);
});

/** The beginning of a GIF as the command line writes it: two colours, how often it plays, a comment in blocks, a frame. */
function gif(comment: Uint8Array): Uint8Array {
  const blocks = Array.from({ length: Math.ceil(comment.length / 255) }, (_, i) => comment.subarray(i * 255, (i + 1) * 255));
  const head = [...new TextEncoder().encode('GIF89a'), 1, 0, 1, 0, 0x80, 0, 0, ...Array<number>(6).fill(0)];
  const loops = [0x21, 0xff, 11, ...new TextEncoder().encode('NETSCAPE2.0'), 3, 1, 0, 0, 0];
  return Uint8Array.from([...head, ...loops, 0x21, 0xfe, ...blocks.flatMap((block) => [block.length, ...block]), 0, 0x2c, 0, 0, 0x3b]);
}

test('a GIF of the command line carries its recipe, however long', async () => {
  const long = { ...RECIPE, options: { ...RECIPE.options, prompt: 'a naïve red ball rolls left over sand, '.repeat(20) } };
  for (const recipe of [RECIPE, long]) {
    const bytes = gif(new TextEncoder().encode(JSON.stringify(recipe)));
    expect(await readRecipe(new Blob([bytes as BlobPart]))).toEqual(recipe);
    // Cut short anywhere, it has none, and reading ends.
    for (let end = 4; end < bytes.length - 6; end += 7) expect(gifText(bytes.subarray(0, end))).toBeUndefined();
  }
  expect(gifText(gif(new Uint8Array()))).toBe('');
});

test('a file of another program has none', async () => {
  expect(await readRecipe(png())).toBeUndefined();
  expect(await readRecipe(await withPngText(png(), 'made with love'))).toBeUndefined();
  expect(await readRecipe(new Blob(['no picture']))).toBeUndefined();
  expect(pngText(new Uint8Array(20))).toBeUndefined();
  await expect(readRecipe('x.png' as unknown as Blob)).rejects.toMatchObject({ code: 'invalid-options' });
});

test.each(['', 'null', '[]', '{}', '{"tabreel":2}', '{"tabreel":1,"model":{},"task":{"name":"loop"},"options":{},"given":{}}'])(
  '%j is no recipe',
  (text) => expect(parseRecipe(text)).toBeUndefined(),
);

test('a recipe of the command line is understood', () => {
  const line = {
    tabreel: '0.1.0',
    model: 'tiny',
    task: 'extend',
    options: { prompt: 'a', seed: 3, sampler: null, sigmas: null },
    given: { extend: 'a.gif', backward: true, by: 8 },
  };
  expect(parseRecipe(JSON.stringify(line))).toEqual({
    tabreel: 1,
    model: { name: 'tiny' },
    task: { name: 'extend', direction: 'backward', frames: 8 },
    options: { prompt: 'a', seed: 3 },
    given: givenParts({}),
  });
  const named = { ...line, model: { name: 'tiny', hash: 'ab' } };
  expect(parseRecipe(JSON.stringify(named))!.model).toEqual({ name: 'tiny', hash: 'ab' });
  expect(parseRecipe(JSON.stringify({ ...line, model: null }))!.model).toEqual({ name: '' });
  const picture = { ...line, task: 'image-to-video', given: { image: 'a.png', 'last-image': 'b.png' } };
  expect(parseRecipe(JSON.stringify(picture))).toMatchObject({
    task: { name: 'generate' },
    given: { image: true, lastImage: true, mask: false },
  });
  const padded = { ...picture, given: { image: 'a.png', fit: 'contain' } };
  expect(parseRecipe(JSON.stringify(padded))!.given).toMatchObject({ ...givenParts({}), image: true, fit: 'contain' });
  expect(parseRecipe(JSON.stringify({ ...picture, given: { fit: 'stretch' } }))!.given).toEqual(givenParts({}));
  const looped = { ...line, task: 'loop', options: { ...line.options, numFrames: 9 }, given: { loop: null } };
  expect(parseRecipe(JSON.stringify(looped))!.task).toEqual({ name: 'loop', numFrames: 9 });
  expect(parseRecipe(JSON.stringify({ ...looped, given: { loop: 'a.gif' } }))!.task).toEqual({ name: 'loop' });
  const edited = { ...line, task: 'video-to-video', given: { source: 'a.gif', strength: 0.4 } };
  expect(parseRecipe(JSON.stringify(edited))).toMatchObject({ task: { name: 'edit', strength: 0.4 } });
});

// crate/src/cli/identity.rs reads the same cases.
test.each(hashes)('a model has the hash of the command line: $name', async ({ files, card, hash }) => {
  expect(await modelHash({ files, source: JSON.stringify(card) })).toBe(hash);
});

test('a folder in hand has the hash that it has on a server', async () => {
  const files = [
    { path: 'model_index.json', bytes: 2, sha256: 'ab'.repeat(32) },
    { path: 'vae/a.gguf', bytes: 5, sha256: 'cd'.repeat(32) },
  ];
  const folder = (card: object, beside: Record<string, Blob>): Record<string, Blob> => ({
    'model_index.json': new Blob(['{}']),
    'vae/a.gguf': new Blob(['12345']),
    ...beside,
    'tabreel.json': new Blob([JSON.stringify(card)]),
  });
  const inHand = async (card: object, beside: Record<string, Blob> = {}): Promise<unknown> =>
    modelHash(await describeModel({ files: folder(card, beside) }));
  expect(await inHand({ files })).toBe(await modelHash({ files }));
  expect(await inHand({ files }, { 'vae/config.json': new Blob(['{}']) })).toBe(await modelHash({ files }));
  const without = await modelHash({ files: files.map(({ path, bytes }) => ({ path, bytes })) });
  expect(await inHand({})).toBe(without);
  // What has another length is not what was promised.
  expect(await inHand({ files: files.map((file) => ({ ...file, bytes: 9 })) })).toBe(without);
});
