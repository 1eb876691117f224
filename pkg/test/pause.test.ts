import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { WorkerLink } from '../src/link.js';
import type { ToWorker } from '../src/messages.js';
import { Pause } from '../src/pause.js';
import { FakeWorker } from './fakes.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const never = new AbortController().signal;
const settled = async (promise: Promise<void>): Promise<boolean> =>
  Promise.race([promise.then(() => true), vi.advanceTimersByTimeAsync(10).then(() => false)]);

test('nothing waits unless something is paused, and all go on together', async () => {
  const pause = new Pause(() => undefined);
  expect(await settled(pause.over(never))).toBe(true);
  pause.set(true);
  const waiting = [pause.over(never), pause.over(never)];
  expect(await settled(waiting[0]!)).toBe(false);
  pause.set(false);
  expect(await settled(Promise.all(waiting).then(() => undefined))).toBe(true);
});

test('what is stopped does not wait for the pause to end', async () => {
  const pause = new Pause(() => undefined);
  const controller = new AbortController();
  pause.set(true);
  const over = pause.over(controller.signal);
  controller.abort();
  expect(await settled(over)).toBe(true);
  expect(await settled(pause.over(controller.signal))).toBe(true);
});

test('beats go on while paused, and end with it', async () => {
  let beats = 0;
  const pause = new Pause(() => beats++);
  pause.set(true);
  pause.set(true);
  await vi.advanceTimersByTimeAsync(3500);
  expect(beats).toBe(3);
  pause.set(false);
  await vi.advanceTimersByTimeAsync(3500);
  expect(beats).toBe(3);
});

test('the link tells a living worker alone', () => {
  const worker = new FakeWorker();
  const link = new WorkerLink(worker);
  link.pause(true);
  link.pause(false);
  expect(worker.received).toEqual<ToWorker[]>([
    { type: 'pause', paused: true },
    { type: 'pause', paused: false },
  ]);
  link.end(new Error('gone') as never);
  link.pause(true);
  expect(worker.received).toHaveLength(2);
});
