import { expect, test } from 'vitest';
import type { Capabilities } from '../src/contract.js';
import { buffersOf, checkInputs, givenParts, readInputs, type ClipInputs } from '../src/inputs.js';
import { EVERYTHING, clipOf, imageData } from './fakes.js';

const NOTHING: Capabilities = {
  text: true,
  classes: 0,
  pictureOnly: false,
  image: false,
  lastImage: false,
  needsLastImage: false,
  keyframes: false,
  mask: false,
  control: false,
  reference: false,
  source: false,
  why: 'it was trained on text alone',
};
const image = imageData(4, 2, [1, 2, 3, 255]);
const lastImage = imageData(2, 4, [9, 8, 7, 128]);
const white = imageData(2, 2, [255, 255, 255, 255]);
const clip = clipOf(5);
const RECIPE = { width: 16, height: 16, numFrames: 9, fps: 8, numSteps: 12 };

test.each<[string, ClipInputs, Partial<Capabilities>]>([
  ['nothing', {}, {}],
  ['nothing, spelled out', { image: undefined, lastImage: undefined }, {}],
  ['a first frame', { image }, { image: true }],
  ['a file', { image: new Blob(['x']) }, { image: true }],
  ['both ends', { image, lastImage }, { image: true, lastImage: true }],
  ['the last frame alone, to a model that takes frames anywhere', { lastImage }, { keyframes: true }],
  ['a first frame, to a model that needs one', { image }, { image: true, text: false }],
  ['both ends, to a model that needs both', { image, lastImage }, { image: true, lastImage: true, needsLastImage: true, text: false }],
  ['a clip at frame 0, to a model that needs a first frame', { clips: [{ at: 0, clip }] }, { keyframes: true, text: false }],
  ['a keyframe at the last frame, counted from the end', { image, keyframes: [{ frame: -1, image }] }, EVERYTHING],
  ['a mask over a clip', { clips: [{ at: 0, clip }], mask: white }, EVERYTHING],
  ['a source with its strength', { source: [image, image], strength: 0.1 }, { source: true }],
])('%s is accepted', (_, given, can) => {
  expect(() => checkInputs(given, RECIPE, { ...NOTHING, ...can })).not.toThrow();
});

const KINDS = 'a Blob, ImageBitmap, ImageData, VideoFrame, image element, canvas or Frame';
const why = 'it was trained on text alone';

test.each<[object, Partial<Capabilities>, string]>([
  [{ image }, {}, `this model takes no first frame: ${why}`],
  [{ lastImage }, {}, `this model takes no last frame: ${why}`],
  [{ image, lastImage }, { image: true }, `this model takes no last frame: ${why}`],
  [{ lastImage }, { image: true, lastImage: true }, 'this model takes a last frame only beside a first one, got the last alone'],
  [{}, { text: false }, `this model needs a picture for the first frame: ${why}`],
  [{ image }, { image: true, lastImage: true, needsLastImage: true, text: false }, `this model needs a picture for the last frame: ${why}`],
  [{}, { text: false, classes: 10, pictureOnly: true }, 'this model makes single pictures: numFrames must be 1, got 9 frames'],
  [{ keyframes: [{ frame: 1, image }] }, { image: true }, `this model takes no keyframes: ${why}`],
  [{ clips: [{ at: 0, clip }] }, { image: true }, `this model takes no given clips: ${why}`],
  [{ control: image }, { image: true }, `this model takes no sketch or other control clip: ${why}`],
  [{ references: [image] }, {}, `this model takes no reference picture: ${why}`],
  [{ source: clip }, {}, `this model takes no source clip: ${why}`],
  [{ image, fit: 'contain' }, { image: true }, `this model takes no picture with room around it: ${why}`],
  [{ image: 'cat.png' }, EVERYTHING, `image must be ${KINDS}, got the string "cat.png"`],
  [{ image: null }, EVERYTHING, `image must be ${KINDS}, got null`],
  [{ image: [1] }, EVERYTHING, `image must be ${KINDS}, got object (Array)`],
  [{ image, lastImage: new Uint8Array(4) }, EVERYTHING, `lastImage must be ${KINDS}, got object (Uint8Array)`],
  [{ keyframes: [{ frame: 2 }] }, EVERYTHING, `keyframes[0].image must be ${KINDS}, got undefined (Undefined)`],
  [{ keyframes: image }, EVERYTHING, 'keyframes must be an array, got an ImageData of 4 × 2 px'],
  [{ clips: [{ at: 0, clip: [] }] }, EVERYTHING, 'clips[0].clip must be a Blob, a Clip or an array of pictures, got an array of 0'],
  [{ source: 'x.mp4' }, EVERYTHING, 'source must be a Blob, a Clip or an array of pictures, got the string "x.mp4"'],
  [{ image, keyframes: [{ frame: 0, image }] }, EVERYTHING, 'each frame can be given once; image and keyframes[0].frame both give frame 0'],
  [
    { lastImage, keyframes: [{ frame: 8, image }] },
    EVERYTHING,
    'each frame can be given once; lastImage and keyframes[0].frame both give frame 8',
  ],
  [{ keyframes: [{ frame: 9, image }] }, EVERYTHING, 'keyframes[0].frame must be a frame from 0 to 8 (or −1 for the last), got 9'],
  [{ keyframes: [{ frame: 1.5, image }] }, EVERYTHING, 'keyframes[0].frame must be a frame from 0 to 8 (or −1 for the last), got 1.5'],
  [{ clips: [{ at: -1, clip }] }, EVERYTHING, 'clips[0].at must be a frame from 0 to 8, got -1'],
  [{ mask: white }, EVERYTHING, 'a mask needs given frames to lie on, got none'],
  [{ strength: 0.5 }, EVERYTHING, 'strength is for a source clip, got none'],
  [{ source: clip, strength: 1.5 }, EVERYTHING, 'strength must be 0 to 1, got 1.5'],
  [{ source: clip, strength: 0.05 }, EVERYTHING, 'strength must keep at least one of 12 steps, got 0.05'],
  [{ source: clip, references: [image] }, EVERYTHING, 'a source clip and reference pictures do not go together'],
  [{ image, paste: 1 as never }, EVERYTHING, 'paste must be true or false, got 1'],
  [{ image, seam: 65 }, EVERYTHING, 'seam must be 0 to 64 px, got 65 px'],
  [{ image, controlScale: NaN }, EVERYTHING, 'controlScale must be 0 to 10, got NaN'],
  [{ image, fit: 'stretch' }, EVERYTHING, 'fit must be cover or contain, got the string "stretch"'],
])('%o is refused', (given, can, message) => {
  expect(() => checkInputs(given, RECIPE, { ...NOTHING, ...can })).toThrow(expect.objectContaining({ code: 'invalid-options', message }));
});

