/** Engines that the elements of a page share: one for each model and device, which makes one clip after the other. */
import type { Clip } from './clip.js';
import { TabreelError, throwIfAborted, toTabreelError } from './errors.js';
import { Tabreel, cpuMayHelp, type GenerateOptions, type LoadOptions, type LoadProgress } from './generator.js';

interface Engine {
  readonly loaded: Promise<Tabreel>;
  readonly listeners: Set<(progress: LoadProgress) => void>;
  /** Who waits for it or has a clip made by it. */
  readonly users: Set<object>;
  readonly cancel: AbortController;
  /** Settles when the last clip asked for so far is made, or is not. */
  queue: Promise<unknown>;
}

const engines = new Map<string, Engine>();
/** Those whose GPU failed at a clip, where any device would do: the next engine is the CPU's. */
const onCpu = new Set<string>();

export interface ClipJob {
  /** Absolute address of the model. */
  model: string;
  device: NonNullable<LoadOptions['device']>;
  /** What else `load()` takes. */
  load: Omit<LoadOptions, 'model' | 'device' | 'onProgress' | 'signal'>;
  onProgress(progress: LoadProgress): void;
  /** The engine is there; the clip may have to wait for others. */
  onLoaded(engine: Tabreel): void;
  /** Another element's clip is made first. */
  onWait(): void;
  options: GenerateOptions;
  signal: AbortSignal;
}

/**
 * Makes a clip with the engine that `user` shares with the other elements of its model. `user` holds the engine until
 * {@link release}.
 *
 * @throws TabreelError as `load()` and `generate()` do
 */
export async function makeClip(user: object, job: ClipJob): Promise<Clip> {
  const { signal } = job;
  throwIfAborted(signal, 'loading');
  const key = `${job.device} ${job.model}`;
  const engine = engines.get(key) ?? start(key, job);
  for (const [otherKey, other] of engines) if (other !== engine) leave(otherKey, other, user);
  engine.users.add(user);
  engine.listeners.add(job.onProgress);
  let tabreel: Tabreel;
  try {
    tabreel = await untilAborted(engine.loaded, signal);
  } catch (thrown) {
    leave(key, engine, user);
    throw thrown;
  } finally {
    engine.listeners.delete(job.onProgress);
  }
  job.onLoaded(tabreel);
  const before = engine.queue;
  let done = (): void => undefined;
  engine.queue = before.then(() => new Promise<void>((resolve) => (done = resolve)));
  const waiting = setTimeout(() => job.onWait(), 50);
  try {
    await untilAborted(before, signal).finally(() => clearTimeout(waiting));
    if (tabreel.alive) return await tabreel.generate(job.options);
  } catch (thrown) {
    throw job.device === 'auto' ? withoutGpu(key, tabreel, thrown) : thrown;
  } finally {
    // One that stopped waiting keeps its place in the queue until it is its turn.
    void before.then(() => done());
    if (!tabreel.alive && engines.get(key) === engine) engines.delete(key);
  }
  // It died at another's clip, or while nobody looked.
  return makeClip(user, job);
}

/** A GPU that failed at a clip would fail at the next one too, and a visitor of the element has no other button to press. */
function withoutGpu(key: string, tabreel: Tabreel, thrown: unknown): unknown {
  const error = toTabreelError(thrown);
  if (!cpuMayHelp(error)) return thrown;
  onCpu.add(key);
  tabreel.dispose();
  return new TabreelError(error.code, `${error.message}; the next clip is made on the CPU`, { cause: error, device: 'gpu' });
}

/** The user is gone: an engine that nobody has left is closed, also while it still loads. */
export function release(user: object): void {
  for (const [key, engine] of engines) leave(key, engine, user);
}

function start(key: string, { model, device, load }: ClipJob): Engine {
  const listeners: Engine['listeners'] = new Set();
  const cancel = new AbortController();
  const onProgress = (progress: LoadProgress): void => listeners.forEach((listener) => listener(progress));
  const chosen = onCpu.has(key) ? 'cpu' : device;
  const loaded = Tabreel.load({ ...load, model, device: chosen, onProgress, signal: cancel.signal });
  const engine: Engine = { loaded, listeners, users: new Set(), cancel, queue: Promise.resolve() };
  engines.set(key, engine);
  // What failed is tried anew by the next one who asks.
  loaded.catch(() => engines.get(key) === engine && engines.delete(key));
  return engine;
}

function leave(key: string, engine: Engine, user: object): void {
  if (!engine.users.delete(user) || engine.users.size > 0) return;
  if (engines.get(key) === engine) engines.delete(key);
  engine.cancel.abort();
  engine.loaded.then(
    (tabreel) => tabreel.dispose(),
    () => undefined, // never came up
  );
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(new TabreelError('aborted', 'stopped'));
    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, (thrown: unknown) => reject(toTabreelError(thrown))).finally(() => signal.removeEventListener('abort', stop));
  });
}
