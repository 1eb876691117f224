import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { TabreelError } from '../src/errors.js';
import { Tabreel, type LoadOptions } from '../src/generator.js';
import { givenParts } from '../src/inputs.js';
import type { EngineModel, FromWorker, ToWorker } from '../src/messages.js';
import { FakeWorker, imageData, type JobMessage } from './fakes.js';

const MEMORY = { wasmBytes: 9, gpuBytes: 0, gpuPeakBytes: 0, gpuPlannedBytes: 0 };
const INFO = { device: 'cpu', wasmMemoryBytes: 0 };
const MODEL: EngineModel = {
  name: 'tiny',
  widthMultiple: 16,
  heightMultiple: 16,
  frameMultiple: 4,
  maxTokens: 64,
  capabilities: {
    text: true,
    classes: 0,
    pictureOnly: false,
    image: true,
    lastImage: false,
    needsLastImage: false,
    keyframes: false,
    mask: false,
    control: false,
    reference: false,
    source: true,
    why: 'it takes text and a first frame only',
  },
  labels: [],
  defaults: { numSteps: 3, fps: 8 },
};
const files = { 'model_index.json': new Blob(['{}']), 'transformer/w.gguf': new Blob(['12345']) };

type Behaviour = (job: JobMessage, worker: FakeWorker) => void;

/** A worker that does everything right, as quickly as it can. */
const healthy: Behaviour = (job, worker) => {
  const done = (result: unknown): void => worker.say({ type: 'done', id: job.id, result });
  const event = (event: Extract<FromWorker, { type: 'event' }>['event']): void => worker.say({ type: 'event', id: job.id, event });
  const fetching = (id: number, loaded: number): void => {
    const file = { what: 'transformer/w.gguf', fileLoaded: loaded - 2, fileTotal: 5, fromDevice: true };
    worker.say({ type: 'fetching', id, progress: { loaded, total: 7, ...file } });
  };
  switch (job.type) {
    case 'start':
      worker.say({ type: 'alive' });
      worker.say({ type: 'engine-bytes', loaded: 5, total: 10 });
      return done({ ...INFO, device: job.device });
    case 'load':
      fetching(job.id, 2);
      fetching(job.id, 7);
      event({ type: 'loading', loaded: 1, total: 2, what: 'vae' });
      return done(MODEL);
    case 'generate': {
      const { width, height, numFrames, fps, numSteps, seed } = job.options;
      const rgba = (): Uint8Array<ArrayBuffer> => new Uint8Array(width * height * 4);
      event({ type: 'stage', stage: 'denoise' });
      for (let step = 1; step <= numSteps; step++) {
        event({ type: 'step', step, numSteps, seconds: 0.5 });
        if (job.options.preview) event({ type: 'preview', step, width, height, rgba: rgba() });
      }
      event({ type: 'warning', message: 'the prompt is too long: 64 of its 90 tokens were kept' });
      for (let index = 0; index < numFrames; index++) event({ type: 'frame', index, width, height, rgba: rgba() });
      return done({
        seed,
        numFrames,
        width,
        height,
        fps,
        tokens: { kept: 64, total: 90 },
        timings: { total: 1.5 },
        device: 'CPU',
        memory: MEMORY,
      });
    }
    default:
      return undefined;
  }
};

let workers: FakeWorker[];
beforeEach(() => {
  workers = [];
  vi.stubGlobal('navigator', {});
  vi.stubGlobal('isSecureContext', true);
});
afterEach(() => vi.unstubAllGlobals());

function load(behave: Behaviour = healthy, options: Partial<LoadOptions> = {}): Promise<Tabreel> {
  const createWorker = (): FakeWorker => {
    const worker = new FakeWorker(behave);
    workers.push(worker);
    return worker;
  };
  return Tabreel.load({ model: { files }, createWorker, ...options });
}

const realGpu = (): void => {
  const adapter = { features: new Set(['shader-f16']), limits: {}, info: { vendor: 'apple', architecture: 'metal-3' } };
  vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => adapter } });
};

const caught = (promise: Promise<unknown>): Promise<TabreelError> =>
  promise.then(
    () => Promise.reject(new Error('no')),
    (e) => e,
  );
const clipOptions = { prompt: 'a red ball', width: 16, height: 32, numFrames: 5, seed: 7 };

test('load starts a worker, hands over what the folder is, builds, and tells how far it is', async () => {
  const phases: string[] = [];
  const tabreel = await load(healthy, { onProgress: ({ phase, loaded, total }) => phases.push(`${phase} ${loaded}/${total}`) });
  expect(workers[0]!.received.map(({ type }) => type)).toEqual(['start', 'load']);
  const { folder } = workers[0]!.received[1] as Extract<ToWorker, { type: 'load' }>;
  expect(folder).toEqual({ kind: 'local', files });
  expect(phases).toEqual(['engine 5/10', 'download 2/7', 'download 7/7', 'build 1/2']);
  expect(tabreel).toMatchObject({ device: 'cpu', alive: true, adapter: undefined });
  expect(tabreel.deviceReason).toContain('no WebGPU');
  expect(tabreel.model).toMatchObject({ name: 'tiny', widthMultiple: 16, maxTokens: 64, bytes: 7, defaults: { numSteps: 3, fps: 8 } });
});

