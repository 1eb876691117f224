// The rule that Rust and TypeScript share; crate/src/tasks/tests.rs reads the same cases.
import { describe, expect, test } from 'vitest';
import cases from '../../tests/fixtures/windows.json' with { type: 'json' };
import { holdColours } from '../src/drift.js';
import type { Frame } from '../src/frame.js';
import { checkWindow, planBridge, planPasses, usualOverlap } from '../src/passes.js';
import { sizeFor } from '../src/task-size.js';

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

test.each(cases.size)('a task of a clip of $own px by a model of $trained px in steps of $multiples', (one) => {
  const pair = ([width, height]: number[]): { width: number; height: number } => ({ width: width!, height: height! });
  const [widthMultiple, heightMultiple] = one.multiples as [number, number];
  const model = { widthMultiple, heightMultiple, defaults: {}, card: { sizes: one.trained.map(pair) } };
  expect(sizeFor(pair(one.own), model)).toEqual(pair(one.size));
});

test('a model that names no size works at the one that it makes', () => {
  const model = { widthMultiple: 16, heightMultiple: 16, card: { sizes: [] } };
  const own = { width: 100, height: 50 };
  expect(sizeFor(own, { ...model, defaults: { width: 64, height: 96 } })).toEqual({ width: 64, height: 96 });
  expect(sizeFor(own, { ...model, defaults: {} })).toEqual({ width: 832, height: 480 });
  expect(sizeFor(own, { ...model, defaults: {} }, { width: 96 })).toEqual({ width: 96, height: 480 });
});

describe('colours', () => {
  const frames = (all: number[][]): Frame[] =>
    all.map((bytes) => ({ width: bytes.length / 4, height: 1, data: Uint8ClampedArray.from(bytes) }));
  test.each(cases.colours)('$name', ({ before, after, made, held }) => {
    const found = holdColours(frames(made), frames(before), frames(after));
    expect(found.map(({ data }) => [...data])).toEqual(held);
  });
});