test('each part becomes a piece, with copies of its pixels', async () => {
  expect(await readInputs({}, RECIPE)).toEqual({ condition: undefined, warnings: [] });
  const { condition } = await readInputs(
    {
      image,
      lastImage,
      keyframes: [{ frame: 3, image }],
      clips: [{ at: 4, clip: [image, white] }],
      control: white,
      references: [image],
      fit: 'contain',
      seam: 0,
      paste: false,
    },
    RECIPE,
  );
  const picture = { width: 4, height: 2, rgba: new Uint8Array(image.data) };
  const blank = { width: 2, height: 2, rgba: new Uint8Array(white.data) };
  expect(condition).toEqual({
    seam: 0,
    paste: false,
    pieces: [
      { kind: 'frame', at: 0, picture, fit: 'contain' },
      { kind: 'frame', at: -1, picture: { width: 2, height: 4, rgba: new Uint8Array(lastImage.data) }, fit: 'contain' },
      { kind: 'frame', at: 3, picture, fit: 'contain' },
      { kind: 'clip', at: 4, frames: [picture, blank], fit: 'contain' },
      { kind: 'control', frames: [blank] },
      { kind: 'reference', picture },
    ],
  });
  expect(buffersOf(condition!)).toHaveLength(7);
  expect(buffersOf(condition!)).not.toContain(image.data.buffer);
});

test('a clip of another rate is resampled, one that is too long cut, and both are said', async () => {
  const { condition, warnings } = await readInputs({ clips: [{ at: 6, clip: clipOf(10, { fps: 16 }) }] }, RECIPE);
  expect(warnings).toEqual(['clips[0] has 16 frames per second and was resampled to 8', 'clips[0] has 5 frames; the first 3 are used']);
  const [piece] = condition!.pieces;
  expect(piece).toMatchObject({ kind: 'clip', at: 6 });
  // each second frame; `clipOf` numbers them in the red channel
  expect('frames' in piece! && piece.frames.map(({ rgba }) => rgba[0])).toEqual([0, 2, 4]);
});

test('a source must be as long as the clip', async () => {
  await expect(readInputs({ source: clip }, RECIPE)).rejects.toMatchObject({
    message: 'source must have as many frames as the clip, 9 at 8 per second, got 5',
  });
  const { condition } = await readInputs({ source: clipOf(9) }, RECIPE);
  expect(condition!.pieces[0]).toMatchObject({ kind: 'source', strength: 0.6 });
});

test.each([
  [[imageData(2, 2, [0, 0, 0, 255])], 'a mask must be white where something is to be made, got one that is black everywhere'],
  [[imageData(2, 2, [255, 255, 255, 0])], 'a mask must be white where something is to be made, got one that is black everywhere'],
  [[white], 'a mask must be black where something is kept, got one that is white everywhere'],
  [[white, white], 'a mask must have one frame or as many as the clip, 9, got 2'],
])('a mask that says nothing is refused', async (mask, message) => {
  await expect(readInputs({ image, mask }, RECIPE)).rejects.toMatchObject({ code: 'invalid-options', message });
});

test('what was given is counted', () => {
  expect(givenParts({ image, keyframes: [{ frame: 1, image }], references: [image, image] })).toEqual({
    image: true,
    lastImage: false,
    keyframes: 1,
    clips: 0,
    mask: false,
    control: false,
    references: 2,
    source: false,
  });
  expect(givenParts({ image, fit: 'contain' })).toMatchObject({ image: true, fit: 'contain' });
});
