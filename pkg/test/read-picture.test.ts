import { afterEach, expect, test, vi } from 'vitest';
import { readClip } from '../src/read-clip.js';
import { readPicture } from '../src/read-picture.js';
import { readRecipe } from '../src/recipe.js';
import { sniff } from '../src/sniff.js';
import { describeModel } from '../src/source/index.js';
import { clipOf, imageData } from './fakes.js';

// Decoding itself is the browser's: tests/browser does it in Chromium.

afterEach(() => vi.unstubAllGlobals());

test.each([imageData(4, 2, [1, 2, 3, 255]), clipOf(1).frames[0]!])('pixels in hand are copied, not decoded', async (picture) => {
  const { data } = await readPicture(picture);
  expect(data).toEqual(picture.data);
  expect(data.buffer).not.toBe(picture.data.buffer);
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

test.each([
  ['GIF89a', 'animation'],
  ['\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR', 'still'],
  ['\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x08acTL', 'animation'],
  ['RIFF\0\0\0\0WEBPVP8X\0\0\0\0ANIM', 'animation'],
  ['RIFF\0\0\0\0WEBPVP8 ', 'still'],
  ['\xff\xd8\xff\xe0', 'still'],
  ['\0\0\0\x18ftypisom', 'video'],
  ['\x1aE\xdf\xa3', 'video'],
])('a file is known by its first bytes: %j', (start, kind) => {
  const bytes = Uint8Array.from(start, (char) => char.charCodeAt(0));
  expect(sniff(bytes, 'application/octet-stream').kind).toBe(kind);
});

/** A file that is not there any more, or a folder: a browser says so when it is read. */
function goneFile(name: string): File {
  const file = new File([], name);
  const gone = (): Promise<never> => Promise.reject(new DOMException('not found', 'NotReadableError'));
  return Object.assign(file, { slice: () => Object.assign(new Blob(), { arrayBuffer: gone }), text: gone, arrayBuffer: gone });
}

test('a file that cannot be read is told as that, whatever it was given as', async () => {
  vi.stubGlobal('OffscreenCanvas', class {});
  vi.stubGlobal('createImageBitmap', () => Promise.reject(new DOMException('no picture', 'InvalidStateError')));
  const why = 'it was changed, moved or deleted since it was picked, or it is a folder';
  const rule = (name: string): object => ({
    code: 'invalid-options',
    message: `${name} must be a file that can be read, got clips (of unknown type, 0 bytes): ${why}`,
  });
  const file = goneFile('clips');
  await expect(readPicture(file, 'lastImage')).rejects.toMatchObject(rule('lastImage'));
  await expect(readClip(file, { name: 'source' })).rejects.toMatchObject(rule('source'));
  await expect(readRecipe(file)).rejects.toMatchObject(rule('a file with a recipe'));
  const files = { 'model_index.json': new Blob(['{}']), 'tabreel.json': file };
  await expect(describeModel({ files })).rejects.toMatchObject({
    code: 'fetch',
    message: expect.stringContaining('tabreel.json could not be read'),
  });
});
