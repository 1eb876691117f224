/** A file on a web server of which parts are on this device: read from here, else fetched and kept; checked as a whole. */
import { TabreelError } from '../errors.js';
import { HttpParts, SMALL_BYTES, type HttpFile } from './http.js';
import type { FileMeter } from './meter.js';
import { PartSource, partCount, partRange } from './parts.js';
import type { RequestOptions } from './request.js';
import { Sha256, sha256 } from './sha256.js';
import { allocate, type Bytes } from './source.js';
import type { StoredFile } from './stored-file.js';

export interface KeptFile extends HttpFile {
  /** Of the whole, in hex, if the card tells. */
  sha256?: string | undefined;
}

/** What the files of one load share. */
export interface Keeping {
  request: RequestOptions;
  /** False once nothing more can be kept. */
  keeping: boolean;
  /** A copy that was thought whole is not: to be kept again it needs the right to write. */
  mend(): Promise<void>;
  /** A part could not be kept: from now on none is. */
  stop(error: unknown): void;
  warn(message: string): void;
  /** Parts that are fetched before they are asked for, while a file is read in order; 2 where this is left out. */
  ahead?: number | undefined;
}

/** How many parts are fetched at once when the whole is wanted. */
const AT_ONCE = 3;

/**
 * With a hash and at most 64 MiB, the whole is fetched and checked before a byte is handed out. A longer file is hashed
 * as its parts come, in order, and `finish` says whether it is what the card promised.
 */
export class KeptSource extends PartSource {
  readonly #file: KeptFile;
  readonly #shared: Keeping;
  readonly #meter: FileMeter | undefined;
  readonly #counted = new Set<number>();
  #stored: StoredFile | undefined;
  #http: HttpParts;
  #whole: Promise<Bytes> | undefined;
  /** The hash of the parts before `#next`. */
  #hash = new Sha256();
  #next = 0;
  /** Parts that came before their turn. */
  readonly #early = new Map<number, Bytes>();

