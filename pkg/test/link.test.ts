import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { TabreelError } from '../src/errors.js';
import { WorkerLink } from '../src/link.js';
import { FakeWorker, type JobMessage } from './fakes.js';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

const LOAD = { type: 'load', folder: { kind: 'local', files: {} } } as const;
const options = { what: 'testing', silenceMs: 60_000 };
const caught = (promise: Promise<unknown>): Promise<TabreelError> =>
  promise.then(
    () => Promise.reject(new Error('no')),
    (e) => e,
  );

test('a job resolves with what the worker answers', async () => {
  const worker = new FakeWorker((job, self) => self.say({ type: 'done', id: job.id, result: 42 }));
  await expect(new WorkerLink(worker).run(LOAD, options)).resolves.toBe(42);
});

test('a refusal keeps its code, and the worker lives on', async () => {
  const worker = new FakeWorker((job, self) => self.say({ type: 'failed', id: job.id, error: { code: 'weights', message: 'torn' } }));
  const link = new WorkerLink(worker);
  expect(await caught(link.run(LOAD, options))).toMatchObject({ code: 'weights', message: 'torn' });
  expect(link.dead).toBeUndefined();
});

test('a worker that says nothing is given up after the limit, not before', async () => {
  const worker = new FakeWorker();
  const link = new WorkerLink(worker);
  const error = caught(link.run(LOAD, options));
  await vi.advanceTimersByTimeAsync(59_000);
  expect(link.dead).toBeUndefined();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(await error).toMatchObject({ code: 'internal', message: 'no word from the engine for 60 s while testing' });
  expect(worker.terminated).toBe(true);
});

test('any word from the worker resets the watchdog', async () => {
  const worker = new FakeWorker();
  const link = new WorkerLink(worker);
  void link.run(LOAD, options).catch(() => undefined);
  for (let i = 0; i < 10; i++) {
    await vi.advanceTimersByTimeAsync(40_000);
    worker.say({ type: 'beat' });
  }
  expect(link.dead).toBeUndefined();
});

test('the watchdog sleeps when nothing runs', async () => {
  const worker = new FakeWorker((job, self) => self.say({ type: 'done', id: job.id, result: 1 }));
  const link = new WorkerLink(worker);
  await link.run(LOAD, options);
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect(link.dead).toBeUndefined();
  expect(vi.getTimerCount()).toBe(0);
});

test('a panic rejects the job, ends the worker and refuses later jobs for the same reason', async () => {
  const worker = new FakeWorker((_, self) =>
    self.say({ type: 'dead', error: { code: 'internal', message: 'the engine stopped: index out of bounds' } }),
  );
  const link = new WorkerLink(worker);
  expect((await caught(link.run(LOAD, options))).message).toContain('index out of bounds');
  expect(worker.terminated).toBe(true);
  expect(await caught(link.run(LOAD, options))).toBe(link.dead);
  expect(worker.received).toHaveLength(1);
});

test('a lost GPU keeps its code', async () => {
  const worker = new FakeWorker((_, self) => self.say({ type: 'dead', error: { code: 'device-lost', message: 'the GPU was lost' } }));
  expect((await caught(new WorkerLink(worker).run(LOAD, options))).code).toBe('device-lost');
});

test("the worker's error event rejects, with or without words", async () => {
  for (const [message, heard, code, words] of [
    ['Unexpected token', false, 'internal', 'the worker failed: Unexpected token'],
    ['', true, 'internal', 'the worker failed'],
    ['', false, 'fetch', 'the worker failed (its script could not be loaded from http://localhost/worker.js)'],
  ] as const) {
    const worker = new FakeWorker((_, self) => {
      if (heard) self.say({ type: 'alive' });
      self.onerror?.({ message } as ErrorEvent);
    });
    const error = await caught(new WorkerLink(worker, 'http://localhost/worker.js').run(LOAD, options));
    expect(error).toMatchObject({ code, message: words });
    expect(worker.terminated).toBe(true);
  }
});

