/** Stand-ins at the edges: the Cache API, a worker. */
import type { Capabilities } from '../src/contract.js';
import type { TabreelError } from '../src/errors.js';
import type { Frame } from '../src/frame.js';
import type { WorkerLike } from '../src/link.js';
import type { FromWorker, ToWorker } from '../src/messages.js';

/** What a model can be given that can be given everything. */
export const EVERYTHING: Capabilities = {
  text: true,
  classes: 0,
  pictureOnly: false,
  image: true,
  lastImage: true,
  needsLastImage: false,
  keyframes: true,
  mask: true,
  control: true,
  reference: true,
  source: true,
  why: '',
};

/** The part of CacheStorage that kernel-report.ts uses. */
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

/** A message that has an id. */
export type JobMessage = Exclude<ToWorker, { type: 'pause' }>;

/** A worker that is driven by the test. */
export class FakeWorker implements WorkerLike {
  onmessage: WorkerLike['onmessage'] = null;
  onerror: WorkerLike['onerror'] = null;
  onmessageerror: WorkerLike['onmessageerror'] = null;
  readonly received: ToWorker[] = [];
  readonly transferred: Transferable[] = [];
  terminated = false;

  /** What it does with a job; by default nothing, as a worker that hangs. */
  constructor(readonly behave: (job: JobMessage, worker: FakeWorker) => void = () => undefined) {}

  postMessage(message: ToWorker, transfer: Transferable[] = []): void {
    this.received.push(message);
    this.transferred.push(...transfer);
    if (message.type !== 'pause') queueMicrotask(() => this.behave(message, this));
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

/** What a promise rejects with; undefined if it does not. */
export const caught = (promise: Promise<unknown>): Promise<TabreelError | undefined> =>
  promise.then(
    () => undefined,
    (error: TabreelError) => error,
  );

/** A clip whose frames are numbered in their red channel. */
export function clipOf(count: number, { fps = 8, width = 16, height = 16 } = {}): { frames: Frame[]; fps: number } {
  const frames = Array.from({ length: count }, (_, index) => {
    const { data } = imageData(width, height, [index, 50, 60, 255]);
    return { width, height, data: data as Uint8ClampedArray<ArrayBuffer> };
  });
  return { frames, fps };
}
