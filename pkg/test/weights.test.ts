import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ModelCard } from '../src/card.js';
import type { FetchOptions, FetchProgress } from '../src/folder.js';
import { deleteKept, keptModels } from '../src/shelf.js';
import { PIECE_BYTES, describeModel, openFolder } from '../src/weights.js';
import { FakeCaches, FakeServer, randomBytes } from './fakes.js';

const BASE = 'https://models.test/small/';
const config = new TextEncoder().encode('{"dim": 4}');
const large = randomBytes(2 * PIECE_BYTES + 1000);
const sha256 = await hashOf(large);

async function hashOf(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** As toEqual, but quick on megabytes. */
const same = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

let server: FakeServer;
let caches: FakeCaches;

beforeEach(() => {
  server = new FakeServer();
  caches = new FakeCaches();
  vi.stubGlobal('fetch', server.fetch);
  vi.stubGlobal('caches', caches);
  server.files.set('/small/config.json', config);
  server.files.set('/small/transformer/model.gguf', large);
  writeCard({ sha256 });
});
afterEach(() => vi.unstubAllGlobals());

function writeCard(extra: object = {}): void {
  const files = [
    { path: 'config.json', bytes: config.length },
    { path: 'transformer/model.gguf', bytes: large.length, ...extra },
  ];
  server.files.set('/small/tabreel.json', JSON.stringify({ name: 'small', files }));
}

async function readAll(options: FetchOptions = {}): Promise<Map<string, Uint8Array>> {
  const folder = openFolder(BASE);
  const card = await folder.card(options.signal);
  const files = new Map<string, Uint8Array>();
  for await (const { path, bytes } of folder.read(card, options)) files.set(path, bytes);
  return files;
}

const failure = (promise: Promise<unknown>): Promise<{ code: string; message: string }> =>
  promise.then(
    () => Promise.reject(new Error('it should have failed')),
    (error) => error,
  );

test('every file arrives whole, with bytes counted over the whole folder', async () => {
  const seen: FetchProgress[] = [];
  const files = await readAll({ onProgress: (progress) => seen.push(progress) });
  expect(files.get('config.json')).toEqual(new Uint8Array(config));
  expect(same(files.get('transformer/model.gguf')!, large)).toBe(true);
  const total = config.length + large.length;
  expect(seen.at(-1)).toEqual({ loaded: total, total, what: 'transformer/model.gguf', fromDevice: false });
  expect(seen.map(({ loaded }) => loaded)).toEqual(seen.map(({ loaded }) => loaded).sort((a, b) => a - b));
});

test('the second time nothing but the card is fetched', async () => {
  await readAll();
  server.requests.length = 0;
  const seen: FetchProgress[] = [];
  const files = await readAll({ onProgress: (progress) => seen.push(progress) });
  expect(server.requests.map(({ path }) => path)).toEqual(['/small/tabreel.json']);
  expect(same(files.get('transformer/model.gguf')!, large)).toBe(true);
  expect(seen.every(({ fromDevice }) => fromDevice)).toBe(true);
});

test('offline, what was kept is enough', async () => {
  await readAll();
  server.offline = true;
  expect((await readAll()).size).toBe(2);
});

test('a download that broke off goes on where it stopped', async () => {
  server.breakAfter = PIECE_BYTES + 3 * 1024 * 1024;
  const broken = await failure(readAll());
  expect(broken).toMatchObject({ code: 'fetch' });
  expect(broken.message).toContain('the download of transformer/model.gguf broke off');
  server.breakAfter = Infinity;
  server.requests.length = 0;
  const files = await readAll();
  expect(server.requests.at(-1)).toEqual({ path: '/small/transformer/model.gguf', range: `bytes=${PIECE_BYTES}-` });
  expect(same(files.get('transformer/model.gguf')!, large)).toBe(true);
});

test('a server that ignores ranges only costs time', async () => {
  server.breakAfter = PIECE_BYTES + 1024 * 1024;
  await failure(readAll());
  server.breakAfter = Infinity;
  server.ranges = false;
  expect(same((await readAll()).get('transformer/model.gguf')!, large)).toBe(true);
});

test('an abort stops the download, rejects as aborted, and keeps whole pieces', async () => {
  const controller = new AbortController();
  const error = await failure(
    readAll({
      signal: controller.signal,
      onProgress: ({ loaded }) => loaded > PIECE_BYTES + 2_000_000 && controller.abort(),
    }),
  );
  expect(error.code).toBe('aborted');
  const [kept] = await keptModels();
  expect(kept!.bytes).toBeGreaterThanOrEqual(PIECE_BYTES);
  expect(kept!.bytes).toBeLessThan(2 * PIECE_BYTES);
});

test('an aborted signal fetches nothing at all', async () => {
  expect((await failure(readAll({ signal: AbortSignal.abort() }))).code).toBe('aborted');
  expect(server.requests).toEqual([]);
});

test('a full disk costs the next visit a download, and nothing else', async () => {
  caches.full = true;
  expect((await readAll()).size).toBe(2);
  expect(caches.entries.size).toBe(0);
});

test('without a Cache API it works all the same', async () => {
  vi.stubGlobal('caches', undefined);
  expect((await readAll()).size).toBe(2);
  expect(await keptModels()).toEqual([]);
  await expect(deleteKept()).resolves.toBeUndefined();
});

test('keep: false leaves no weights', async () => {
  await readAll({ keep: false });
  expect(await keptModels()).toEqual([]);
});

test('a file that is cut short on the server is refused, by name and numbers', async () => {
  server.files.set('/small/transformer/model.gguf', large.slice(0, 5000));
  const error = await failure(readAll());
  expect(error.code).toBe('weights');
  expect(error.message).toBe(`transformer/model.gguf is cut short: it must be ${large.length} bytes, got 5000`);
});

test('a file that is too long is refused', async () => {
  server.files.set('/small/config.json', new TextEncoder().encode('{"dim": 4, "more": 1}'));
  expect((await failure(readAll())).message).toBe(`config.json must be ${config.length} bytes, got more`);
});

test('a changed byte is found by its hash, and the bad pieces are thrown away', async () => {
  const bad = large.slice();
  bad[12345]! ^= 1;
  server.files.set('/small/transformer/model.gguf', bad);
  const error = await failure(readAll());
  expect(error.code).toBe('weights');
  expect(error.message).toContain(`its SHA-256 must be ${sha256}`);
  server.files.set('/small/transformer/model.gguf', large);
  expect((await readAll()).size).toBe(2);
});

test('a new version of a file is not mixed with pieces of the old one', async () => {
  await readAll();
  const next = large.map((byte) => byte ^ 255);
  server.files.set('/small/transformer/model.gguf', next);
  writeCard({ sha256: await hashOf(next) });
  const before = (await keptModels())[0]!.bytes;
  expect(same((await readAll()).get('transformer/model.gguf')!, next)).toBe(true);
  expect((await keptModels())[0]!.bytes, 'the old version is gone').toBe(before);
});

test.each([
  [
    'a missing file',
    () => server.files.delete('/small/config.json'),
    'fetch',
    'config.json could not be fetched: https://models.test/small/config.json answered 404',
  ],
  ['a missing card', () => server.files.delete('/small/tabreel.json'), 'fetch', 'tabreel.json could not be fetched'],
  ['no network', () => (server.offline = true), 'fetch', 'could not reach https://models.test/small/tabreel.json'],
  ['a card that is no JSON', () => server.files.set('/small/tabreel.json', '<p>'), 'weights', 'is not JSON'],
  ['a card without files', () => server.files.set('/small/tabreel.json', '{"name":"x"}'), 'weights', 'must list "files"'],
  [
    'a card that climbs out',
    () => server.files.set('/small/tabreel.json', '{"files":[{"path":"../x","bytes":1}]}'),
    'weights',
    'must list "files"',
  ],
])('%s is an error in words', async (_, breakIt, code, words) => {
  breakIt();
  const error = await failure(readAll());
  expect(error.code).toBe(code);
  expect(error.message).toContain(words);
});

test('a start page in place of a file is recognised', async () => {
  vi.stubGlobal('fetch', async () => new Response('<!doctype html>', { headers: { 'content-type': 'text/html; charset=utf-8' } }));
  expect((await failure(readAll())).message).toContain('answered with a web page');
});

test('what is kept can be listed and deleted, one model or all', async () => {
  await readAll();
  expect(await keptModels()).toEqual([{ url: BASE, bytes: expect.any(Number) }]);
  expect((await keptModels())[0]!.bytes).toBe(config.length + large.length);
  await deleteKept('https://models.test/other/');
  expect(await keptModels()).toHaveLength(1);
  await deleteKept(BASE);
  expect(await keptModels()).toEqual([]);
});

test('the card tells sizes, defaults and examples in camelCase, and forgives nonsense', async () => {
  const source = JSON.stringify({
    name: 'small',
    license: 'MIT',
    trained_on: 'drawings',
    sizes: [[64, 64], [96, 64], ['x', 1], 7],
    num_frames: [1, 9, -4],
    default: { width: 64, num_steps: 12, guidance_scale: 4, fps: 'many' },
    examples: ['a ball', 5],
    files: [{ path: 'a', bytes: 1 }],
  });
  server.files.set('/small/tabreel.json', source);
  expect(await describeModel(BASE)).toEqual({
    name: 'small',
    license: 'MIT',
    trainedOn: 'drawings',
    sizes: [
      { width: 64, height: 64 },
      { width: 96, height: 64 },
    ],
    numFrames: [1, 9],
    defaults: { width: 64, numSteps: 12, guidanceScale: 4 },
    examples: ['a ball'],
    vocabulary: undefined,
    files: [{ path: 'a', bytes: 1 }],
    source,
  } satisfies ModelCard);
});

test('a folder in hand needs no list and no network; its own name is cut off', async () => {
  const folder = openFolder({
    files: { 'mine/model_index.json': new Blob(['{}']), 'mine/vae/config.json': config.slice().buffer, 'other.txt': new Blob(['x']) },
  });
  const card = await folder.card();
  expect(card.name).toBe('mine');
  const paths: string[] = [];
  for await (const { path } of folder.read(card, {})) paths.push(path);
  expect(paths).toEqual(['model_index.json', 'vae/config.json']);
  expect(server.requests).toEqual([]);
});

test('a folder without model_index.json is refused', () => {
  expect(() => openFolder({ files: { 'a.txt': new Blob([]) } })).toThrow('must hold model_index.json; got 1 files without one');
});

test.each([[7], [null], ['http://'], [{}]])('%o is no model', (model) => {
  expect(() => openFolder(model as never)).toThrow(/^model must be the URL of a model folder/);
});
