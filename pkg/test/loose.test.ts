import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { startFaultyServer, type FaultyServer } from '../../tests/faulty-server.mjs';
import { findSet, type ModelSet } from '../src/source/index.js';
import type { FileSource } from '../src/source/loose.js';
import type { FetchProgress } from '../src/source/meter.js';
import { openFolder, type OpenFolder } from '../src/source/open.js';
import { sha256 } from '../src/source/sha256.js';
import { caught, randomBytes } from './fakes.js';

const timing = { stallMs: 700, firstTries: 2, tries: 3, backoffMs: 1, longestWaitMs: 5 };
const weights = randomBytes(70_000);
const text = (words: string): Uint8Array => new TextEncoder().encode(words);

let server: FaultyServer;
beforeAll(async () => void (server = await startFaultyServer()));
afterAll(() => server.close());
beforeEach(() => {
  server.files.clear();
  server.fault = () => undefined;
  server.requests.length = 0;
  server.files.set('/any/wan.gguf', weights).set('/m/transformer/own.gguf', text('replaced')).set('/m/vae/own.gguf', text('stays'));
  const files = [
    { path: 'transformer/own.gguf', bytes: 8 },
    { path: 'vae/own.gguf', bytes: 5 },
  ];
  server.files.set('/m/tabreel.json', JSON.stringify({ name: 'base', files }));
});
afterEach(() => vi.unstubAllGlobals());

const at = (path: string): string => new URL(path, server.url).href;

async function open(set: ModelSet, unplaced: readonly FileSource[] = [], seen: FetchProgress[] = []): Promise<OpenFolder> {
  const found = findSet(set, unplaced);
  return openFolder(found.describe(await found.card(), true), { timing, onProgress: (progress) => seen.push(progress) });
}

async function read(folder: OpenFolder): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {};
  for (const file of folder.files) files[file.label] = await file.read(0, file.size);
  await folder.finish();
  folder.close();
  return files;
}

test('parts come from a URL, a file, a folder of files and bytes, and are counted together', async () => {
  const seen: FetchProgress[] = [];
  const folder = await open(
    {
      transformer: at('any/wan.gguf'),
      textEncoder: new File(['encoder'], 'umt5.safetensors'),
      tokenizer: text('{"model": 1}'),
      vae: { files: [new File(['{}'], 'config.json'), new File(['vae'], 'a.safetensors'), new File(['?'], 'notes.md')] },
      loras: [{ file: new File(['lora'], 'fast.safetensors'), strength: 0.5 }, { file: text('other') }],
    },
    [],
    seen,
  );
  expect(folder.files.map(({ strength }) => strength).filter((strength) => strength !== undefined)).toEqual([0.5, 1]);
  const files = await read(folder);
  expect(Object.keys(files)).toEqual([
    'transformer/wan.gguf',
    'text_encoder/umt5.safetensors',
    'tokenizer/tokenizer.json',
    'vae/config.json',
    'vae/a.safetensors',
    'loras/1/fast.safetensors=0.5',
    'loras/2/lora=1',
  ]);
  expect(files['transformer/wan.gguf']).toEqual(weights);
  const all = Object.values(files).reduce((sum, { length }) => sum + length, 0);
  expect(seen.at(-1)).toMatchObject({ loaded: all, total: all });
});

test('a part replaces the whole part of a folder, which is not fetched', async () => {
  const files = await read(await open({ model: at('m/'), transformer: at('any/wan.gguf') }));
  expect(Object.keys(files)).toEqual(['vae/own.gguf', 'transformer/wan.gguf']);
  expect(server.requests.some(({ path }) => path.includes('transformer/own.gguf'))).toBe(false);
});

test('the same of a folder in hand', async () => {
  const model = { files: { 'model_index.json': text('{}'), 'transformer/own.gguf': text('old'), 'transformer/config.json': text('{}') } };
  const found = findSet({ model, transformer: text('new') });
  const card = await found.card();
  expect(card.files.map(({ path }) => path)).toEqual(['model_index.json', 'transformer/transformer']);
  expect(Object.keys(await read(await open({ model, transformer: text('new') })))).toEqual(['model_index.json', 'transformer/transformer']);
});

test('a file that is named twice is fetched once', async () => {
  const url = at('any/wan.gguf');
  await read(await open({ transformer: text('t'), loras: [{ file: url }, { file: url, strength: -1 }] }));
  expect(server.requests.filter(({ range }) => range === undefined).length).toBe(1);
});

test('another SHA-256 than promised is an error', async () => {
  const folder = await open({ transformer: { url: at('any/wan.gguf'), sha256: '0'.repeat(64) } });
  expect(await caught(read(folder))).toMatchObject({ code: 'weights' });
  expect(await read(await open({ transformer: { url: at('any/wan.gguf'), sha256: await sha256(weights) } }))).toBeTruthy();
});

test("a tokenizer's bytes get the name that the engine looks for", async () => {
  const named = async (tokenizer: Uint8Array): Promise<string[]> =>
    (await open({ transformer: text('t'), tokenizer })).files.map((f) => f.label);
  expect(await named(text('{}'))).toContain('tokenizer/tokenizer.json');
  expect(await named(new Uint8Array([10, 14]))).toContain('tokenizer/spiece.model');
  expect(await named(text('GGUF'))).toContain('tokenizer/tokenizer');
});

test("a repository's page of a file stands for the file", () => {
  const page = 'https://huggingface.co/owner/name/blob/main/split_files/vae/a%20b.safetensors';
  const { files } = findSet({ transformer: page }).describe(
    { files: [{ path: 'transformer/a b.safetensors', bytes: 1 }] } as never,
    true,
  ) as never;
  expect(files[0]).toMatchObject({
    path: 'transformer/a b.safetensors',
    from: { base: 'https://huggingface.co/owner/name/resolve/main/split_files/vae/a%20b.safetensors', single: true },
  });
});

test('files whose part is to be told lie in a place of their own', async () => {
  const folder = await open({}, [new File(['x'], 'what.gguf'), text('y')]);
  expect(folder.files.map(({ label }) => label)).toEqual(['loose/what.gguf', 'loose/file-2']);
});

test('a file that is not there is told before a worker starts', async () => {
  expect(await caught(open({ transformer: at('any/none.gguf') }))).toMatchObject({
    code: 'fetch',
    message: expect.stringContaining('does not exist'),
  });
});

describe('wrong sets', () => {
  test.each([
    [{ vae: text('v') }, 'without a model, a transformer must be given'],
    [{ transformer: 7 }, 'transformer must be a URL, { url, headers }, a File, or bytes'],
    [{ transformer: 'ftp://a/b' }, 'transformer must be the URL of a file, got "ftp://a/b"'],
    [{ transformer: 'http://a/b/' }, 'and not of a folder'],
    [{ transformer: { files: [] } }, 'transformer.files holds no weights'],
    [{ transformer: { url: 'http://a/b', sha256: 'abc' } }, '64 hexadecimal digits'],
    [{ transformer: text('t'), loras: 'a' }, 'loras must be a list of { file, strength }'],
    [{ transformer: text('t'), loras: [{ file: text('l'), strength: NaN }] }, 'strength of a LoRA must be a finite number, got NaN'],
    [{ transformer: text('t'), loras: [{}] }, 'loras[0].file must be a URL'],
  ])('%o', (set, message) => {
    expect(() => findSet(set as never)).toThrow(message);
  });
});
