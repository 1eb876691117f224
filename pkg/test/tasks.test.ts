import { describe, expect, test } from 'vitest';
import cases from '../../tests/fixtures/windows.json' with { type: 'json' };
import { Clip } from '../src/clip.js';
import type { Capabilities } from '../src/contract.js';
import type { Frame } from '../src/frame.js';
import { TabreelError } from '../src/errors.js';
import { Tabreel, type GenerateOptions, type ModelInfo } from '../src/generator.js';
import { checkInputs, givenParts } from '../src/inputs.js';
import * as tasks from '../src/tasks.js';
import { EVERYTHING, caught, clipOf, imageData } from './fakes.js';

const model = {
  widthMultiple: 16,
  heightMultiple: 16,
  frameMultiple: 4,
  capabilities: EVERYTHING,
  defaults: { numFrames: 17, width: 16, height: 16, fps: 8 },
  presets: { short: { numFrames: 9 } },
  card: { sizes: [{ width: 16, height: 16 }] },
} as unknown as ModelInfo;

/**
 * Makes frames that say in red 100 plus their index in the pass; known ones come back as they were given, only brighter by
 * `decoder`. What the model does not take is refused as `generate()` does.
 */
function maker(capabilities = EVERYTHING, decoder = 0): tasks.Maker & { passes: GenerateOptions[] } {
  const passes: GenerateOptions[] = [];
  const generate = async (options: GenerateOptions): Promise<Clip> => {
    const { width = 16, height = 16, numFrames = 17, fps = 8, seed = 3, prompt } = options;
    checkInputs(options, { numFrames, numSteps: 4 }, capabilities);
    passes.push(options);
    const known = new Map<number, Frame>();
    for (const { at, clip } of options.clips ?? []) (clip as Frame[]).forEach((frame, i) => known.set(at + i, frame));
    if (options.image !== undefined) known.set(0, options.image as Frame);
    if (options.lastImage !== undefined) known.set(numFrames - 1, options.lastImage as Frame);
    const frames = clipOf(numFrames, { width, height }).frames.map(({ data, ...size }, i) => ({
      ...size,
      data: (known.get(i)?.data ?? data.map((value, at) => (at % 4 === 0 ? 100 + i : value))).map((value, at) =>
        at % 4 === 3 ? value : value + decoder,
      ),
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
  return { model: { ...model, capabilities }, passes, generate };
}

const reds = ({ frames }: Pick<Clip, 'frames'>): number[] => frames.map(({ data }) => data[0]!);
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const firstRed = (clip: unknown): number => (clip as { data: Uint8ClampedArray }[])[0]!.data[0]!;
const count = (clip: unknown): number => (clip as unknown[]).length;
const prompt = 'a ball';

/** Pieces of the passes: where they lie, and how many frames they have. */
const places = ({ passes }: { passes: GenerateOptions[] }): unknown[] =>
  passes.map(({ numFrames, clips }) => [numFrames, ...clips!.map(({ at, clip }) => [at, count(clip)])]);

test('extend goes on after the last frame, in passes that each see the end of what is there', async () => {
  const host = maker();
  const shown: [number, number][] = [];
  const onFrame = ({ index, data }: Frame & { index: number }): void => void shown.push([index, data[0]!]);
  const onWarning = (): void => undefined;
  const seed = Number.MAX_SAFE_INTEGER - 1;
  const clip = await tasks.extend(host, clipOf(12), { prompt, frames: 10, seed, onFrame, onWarning });
  expect(places(host)).toEqual([
    [17, [0, 9]],
    [13, [0, 9]],
  ]);
  expect(host.passes.map(({ seed, paste, onWarning }) => [seed, paste, onWarning])).toEqual([
    [seed, false, onWarning],
    [seed + 1, false, undefined],
  ]);
  expect(firstRed(host.passes[1]!.clips![0]!.clip)).toBe(11);
  expect(reds(clip)).toEqual([...range(0, 12), ...range(109, 117), ...range(109, 111)]);
  expect(shown).toEqual(
    reds(clip)
      .map((red, index) => [index, red])
      .slice(12),
  );
  expect(clip.task).toEqual({ name: 'extend', direction: 'forward', frames: 10, overlap: 9, window: 17 });
  expect([clip.warnings, clip.timings]).toEqual([['said'], { total: 2 }]);
});

test('each pass is given the references, and how strongly what is known acts', async () => {
  const references = [imageData(4, 4, [1, 2, 3, 255])];
  const options = { prompt, references, controlScale: 0.5 };
  const host = maker();
  await tasks.extend(host, clipOf(12), { ...options, frames: 10 });
  await tasks.loop(host, clipOf(6), options);
  await tasks.connect(host, clipOf(6), clipOf(6), options);
  expect(host.passes.map(({ references, controlScale }) => [references, controlScale])).toEqual(Array(4).fill([references, 0.5]));
});

test('extend backward makes what came before the first frame', async () => {
  const host = maker();
  const shown: [number, number][] = [];
  const onFrame = ({ index, data }: Frame & { index: number }): void => void shown.push([index, data[0]!]);
  const clip = await tasks.extend(host, clipOf(8), { prompt, frames: 10, direction: 'backward', onFrame });
  expect(places(host)).toEqual([
    [17, [9, 8]],
    [9, [1, 8]],
  ]);
  expect(reds(clip)).toEqual([100, ...range(100, 109), ...range(0, 8)]);
  expect(shown.sort(([a], [b]) => a - b)).toEqual(
    reds(clip)
      .map((red, index) => [index, red])
      .slice(0, 10),
  );
});

test('what the decoder does to known frames is taken off the new ones, and given frames stay as they are', async () => {
  const [a, b] = [clipOf(12), clipOf(7)];
  const given = structuredClone([a, b]);
  const of = (make: (host: tasks.Maker) => Promise<Clip>): Promise<[Clip, Clip]> =>
    Promise.all([make(maker()), make(maker(EVERYTHING, 20))]);
  for (const [plain, brighter] of [
    await of((host) => tasks.extend(host, a, { prompt, frames: 20 })),
    await of((host) => tasks.extend(host, a, { prompt, frames: 20, direction: 'backward' })),
    await of((host) => tasks.loop(host, a, { prompt })),
    await of((host) => tasks.connect(host, a, b, { prompt })),
  ]) {
    expect(brighter.frames).toEqual(plain.frames);
  }
  expect([a, b]).toEqual(given);
});

test('a pass is as long as the model or the preset suggests, and adds what it can', async () => {
  const host = maker();
  await tasks.extend(host, clipOf(12), { prompt });
  await tasks.extend(host, clipOf(12), { prompt, preset: 'short' });
  await tasks.extend(host, clipOf(12), { prompt, window: 13 });
  await tasks.loop(host, clipOf(12), { prompt, preset: 'short' });
  expect(places(host)).toEqual([
    [17, [0, 9]],
    [9, [0, 5]],
    [13, [0, 5]],
    [9, [0, 1], [5, 4]],
  ]);
});

test('a clip that is longer than any pass is kept whole', async () => {
  const clip = await tasks.extend(maker(), clipOf(1100), { prompt, frames: 4 });
  expect([clip.numFrames, clip.warnings]).toEqual([1104, ['said']]);
});

test.each([
  [{ frames: 0 }, 'frames must be a whole number from 1 to 100000, got 0'],
  [{ frames: 1e9 }, 'frames must be a whole number from 1 to 100000, got 1000000000'],
  [{ overlap: 17 }, 'overlap must be a whole number of frames from 1 to 16, below the window, got 17'],
  [{ overlap: 17, frames: undefined }, 'overlap must be a whole number of frames from 1 to 16, below the window, got 17'],
  [{ window: 16 }, 'window must be 4n + 1 frames, got 16'],
  [{ window: 1 }, 'window must be 2 frames at least to go on from a clip, got 1'],
  [{ direction: 'up' as 'forward' }, 'direction must be forward or backward, got the string "up"'],
  [{ seam: 3 } as object, 'extend takes no seam: its passes have their own'],
  [{ fps: 0 }, 'fps must be 1 to 120 frames per second, got 0 frames per second'],
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
  const shown: [number, number][] = [];
  const onFrame = ({ index, data }: Frame & { index: number }): void => void shown.push([index, data[0]!]);
  const clip = await tasks.loop(host, clipOf(9), { prompt, onFrame });
  expect(places(host)).toEqual([[17, [0, 5], [13, 4]]]);
  expect(host.passes[0]!.clips!.map(({ clip }) => firstRed(clip))).toEqual([4, 0]);
  expect(reds(clip)).toEqual([...range(0, 9), ...range(105, 113)]);
  expect(shown).toEqual(
    reds(clip)
      .map((red, index) => [index, red])
      .slice(9),
  );
});

test('connect puts frames between two clips, as many as were asked for at least', async () => {
  const host = maker();
  const clip = await tasks.connect(host, clipOf(6), clipOf(7), { prompt, frames: 5 });
  expect(places(host)).toEqual([[17, [0, 5], [13, 4]]]);
  expect(reds(clip)).toEqual([...range(0, 6), ...range(105, 113), ...range(0, 7)]);
  expect(clip.warnings).toContain('8 frames were put between, not 5: the model takes 4n + 1');
  await tasks.connect(host, clipOf(6), clipOf(7), { prompt, frames: 4 });
  await tasks.connect(host, clipOf(1), clipOf(1), { prompt, frames: 3 });
  expect(places(host).slice(1)).toEqual([
    [13, [0, 5], [9, 4]],
    [5, [0, 1], [4, 1]],
  ]);
  await expect(tasks.connect(host, clipOf(6), clipOf(7), { prompt, frames: 0 })).rejects.toMatchObject({
    message: 'frames must be a whole number from 1, got 0',
  });
  const masked = { prompt, mask: imageData(2, 2, [0, 0, 0, 255]) } as tasks.BridgeOptions;
  await expect(tasks.loop(host, clipOf(6), masked)).rejects.toMatchObject({
    message: 'loop takes no mask: its passes have their own',
  });
});

describe('a model that takes single pictures', () => {
  const none = { ...EVERYTHING, keyframes: false, mask: false, control: false, reference: false };
  const first = { ...none, lastImage: false, why: 'it takes text and a first frame only' };
  const both = { ...none, why: 'it was trained with a first frame, and takes a last one beside it' };
  const ends = ({ passes }: { passes: GenerateOptions[] }): unknown[] =>
    passes.map(({ numFrames, clips, image, lastImage }) => [
      numFrames,
      clips,
      ...[image, lastImage].map((picture) => (picture as Frame | undefined)?.data[0]),
    ]);

  test('goes on from the last frame, and known colours are held', async () => {
    const host = maker(first, 20);
    const clip = await tasks.extend(host, clipOf(6), { prompt, frames: 20 });
    expect(ends(host)).toEqual([
      [17, undefined, 5, undefined],
      [5, undefined, 116, undefined],
    ]);
    expect(reds(clip)).toEqual([...range(0, 6), ...range(101, 117), ...range(101, 105)]);
    expect(clip.task).toMatchObject({ overlap: 1, window: 17 });
    await tasks.extend(host, clipOf(6), { prompt, overlap: 1 });
    expect(ends(host)[2]).toEqual([17, undefined, 5, undefined]);
  });

  test('leads from one clip to another where it takes a last frame', async () => {
    const host = maker(both, 20);
    const looped = await tasks.loop(host, clipOf(6), { prompt });
    expect(reds(looped)).toEqual([...range(0, 6), ...range(101, 116)]);
    const connected = await tasks.connect(host, clipOf(6), clipOf(7), { prompt, frames: 3 });
    expect(reds(connected)).toEqual([...range(0, 6), ...range(101, 104), ...range(0, 7)]);
    expect(ends(host)).toEqual([
      [17, undefined, 5, 0],
      [5, undefined, 5, 0],
    ]);
  });

  test.each<[string, (host: tasks.Maker) => Promise<Clip>, Capabilities, string]>([
    [
      'a longer overlap',
      (host) => tasks.extend(host, clipOf(6), { prompt, overlap: 5 }),
      first,
      'overlap must be 1 frame with a model that takes no clips (it takes text and a first frame only), got 5',
    ],
    [
      'an extension backward without a last frame',
      (host) => tasks.extend(host, clipOf(6), { prompt, direction: 'backward' }),
      first,
      'this model takes no last frame: it takes text and a first frame only',
    ],
    [
      'an extension backward with it',
      (host) => tasks.extend(host, clipOf(6), { prompt, direction: 'backward' }),
      both,
      'this model takes a last frame only beside a first one, got the last alone',
    ],
    [
      'a loop without a last frame',
      (host) => tasks.loop(host, clipOf(6), { prompt }),
      first,
      'this model takes no last frame: it takes text and a first frame only',
    ],
    [
      'an extension from text alone',
      (host) => tasks.extend(host, clipOf(6), { prompt }),
      { ...first, image: false, why: 'it was trained on text alone' },
      'this model takes no first frame: it was trained on text alone',
    ],
  ])('refuses %s', async (_, make, capabilities, message) => {
    const host = maker(capabilities);
    await expect(make(host)).rejects.toMatchObject({ code: 'invalid-options', message });
    expect(host.passes).toEqual([]);
  });
});

test('loop without a clip makes it of the prompt, and leads back from there', async () => {
  const host = maker();
  const shown: [number, number][] = [];
  const passes: unknown[] = [];
  const clip = await tasks.loop(host, undefined, {
    prompt,
    seed: 5,
    numFrames: 9,
    onFrame: ({ index, data }) => void shown.push([index, data[0]!]),
    onPass: (pass) => void passes.push(pass),
    onWarning: () => undefined,
  });
  expect(host.passes.map(({ seed, numFrames, clips }) => [seed, numFrames, clips?.map(({ at, clip }) => [at, count(clip)])])).toEqual([
    [5, 9, undefined],
    [
      6,
      9,
      [
        [0, 1],
        [5, 4],
      ],
    ],
  ]);
  expect(host.passes.map(({ onWarning }) => onWarning !== undefined)).toEqual([true, false]);
  expect(passes).toEqual([
    { pass: 1, numPasses: 2 },
    { pass: 2, numPasses: 2 },
  ]);
  // From the last frame of the clip (108) to its first ones (100 …), four new ones between.
  expect(reds(clip)).toEqual([...range(100, 109), ...range(101, 105)]);
  expect(shown.map(([index]) => index).sort((a, b) => a - b)).toEqual(range(9, 13));
  expect(clip.task).toEqual({ name: 'loop', frames: 4, numFrames: 9 });
  expect([clip.seed, clip.given, clip.options.numFrames]).toEqual([5, givenParts({}), 9]);
  const longer = await tasks.loop(maker(), undefined, { prompt, numFrames: 9, frames: 8 });
  expect(longer.task).toMatchObject({ frames: 8, numFrames: 9 });
});

test('a loop that cannot be closed is refused before its clip is made', async () => {
  const first = { ...EVERYTHING, keyframes: false, lastImage: false, why: 'it takes text and a first frame only' };
  for (const [capabilities, options, message] of [
    [first, {}, 'this model takes no last frame: it takes text and a first frame only'],
    [EVERYTHING, { numFrames: 1 }, 'a pass needs 3 frames at least, two to stand and one to make, got 1'],
    [EVERYTHING, { frames: 0 }, 'frames must be a whole number from 1, got 0'],
    [{ ...EVERYTHING, text: false, why: 'it needs a picture' }, {}, 'this model needs a picture for the first frame: it needs a picture'],
  ] as const) {
    const host = maker(capabilities);
    await expect(tasks.loop(host, undefined, { prompt, ...options })).rejects.toMatchObject({ code: 'invalid-options', message });
    expect(host.passes).toEqual([]);
  }
  await expect(tasks.loop(maker(), clipOf(6), { prompt, numFrames: 9 })).rejects.toMatchObject({
    message: 'numFrames is for a loop without a clip (frames says how many to put between), got 9',
  });
});

// crate/src/tasks/tests.rs reads the same cases.
test.each(cases.can)('a model that takes $name is asked for that', async ({ can, name: _, ...wanted }) => {
  const host = maker({ ...EVERYTHING, ...can, mask: false, control: false, reference: false });
  const image = imageData(16, 16, [1, 2, 3, 255]);
  const works = (made: Promise<Clip>): Promise<boolean> =>
    made.then(
      () => true,
      ({ code }) => (expect(code).toBe('invalid-options'), false),
    );
  expect({
    first: await works(host.generate({ prompt, image })),
    ends: await works(host.generate({ prompt, image, lastImage: image })),
    forward: await works(tasks.extend(host, clipOf(17), { prompt, frames: 8 })),
    backward: await works(tasks.extend(host, clipOf(17), { prompt, frames: 8, direction: 'backward' })),
    bridge: await works(tasks.loop(host, clipOf(17), { prompt })),
  }).toEqual(wanted);
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
  const anew = await tasks.inpaint(host, clipOf(5), { prompt, mask, strength: 1 });
  expect(host.passes[1]).toMatchObject({ numFrames: 5, mask });
  expect(host.passes[1]).not.toHaveProperty('source');
  expect(anew.task).toEqual({ name: 'inpaint' });
});

test('inpaint with a strength starts from what stands in the region', async () => {
  const host = maker();
  const mask = imageData(2, 2, [255, 255, 255, 255]);
  const clip = await tasks.inpaint(host, clipOf(7), { prompt, mask, strength: 0.5 });
  const [{ source, clips, strength }] = host.passes as [GenerateOptions];
  expect([count(source), count(clips![0]!.clip), strength]).toEqual([5, 5, 0.5]);
  expect(clip.task).toEqual({ name: 'inpaint', strength: 0.5 });
  await expect(tasks.inpaint(host, clipOf(5), { prompt, mask, strength: 2 })).rejects.toMatchObject({
    message: 'strength must be 0 to 1, got 2',
  });
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

test('what a listener throws between two passes, and options that are none, reject in the package’s own words', async () => {
  const host = maker() as unknown as Tabreel;
  const fails = (): never => {
    throw new Error('my bug');
  };
  for (const listeners of [{ onPass: fails }, { onFrame: fails }]) {
    const error = await caught(Tabreel.prototype.extend.call(host, clipOf(12), { prompt, frames: 4, ...listeners }));
    expect(error).toBeInstanceOf(TabreelError);
    expect(error).toMatchObject({ code: 'internal', message: 'my bug' });
  }
  const none = await caught(Tabreel.prototype.loop.call(host, clipOf(6), undefined as never));
  expect(none).toMatchObject({ code: 'invalid-options', message: 'options must be an object with a prompt, got undefined' });
});

test('what is no clip is refused before anything is made', async () => {
  const host = maker();
  await expect(tasks.loop(host, 'x.mp4' as unknown as Blob, { prompt })).rejects.toMatchObject({
    message: 'clip must be a Blob, a Clip or an array of pictures, got the string "x.mp4"',
  });
  expect(host.passes).toEqual([]);
});
