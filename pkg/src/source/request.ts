/** One range of a file from a web server: retried while that may help, resumed where it broke off. */
import { MOST_TEXT_BYTES } from '../contract.js';
import { TabreelError, throwIfAborted } from '../errors.js';
import { allocate, type Bytes } from './source.js';

/** How patient a download is. */
export interface Timing {
  /** Without a byte for this long, a transfer is ended and taken up again, ms. */
  stallMs: number;
  /** Tries as long as nothing has come at all: a wrong address should not be waited for. */
  firstTries: number;
  /** Tries without progress once something has come. */
  tries: number;
  /** The first wait between two tries, ms; each further one is twice as long, up to `longestWaitMs`. */
  backoffMs: number;
  longestWaitMs: number;
}

export const TIMING: Timing = { stallMs: 60_000, firstTries: 3, tries: 7, backoffMs: 500, longestWaitMs: 15_000 };

/** Where something at hand will do instead: one try, and not long. */
export const brief = (timing: Timing): Timing => ({ ...timing, firstTries: 1, stallMs: Math.min(timing.stallMs, 5000) });

/** A try that brought less than this was no progress: a server that drips is given up, bytes. */
const PROGRESS = 64 * 1024;

/** What a server says of the file behind an answer. */
export interface Identity {
  /** ETag, else Last-Modified; undefined where the server gives none or the browser hides both (CORS). */
  version: string | undefined;
  /** Length of the whole file, if it says so, bytes. */
  size: number | undefined;
}

export interface RequestOptions {
  headers?: Record<string, string> | undefined;
  signal?: AbortSignal | undefined;
  timing?: Timing | undefined;
  cache?: RequestCache | undefined;
  /** Bytes that have just come. */
  onBytes?: ((count: number) => void) | undefined;
  /** Why nothing comes just now; undefined once something does. */
  onWait?: ((why: string | undefined) => void) | undefined;
  /** Throws if the answer is of another version than those before. */
  onIdentity?: ((identity: Identity) => void) | undefined;
}

/** A fault that may be gone at the next try. */
class Passing extends Error {
  constructor(
    message: string,
    readonly waitMs = 0,
    /** The body ended in good order, only too early. */
    readonly ended = false,
  ) {
    super(message);
  }
}

/** The server sent the whole file where a part was asked for. */
export class RangeIgnored extends Error {}

/**
 * Bytes `start` up to `end` of a file of `size` bytes. The whole is asked for without a Range header.
 *
 * @throws TabreelError `fetch`, `weights` (another length), `aborted`, `out-of-memory`
 * @throws RangeIgnored
 */
export async function fetchRange(
  url: string,
  what: string,
  [start, end, size]: [start: number, end: number, size: number],
  options: RequestOptions,
): Promise<Bytes> {
  const { signal, timing = TIMING, onWait } = options;
  const bytes = allocate(end - start, what);
  let got = 0;
  let endedAt = -1;
  for (let failures = 0; ;) {
    const before = got;
    try {
      throwIfAborted(signal, 'loading');
      await transfer(url, what, [start + got, end, size], end - start === size, options, (chunk, from) => {
        bytes.set(chunk, from - start);
        got = from - start + chunk.length;
      });
      return bytes;
    } catch (error) {
      throwIfAborted(signal, 'loading');
      if (!(error instanceof Passing)) throw error;
      if (error.ended && endedAt === got) throw cutShort(what, size, start + got);
      endedAt = error.ended ? got : -1;
      failures = got - before >= PROGRESS ? 1 : failures + 1;
      const tries = got > 0 ? timing.tries : timing.firstTries;
      if (failures >= tries || globalThis.navigator?.onLine === false) throw new TabreelError('fetch', error.message, { cause: error });
      const pause = Math.min(timing.longestWaitMs, Math.max(error.waitMs, timing.backoffMs * 2 ** (failures - 1)));
      onWait?.(`${error.message}; trying again`);
      await sleep(pause, signal);
    }
  }
}

/**
 * What the server itself says of a file now, not a cache on the way, for one byte of it; undefined if it has no such file.
 *
 * @throws TabreelError `fetch`, `aborted`
 */
