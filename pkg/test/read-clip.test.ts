/** Which pictures of an animation are taken, and clips that are larger than there is room for; decoding itself is the browser's, and
 * tests/browser does it in Chromium. */
import { afterEach, expect, test, vi } from 'vitest';
import { readClip, seenAt } from '../src/read-clip.js';
import { imageData } from './fakes.js';

/** The times at which pictures go that are shown for so long each. */
function ends(...seconds: number[]): number[] {
  let until = 0;
  return seconds.map((one) => (until += one));
}

// crate/src/cli/clips.rs has the same cases.
test('an animation of another rate is resampled', () => {
  expect(seenAt(ends(0.1, 0.1, 0.1, 0.1), 20)).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
  expect(seenAt(ends(...Array<number>(8).fill(0.05)), 8)).toEqual([1, 3, 6]);
  expect(seenAt(ends(0.3, 0.1), 10)).toEqual([0, 0, 0, 1]);
});

test('one whose times are rounded to hundredths has every picture once', () => {
  // 17 at 16 a second, as `tabreel generate` writes them.
  const time = (frame: number): number => Math.round((frame * 100) / 16) / 100;
  const rounded = Array.from({ length: 17 }, (_, index) => time(index + 1));
  expect(seenAt(rounded, 16)).toEqual(rounded.map((_, index) => index));
  expect(seenAt(ends(0.06, 0.07, 0.06, 0.06, 0.06), 16)).toEqual([0, 1, 2, 3, 4]);
});

test('the last tick may lie behind the last picture', () => expect(seenAt(ends(0.1, 0.06), 10)).toEqual([0, 1]));

afterEach(() => vi.unstubAllGlobals());

const GIF = new File(['GIF89a'], 'a.gif', { type: 'image/gif' });

/** A browser whose animations have so many pictures of this size; `getImageData` gives their pixels. */
function animation(frameCount: number, width: number, height: number, getImageData = vi.fn(() => imageData(1, 1, [7, 8, 9, 255]))) {
  const decode = vi.fn(async () => ({ image: { displayWidth: width, displayHeight: height, duration: 50_000, close: vi.fn() } }));
  vi.stubGlobal(
    'ImageDecoder',
    class {
      tracks = { ready: Promise.resolve(), selectedTrack: { frameCount } };
      completed = Promise.resolve();
      decode = decode;
      close = (): void => undefined;
    },
  );
  vi.stubGlobal(
    'OffscreenCanvas',
    class {
      constructor(
        readonly width: number,
        readonly height: number,
      ) {}
      getContext(): object {
        return { canvas: this, clearRect: vi.fn(), drawImage: vi.fn(), getImageData };
      }
    },
  );
  return { decode, getImageData };
}

test('more pixels than there is room for are refused at the first frame', async () => {
  const { decode, getImageData } = animation(1000, 2048, 1024);
  await expect(readClip(GIF)).rejects.toMatchObject({
    code: 'invalid-options',
    message:
      'clip must have at most 4294967296 bytes of pixels, its 1000 frames of 2048 × 1024 px make them 8388608000: cut it or make it smaller',
  });
  expect([decode.mock.calls.length, getImageData.mock.calls.length]).toEqual([1, 0]);
  // Scaled down while they arrive they have room.
  expect((await readClip(GIF, { cover: { width: 256, height: 256 } })).frames).toHaveLength(1000);
});

test('of an animation that is taken as a picture the first one alone is decoded', async () => {
  const { decode } = animation(1000, 2048, 1024);
  const read = await readClip(GIF, { maxFrames: 1 });
  expect(decode).toHaveBeenCalledTimes(1);
  expect(read).toMatchObject({ fps: undefined, warnings: ['clip has 1000 frames; the first 1 are used'] });
  expect(read.frames).toHaveLength(1);
});

test('memory that runs out is told as such, and not as a file that does not decode', async () => {
  const full = vi.fn(() => {
    throw new RangeError("Failed to execute 'getImageData': Out of memory at ImageData creation");
  });
  animation(3, 64, 64, full as never);
  await expect(readClip(GIF, { name: 'source' })).rejects.toMatchObject({
    code: 'out-of-memory',
    message: expect.stringContaining('no room for the frames of source: '),
  });
});
