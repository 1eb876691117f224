import { expect, test } from 'vitest';
import { Clip } from '../src/clip.js';
import type { Frame } from '../src/frame.js';
import type { ModelInfo } from '../src/generator.js';
import { givenParts, placesOf, readInputs, type ClipInputs } from '../src/inputs.js';
import { parseRecipe, type FullRecipe } from '../src/recipe.js';
import { recoverGiven } from '../src/recover.js';
import * as tasks from '../src/tasks.js';
import { EVERYTHING, clipOf, imageData } from './fakes.js';

const SIZE = { width: 16, height: 16, numFrames: 9, fps: 8 };
const model = {
  widthMultiple: 16,
  heightMultiple: 16,
  frameMultiple: 4,
  capabilities: EVERYTHING,
  defaults: SIZE,
  card: { sizes: [{ width: 16, height: 16 }] },
} as unknown as ModelInfo;
const picture = imageData(16, 16, [1, 2, 3, 255]);
const mask = imageData(2, 2, [255, 255, 255, 255]);

/** Frames whose red counts on from `red`; what is given says where it stands. */
async function generate(options: ClipInputs & { numFrames?: number | undefined }, red = 100): Promise<Clip> {
  const { numFrames = 9 } = options;
  const { condition } = await readInputs({ ...options, mask: undefined }, { ...SIZE, numFrames });
  const { frames } = clipOf(numFrames, SIZE);
  const shown = frames.map(({ data, ...size }, i) => ({ ...size, data: data.map((value, at) => (at % 4 === 0 ? red + i : value)) }));
  const settings = { prompt: 'a', seed: 1, ...SIZE, numFrames, negativePrompt: '', numSteps: 1, guidanceScale: 1 };
  const given = givenParts(options, placesOf(condition, numFrames));
  const parts = { ...SIZE, frames: shown, seed: 1, timings: {}, tokens: { kept: 1, total: 1 }, warnings: [], given, options: settings };
  const by = { backend: 'cpu' as const, adapter: undefined, memory: { wasmBytes: 1, gpuBytes: 0, gpuPeakBytes: 0, gpuPlannedBytes: 0 } };
  return new Clip({ ...parts, ...by, task: { name: 'generate' }, model: { name: 'tiny', hash: undefined } });
}

const maker: tasks.Maker = { model, generate };
const reds = (frames: readonly Frame[] | undefined): number[] | undefined => frames?.map(({ data }) => data[0]!);
/** What is found of a clip, as its saved file would tell it. */
function found(clip: Clip, frames = clip.frames): unknown {
  const recipe = parseRecipe(JSON.stringify(clip.recipe))!;
  const { clip: first, second, placed } = recoverGiven(recipe, frames);
  return [reds(first), reds(second), placed.map(({ at, frames }) => [at, reds(frames)])];
}

test('pictures and clips stand where they were given', async () => {
  const keyframes = [{ frame: 4, image: picture }];
  const clips = [{ at: 1, clip: clipOf(2, SIZE) }];
  const clip = await generate({ lastImage: picture, image: picture, keyframes, clips });
  expect(clip.given.places).toEqual([
    { at: 0, frames: 1 },
    { at: 8, frames: 1 },
    { at: 4, frames: 1 },
    { at: 1, frames: 2 },
  ]);
  const all = [
    [0, [100]],
    [8, [108]],
    [4, [104]],
    [1, [101, 102]],
  ];
  expect(found(clip)).toEqual([undefined, undefined, all]);
  expect(found(clip, clip.frames.slice(1)), 'of another length').toEqual([undefined, undefined, []]);
});

test('what was padded, or not pasted, cannot be told from what was made', async () => {
  for (const other of [{ fit: 'contain' }, { paste: false }] as const) {
    expect(found(await generate({ image: picture, ...other }))).toEqual([undefined, undefined, []]);
  }
  expect(found(await generate({ image: picture, fit: 'cover' }))).toEqual([undefined, undefined, [[0, [100]]]]);
});

test('what was said of how it acts stands in the recipe', async () => {
  const { given } = await generate({ image: picture, controlScale: 0.5, seam: 0, paste: true });
  expect(given).toMatchObject({ controlScale: 0.5, seam: 0, paste: true });
  expect(Object.keys(given)).not.toContain('strength');
});

