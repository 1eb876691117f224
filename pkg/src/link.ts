/** The page's end of the worker: one promise per job, and a watchdog so that every promise settles. */
import { TabreelError, guessCode, toPlainError } from './errors.js';
import type { EngineEvent, FromWorker, ToWorker } from './messages.js';
import type { FetchProgress } from './source/meter.js';

/** The part of `Worker` that is used; tests put their own in its place. */
export interface WorkerLike {
  postMessage(message: ToWorker, transfer?: Transferable[]): void;
  terminate(): void;
  onmessage: ((event: MessageEvent<FromWorker>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
}

/** How the message of a listener's own error begins. */
export const LISTENER_FAILED = 'a listener failed';

type Job = DistributiveOmit<Exclude<ToWorker, { type: 'abort' | 'pause' }>, 'id'>;
type DistributiveOmit<T, K extends string> = T extends unknown ? Omit<T, K> : never;

export interface JobOptions {
  /** What is being done, for messages: "starting the engine". */
  what: string;
  /** The worker is given up after this long without a word from it. */
  silenceMs: number;
  /** The error if that happens; by default `internal`. */
  onSilence?: (() => TabreelError) | undefined;
  onEvent?: ((event: EngineEvent) => void) | undefined;
  onEngineBytes?: ((loaded: number, total: number) => void) | undefined;
  onFetching?: ((progress: FetchProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** How long a stopped job may take to stop by itself before the worker is ended. 0 ends it at once. */
  abortGraceMs?: number;
  transfer?: Transferable[];
}

interface Pending extends JobOptions {
  resolve(result: unknown): void;
  reject(error: TabreelError): void;
  /** Tells the worker to stop. */
  stop(): void;
  /** What ends the job once the worker has stopped. */
  failure?: TabreelError;
}

export class WorkerLink {
  /** Why the worker is gone, once it is. */
  dead: TabreelError | undefined;

  readonly #worker: WorkerLike;
  readonly #jobs = new Map<number, Pending>();
  #nextId = 1;
  #strikes = 0;
  #heard = false;
  #watchdog: ReturnType<typeof setInterval> | undefined;

  /** `where` is the address of the worker's script, for messages. */
  constructor(worker: WorkerLike, where?: string) {
    this.#worker = worker;
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault?.();
      const why = event.message ? `: ${event.message}` : '';
      // Before its first word, an error without words is the browser's: the script, or one that it imports, did not come.
      if (this.#heard || why) return this.end(new TabreelError(guessCode(why), `the worker failed${why}`));
      const from = where === undefined ? '' : ` from ${where}`;
      this.end(new TabreelError('fetch', `the worker failed (its script could not be loaded${from})`));
    };
    worker.onmessageerror = () => this.end(new TabreelError('internal', 'a message from the worker could not be read'));
  }

  run(job: Job, options: JobOptions): Promise<unknown> {
    if (this.dead) return Promise.reject(this.dead);
    const { signal, abortGraceMs = 15_000 } = options;
    const stopped = (how = ''): TabreelError => new TabreelError('aborted', `${options.what} was stopped${how}`);
    if (signal?.aborted) return Promise.reject(stopped());

    const id = this.#nextId++;
    let grace: ReturnType<typeof setTimeout> | undefined;
    const stop = (): void => {
      this.#worker.postMessage({ type: 'abort', id });
      grace ??= setTimeout(() => this.end(stopped('; the engine did not answer and was shut down')), abortGraceMs);
    };
    const onAbort = (): void => (abortGraceMs === 0 ? this.end(stopped()) : stop());
    signal?.addEventListener('abort', onAbort, { once: true });

    return new Promise<unknown>((resolve, reject) => {
      this.#jobs.set(id, { ...options, resolve, reject, stop });
      this.#watch(options.silenceMs);
      this.#worker.postMessage({ ...job, id } as ToWorker, options.transfer ?? []);
    }).finally(() => {
      clearTimeout(grace);
      signal?.removeEventListener('abort', onAbort);
      this.#jobs.delete(id);
      if (this.#jobs.size === 0) clearInterval(this.#watchdog);
    });
  }

  /** Holds whatever runs, or lets it go on. The worker's beats go on meanwhile, so that it does not count as silent. */
  pause(paused: boolean): void {
    if (this.dead === undefined) this.#worker.postMessage({ type: 'pause', paused });
  }

  /** Ends the worker and rejects whatever waits for it. */
  end(error: TabreelError): void {
    if (this.dead) return;
    this.dead = error;
    clearInterval(this.#watchdog);
    this.#worker.terminate();
    for (const job of this.#jobs.values()) job.reject(job.failure ?? error);
  }

  #receive(message: FromWorker): void {
    if (this.dead) return;
    this.#heard = true;
    this.#strikes = 0;
    switch (message.type) {
      case 'alive':
      case 'beat':
        return;
      case 'engine-bytes':
        for (const id of this.#jobs.keys()) this.#tell(id, (job) => job.onEngineBytes?.(message.loaded, message.total));
        return;
      case 'fetching':
        return this.#tell(message.id, (job) => job.onFetching?.(message.progress));
      case 'event':
        return this.#tell(message.id, (job) => job.onEvent?.(message.event));
      case 'done': {
        const job = this.#jobs.get(message.id);
        return job?.failure ? job.reject(job.failure) : job?.resolve(message.result);
      }
      case 'failed': {
        const job = this.#jobs.get(message.id);
        return job?.reject(job.failure ?? new TabreelError(message.error.code, message.error.message));
      }
      case 'dead':
        return this.end(new TabreelError(message.error.code, message.error.message));
    }
  }

  /**
   * A listener that throws must not leave the engine's promise open: its error becomes the job's, once the worker has
   * stopped, so that nothing new is begun in between. Its later events are not told.
   */
  #tell(id: number, listener: (job: Pending) => void): void {
    const job = this.#jobs.get(id);
    if (job === undefined || job.failure) return;
    try {
      listener(job);
    } catch (thrown) {
      job.failure = new TabreelError('internal', `${LISTENER_FAILED}: ${toPlainError(thrown).message}`, { cause: thrown });
      job.stop();
    }
  }

  /**
   * Counts four quarters of the limit instead of setting one timer: a laptop that slept through the
   * limit wakes up to one strike, not to a death sentence.
   */
  #watch(silenceMs: number): void {
    clearInterval(this.#watchdog);
    this.#strikes = 0;
    this.#watchdog = setInterval(() => {
      if (++this.#strikes < 4) return;
      const job = [...this.#jobs.values()].at(-1);
      if (job === undefined) return;
      const seconds = Math.round(silenceMs / 1000);
      this.end(job.onSilence?.() ?? new TabreelError('internal', `no word from the engine for ${seconds} s while ${job.what}`));
    }, silenceMs / 4);
  }
}
