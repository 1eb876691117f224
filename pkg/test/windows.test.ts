// The rule that Rust and TypeScript share; crate/src/tasks/tests.rs reads the same cases.
import { describe, expect, test } from 'vitest';
import cases from '../../tests/fixtures/windows.json' with { type: 'json' };
import { holdColours } from '../src/drift.js';
import type { Frame } from '../src/frame.js';
import { checkWindow, planBridge, planPasses, usualOverlap } from '../src/passes.js';

test.each(cases.overlap)('overlap in a window of $window by $multiple, clips: $clips', (one) => {
  const { window, multiple, clips, forward, backward } = one;
  const way = { step: multiple, clips };
  if (forward === null || backward === null) return expect(() => checkWindow(window, multiple)).toThrow('window must be 2 frames at least');
  checkWindow(window, multiple);
  expect([usualOverlap(window, way, 'forward'), usualOverlap(window, way, 'backward')]).toEqual([forward, backward]);
});

test.each(cases.extension)('$have and $add in windows of $window, $overlap of them known', (extension) => {
  const { have, add, overlap, window, multiple, passes } = extension;
  const plan = planPasses(have, add, overlap, window, multiple);
  expect(plan.map(({ length, known, fresh }) => [length, known, fresh])).toEqual(passes);
});

test.each(cases.bridge)('between $from and $to in a window of $window by $multiple, clips: $clips', (bridge) => {
  const { from, to, window, multiple, clips, head, tail } = bridge;
  const plan = (): unknown => planBridge(from, to, window, { step: multiple, clips });
  if (head === null) expect(plan).toThrow('a pass needs 3 frames at least');
  else expect(plan()).toEqual({ head, tail });
});

describe('colours', () => {
  const frames = (all: number[][]): Frame[] =>
    all.map((bytes) => ({ width: bytes.length / 4, height: 1, data: Uint8ClampedArray.from(bytes) }));
  test.each(cases.colours)('$name', ({ before, after, made, held }) => {
    const found = holdColours(frames(made), frames(before), frames(after));
    expect(found.map(({ data }) => [...data])).toEqual(held);
  });
});
