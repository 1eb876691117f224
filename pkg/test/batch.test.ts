/** `Tabreel.generateBatch` around a worker that tells what each test says. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { BatchOptions } from '../src/batch.js';
import type { Clip } from '../src/clip.js';
import { Tabreel } from '../src/generator.js';
import { givenParts } from '../src/inputs.js';
import type { EngineEvent, EngineModel, ToWorker } from '../src/messages.js';
import { EVERYTHING, FakeWorker, caught, imageData, type JobMessage } from './fakes.js';

const MODEL: EngineModel = {
  name: 'tiny',
  widthMultiple: 16,
  heightMultiple: 16,
  frameMultiple: 4,
  maxTokens: 64,
  capabilities: EVERYTHING,
  labels: [],
  defaults: { numSteps: 2, fps: 8, width: 16, height: 16, numFrames: 1 },
};
const MEMORY = { wasmBytes: 9, gpuBytes: 0, gpuPeakBytes: 0, gpuPlannedBytes: 0 };
const CLIPS = [
  { prompt: 'a red ball', seed: 7 },
  { prompt: 'a blue cube', seed: 8, width: 32, numFrames: 5, negativePrompt: 'grey' },
];

type Batch = Extract<JobMessage, { type: 'batch' }>;
type Behaviour = (job: Batch, tell: (event: EngineEvent) => void, worker: FakeWorker) => void;

/** Both clips in one pass, as the engine tells it. */
const together: Behaviour = (job, tell, worker) => {
  for (const first of [0, 1]) tell({ type: 'clips', first, count: 1 });
  for (const first of [0, 1]) {
    tell({ type: 'clips', first, count: 1 });
    tell({ type: 'stage', stage: 'tokenize' });
    if (first === 1) tell({ type: 'warning', message: 'the prompt is too long' });
  }
  tell({ type: 'clips', first: 0, count: 2 });
  tell({ type: 'stage', stage: 'denoise' });
  for (const step of [1, 2]) tell({ type: 'step', step, numSteps: 2, seconds: 0.5 });
  job.clips.forEach((_, first) => {
    tell({ type: 'clips', first, count: 1 });
    tell({ type: 'stage', stage: 'decode' });
    makeOne(job, tell, first);
  });
  worker.say({ type: 'done', id: job.id, result: undefined });
};

/** The frames of a clip, whose first byte is its place, and its end. */
function makeOne({ clips }: Batch, tell: (event: EngineEvent) => void, clip: number): void {
  const { seed, numFrames, width, height, fps } = clips[clip]!;
  for (let index = 0; index < numFrames; index++) {
    tell({ type: 'frame', index, width, height, rgba: new Uint8Array(width * height * 4).fill(clip, 0, 1) });
  }
  const about = { seed, numFrames, width, height, fps, tokens: { kept: 3, total: 3 }, timings: { total: 1 }, device: 'CPU' };
  tell({ type: 'made', clip, result: { ...about, memory: MEMORY } });
}

let worker: FakeWorker;
beforeEach(() => {
  vi.stubGlobal('navigator', {});
  vi.stubGlobal('isSecureContext', true);
});
afterEach(() => vi.unstubAllGlobals());

function load(behave: Behaviour = together, model: Partial<EngineModel> = {}): Promise<Tabreel> {
  worker = new FakeWorker((job, worker) => {
    if (job.type === 'start') worker.say({ type: 'done', id: job.id, result: { device: job.device, wasmMemoryBytes: 0 } });
    if (job.type === 'load') worker.say({ type: 'done', id: job.id, result: { ...MODEL, ...model } });
    if (job.type === 'abort') worker.say({ type: 'failed', id: job.id, error: { code: 'aborted', message: 'cancelled' } });
    if (job.type === 'batch') behave(job, (event) => worker.say({ type: 'event', id: job.id, event }), worker);
  });
  return Tabreel.load({ model: { files: { 'model_index.json': new Blob(['{}']) } }, createWorker: () => worker });
}

const sent = (): ToWorker | undefined => worker.received.find(({ type }) => type === 'batch');

