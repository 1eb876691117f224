import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { startFaultyServer, type Fault, type FaultyServer } from '../../tests/faulty-server.mjs';
import { HttpSource } from '../src/source/http.js';
import { KeptSource, type Keeping } from '../src/source/kept.js';
import { PART_BYTES } from '../src/source/parts.js';
import { fetchText, identify, type RequestOptions, type Timing } from '../src/source/request.js';
import { sha256 } from '../src/source/sha256.js';
import { caught, randomBytes } from './fakes.js';

// Megabytes on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

const timing: Timing = { stallMs: 700, firstTries: 2, tries: 3, backoffMs: 1, longestWaitMs: 5 };
const small = randomBytes(2 * PART_BYTES + 12345);
const large = randomBytes(9 * PART_BYTES + 777);

let server: FaultyServer;
beforeAll(async () => {
  server = await startFaultyServer();
  server.files.set('/small', small);
  server.files.set('/large', large);
});
afterAll(() => server.close());
beforeEach(() => {
  server.fault = () => undefined;
  server.requests.length = 0;
});

/** Only once, at the first request that begins at this part. */
function once(part: number, fault: Fault): void {
  let done = false;
  server.fault = ({ range }) => {
    if (done || (range?.[0] ?? 0) !== part * PART_BYTES) return undefined;
    done = true;
    return fault;
  };
}

const file = (name: string, size: number) => ({ label: name, url: `${server.url}${name}`, size });
const source = (name: 'small' | 'large' = 'small', options: RequestOptions = {}): HttpSource =>
  new HttpSource(file(name, (name === 'small' ? small : large).length), { timing, ...options });
const whole = (of: { size: number; read(a: number, b: number): Promise<Uint8Array> }): Promise<Uint8Array> => of.read(0, of.size);
/** As toEqual, but quick on megabytes. */
function same(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}

test('any range is exact, across the borders of parts too', async () => {
  const from = source();
  for (const [start, end] of [
    [0, 10],
    [PART_BYTES - 3, PART_BYTES + 5],
    [100, 2 * PART_BYTES + 1],
    [small.length - 1, small.length],
    [7, 7],
  ] as const) {
    expect(same(await from.read(start, end), small.subarray(start, end)), `${start} to ${end}`).toBe(true);
  }
});

test('read in order, each part is fetched once, and the next ones before they are asked for', async () => {
  const from = source('large');
  await from.read(0, 100);
  await expect.poll(() => server.requests.length).toBe(3);
  for (let at = 0; at < large.length; at += 3_000_000) {
    const end = Math.min(large.length, at + 3_000_000);
    expect(same(await from.read(at, end), large.subarray(at, end))).toBe(true);
  }
  expect(server.requests).toHaveLength(10);
  expect(new Set(server.requests.map(({ range }) => range![0] % PART_BYTES))).toEqual(new Set([0]));
});

test.each([
  [0, 1],
  [5, 4],
  [0, small.length + 1],
  [-1, 2],
  [0.5, 2],
  [0, 2 ** 63],
])('%d to %d is no range of the file', async (start, end) => {
  const error = await caught(source().read(start, end));
  if (end === 1) return expect(error).toBeUndefined();
  expect(error).toMatchObject({ code: 'weights' });
});

test.each<[string, number, Fault]>([
  ['a connection that breaks', 1, { cutAfter: 3_000_001 }],
  ['a connection that breaks at once', 0, { cutAfter: 0 }],
  ['a body that ends too early, in good order', 1, { endAfter: 1_000_000 }],
  ['a server that stalls', 1, { stallAfter: 2_000_000 }],
  ['a server that does not answer', 2, { delay: 1500 }],
  ['500', 1, { status: 500 }],
  ['503', 0, { status: 503 }],
  ['429', 2, { status: 429, headers: { 'retry-after': '0' } }],
])('%s is taken up again where it broke off', async (_, part, fault) => {
  once(part, fault);
  const waits: unknown[] = [];
  expect(same(await whole(source('small', { timing, onWait: (why) => why && waits.push(why) })), small)).toBe(true);
  expect(server.requests).toHaveLength(4);
  const starts = server.requests.map(({ range }) => range![0]);
  const got = fault.cutAfter ?? fault.endAfter ?? fault.stallAfter ?? 0;
  // Chunks on their way may be lost with the connection, but nothing that came is asked for again.
  const again = starts.filter((start) => Math.floor(start / PART_BYTES) === part).at(-1)!;
  expect(again).toBeLessThanOrEqual(part * PART_BYTES + got);
  if (fault.endAfter) expect(again).toBe(part * PART_BYTES + got);
  expect(waits).toHaveLength(1);
});

