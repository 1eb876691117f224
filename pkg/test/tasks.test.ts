import { expect, test } from 'vitest';
import { Clip } from '../src/clip.js';
import type { GenerateOptions, ModelInfo } from '../src/generator.js';
import { givenParts } from '../src/inputs.js';
import { holdColours, planPasses } from '../src/passes.js';
import * as tasks from '../src/tasks.js';
import { clipOf, imageData } from './fakes.js';

const model = {
  widthMultiple: 16,
  heightMultiple: 16,
  frameMultiple: 4,
  defaults: { numFrames: 17, width: 16, height: 16, fps: 8 },
  card: { sizes: [{ width: 16, height: 16 }] },
} as unknown as ModelInfo;

/** Makes frames that say in red 100 plus their index in the pass, and in which pass they were made in green. */
function maker(): tasks.Maker & { passes: GenerateOptions[] } {
  const passes: GenerateOptions[] = [];
  const generate = async (options: GenerateOptions): Promise<Clip> => {
    passes.push(options);
    const { width = 16, height = 16, numFrames = 17, fps = 8, seed = 3, prompt } = options;
    const frames = clipOf(numFrames, { width, height }).frames.map(({ data, ...size }, i) => ({
      ...size,
      data: data.map((value, at) => (at % 4 === 0 ? 100 + i : value)),
    }));
    return new Clip({
      frames,
      width,
      height,
      fps,
      seed,
      timings: { total: 1 },
      tokens: { kept: 1, total: 1 },
      warnings: ['said'],
      backend: 'cpu',
      adapter: undefined,
      memory: { wasmBytes: 1, gpuBytes: 0, gpuPeakBytes: 0, gpuPlannedBytes: 0 },
      options: { prompt: prompt ?? '', seed, width, height, numFrames, fps, negativePrompt: '', numSteps: 1, guidanceScale: 1 },
      given: givenParts(options),
      task: { name: 'generate' },
      model: { name: 'tiny', hash: undefined },
    });
  };
  return { model, passes, generate };
}

const reds = ({ frames }: Pick<Clip, 'frames'>): number[] => frames.map(({ data }) => data[0]!);
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const firstRed = (clip: unknown): number => (clip as { data: Uint8ClampedArray }[])[0]!.data[0]!;
const count = (clip: unknown): number => (clip as unknown[]).length;
// Reds this far apart are no drift of colours: they stay as they are.
const prompt = 'a ball';

test('extend goes on after the last frame, in passes that each see the end of what is there', async () => {
  const host = maker();
  const seen: number[] = [];
  const clip = await tasks.extend(host, clipOf(6), { prompt, frames: 20, seed: 7, onFrame: ({ index }) => void seen.push(index) });
  expect(host.passes.map(({ numFrames, seed, clips }) => [numFrames, seed, clips![0]!.at, count(clips![0]!.clip)])).toEqual([
    [17, 7, 0, 5],
    [13, 8, 0, 5],
  ]);
  expect(clip.numFrames).toBe(26);
  expect(reds(clip).slice(0, 18)).toEqual([...range(0, 6), ...range(105, 117)]);
  expect(seen).toEqual(range(6, 26));
  expect(clip.task).toEqual({ name: 'extend', direction: 'forward', frames: 20, overlap: 5, window: 17 });
  expect([clip.warnings, clip.timings]).toEqual([['said'], { total: 2 }]);
});

test('extend backward makes what came before the first frame', async () => {
  const host = maker();
  const seen: number[] = [];
  const clip = await tasks.extend(host, clipOf(6), {
    prompt,
    frames: 14,
    direction: 'backward',
    onFrame: ({ index }) => void seen.push(index),
  });
  expect(host.passes.map(({ numFrames, clips }) => [numFrames, clips![0]!.at, count(clips![0]!.clip)])).toEqual([
    [17, 13, 4],
    [5, 1, 4],
  ]);
  expect(clip.numFrames).toBe(20);
  expect(reds(clip).slice(1)).toEqual([...range(100, 113), ...range(0, 6)]);
  expect(seen.sort((a, b) => a - b)).toEqual(range(0, 14));
});

test('a clip shorter than the overlap is seen whole', () => {
  expect(planPasses(1, 4, 5, 17, 4)).toEqual([{ length: 5, known: 1, fresh: 4 }]);
  expect(planPasses(1, 20, 5, 17, 4)).toEqual([
    { length: 17, known: 1, fresh: 16 },
    { length: 9, known: 5, fresh: 4 },
  ]);
});

test('ten times the trained length adds up', () => {
  const passes = planPasses(17, 170, 5, 17, 4);
  expect(passes.reduce((sum, { fresh }) => sum + fresh, 0)).toBe(170);
  expect(passes.every(({ length, known, fresh }) => length % 4 === 1 && known === 5 && fresh <= length - known)).toBe(true);
});