export async function identify(url: string, what: string, given: RequestOptions): Promise<Identity | undefined> {
  const options: RequestOptions = { ...given, cache: 'no-store' };
  return patiently(options, async (watch) => {
    const response = await send(url, { range: 'bytes=0-0' }, options, watch);
    void response.body?.cancel().catch(() => undefined);
    if (response.status === 404 || isPage(response)) return undefined;
    checkStatus(response, url, what, [200, 206, 416]);
    const identity = identityOf(response);
    if (identity.size !== undefined) return identity;
    const head = await send(url, {}, options, watch, 'HEAD');
    const length = head.ok ? Number(head.headers.get('content-length') ?? NaN) : NaN;
    return { ...identity, size: Number.isSafeInteger(length) ? length : undefined };
  });
}

/**
 * A short text, asked for anew; or in words why there is no such file.
 *
 * @throws TabreelError `fetch`, `weights` (too long), `aborted`
 */
export async function fetchText(
  url: string,
  what: string,
  options: RequestOptions,
): Promise<{ text: string; missing?: undefined } | { text?: undefined; missing: string }> {
  return patiently(options, async (watch) => {
    const response = await send(url, {}, { cache: 'no-cache', ...options }, watch);
    if (response.status === 404 || isPage(response)) {
      void response.body?.cancel().catch(() => undefined);
      const answer = response.status === 404 ? '404' : 'with a web page';
      return { missing: `${what} could not be fetched: ${url} answered ${answer}` };
    }
    checkStatus(response, url, what, [200]);
    const decoder = new TextDecoder();
    let text = '';
    let length = 0;
    for await (const chunk of chunks(response, what, watch)) {
      length += chunk.length;
      // Nothing else says how long it is: a server may go on for ever.
      if (length > MOST_TEXT_BYTES) throw new TabreelError('weights', `${what} must be at most ${MOST_TEXT_BYTES} bytes, ${url} sent more`);
      text += decoder.decode(chunk, { stream: true });
    }
    return { text: text + decoder.decode() };
  });
}

/** Tries a short request as often as something that has not answered at all is tried. */
async function patiently<T>(options: RequestOptions, request: (watch: StallWatch) => Promise<T>): Promise<T> {
  const { signal, timing = TIMING } = options;
  for (let failures = 1; ; failures++) {
    throwIfAborted(signal, 'loading');
    const watch = new StallWatch(timing.stallMs, signal);
    try {
      return await request(watch);
    } catch (error) {
      throwIfAborted(signal, 'loading');
      if (!(error instanceof Passing)) throw error;
      if (failures >= timing.firstTries || globalThis.navigator?.onLine === false) {
        throw new TabreelError('fetch', error.message, { cause: error });
      }
      await sleep(Math.min(timing.longestWaitMs, Math.max(error.waitMs, timing.backoffMs * 2 ** (failures - 1))), signal);
    } finally {
      watch.end();
    }
  }
}

/** One request and its body. `take` gets each chunk with its place in the file. */
async function transfer(
  url: string,
  what: string,
  [start, end, size]: [number, number, number],
  ofWhole: boolean,
  options: RequestOptions,
  take: (chunk: Uint8Array, from: number) => void,
): Promise<void> {
  const { signal, timing = TIMING, onBytes, onWait, onIdentity } = options;
  const watch = new StallWatch(timing.stallMs, signal);
  try {
    const response = await send(url, ofWhole && start === 0 ? {} : { range: `bytes=${start}-${end - 1}` }, options, watch);
    if (isPage(response)) throw new TabreelError('fetch', `${what} could not be fetched: ${url} answered with a web page`);
    if (response.status === 416) throw cutShort(what, size, identityOf(response).size ?? start);
    checkStatus(response, url, what, [200, 206]);
    // A download of the whole that broke off can pass over what it has; a part must not cost the whole.
    if (response.status === 200 && !ofWhole) {
      void response.body?.cancel().catch(() => undefined);
      throw new RangeIgnored();
    }
    if (response.status === 206) checkContentRange(response, url, what, [start, end, size]);
    onIdentity?.(identityOf(response));
    let at = response.status === 206 ? start : 0;
    for await (let chunk of chunks(response, what, watch)) {
      const passed = Math.min(Math.max(0, start - at), chunk.length);
      at += passed;
      chunk = chunk.subarray(passed);
      if (chunk.length === 0) continue;
      if (at + chunk.length > end) {
        if (end === size) throw new TabreelError('weights', `${what} must be ${size} bytes, got more`);
        throw new TabreelError('fetch', `${url} sent more of ${what} than bytes ${start} to ${end - 1}, which were asked for`);
      }
      take(chunk, at);
      at += chunk.length;
      onWait?.(undefined);
      onBytes?.(chunk.length);
    }
    if (at < end) throw new Passing(`the download of ${what} broke off at ${at} of ${size} bytes`, 0, true);
  } finally {
    watch.end();
  }
}