test('cut at a random point every time, it still arrives', async () => {
  let seed = 7;
  server.fault = () => ({ cutAfter: 600_000 + ((seed = (seed * 48271) % 2147483647) % 4_000_000) });
  expect(same(await whole(source('small')), small)).toBe(true);
});

test.each<[string, Fault, string, string]>([
  ['404', { status: 404 }, 'fetch', 'small could not be fetched: URL answered 404'],
  ['403', { status: 403 }, 'fetch', 'URL answered 403 (not allowed: a licence to accept, or a token?)'],
  ['500 again and again', { status: 500 }, 'fetch', 'URL answered 500'],
  ['a start page in its place', { html: true }, 'fetch', 'URL answered with a web page'],
  ['a range other than asked', { shift: 5 }, 'fetch', 'and answered with "bytes 5-8388612/'],
  ['another length', { total: 5 }, 'weights', `small must be ${small.length} bytes, the server's has 5`],
  ['a server that stalls again and again', { stallAfter: 10 }, 'fetch', 'the download of small broke off: nothing came for 0.7 s'],
])('%s is an error in words', async (_, fault, code, words) => {
  server.fault = () => fault;
  const error = await caught(source().read(0, 5));
  expect(error?.code).toBe(code);
  expect(error?.message).toContain(words.replace('URL', `${server.url}small`));
});

test('no server at all is an error in words', async () => {
  const from = new HttpSource({ label: 'x', url: 'http://127.0.0.1:9/x', size: 5 }, { timing });
  expect(await caught(from.read(0, 5))).toMatchObject({
    code: 'fetch',
    message: expect.stringContaining('could not reach http://127.0.0.1:9/x'),
  });
});

test('a file that is shorter or longer than promised is refused', async () => {
  const shorter = new HttpSource(file('small', small.length + 9), { timing });
  expect((await caught(shorter.read(0, 5)))?.message).toBe(`small must be ${small.length + 9} bytes, the server's has ${small.length}`);
  server.files.set('/tiny', 'twelve bytes');
  const tiny = (size: number) => caught(whole(new HttpSource(file('tiny', size), { timing })));
  expect(await tiny(20)).toMatchObject({ code: 'weights', message: 'tiny is cut short: it must be 20 bytes, got 12' });
  expect(await tiny(5)).toMatchObject({ code: 'weights', message: 'tiny must be 5 bytes, got more' });
});

test('a server that ignores ranges: a small file is taken whole, once; a large one is refused', async () => {
  server.fault = () => ({ ignoreRange: true });
  expect(same(await whole(source()), small)).toBe(true);
  expect(server.requests.filter(({ range }) => range === undefined)).toHaveLength(1);
  const error = await caught(source('large').read(0, 5));
  expect(error).toMatchObject({
    code: 'fetch',
    message: expect.stringMatching(/large \(75 MB\) must be fetched in parts, and .* only sends it whole/),
  });
});

test('parts of two versions never mix', async () => {
  server.fault = ({ range }) => ({ version: range![0] === 0 ? '"one"' : '"two"' });
  const error = await caught(whole(source()));
  expect(error).toMatchObject({ code: 'fetch', message: expect.stringContaining('small was replaced on the server while it was fetched') });
});

test('a text without end is refused at the longest that there can be, and its transfer ended', async () => {
  const piece = new Uint8Array(16 * 2 ** 20).fill(32);
  const cancel = vi.fn();
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({ pull: (stream) => (sent++, stream.enqueue(piece)), cancel });
  vi.stubGlobal('fetch', async () => new Response(body, { headers: { 'content-type': 'application/json' } }));
  try {
    const error = await caught(fetchText('https://host/m/tabreel.json', 'tabreel.json', { timing }));
    expect([error?.code, error?.message]).toEqual([
      'weights',
      'tabreel.json must be at most 67108864 bytes, https://host/m/tabreel.json sent more',
    ]);
    expect(sent).toBeLessThan(8);
    expect(cancel).toHaveBeenCalledOnce();
  } finally {
    vi.unstubAllGlobals();
  }
});

