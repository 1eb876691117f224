/** Stand-ins at the edges: the Cache API, a server, a worker. */
import type { WorkerLike } from '../src/link.js';
import type { FromWorker, ToWorker } from '../src/messages.js';

/** The part of CacheStorage that the shelf uses. */
export class FakeCaches {
  readonly entries = new Map<string, Response>();
  full = false;

  async open(): Promise<unknown> {
    return {
      keys: async () => [...this.entries.keys()].map((url) => ({ url })),
      match: async (key: string | { url: string }) => this.entries.get(typeof key === 'string' ? key : key.url)?.clone(),
      put: async (key: string, response: Response) => {
        if (this.full) throw new DOMException('no room', 'QuotaExceededError');
        this.entries.set(key, response);
      },
      delete: async (key: { url: string }) => this.entries.delete(key.url),
    };
  }

  async delete(): Promise<boolean> {
    this.entries.clear();
    return true;
  }
}

interface ServedRequest {
  path: string;
  range: string | null;
}

/** A web server in a function; `fetch` of the code under test. */
export class FakeServer {
  readonly requests: ServedRequest[] = [];
  readonly files = new Map<string, Uint8Array<ArrayBuffer> | string>();
  ranges = true;
  offline = false;
  /** Breaks a download off after this many bytes. */
  breakAfter = Infinity;
  chunkBytes = 1024 * 1024;

  readonly fetch = async (url: string, init: RequestInit = {}): Promise<Response> => {
    if (this.offline) throw new TypeError('Failed to fetch');
    const { pathname } = new URL(url);
    const range = new Headers(init.headers).get('range');
    this.requests.push({ path: pathname, range });
    const content = this.files.get(pathname);
    if (content === undefined) return new Response('not here', { status: 404 });
    if (typeof content === 'string') return new Response(content);
    const start = range && this.ranges ? Number(/bytes=(\d+)-/.exec(range)![1]) : 0;
    const status = range && this.ranges ? 206 : 200;
    return new Response(this.#stream(content.subarray(start), init.signal), { status });
  };

  #stream(bytes: Uint8Array<ArrayBuffer>, signal?: AbortSignal | null): ReadableStream<Uint8Array<ArrayBuffer>> {
    let sent = 0;
    return new ReadableStream({
      pull: (controller) => {
        if (signal?.aborted) return controller.error(new DOMException('aborted', 'AbortError'));
        if (sent >= this.breakAfter) return controller.error(new TypeError('network error'));
        if (sent >= bytes.length) return controller.close();
        controller.enqueue(bytes.slice(sent, sent + this.chunkBytes));
        sent += this.chunkBytes;
      },
    });
  }
}

/** A worker that is driven by the test. */
export class FakeWorker implements WorkerLike {
  onmessage: WorkerLike['onmessage'] = null;
  onerror: WorkerLike['onerror'] = null;
  onmessageerror: WorkerLike['onmessageerror'] = null;
  readonly received: ToWorker[] = [];
  readonly transferred: Transferable[] = [];
  terminated = false;

  /** What it does with a job; by default nothing, as a worker that hangs. */
  constructor(readonly behave: (job: ToWorker, worker: FakeWorker) => void = () => undefined) {}

  postMessage(message: ToWorker, transfer: Transferable[] = []): void {
    this.received.push(message);
    this.transferred.push(...transfer);
    queueMicrotask(() => this.behave(message, this));
  }

  terminate(): void {
    this.terminated = true;
  }

  say(data: FromWorker): void {
    this.onmessage?.({ data } as MessageEvent<FromWorker>);
  }
}

export const randomBytes = (length: number): Uint8Array<ArrayBuffer> => Uint8Array.from({ length }, (_, i) => (i * 2654435761) >>> 24);

/** What a canvas gives, where there is no canvas: one colour. */
export function imageData(width: number, height: number, rgba: readonly [number, number, number, number]): ImageData {
  const data = Uint8ClampedArray.from({ length: width * height * 4 }, (_, i) => rgba[i % 4]!);
  return { width, height, data, colorSpace: 'srgb', [Symbol.toStringTag]: 'ImageData' } as unknown as ImageData;
}
