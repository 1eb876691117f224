import { expect, test } from 'vitest';
import { seenAt } from '../src/read-clip.js';

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