test('an abort is passed on, and the engine gets time to stop by itself', async () => {
  const controller = new AbortController();
  const worker = new FakeWorker((job, self) => {
    if (job.type === 'abort') self.say({ type: 'failed', id: job.id, error: { code: 'aborted', message: 'stopped' } });
  });
  const link = new WorkerLink(worker);
  const error = caught(link.run(LOAD, { ...options, signal: controller.signal }));
  await vi.advanceTimersByTimeAsync(10);
  controller.abort();
  expect((await error).code).toBe('aborted');
  expect(worker.received.map(({ type }) => type)).toEqual(['load', 'abort']);
  expect(link.dead).toBeUndefined();
});

test('an engine that does not stop is ended after the grace', async () => {
  const controller = new AbortController();
  const worker = new FakeWorker();
  const link = new WorkerLink(worker);
  const error = caught(link.run(LOAD, { ...options, signal: controller.signal, abortGraceMs: 5000 }));
  controller.abort();
  await vi.advanceTimersByTimeAsync(5001);
  expect(await error).toMatchObject({ code: 'aborted' });
  expect((await error).message).toContain('did not answer and was shut down');
  expect(worker.terminated).toBe(true);
});

test('with no grace an abort ends the worker at once', async () => {
  const controller = new AbortController();
  const worker = new FakeWorker();
  const error = caught(new WorkerLink(worker).run(LOAD, { ...options, signal: controller.signal, abortGraceMs: 0 }));
  controller.abort();
  expect((await error).code).toBe('aborted');
  expect(worker.terminated).toBe(true);
});

test('a signal that fired before never reaches the worker', async () => {
  const worker = new FakeWorker();
  const error = await caught(new WorkerLink(worker).run(LOAD, { ...options, signal: AbortSignal.abort() }));
  expect(error.code).toBe('aborted');
  expect(worker.received).toEqual([]);
});

test('a listener that throws fails its job instead of leaving it open', async () => {
  const worker = new FakeWorker((job, self) => self.say({ type: 'event', id: job.id, event: { type: 'stage', stage: 'denoise' } }));
  const onEvent = (): void => {
    throw new Error('my bug');
  };
  const running = caught(new WorkerLink(worker).run(LOAD, { ...options, onEvent }));
  let settled = false;
  void running.then(() => (settled = true));
  await vi.advanceTimersByTimeAsync(10);
  expect(worker.received.map(({ type }) => type)).toEqual(['load', 'abort']);
  // The worker has not stopped yet: nothing new may begin.
  expect(settled).toBe(false);
  worker.say({ type: 'event', id: (worker.received[0] as JobMessage).id, event: { type: 'stage', stage: 'decode' } });
  worker.say({ type: 'failed', id: (worker.received[0] as JobMessage).id, error: { code: 'aborted', message: 'stopped' } });
  expect(await running).toMatchObject({ code: 'internal', message: 'a listener failed: my bug' });
  expect(vi.getTimerCount()).toBe(0);
});

test('a listener that throws while the engine arrives fails its job too', async () => {
  const worker = new FakeWorker((job, self) => {
    if (job.type === 'load') self.say({ type: 'engine-bytes', loaded: 1, total: 2 });
    else self.say({ type: 'done', id: job.id, result: 1 });
  });
  const onEngineBytes = (): void => {
    throw new Error('my bug');
  };
  expect((await caught(new WorkerLink(worker).run(LOAD, { ...options, onEngineBytes }))).message).toContain('my bug');
});

test('an engine that does not stop after a listener threw is ended, and the listener is blamed', async () => {
  const worker = new FakeWorker((job, self) => self.say({ type: 'event', id: job.id, event: { type: 'stage', stage: 'denoise' } }));
  const onEvent = (): void => {
    throw new Error('my bug');
  };
  const error = caught(new WorkerLink(worker).run(LOAD, { ...options, onEvent }));
  await vi.advanceTimersByTimeAsync(15_001);
  expect((await error).message).toContain('my bug');
  expect(worker.terminated).toBe(true);
});

test("memory that ran out in the worker's own event is told as such", async () => {
  const worker = new FakeWorker((_, self) => self.onerror?.({ message: 'RangeError: Out of memory' } as ErrorEvent));
  expect((await caught(new WorkerLink(worker).run(LOAD, options))).code).toBe('out-of-memory');
});