test('auto takes a real GPU and knows its name', async () => {
  realGpu();
  const tabreel = await load();
  expect(tabreel).toMatchObject({ device: 'gpu', adapter: 'apple metal-3' });
});

test('auto takes the CPU when the GPU does not start, and says why', async () => {
  realGpu();
  const tabreel = await load((job, worker) => {
    if (job.type !== 'start' || job.device === 'cpu') return healthy(job, worker);
    return worker.say({ type: 'dead', error: { code: 'internal', message: 'the engine stopped: bad shader' } });
  });
  expect(tabreel.device).toBe('cpu');
  expect(tabreel.deviceReason).toBe('The GPU did not start (the engine stopped: bad shader), so clips are made on the CPU.');
  expect(workers.map(({ terminated }) => terminated)).toEqual([true, false]);
});

test.each(['device-lost', 'out-of-memory', 'internal', 'unsupported-device'] as const)(
  'auto takes the CPU when the model cannot be built on the GPU (%s), and says why',
  async (code) => {
    realGpu();
    let device: string | undefined;
    const tabreel = await load((job, worker) => {
      if (job.type === 'start') device = job.device;
      if (job.type !== 'load' || device === 'cpu') return healthy(job, worker);
      return worker.say({ type: 'dead', error: { code, message: 'buffer too large' } });
    });
    expect(tabreel.device).toBe('cpu');
    expect(tabreel.deviceReason).toBe('The GPU could not take the model (buffer too large), so clips are made on the CPU.');
    expect(workers.map(({ terminated }) => terminated)).toEqual([true, false]);
  },
);

test('a model that has room on neither device is refused with what both said', async () => {
  realGpu();
  const refused =
    (message: string): Behaviour =>
    (job, worker) =>
      worker.say({ type: 'failed', id: job.id, error: { code: 'out-of-memory', message } });
  let device = '';
  const error = await caught(
    load((job, worker) => {
      if (job.type === 'start') device = job.device;
      return (job.type === 'load' ? refused(`no room on the ${device}`) : healthy)(job, worker);
    }),
  );
  expect(error).toMatchObject({ code: 'out-of-memory', device: 'cpu', message: 'no room on the cpu; before that, no room on the gpu' });
  expect(workers.map(({ terminated }) => terminated)).toEqual([true, true]);
});

test('a GPU that was asked for is not replaced, and the error says that it was the GPU', async () => {
  realGpu();
  const lost: Behaviour = (job, worker) =>
    job.type === 'load' ? worker.say({ type: 'dead', error: { code: 'device-lost', message: 'gone' } }) : healthy(job, worker);
  expect(await caught(load(lost, { device: 'gpu' }))).toMatchObject({ code: 'device-lost', device: 'gpu' });
  expect(workers).toHaveLength(1);
});

test('bad weights are no fault of the GPU', async () => {
  realGpu();
  const bad: Behaviour = (job, worker) =>
    job.type === 'load' ? worker.say({ type: 'failed', id: job.id, error: { code: 'weights', message: 'torn' } }) : healthy(job, worker);
  expect(await caught(load(bad))).toMatchObject({ code: 'weights' });
  expect(workers).toHaveLength(1);
});

test('an engine that cannot be fetched is no fault of the GPU', async () => {
  realGpu();
  const cut: Behaviour = (job, worker) =>
    worker.say({ type: 'failed', id: job.id, error: { code: 'fetch', message: 'the download broke off' } });
  expect(await caught(load(cut))).toMatchObject({ code: 'fetch', message: 'the download broke off' });
  expect(workers).toHaveLength(1);
});

test('asking for the GPU where there is none is refused in words, and never becomes the CPU', async () => {
  expect(await caught(load(healthy, { device: 'gpu' }))).toMatchObject({
    code: 'unsupported-device',
    message: 'this browser has no WebGPU, so the GPU cannot be used',
  });
  expect(workers).toEqual([]);
});

test('a device that is none is refused', async () => {
  expect((await caught(load(healthy, { device: 'tpu' as never }))).message).toBe('device must be auto, gpu or cpu, got tpu');
});

test('a refusal while building keeps its code and ends the worker', async () => {
  const error = await caught(
    load((job, worker) => {
      if (job.type !== 'load') return healthy(job, worker);
      return worker.say({ type: 'failed', id: job.id, error: { code: 'weights', message: 'w must be [4], got [5]' } });
    }),
  );
  expect(error).toMatchObject({ code: 'weights', message: 'w must be [4], got [5]' });
  expect(workers[0]!.terminated).toBe(true);
});