test('an abort ends it at once, in the package’s words', async () => {
  server.fault = () => ({ stallAfter: 1000 });
  const controller = new AbortController();
  const reading = caught(source('small', { signal: controller.signal, timing: { ...timing, stallMs: 60_000 } }).read(0, 5));
  await expect.poll(() => server.requests.length).toBeGreaterThan(0);
  controller.abort();
  expect(await reading).toMatchObject({ code: 'aborted', message: 'loading was stopped' });
});

test('headers go with every request', async () => {
  await whole(source('small', { timing, headers: { authorization: 'Bearer token' } }));
  expect(server.requests.every(({ headers }) => headers['authorization'] === 'Bearer token')).toBe(true);
});

const alone = (warnings: string[] = []): Keeping => ({
  // Server and hash share one thread here: what is slow has not stalled.
  request: { timing: { ...timing, stallMs: 30_000 } },
  keeping: false,
  mend: async () => undefined,
  stop: () => undefined,
  warn: (message) => void warnings.push(message),
});

test('a small file is checked before its first byte is handed out, and fetched anew once', async () => {
  const hash = await sha256(small);
  const bad = small.slice();
  bad[PART_BYTES + 5]! ^= 1;
  once(1, { body: bad, version: '"same"' });
  const good = server.fault;
  server.fault = (asked) => ({ version: '"same"', ...good(asked) });
  const kept = new KeptSource({ ...file('small', small.length), sha256: hash }, alone());
  expect(same(await kept.read(0, 100), small.subarray(0, 100))).toBe(true);
  expect(server.requests).toHaveLength(6);

  server.fault = () => ({ body: bad });
  const error = await caught(new KeptSource({ ...file('small', small.length), sha256: hash }, alone()).read(0, 100));
  expect(error).toMatchObject({
    code: 'weights',
    message: expect.stringMatching(/^small is damaged: its SHA-256 must be [0-9a-f]{64}, got/),
  });
});

test('what a cache on the way may answer is checked, or asked anew', async () => {
  const hash = await sha256(small);
  const modes = vi.fn<(cache: RequestCache | undefined) => void>();
  const { fetch } = globalThis;
  vi.stubGlobal('fetch', (url: string, init: RequestInit) => (modes(init.cache), fetch(url, init)));
  const asked = async (read: () => Promise<unknown>): Promise<(RequestCache | undefined)[]> => {
    modes.mockClear();
    await read();
    return [...new Set(modes.mock.calls.map(([cache]) => cache))];
  };
  const kept = (name: 'small' | 'large', hash?: string): KeptSource =>
    new KeptSource({ ...file(name, (name === 'small' ? small : large).length), sha256: hash }, alone());
  try {
    expect(await asked(() => kept('small', hash).read(0, 5)), 'checked by its hash').toEqual([undefined]);
    once(0, { body: small.map((byte) => byte ^ 1), version: null });
    expect(await asked(() => kept('small', hash).read(0, 5)), 'and past every cache where that fails').toEqual([undefined, 'reload']);
    expect(await asked(() => kept('small').read(0, 5)), 'without a hash the server is asked').toEqual(['no-cache']);
    expect(await asked(() => kept('large').read(0, 5)), 'a large file goes into no cache').toEqual(['no-store']);
    expect(await asked(() => identify(`${server.url}small`, 'small', { timing })), 'nor does the question for a version').toEqual([
      'no-store',
    ]);
  } finally {
    vi.unstubAllGlobals();
  }
});

test('a large file is hashed while it is read in order, and what was not read is fetched for it', async () => {
  const hash = await sha256(large);
  const flipped = large.map((byte) => byte ^ 1);
  const kept = new KeptSource({ ...file('large', large.length), sha256: hash }, alone());
  await kept.read(0, 3 * PART_BYTES);
  await kept.finish();
  expect(server.requests).toHaveLength(10);
  server.fault = ({ range }) => (range![0] === 2 * PART_BYTES ? { body: flipped, version: null } : undefined);
  const bad = new KeptSource({ ...file('large', large.length), sha256: hash }, alone());
  await bad.read(0, bad.size);
  expect(await caught(bad.finish())).toMatchObject({ code: 'weights' });
});

test('a large file that was read out of order and is not kept says that it was not checked', async () => {
  const warnings: string[] = [];
  const kept = new KeptSource({ ...file('large', large.length), sha256: '0'.repeat(64) }, alone(warnings));
  await kept.read(5 * PART_BYTES, 9 * PART_BYTES);
  await kept.read(0, PART_BYTES);
  await kept.finish();
  expect(warnings).toEqual([expect.stringContaining('large was not checked')]);
});
