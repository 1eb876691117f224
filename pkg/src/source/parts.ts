/** A file that comes in parts: the last few stay in memory, the next few are on their way. */
import { TabreelError } from '../errors.js';
import { allocate, checkRange, type ByteSource, type Bytes } from './source.js';

/** Parts begin at multiples of this; the last one of a file may be shorter. */
export const PART_BYTES = 8 * 1024 * 1024;

/** Parts that are fetched before they are asked for, while a file is read in order, unless somebody says how many. */
const AHEAD = 2;
/** Parts held in memory: the one at hand, the one before (tensors cross borders) and those ahead. */
const HELD = AHEAD + 2;

export const partCount = (size: number): number => Math.ceil(size / PART_BYTES);
/** Where part `index` begins and ends. */
export const partRange = (index: number, size: number): [start: number, end: number] => [
  index * PART_BYTES,
  Math.min(size, (index + 1) * PART_BYTES),
];

/** Reads ranges out of parts that `load` brings; each part is loaded once as long as it is held. */
export abstract class PartSource implements ByteSource {
  readonly #held = new Map<number, Promise<Bytes>>();
  #last = -1;
  #closed = false;

  constructor(
    readonly label: string,
    readonly size: number,
    private readonly ahead = AHEAD,
  ) {}

  /** Brings one part, whole and checked. The bytes are shared: they must not be changed or handed on. */
  protected abstract load(index: number): Promise<Bytes>;

  async read(start: number, end: number): Promise<Bytes> {
    checkRange(this, start, end);
    const bytes = allocate(end - start, this.label);
    for (let at = start; at < end;) {
      const index = Math.floor(at / PART_BYTES);
      const [from, to] = partRange(index, this.size);
      const stop = Math.min(end, to);
      bytes.set((await this.part(index)).subarray(at - from, stop - from), at - start);
      at = stop;
    }
    return bytes;
  }

  close(): void {
    this.#closed = true;
    this.#held.clear();
  }

  /** Part `index`, and the next ones on their way if the file is read in order. */
  protected part(index: number): Promise<Bytes> {
    if (this.#closed) return Promise.reject(new TabreelError('aborted', `${this.label} was closed while it was read`));
    const inOrder = index === this.#last || index === this.#last + 1;
    this.#last = index;
    const part = this.#hold(index);
    if (inOrder) {
      const end = Math.min(partCount(this.size), index + 1 + this.ahead);
      // Who fails ahead of time is asked again when its turn comes.
      for (let next = index + 1; next < end; next++) this.#hold(next).catch(() => undefined);
    }
    return part;
  }

  /** Forgets what is in memory. */
  protected drop(): void {
    this.#held.clear();
  }

  #hold(index: number): Promise<Bytes> {
    const held = this.#held.get(index) ?? this.load(index);
    // Last in the map is last to go.
    this.#held.delete(index);
    this.#held.set(index, held);
    held.catch(() => this.#held.get(index) === held && this.#held.delete(index));
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= HELD) break;
      this.#held.delete(oldest);
    }
    return held;
  }
}