test('a GPU that hangs while starting is given up in the end', async () => {
  realGpu();
  vi.useFakeTimers();
  const error = caught(load(() => undefined, { device: 'gpu' }));
  await vi.advanceTimersByTimeAsync(91_000);
  expect(await error).toMatchObject({ code: 'unsupported-device', message: 'the GPU did not answer within 90 s' });
  vi.useRealTimers();
});

test('an engine whose download stalls is no fault of the GPU', async () => {
  realGpu();
  vi.useFakeTimers();
  const error = caught(load((_, worker) => worker.say({ type: 'engine-bytes', loaded: 1, total: 2 })));
  await vi.advanceTimersByTimeAsync(181_000);
  expect(await error).toMatchObject({ code: 'fetch', message: "the engine's download stalled: nothing of it came for 90 s" });
  expect(workers).toHaveLength(1);
  vi.useRealTimers();
});

test('a GPU that hangs once the engine is there is one that hangs', async () => {
  realGpu();
  vi.useFakeTimers();
  const error = caught(load((_, worker) => worker.say({ type: 'engine-bytes', loaded: 2, total: 2 }), { device: 'gpu' }));
  await vi.advanceTimersByTimeAsync(181_000);
  expect(await error).toMatchObject({ code: 'unsupported-device' });
  vi.useRealTimers();
});

test.each(['engine', 'download'] as const)("a listener that throws (%s) is the caller's, not the GPU's", async (at) => {
  realGpu();
  const onProgress = ({ phase }: { phase: string }): void => {
    if (phase === at) throw new Error('my bug');
  };
  expect(await caught(load(healthy, { onProgress }))).toMatchObject({ code: 'internal', message: 'a listener failed: my bug' });
  expect(workers).toHaveLength(1);
});

test('an abort while loading ends the worker', async () => {
  const controller = new AbortController();
  const error = await caught(
    load((job, worker) => (job.type === 'start' ? controller.abort() : healthy(job, worker)), { signal: controller.signal }),
  );
  expect(error.code).toBe('aborted');
  expect(workers[0]!.terminated).toBe(true);
});

test('generate gives the frames and everything about them', async () => {
  const tabreel = await load();
  const heard: string[] = [];
  const clip = await tabreel.generate({
    ...clipOptions,
    onStage: (stage) => heard.push(stage),
    onStep: ({ step, numSteps, seconds }) => heard.push(`${step}/${numSteps} ${seconds}`),
    onPreview: ({ step, width, height, data }) => heard.push(`preview ${step} ${width}x${height} ${data.length}`),
    onFrame: ({ index }) => heard.push(`frame ${index}`),
    onWarning: (message) => heard.push(message),
  });
  expect(heard).toEqual([
    'denoise',
    ...[1, 2, 3].flatMap((step) => [`${step}/3 0.5`, `preview ${step} 16x32 2048`]),
    'the prompt is too long: 64 of its 90 tokens were kept',
    ...[0, 1, 2, 3, 4].map((index) => `frame ${index}`),
  ]);
  expect(clip).toMatchObject({
    width: 16,
    height: 32,
    numFrames: 5,
    fps: 8,
    seed: 7,
    backend: 'cpu',
    timings: { total: 1.5 },
    memory: MEMORY,
  });
  expect(clip.tokens).toEqual({ kept: 64, total: 90 });
  expect(clip.warnings).toHaveLength(1);
  expect(clip.frames.map(({ data }) => data.length)).toEqual([2048, 2048, 2048, 2048, 2048]);
  expect(clip.options).toMatchObject({ prompt: 'a red ball', numSteps: 3, seed: 7 });
});

test('previews are only asked for when someone looks', async () => {
  const tabreel = await load();
  await tabreel.generate(clipOptions);
  const job = workers[0]!.received.at(-1);
  expect(job?.type === 'generate' && job.options.preview).toBe(false);
});

test('bad options never reach the worker', async () => {
  const tabreel = await load();
  expect(await caught(tabreel.generate({ ...clipOptions, numFrames: 80 }))).toMatchObject({ code: 'invalid-options' });
  expect(workers[0]!.received.some(({ type }) => type === 'generate')).toBe(false);
  await expect(tabreel.generate(clipOptions)).resolves.toBeDefined();
});

test('a second clip while one is made is refused; afterwards it is welcome', async () => {
  const tabreel = await load();
  const first = tabreel.generate(clipOptions);
  expect(await caught(tabreel.generate(clipOptions))).toMatchObject({
    code: 'invalid-options',
    message: 'already generating: wait for the clip, or stop it first',
  });
  await first;
  await expect(tabreel.generate(clipOptions)).resolves.toBeDefined();
});

