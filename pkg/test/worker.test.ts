/** The worker's own code around an engine that does as each test says. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { WorkerLink, type WorkerLike } from '../src/link.js';
import type { FromWorker, ToWorker } from '../src/messages.js';
import { caught } from './fakes.js';

/** What the engine does when it is told to generate. */
let generating: () => Promise<unknown>;

vi.mock('../wasm/tabreel.js', () => ({
  default: async ({ module_or_path }: { module_or_path: Response }) => void (await module_or_path.arrayBuffer()),
  Engine: {
    create: async () => ({
      info: () => ({ device: 'cpu', wasmMemoryBytes: 3 }),
      generate: () => generating(),
      // A clip, and then whatever the test says.
      generateBatch: async (_: unknown, made: (place: number, result: object) => void, host: { event(event: object): void }) => {
        host.event({ type: 'clips', first: 0, count: 1 });
        made(0, { seed: 7, plannedBytes: 5 });
        await generating();
      },
      // As it does after each kernel.
      checkKernels: async (_: unknown, host: { tick(): Promise<void> }) => (await host.tick(), { revision: '00', findings: [] }),
    }),
  },
}));

const options = { what: 'generating', silenceMs: 60_000 };
const GENERATE = { type: 'generate', options: { prompt: 'a ball' }, condition: undefined } as never;

/** A worker of its own in this process, started; `said` is what it told. */
async function startWorker(
  engine: () => Response,
  adapter?: object,
): Promise<{ link: WorkerLink; said: FromWorker[]; fail: (error: unknown) => void }> {
  const said: FromWorker[] = [];
  let onError: (event: { error: unknown }) => void = () => undefined;
  const worker: WorkerLike = {
    onmessage: null,
    onerror: null,
    onmessageerror: null,
    postMessage: (data: ToWorker) => (globalThis as unknown as Worker).onmessage!(new MessageEvent('message', { data })),
    terminate: () => undefined,
  };
  vi.stubGlobal('fetch', async () => engine());
  vi.stubGlobal('addEventListener', (type: string, listener: typeof onError) => type === 'error' && (onError = listener));
  vi.stubGlobal('postMessage', (data: FromWorker) => {
    said.push(data);
    worker.onmessage?.(new MessageEvent('message', { data }));
  });
  vi.resetModules();
  await import('../src/worker.js');
  const link = new WorkerLink(worker);
  await link.run({ type: 'start', device: 'cpu', wasmUrl: 'http://localhost/tabreel_bg.wasm', adapter } as never, options);
  return { link, said, fail: (error) => onError({ error }) };
}

const small = (): Response => new Response(new Uint8Array(10), { headers: { 'content-type': 'application/wasm', 'content-length': '10' } });

beforeEach(() => void (generating = async () => ({})));
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

test.each([
  ['its length', { 'content-length': '7' }, 7],
  ['no length', {}, 0],
  ['the length of what was compressed', { 'content-length': '5', 'content-encoding': 'gzip' }, 0],
])('the engine of which the server tells %s is counted, and its last word says that it is whole', async (_, headers, total) => {
  const chunks = [new Uint8Array(4), new Uint8Array(3)];
  const body = (): ReadableStream => new ReadableStream({ pull: (c) => (chunks.length > 0 ? c.enqueue(chunks.shift()) : c.close()) });
  const { said } = await startWorker(() => new Response(body(), { headers: headers as Record<string, string> }));
  const counted = said.filter(({ type }) => type === 'engine-bytes');
  expect(counted).toEqual([
    { type: 'engine-bytes', loaded: 4, total },
    { type: 'engine-bytes', loaded: 7, total },
    { type: 'engine-bytes', loaded: 7, total: 7 },
  ]);
});

test('the trial of the kernels says between them that it lives', async () => {
  expect((await startWorker(small)).said.filter(({ type }) => type === 'beat')).toHaveLength(0);
  vi.spyOn(performance, 'now').mockReturnValue(5000); // one beat a second at most
  const { said } = await startWorker(small, { vendor: 'acme', architecture: 'one', description: '', isFallback: false });
  expect(said.filter(({ type }) => type === 'beat')).toHaveLength(1);
});

const traps: [string, Error, string, string][] = [
  ['unreachable', new WebAssembly.RuntimeError('unreachable'), 'internal', 'the engine stopped: unreachable'],
  ['an access out of bounds', new WebAssembly.RuntimeError('memory access out of bounds'), 'internal', 'out of bounds'],
  ['a stack that is full', new RangeError('Maximum call stack size exceeded'), 'internal', 'call stack'],
  ['the same in Firefox', new Error('too much recursion'), 'internal', 'recursion'],
  ['an array that could not be had', new RangeError('Array buffer allocation failed'), 'out-of-memory', 'allocation failed'],
];

test.each(traps)('%s while a clip is made ends the promise and the worker', async (_, trap, code, words) => {
  const { link } = await startWorker(small);
  generating = () => Promise.reject(trap);
  expect(await caught(link.run(GENERATE, options))).toMatchObject({ code, message: expect.stringContaining(words) });
  expect(link.dead?.code).toBe(code);
  expect(await caught(link.run(GENERATE, options))).toBe(link.dead); // whoever asks again hears why
});

test.each(traps)('%s in a task of its own, which rejects nothing, does the same', async (_, trap, code, words) => {
  const { link, fail } = await startWorker(small);
  generating = () => new Promise(() => queueMicrotask(() => fail(trap)));
  expect(await caught(link.run(GENERATE, options))).toMatchObject({ code, message: expect.stringContaining(words) });
  expect(link.dead?.code).toBe(code);
});

test('a trap after memory could not be had is told as that', async () => {
  const { link } = await startWorker(small);
  generating = () => {
    (globalThis as { __tabreelNoMemory?: (bytes: number) => void }).__tabreelNoMemory!(52e9);
    return Promise.reject(new WebAssembly.RuntimeError('unreachable'));
  };
  expect(await caught(link.run(GENERATE, options))).toMatchObject({
    code: 'out-of-memory',
    message: 'the engine stopped: out of memory: 52000.0 MB more could not be had',
  });
});

test("a refusal of the engine's own leaves the worker alive, and the next clip is made", async () => {
  const { link } = await startWorker(small);
  generating = () => Promise.reject({ code: 'invalid-options', message: 'numSteps must be 1 or more, got 0 steps' });
  expect(await caught(link.run(GENERATE, options))).toMatchObject({ code: 'invalid-options' });
  generating = async () => ({ numFrames: 1 });
  expect(await link.run(GENERATE, options)).toMatchObject({ numFrames: 1 });
});

test('each clip of a batch is told when it is made, with its memory, whatever comes of the next', async () => {
  const { link } = await startWorker(small);
  const told: unknown[] = [];
  const batch = { type: 'batch', clips: [{ prompt: 'a ball' }, { prompt: 'a cube' }] } as never;
  generating = () => Promise.reject({ code: 'out-of-memory', message: 'no room' });
  const error = await caught(link.run(batch, { ...options, onEvent: (event) => void told.push(event) }));
  expect(error).toMatchObject({ code: 'out-of-memory', message: 'no room' });
  const memory = { wasmBytes: 3, gpuBytes: 0, gpuPeakBytes: 0, gpuPlannedBytes: 5 };
  expect(told).toEqual([
    { type: 'clips', first: 0, count: 1 },
    { type: 'made', clip: 0, result: { seed: 7, plannedBytes: 5, memory } },
  ]);
  generating = async () => undefined;
  await expect(link.run(batch, options)).resolves.toBeUndefined();
});