test.each([
  [{ frames: 0 }, 'frames must be a whole number from 1 to 100000, got 0'],
  [{ frames: 1e9 }, 'frames must be a whole number from 1 to 100000, got 1000000000'],
  [{ overlap: 17 }, 'overlap must be a whole number of frames from 1 to 16, below the window, got 17'],
  [{ window: 16 }, 'window must be 4n + 1 frames, got 16'],
  [{ direction: 'up' as 'forward' }, 'direction must be forward or backward, got the string "up"'],
])('extend refuses %o', async (options, message) => {
  const host = maker();
  await expect(tasks.extend(host, clipOf(6), { prompt, frames: 8, ...options })).rejects.toMatchObject({
    code: 'invalid-options',
    message,
  });
  expect(host.passes).toEqual([]);
});

test('loop leads from the end back to the beginning', async () => {
  const host = maker();
  const clip = await tasks.loop(host, clipOf(9), { prompt });
  const [{ numFrames, clips }] = host.passes as [GenerateOptions];
  expect([numFrames, ...clips!.map(({ at, clip }) => [at, count(clip)])]).toEqual([17, [0, 5], [13, 4]]);
  expect(firstRed(clips![0]!.clip)).toBe(4);
  expect(firstRed(clips![1]!.clip)).toBe(0);
  expect(reds(clip)).toEqual([...range(0, 9), ...range(105, 113)]);
});

test('connect puts frames between two clips, as many as the model can', async () => {
  const host = maker();
  const clip = await tasks.connect(host, clipOf(6), clipOf(3), { prompt, frames: 5 });
  // five frames of the first, and one of the second, which is shorter than a latent
  expect(reds(clip)).toEqual([...range(0, 6), ...range(105, 112), ...range(0, 3)]);
  expect(clip.warnings).toContain('7 frames were put between, not 5: the model takes 4n + 1');
});

test('edit starts from the clip, cut to a length that the model takes', async () => {
  const host = maker();
  const clip = await tasks.edit(host, clipOf(7), { prompt, strength: 0.4 });
  expect(host.passes[0]).toMatchObject({ numFrames: 5, strength: 0.4, fps: 8, width: 16 });
  expect(count(host.passes[0]!.source)).toBe(5);
  expect(clip.warnings[0]).toBe('the clip has 7 frames; the first 5 are used, a length that the model takes');
  expect(clip.task).toEqual({ name: 'edit', strength: 0.4 });
});

test('inpaint gives the clip and the mask, and takes a picture as a clip of one frame', async () => {
  const host = maker();
  const mask = imageData(2, 2, [255, 255, 255, 255]);
  await tasks.inpaint(host, imageData(16, 16, [1, 2, 3, 255]), { prompt, mask });
  expect(host.passes[0]).toMatchObject({ numFrames: 1, mask });
  await tasks.inpaint(host, clipOf(5), { prompt, mask });
  expect(host.passes[1]).toMatchObject({ numFrames: 5, mask });
});

test('outpaint has the room beside the clip made, and needs some', async () => {
  const host = maker();
  await tasks.outpaint(host, clipOf(5), { prompt, width: 32, height: 16 });
  expect(host.passes[0]).toMatchObject({ width: 32, height: 16, fit: 'contain', numFrames: 5 });
  await expect(tasks.outpaint(host, clipOf(5), { prompt, width: 32, height: 32 })).rejects.toMatchObject({
    message: "outpaint needs a frame of another shape than the clip's 16 × 16 px, got 32 × 32 px",
  });
});

test('upscale keeps to the steps of the model', async () => {
  const host = maker();
  const clip = await tasks.upscale(host, clipOf(5), { prompt, scale: 2.6 });
  expect(host.passes[0]).toMatchObject({ width: 48, height: 48, strength: 0.3 });
  expect(clip.task).toEqual({ name: 'upscale', scale: 2.6, strength: 0.3 });
  await expect(tasks.upscale(host, clipOf(5), { prompt, scale: 1 })).rejects.toMatchObject({
    message: 'scale must be above 1 up to 8, got 1',
  });
});

test('what is no clip is refused before anything is made', async () => {
  const host = maker();
  await expect(tasks.loop(host, 'x.mp4' as unknown as Blob, { prompt })).rejects.toMatchObject({
    message: 'clip must be a Blob, a Clip or an array of pictures, got the string "x.mp4"',
  });
  expect(host.passes).toEqual([]);
});

test('a small error of colour is held, another scene is left alone', () => {
  const frame = (grey: number): { width: number; height: number; data: Uint8ClampedArray<ArrayBuffer> } => ({
    width: 1,
    height: 1,
    data: Uint8ClampedArray.from([grey, grey, grey, 255]),
  });
  const [made, far] = [frame(110), frame(200)];
  holdColours([made], made, frame(100));
  holdColours([far], far, frame(100));
  expect([[...made.data], far.data[0]]).toEqual([[100, 100, 100, 255], 200]);
});