test('the clips come in order, each with what was told of it', async () => {
  const tabreel = await load();
  const heard: string[] = [];
  const clips = await tabreel.generateBatch(CLIPS, {
    onStage: (stage, of) => heard.push(`${stage} ${of.join()}`),
    onStep: ({ step, numSteps, seconds }, of) => heard.push(`${step}/${numSteps} ${seconds} ${of.join()}`),
    onFrame: ({ index, width, data }, of) => heard.push(`frame ${index} ${width} ${data[0]} ${of}`),
    onWarning: (message, of) => heard.push(`${message} ${of.join()}`),
    onClip: (made, of) => heard.push(`clip ${made.numFrames} ${of}`),
  });
  expect(heard).toEqual([
    'tokenize 0',
    'tokenize 1',
    'the prompt is too long 1',
    'denoise 0,1',
    '1/2 0.5 0,1',
    '2/2 0.5 0,1',
    'decode 0',
    'frame 0 16 0 0',
    'clip 1 0',
    'decode 1',
    ...[0, 1, 2, 3, 4].map((index) => `frame ${index} 32 1 1`),
    'clip 5 1',
  ]);
  expect(clips.map(({ width, height, numFrames, seed, fps }) => [width, height, numFrames, seed, fps])).toEqual([
    [16, 16, 1, 7, 8],
    [32, 16, 5, 8, 8],
  ]);
  expect(clips.map(({ warnings }) => warnings)).toEqual([[], ['the prompt is too long']]);
  expect(clips[1]).toMatchObject({ memory: MEMORY, given: givenParts({}), task: { name: 'generate' } });
  expect(clips[1]!.options).toEqual((sent() as Batch).clips[1]);
  expect(clips[1]!.options).toMatchObject({ prompt: 'a blue cube', negativePrompt: 'grey', numSteps: 2 });
});

test('nobody need listen, and each clip has a seed of its own', async () => {
  const clips = await (await load()).generateBatch([{ prompt: 'a ball' }, { prompt: 'a ball' }]);
  expect(clips).toHaveLength(2);
  expect(clips[0]!.seed).not.toBe(clips[1]!.seed);
});

const ball = { prompt: 'a ball' };
test.each([
  [[ball, { prompt: 'a cube', numFrames: 80 }], 'clips[1]: numFrames must be 4n + 1 (1, 5, 9, …), got 80 frames'],
  [[ball, ball, { prompt: ' ' }], 'clips[2]: prompt must not be empty (a model of classes takes classLabel instead)'],
  [[{ ...ball, frames: 5 }], 'clips[0]: unknown option frames; did you mean numFrames?'],
  [[ball, null], 'clips[1]: options must be an object with a prompt, got null'],
  [[ball, { ...ball, image: imageData(2, 2, [0, 0, 0, 255]) }], 'clips[1]: a clip of a batch is made of text alone, got image'],
  [[{ ...ball, onStep: () => undefined }], 'clips[0]: onStep belongs beside the clips of a batch'],
  [[{ ...ball, onPreview: () => undefined }], 'clips[0]: a clip of a batch takes no onPreview'],
  [[], 'clips must be an array of the options of one clip or more, got none'],
  [ball, 'clips must be an array of the options of one clip or more, got object (Object)'],
])('what cannot be made is refused by its place, and nothing is sent (%#)', async (clips, message) => {
  const tabreel = await load();
  expect(await caught(tabreel.generateBatch(clips as never))).toMatchObject({ code: 'invalid-options', message });
  expect(sent()).toBeUndefined();
  await expect(tabreel.generateBatch(CLIPS)).resolves.toHaveLength(2);
});

test.each([
  [null, 'what a batch takes beside its clips must be an object, got null'],
  [{ onPreview: () => undefined }, 'a batch takes onStage, onStep, onFrame, onClip, onWarning, signal beside its clips, got onPreview'],
  [{ onClip: 7 }, 'onClip must be a function, got number 7'],
  [{ signal: 'stop' }, 'signal must be an AbortSignal, got the string "stop"'],
])('so is what is wrong beside them (%#)', async (options, message) => {
  const tabreel = await load();
  expect(await caught(tabreel.generateBatch(CLIPS, options as never))).toMatchObject({ code: 'invalid-options', message });
  expect(sent()).toBeUndefined();
});

