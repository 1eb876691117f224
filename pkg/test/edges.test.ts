import { expect, test } from 'vitest';
import { edges } from '../src/edges.js';

test('a square becomes its outline', () => {
  const inside = (x: number, y: number): boolean => x >= 3 && x < 7 && y >= 3 && y < 7;
  const data = Uint8ClampedArray.from({ length: 400 }, (_, i) => (inside((i >> 2) % 10, Math.floor(i / 40)) ? 230 : 51));
  const lines = edges({ width: 10, height: 10, data });
  const line = (x: number, y: number): boolean => lines.data[(y * 10 + x) * 4] === 255;
  const all = [...Array(10).keys()];
  expect(all.filter((x) => line(x, 5))).toEqual([2, 3, 6, 7]);
  expect(all.some((i) => line(i, 0) || line(0, i))).toBe(false);
});