test('older recipes tell of pictures at the ends alone', () => {
  const of = (given: object): unknown => {
    const recipe = {
      tabreel: 1,
      model: {},
      task: { name: 'generate' },
      options: { prompt: '', numFrames: 9 },
      given,
    } as unknown as FullRecipe;
    return recoverGiven(recipe, clipOf(9, SIZE).frames).placed.map(({ at }) => at);
  };
  expect(of({ image: true, lastImage: true, keyframes: 0, clips: 0 })).toEqual([0, 8]);
  expect(of({ image: true, lastImage: false, keyframes: 2, clips: 0 })).toEqual([]);
  expect(
    of({
      places: [
        { at: 8, frames: 2 },
        { at: -1, frames: 1 },
        { at: 0.5, frames: 1 },
        { at: 0, frames: 0 },
      ],
    }),
  ).toEqual([]);
});

test('a task’s clip is what it began with', async () => {
  const own = clipOf(12, SIZE);
  const prompt = 'a';
  const first = reds(own.frames)!;
  expect(found(await tasks.extend(maker, own, { prompt, frames: 10 }))).toEqual([first, undefined, []]);
  expect(found(await tasks.extend(maker, own, { prompt, frames: 10, direction: 'backward' }))).toEqual([first, undefined, []]);
  expect(found(await tasks.loop(maker, own, { prompt }))).toEqual([first, undefined, []]);
  expect(found(await tasks.loop(maker, undefined, { prompt })), 'the prompt made it').toEqual([undefined, undefined, []]);
  const second = { ...own, frames: [...own.frames].reverse().slice(0, 7) };
  expect(found(await tasks.connect(maker, own, second, { prompt }))).toEqual([first, reds(second.frames), []]);
  const inpainted = await tasks.inpaint(maker, clipOf(9, SIZE), { prompt, mask });
  expect(found(inpainted)).toEqual([reds(inpainted.frames), undefined, []]);
  const longer = await tasks.extend(maker, own, { prompt, frames: 10 });
  expect(longer.given, 'a pass has places of its own').not.toHaveProperty('places');
  expect(longer.given).not.toHaveProperty('paste');
  expect(found(longer, longer.frames.slice(0, 10)), 'shorter than what was added').toEqual([undefined, undefined, []]);
});

test('what stands in no frame is not found', async () => {
  const prompt = 'a';
  for (const clip of [
    await tasks.edit(maker, clipOf(9, SIZE), { prompt }),
    await tasks.upscale(maker, clipOf(9, SIZE), { prompt }),
    await tasks.outpaint(maker, clipOf(9, SIZE), { prompt, width: 32, height: 16 }),
    await tasks.inpaint(maker, clipOf(9, SIZE), { prompt, mask, paste: false } as tasks.InpaintOptions),
    await tasks.inpaint(maker, clipOf(9, SIZE), { prompt, mask, strength: 0.5 }),
    await generate({}),
  ]) {
    expect(found(clip), clip.task.name).toEqual([undefined, undefined, []]);
  }
});

test('the places of the command line’s pictures', () => {
  const line = { tabreel: '0.1.0', model: 'tiny', task: 'image-to-video', options: { prompt: 'a', seed: 3, numFrames: 9 } };
  const given = (flags: object): unknown => parseRecipe(JSON.stringify({ ...line, given: flags }))!.given;
  expect(given({ image: 'a.png', 'last-image': 'b.png', keyframe: ['4=c.png', '-2=d.png'], 'control-scale': 0.5 })).toMatchObject({
    keyframes: 2,
    controlScale: 0.5,
    places: [0, 8, 4, 7].map((at) => ({ at, frames: 1 })),
  });
  expect(given({ seam: 8, 'no-paste': true })).toMatchObject({ seam: 8, paste: false });
  expect(given({ image: 'a.png', clip: ['4=b.gif'] }), 'how long its clip is, it does not say').toMatchObject({ clips: 1, places: [] });
  expect(given({ image: 'a.png', 'compare-steps': [2, 4] }), 'several clips side by side').toMatchObject({ places: [] });
});
