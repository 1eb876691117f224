import { expect, test } from 'vitest';
import type { Frame } from '../src/frame.js';
import { encodeVideo } from '../src/video.js';

const frame = (width: number, height: number): Frame => ({ width, height, data: new Uint8ClampedArray(width * height * 4) });

test.each([
  ['frames of unequal size', { frames: [frame(2, 2), frame(4, 2)] }, 'all frames must be 2 × 2 px as the first, got 4 × 2 px at frame 1'],
  ['too few bytes', { frames: [{ ...frame(2, 2), data: new Uint8ClampedArray(3) }] }, 'frame 0 must have 16 bytes, got 3 bytes'],
  ['no rate', { fps: 0 }, 'fps must be above 0 up to 1000 frames per second, got 0'],
  ['a rate that is no number', { fps: NaN }, 'fps must be above 0 up to 1000 frames per second, got NaN'],
  ['half a scale', { scale: 1.5 }, 'scale must be a whole number from 1, got 1.5'],
  ['no frames', { frames: [] }, 'a clip must have at least 1 frame, got 0 frames'],
])(
  '%s is refused before a codec is tried',
  async (
    _,
    {
      frames = [frame(2, 2)],
      fps = 8,
      scale = 1,
    }: {
      frames?: Frame[];
      fps?: number;
      scale?: number;
    },
    message,
  ) => {
    await expect(encodeVideo(frames, { format: 'mp4', fps, scale })).rejects.toMatchObject({ code: 'invalid-options', message });
  },
);