test('a model that needs a picture makes no batch', async () => {
  const capabilities = { ...EVERYTHING, text: false, why: 'it was trained on pictures' };
  const tabreel = await load(together, { capabilities });
  const message = 'clips[0]: this model needs a picture for the first frame: it was trained on pictures';
  expect(await caught(tabreel.generateBatch(CLIPS))).toMatchObject({ code: 'invalid-options', message });
});

test.each([
  ['out-of-memory', 1, 1, 'clips[1]: no room'],
  ['invalid-options', 0, 2, 'clips[0] to clips[1]: no room'],
  ['device-lost', 1, 1, 'no room'],
] as const)("the engine's refusal (%s at %i) names the clips that it was at", async (code, first, count, message) => {
  const tabreel = await load((job, tell, worker) => {
    tell({ type: 'clips', first, count });
    worker.say({ type: 'failed', id: job.id, error: { code, message: 'no room' } });
  });
  expect(await caught(tabreel.generateBatch(CLIPS))).toMatchObject({ code, message, device: 'cpu' });
});

/** The first clip, and then nothing more. */
const firstAlone: Behaviour = (job, tell) => {
  tell({ type: 'clips', first: 0, count: 1 });
  makeOne(job, tell, 0);
};

test('an abort settles the promise, what was made is whole, and the next batch is made', async () => {
  let behave: Behaviour = firstAlone;
  const tabreel = await load((...all) => behave(...all));
  const stop = new AbortController();
  const made: Clip[] = [];
  const options: BatchOptions = { signal: stop.signal, onClip: (clip) => (made.push(clip), stop.abort()) };
  expect(await caught(tabreel.generateBatch(CLIPS, options))).toMatchObject({ code: 'aborted' });
  expect(made.map(({ frames }) => frames.length)).toEqual([1]);
  expect(tabreel.alive).toBe(true);
  behave = together;
  expect(await caught(tabreel.generateBatch(CLIPS, { signal: stop.signal }))).toMatchObject({ code: 'aborted' });
  await expect(tabreel.generateBatch(CLIPS)).resolves.toHaveLength(2);
});

test('one thing at a time; a disposed generator makes no batch', async () => {
  const tabreel = await load(firstAlone);
  const first = caught(tabreel.generateBatch(CLIPS));
  const busy = { code: 'invalid-options', message: 'already generating: wait for the clip, or stop it first' };
  expect(await caught(tabreel.generate(ball))).toMatchObject(busy);
  expect(await caught(tabreel.generateBatch(CLIPS))).toMatchObject(busy);
  tabreel.dispose();
  expect(await first).toMatchObject({ code: 'aborted' });
  expect((await caught(tabreel.generateBatch(CLIPS)))?.message).toContain('load the model again');
});

test("a listener that throws ends the batch with its own words, and not as a clip's", async () => {
  const tabreel = await load(firstAlone);
  const onFrame = (): void => {
    throw new Error('my bug');
  };
  expect(await caught(tabreel.generateBatch(CLIPS, { onFrame }))).toMatchObject({ code: 'internal', message: 'a listener failed: my bug' });
});

test('a clip or frames that did not come are an error', async () => {
  const missing = await load((job, tell, worker) => {
    firstAlone(job, tell, worker);
    worker.say({ type: 'done', id: job.id, result: undefined });
  });
  const without = { code: 'internal', message: 'clips[1]: the engine ended without it' };
  expect(await caught(missing.generateBatch(CLIPS))).toMatchObject(without);
  const short = await load((job, tell, worker) =>
    together(job, (event) => (event.type === 'frame' && event.index === 4 ? undefined : tell(event)), worker),
  );
  const few = { code: 'internal', message: 'clips[1]: the engine announced 5 frames but sent 4' };
  expect(await caught(short.generateBatch(CLIPS))).toMatchObject(few);
});