async function send(
  url: string,
  range: Record<string, string>,
  { headers, cache }: RequestOptions,
  watch: StallWatch,
  method = 'GET',
): Promise<Response> {
  const init: RequestInit = { method, headers: { ...headers, ...range }, signal: watch.signal };
  if (cache !== undefined) init.cache = cache;
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    if (watch.stalled) throw new Passing(`${url} did not answer within ${watch.seconds} s`);
    throw new Passing(`could not reach ${url}: ${(error as Error).message}`);
  }
  watch.alive();
  return response;
}

/** Page servers answer unknown paths with their start page. */
const isPage = (response: Response): boolean => response.ok && response.headers.get('content-type')?.startsWith('text/html') === true;

function checkStatus(response: Response, url: string, what: string, fine: number[]): void {
  const { status } = response;
  if (fine.includes(status)) return;
  const hint: Record<number, string> = { 401: ' (it wants a token)', 403: ' (not allowed: a licence to accept, or a token?)' };
  const words = `${what} could not be fetched: ${url} answered ${status}${hint[status] ?? ''}`;
  if (status < 500 && status !== 429 && status !== 408) throw new TabreelError('fetch', words);
  const seconds = Number(response.headers.get('retry-after') ?? 0);
  throw new Passing(words, Number.isFinite(seconds) ? seconds * 1000 : 0);
}

/** The header is hidden from pages of other sites unless the server exposes it; then the status has to do. */
function checkContentRange(response: Response, url: string, what: string, [start, end, size]: [number, number, number]): void {
  const header = response.headers.get('content-range');
  if (header === null) return;
  const found = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header);
  if (found === null || Number(found[1]) !== start || Number(found[2]) >= end) {
    throw new TabreelError('fetch', `${url} was asked for bytes ${start} to ${end - 1} of ${what} and answered with "${header}"`);
  }
  if (found[3] !== '*' && Number(found[3]) !== size) {
    throw new TabreelError('weights', `${what} must be ${size} bytes, the server's has ${found[3]}`);
  }
}

function identityOf({ status, headers }: Response): Identity {
  // A weak tag of a compressed answer and the strong one of a part name the same file.
  const version = headers.get('etag')?.replace(/^W\//, '') ?? headers.get('last-modified') ?? undefined;
  const total = status === 200 ? undefined : /\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1];
  const length = status === 200 && !headers.has('content-encoding') ? headers.get('content-length') : null;
  const size = Number(total ?? length ?? NaN);
  return { version, size: Number.isSafeInteger(size) ? size : undefined };
}

async function* chunks(response: Response, what: string, watch: StallWatch): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      let next: ReadableStreamReadResult<Uint8Array>;
      try {
        next = await reader.read();
      } catch (error) {
        const why = watch.stalled ? `nothing came for ${watch.seconds} s` : (error as Error).message;
        throw new Passing(`the download of ${what} broke off: ${why}`);
      }
      watch.alive();
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // Also reached when the caller stops reading: ends the transfer. Nobody is left to hear a failure.
    void reader.cancel().catch(() => undefined);
  }
}

const cutShort = (what: string, size: number, got: number): TabreelError =>
  new TabreelError('weights', `${what} is cut short: it must be ${size} bytes, got ${got}`);

/** Ends a request that says nothing for too long, or when the caller's signal fires. */
class StallWatch {
  stalled = false;
  readonly seconds: number;
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #onAbort = (): void => this.#controller.abort();

  constructor(
    readonly stallMs: number,
    readonly outer: AbortSignal | undefined,
  ) {
    this.seconds = stallMs / 1000;
    outer?.addEventListener('abort', this.#onAbort, { once: true });
    this.alive();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  alive(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.stalled = true;
      this.#controller.abort();
    }, this.stallMs);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.outer?.removeEventListener('abort', this.#onAbort);
  }
}

/** Resolves early when `signal` fires. */
function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}