  constructor(file: KeptFile, shared: Keeping, stored?: StoredFile, meter?: FileMeter) {
    super(file.label, file.size, shared.ahead);
    [this.#file, this.#shared, this.#stored, this.#meter] = [file, shared, stored, meter];
    this.#http = this.#connect(cacheFor(file));
  }

  /** The copy on this device, if it is whole and checked. */
  get stored(): StoredFile | undefined {
    return this.#stored?.whole && this.#stored.verified ? this.#stored : undefined;
  }

  protected async load(index: number): Promise<Bytes> {
    if (this.#file.sha256 !== undefined && this.size <= SMALL_BYTES) {
      return (await this.#checkedWhole()).subarray(...partRange(index, this.size));
    }
    const bytes = await this.#bring(index);
    this.#hashInTurn(index, bytes);
    return bytes;
  }

  /**
   * Brings what is still missing and checks the whole.
   *
   * @throws TabreelError `weights` if it is not what the card promised; the copy is forgotten then. Else as `read`.
   */
  async finish(): Promise<void> {
    const hash = this.#file.sha256;
    if (hash !== undefined && this.size <= SMALL_BYTES) return void (await this.#checkedWhole());
    if (this.stored || (hash === undefined && !this.#keeps)) return;
    while (this.#next < partCount(this.size)) {
      if (!this.#stored?.has(this.#next) && this.#counted.has(this.#next)) {
        this.#shared.warn(`${this.label} was not checked against its SHA-256: it is not kept, and was not read in order`);
        return;
      }
      const index = this.#next;
      this.#hashInTurn(index, await this.part(index));
    }
    const found = this.#hash.hex();
    if (hash === undefined || hash.toLowerCase() === found) return this.#markVerified();
    await this.#stored?.forget().catch(() => undefined);
    throw damaged(this.label, hash, found);
  }

  /** Frees the memory; what is read later is read anew. */
  rest(): void {
    this.drop();
    this.#whole = undefined;
    this.#early.clear();
  }

  override close(): void {
    super.close();
    this.rest();
  }

  get #keeps(): boolean {
    return this.#stored !== undefined && this.#shared.keeping;
  }

  #connect(cache: RequestCache | undefined): HttpParts {
    const onBytes = (count: number): void => this.#meter?.add(count, 'network');
    return new HttpParts(this.#file, { ...this.#shared.request, onBytes, cache });
  }

  async #bring(index: number): Promise<Bytes> {
    const kept = await this.#stored?.read(index);
    if (kept) {
      if (!this.#counted.has(index)) this.#meter?.add(kept.length, 'device');
      this.#counted.add(index);
      return kept;
    }
    if (this.#stored?.has(index)) {
      await this.#shared.mend();
      await this.#stored.drop(index).catch(() => undefined);
    }
    const bytes = await this.#http.fetch(index);
    this.#counted.add(index);
    if (this.#keeps) await this.#stored!.put(index, bytes).catch((error: unknown) => this.#shared.stop(error));
    return bytes;
  }

  /** Promised bytes only; a wrong copy, here or in a cache on the way, is fetched anew once. */
  #checkedWhole(): Promise<Bytes> {
    const whole = (this.#whole ??= this.#fetchWhole());
    whole.catch(() => this.#whole === whole && (this.#whole = undefined));
    return whole;
  }

  async #fetchWhole(): Promise<Bytes> {
    try {
      return await this.#promised(await this.#allParts());
    } catch (error) {
      if (!(error instanceof TabreelError) || (error.code !== 'weights' && !this.#http.replaced)) throw error;
    }
    await this.#stored?.restart().catch((error: unknown) => this.#shared.stop(error));
    this.#http = this.#connect('reload');
    this.#meter?.restart();
    this.#counted.clear();
    try {
      return await this.#promised(await this.#allParts());
    } catch (error) {
      if (error instanceof TabreelError && error.code === 'weights') await this.#stored?.forget().catch(() => undefined);
      throw error;
    }
  }

  async #promised(bytes: Bytes): Promise<Bytes> {
    // Each part of a copy that was checked as a whole has just been checked by itself.
    if (this.stored) return bytes;
    const wanted = this.#file.sha256!.toLowerCase();
    const found = await sha256(bytes);
    if (found !== wanted) throw damaged(this.label, wanted, found);
    await this.#markVerified();
    return bytes;
  }

  async #allParts(): Promise<Bytes> {
    const bytes = allocate(this.size, this.label);
    const left = Array.from({ length: partCount(this.size) }, (_, index) => index);
    const worker = async (): Promise<void> => {
      for (let index = left.shift(); index !== undefined; index = left.shift()) {
        try {
          bytes.set(await this.#bring(index), partRange(index, this.size)[0]);
        } catch (error) {
          left.length = 0;
          throw error;
        }
      }
    };
    const done = await Promise.allSettled(Array.from({ length: AT_ONCE }, worker));
    for (const result of done) if (result.status === 'rejected') throw result.reason;
    return bytes;
  }

  async #markVerified(): Promise<void> {
    if (this.#stored?.whole && !this.#stored.verified) await this.#stored.setVerified().catch(() => undefined);
  }

  #hashInTurn(index: number, bytes: Bytes): void {
    if (index < this.#next || this.stored) return;
    this.#early.set(index, bytes);
    for (let next = this.#early.get(this.#next); next; next = this.#early.get(this.#next)) {
      this.#hash.update(next);
      this.#early.delete(this.#next++);
    }
    // Reading out of order: what is kept is read again for its turn, and must not pile up here.
    for (const oldest of this.#early.keys()) {
      if (this.#early.size <= AT_ONCE) break;
      this.#early.delete(oldest);
    }
  }
}

/**
 * How the browser's own cache may be used. A large file would lie on the disk twice; and where no hash says whether what comes
 * is what the server has now, an answer that may still be used by its age (`max-age`) could be a file from before.
 */
function cacheFor({ size, sha256 }: KeptFile): RequestCache | undefined {
  if (size > SMALL_BYTES) return 'no-store';
  return sha256 === undefined ? 'no-cache' : undefined;
}

const damaged = (label: string, wanted: string, found: string): TabreelError =>
  new TabreelError('weights', `${label} is damaged: its SHA-256 must be ${wanted}, got ${found}`);