test('after a panic the generator is dead and says so, and a new load makes a new worker', async () => {
  const panicking: Behaviour = (job, worker) =>
    job.type === 'generate'
      ? worker.say({ type: 'dead', error: { code: 'internal', message: 'the engine stopped: index out of bounds' } })
      : healthy(job, worker);
  const tabreel = await load(panicking);
  expect((await caught(tabreel.generate(clipOptions))).code).toBe('internal');
  expect(tabreel.alive).toBe(false);
  const again = await caught(tabreel.generate(clipOptions));
  expect(again.code).toBe('internal');
  expect(again.message).toContain('load the model again');
  const fresh = await load();
  expect(fresh.alive).toBe(true);
  expect(workers).toHaveLength(2);
});

test('frames that were promised and did not come are an error, not a shorter clip', async () => {
  const tabreel = await load((job, worker) => {
    if (job.type !== 'generate') return healthy(job, worker);
    const result = { seed: 7, numFrames: 5, width: 16, height: 32, fps: 8, tokens: { kept: 1, total: 1 }, timings: {}, device: 'CPU' };
    return worker.say({ type: 'done', id: job.id, result });
  });
  expect(await caught(tabreel.generate(clipOptions))).toMatchObject({
    code: 'internal',
    message: 'the engine announced 5 frames but sent 0',
  });
});

test('a given picture goes to the engine by transfer, and the clip knows of it', async () => {
  const tabreel = await load();
  const image = imageData(3, 2, [10, 20, 30, 255]);
  const clip = await tabreel.generate({ ...clipOptions, image });
  const job = workers[0]!.received.find(({ type }) => type === 'generate') as Extract<ToWorker, { type: 'generate' }>;
  expect(job.options).not.toHaveProperty('image');
  const rgba = new Uint8Array(image.data);
  expect(job.condition).toEqual({ pieces: [{ kind: 'frame', at: 0, picture: { width: 3, height: 2, rgba } }] });
  expect(workers[0]!.transferred).toHaveLength(1);
  expect(workers[0]!.transferred).not.toContain(image.data.buffer);
  expect(clip.given).toMatchObject({ image: true, lastImage: false, mask: false });
  expect(clip.recipe).toMatchObject({
    tabreel: 1,
    task: { name: 'generate' },
    model: { name: 'tiny', hash: expect.stringMatching(/^[0-9a-f]{64}$/) },
  });
  expect(clip.options).not.toHaveProperty('image');
});

test('without pictures no condition is sent', async () => {
  const tabreel = await load();
  const clip = await tabreel.generate(clipOptions);
  const job = workers[0]!.received.find(({ type }) => type === 'generate') as Extract<ToWorker, { type: 'generate' }>;
  expect(job.condition).toBeUndefined();
  expect(clip.given).toEqual(givenParts({}));
});

test('a picture that the model cannot take is refused before anything is sent', async () => {
  const why = 'it was trained on text alone';
  const tabreel = await load((job, worker) =>
    job.type === 'load'
      ? worker.say({ type: 'done', id: job.id, result: { ...MODEL, capabilities: { ...MODEL.capabilities, image: false, why } } })
      : healthy(job, worker),
  );
  expect(tabreel.model.capabilities).toMatchObject({ text: true, image: false });
  expect(await caught(tabreel.generate({ ...clipOptions, image: imageData(2, 2, [0, 0, 0, 255]) }))).toMatchObject({
    code: 'invalid-options',
    message: `this model takes no first frame: ${why}`,
  });
  expect(workers[0]!.received.some(({ type }) => type === 'generate')).toBe(false);
  await expect(tabreel.generate(clipOptions)).resolves.toBeDefined();
});

test('a picture that does not decode leaves the generator ready', async () => {
  vi.stubGlobal('OffscreenCanvas', class {});
  vi.stubGlobal('createImageBitmap', () => Promise.reject(new DOMException('no picture', 'InvalidStateError')));
  const tabreel = await load();
  const error = await caught(tabreel.generate({ ...clipOptions, image: new Blob(['words'], { type: 'text/plain' }) }));
  expect(error).toMatchObject({
    code: 'invalid-options',
    message: 'image must be a picture that this browser can decode (PNG, JPEG, WebP, …), got a file (text/plain, 5 bytes)',
  });
  await expect(tabreel.generate(clipOptions)).resolves.toBeDefined();
});

test('dispose ends the worker and the clip in the making', async () => {
  const tabreel = await load((job, worker) => (job.type === 'generate' ? undefined : healthy(job, worker)));
  const error = caught(tabreel.generate(clipOptions));
  tabreel.dispose();
  expect((await error).code).toBe('aborted');
  expect(workers[0]!.terminated).toBe(true);
});
