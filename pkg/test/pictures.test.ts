import { describe, expect, test, vi } from 'vitest';
import { Clip } from '../src/clip.js';
import { givenParts } from '../src/inputs.js';
import { enlarge } from '../src/enlarge.js';
import { TabreelError } from '../src/errors.js';
import type { Frame } from '../src/frame.js';
import { sheetShape } from '../src/picture.js';
import { encodeVideo, toI420 } from '../src/video.js';

function solid(width: number, height: number, [r, g, b]: readonly [number, number, number]): Frame {
  const data = new Uint8ClampedArray(width * height * 4);
  for (let at = 0; at < data.length; at += 4) data.set([r, g, b, 255], at);
  return { width, height, data };
}

describe('RGB to BT.709', () => {
  // Y, Cb, Cr as ITU-R BT.709 gives them, 8 bits, limited range
  test.each([
    ['black', [0, 0, 0], [16, 128, 128]],
    ['white', [255, 255, 255], [235, 128, 128]],
    ['red', [255, 0, 0], [63, 102, 240]],
    ['green', [0, 255, 0], [173, 42, 26]],
    ['blue', [0, 0, 255], [32, 240, 118]],
  ] as const)('%s', (_, rgb, [y, cb, cr]) => {
    const planes = toI420(solid(4, 2, rgb));
    expect([...planes]).toEqual([...Array(8).fill(y), cb, cb, cr, cr]);
  });

  test('odd sizes grow by repeating the last row and column', () => {
    const planes = toI420(solid(3, 5, [255, 0, 0]));
    expect(planes.length).toBe((4 * 6 * 3) / 2);
    expect(new Set(planes)).toEqual(new Set([63, 102, 240]));
  });
});

describe('enlarging', () => {
  test('keeps a flat picture flat, to its edges', () => {
    const big = enlarge(solid(5, 3, [10, 200, 77]), 4);
    expect([big.width, big.height]).toEqual([20, 12]);
    for (let at = 0; at < big.data.length; at += 4) expect([...big.data.subarray(at, at + 4)]).toEqual([10, 200, 77, 255]);
  });

  test('keeps a ramp a ramp', () => {
    const ramp = solid(16, 4, [0, 0, 0]);
    for (let at = 0; at < ramp.data.length; at += 4) ramp.data[at] = ((at / 4) % 16) * 10;
    const big = enlarge(ramp, 3);
    for (let x = 12; x < 36; x++) expect(big.data[(6 * 48 + x) * 4]).toBeCloseTo(((x + 0.5) / 3 - 0.5) * 10, -0.5);
  });

  test('never overshoots at a hard edge', () => {
    const edge = solid(8, 8, [50, 50, 50]);
    for (let y = 0; y < 8; y++) for (let x = 4; x < 8; x++) edge.data.set([200, 200, 200], (y * 8 + x) * 4);
    const values = enlarge(edge, 5).data.filter((_, at) => at % 4 === 0);
    expect(Math.min(...values)).toBe(50);
    expect(Math.max(...values)).toBe(200);
  });

  test('is symmetric', () => {
    const frame = solid(6, 6, [0, 0, 0]);
    frame.data[(2 * 6 + 1) * 4] = 255;
    const mirrored = solid(6, 6, [0, 0, 0]);
    mirrored.data[(2 * 6 + 4) * 4] = 255;
    const [a, b] = [enlarge(frame, 4), enlarge(mirrored, 4)];
    for (let y = 0; y < 24; y++) {
      for (let x = 0; x < 24; x++) expect(a.data[(y * 24 + x) * 4]).toBe(b.data[(y * 24 + 23 - x) * 4]);
    }
  });

  test('by one gives the frame itself', () => {
    const frame = solid(2, 2, [1, 2, 3]);
    expect(enlarge(frame, 1)).toBe(frame);
  });
});

test.each([
  [1, 64, 64, 1, 1],
  [17, 64, 64, 4, 5],
  [9, 64, 64, 3, 3],
  [17, 96, 64, 4, 5],
  [5, 64, 96, 3, 2],
])('%i frames of %i × %i px make a sheet of %i × %i', (count, width, height, columns, rows) => {
  expect(sheetShape(count, width, height)).toEqual({ columns, rows });
});

describe('a clip', () => {
  const clip = new Clip({
    frames: [solid(16, 16, [255, 0, 0]), solid(16, 16, [0, 255, 0])],
    width: 16,
    height: 16,
    fps: 8,
    seed: 1,
    timings: {},
    tokens: { kept: 1, total: 1 },
    warnings: [],
    backend: 'cpu',
    adapter: undefined,
    memory: { wasmBytes: 0, gpuBytes: 0, gpuPeakBytes: 0, gpuPlannedBytes: 0 },
    given: givenParts({}),
    task: { name: 'generate' },
    model: { name: 'tiny', hash: undefined },
    options: { prompt: 'a', negativePrompt: '', width: 16, height: 16, numFrames: 5, fps: 8, numSteps: 1, guidanceScale: 1, seed: 1 },
  });

  test('knows its length', () => expect([clip.numFrames, clip.seconds]).toEqual([2, 0.25]));

  test('refuses frames it does not have', () => {
    for (const index of [-1, 2, 0.5])
      expect(() => clip.drawFrame({} as HTMLCanvasElement, index)).toThrow(`frame must be 0 to 1, got ${index}`);
  });

  test('refuses formats and scales there are not', async () => {
    await expect(clip.toBlob({ format: 'avi' as never })).rejects.toMatchObject({
      code: 'invalid-options',
      message: 'format must be mp4, webm or png, got avi',
    });
    await expect(clip.toBlob({ format: 'mp4', scale: 1.5 })).rejects.toMatchObject({ code: 'invalid-options' });
  });

  test('rejects in the package’s own words where the browser refuses the picture', async () => {
    vi.stubGlobal('ImageData', class {});
    vi.stubGlobal(
      'OffscreenCanvas',
      class {
        getContext = (): object => ({ putImageData: () => undefined });
        convertToBlob = (): Promise<never> => Promise.reject(new DOMException('the canvas is too large', 'EncodingError'));
      },
    );
    const error: unknown = await clip.toBlob({ format: 'png' }).catch((thrown: unknown) => thrown);
    vi.unstubAllGlobals();
    expect(error).toBeInstanceOf(TabreelError);
    expect(error).toMatchObject({ code: 'internal', message: 'the canvas is too large' });
  });

  test('says so where video cannot be encoded', async () => {
    await expect(clip.toBlob({ format: 'mp4' })).rejects.toMatchObject({ code: 'unsupported-device' });
    await expect(encodeVideo([], { format: 'mp4', fps: 8 })).rejects.toMatchObject({ code: 'invalid-options' });
  });
});
