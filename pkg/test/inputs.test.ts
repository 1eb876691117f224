import { afterEach, expect, test, vi } from 'vitest';
import type { Capabilities } from '../src/contract.js';
import { checkPictures, readCondition, readPicture, type GivenPictures } from '../src/inputs.js';
import { imageData } from './fakes.js';

// Decoding itself is the browser's: tests/browser does it in Chromium.

const NOTHING: Capabilities = {
  text: true,
  image: false,
  lastImage: false,
  keyframes: false,
  mask: false,
  control: false,
  reference: false,
  source: false,
  why: 'it was trained on text alone',
};
const image = imageData(4, 2, [1, 2, 3, 255]);
const lastImage = imageData(2, 4, [9, 8, 7, 128]);

afterEach(() => vi.unstubAllGlobals());

test.each<[string, GivenPictures, Partial<Capabilities>]>([
  ['nothing', {}, {}],
  ['nothing, spelled out', { image: undefined, lastImage: undefined }, {}],
  ['a first frame', { image }, { image: true }],
  ['a file', { image: new Blob(['x']) }, { image: true }],
  ['both ends', { image, lastImage }, { image: true, lastImage: true }],
  ['the last frame alone, to a model that takes frames anywhere', { lastImage }, { keyframes: true }],
  ['a first frame, to a model that needs one', { image }, { image: true, text: false }],
])('%s is accepted', (_, given, can) => {
  expect(() => checkPictures(given, { ...NOTHING, ...can })).not.toThrow();
});

const KINDS = 'a Blob, ImageBitmap, ImageData, VideoFrame, image element or canvas';

test.each<[object, Partial<Capabilities>, string]>([
  [{ image }, {}, 'this model takes no first frame: it was trained on text alone'],
  [{ lastImage }, {}, 'this model takes no last frame: it was trained on text alone'],
  [{ image, lastImage }, { image: true }, 'this model takes no last frame: it was trained on text alone'],
  [{ lastImage }, { image: true, lastImage: true }, 'this model takes a last frame only beside a first one, got the last alone'],
  [{}, { text: false }, 'this model needs a picture for the first frame: it was trained on text alone'],
  [{ image: 'cat.png' }, { image: true }, `image must be ${KINDS}, got the string "cat.png"`],
  [{ image: null }, { image: true }, `image must be ${KINDS}, got null`],
  [{ image: [1] }, { image: true }, `image must be ${KINDS}, got object (Array)`],
  [{ image, lastImage: new Uint8Array(4) }, { image: true, lastImage: true }, `lastImage must be ${KINDS}, got object (Uint8Array)`],
])('%o is refused', (given, can, message) => {
  expect(() => checkPictures(given, { ...NOTHING, ...can })).toThrow(expect.objectContaining({ code: 'invalid-options', message }));
});

test('the first frame stands at 0 and the last at −1, each at its own size', async () => {
  expect(await readCondition({})).toBeUndefined();
  expect(await readCondition({ image, lastImage })).toEqual({
    pieces: [
      { kind: 'frame', at: 0, picture: { width: 4, height: 2, rgba: new Uint8Array(image.data) } },
      { kind: 'frame', at: -1, picture: { width: 2, height: 4, rgba: new Uint8Array(lastImage.data) } },
    ],
  });
});

test('pixels in hand are copied, not decoded', async () => {
  const { data } = await readPicture(image);
  expect(data).toEqual(image.data);
  expect(data.buffer).not.toBe(image.data.buffer);
});

test('where pictures cannot be decoded, that is said', async () => {
  await expect(readPicture(new Blob(['x']))).rejects.toMatchObject({
    code: 'unsupported-device',
    message: expect.stringContaining('createImageBitmap'),
  });
});

test('what does not decode is named with its kind and size', async () => {
  vi.stubGlobal('OffscreenCanvas', class {});
  vi.stubGlobal('createImageBitmap', () => Promise.reject(new DOMException('no picture', 'InvalidStateError')));
  const rule = 'must be a picture that this browser can decode (PNG, JPEG, WebP, …), got';
  const file = new File(['words'], 'notes.txt', { type: 'text/plain' });
  await expect(readPicture(file, 'lastImage')).rejects.toMatchObject({ message: `lastImage ${rule} notes.txt (text/plain, 5 bytes)` });
  await expect(readPicture(new Blob([]))).rejects.toMatchObject({ message: `image ${rule} a file (of unknown type, 0 bytes)` });
  const canvas = { width: 0, height: 0, [Symbol.toStringTag]: 'OffscreenCanvas' } as unknown as OffscreenCanvas;
  await expect(readPicture(canvas)).rejects.toMatchObject({
    code: 'invalid-options',
    message: `image ${rule} an OffscreenCanvas of 0 × 0 px`,
  });
});
