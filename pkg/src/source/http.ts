/** A file on a web server, read in parts of 8 MiB. */
import { TabreelError } from '../errors.js';
import { PartSource, partRange } from './parts.js';
import { RangeIgnored, fetchRange, identify, type Identity, type RequestOptions } from './request.js';
import { type Bytes } from './source.js';

/** Files up to this length are taken whole from a server that does not send parts, bytes. */
export const SMALL_BYTES = 64 * 1024 * 1024;

export interface HttpFile {
  /** Path in the folder, for messages. */
  label: string;
  url: string;
  /** Length, bytes. Another one on the server is an error. */
  size: number;
}

/** Fetches parts of one file; parts of two versions of it never mix. */
export class HttpParts {
  readonly #file: HttpFile;
  readonly #options: RequestOptions;
  #version: string | undefined;
  /** Two answers were of different versions. */
  replaced = false;
  #whole: Promise<Bytes> | undefined;

  constructor(file: HttpFile, options: RequestOptions) {
    this.#file = file;
    this.#options = options;
  }

  /** The version that the parts are of, once one has come. */
  get version(): string | undefined {
    return this.#version;
  }

  /** @throws TabreelError `fetch`, `weights`, `aborted`, `out-of-memory` */
  async fetch(index: number): Promise<Bytes> {
    const { label, url, size } = this.#file;
    const [start, end] = partRange(index, size);
    if (this.#whole) return (await this.#whole).subarray(start, end);
    try {
      return await fetchRange(url, label, [start, end, size], this.#checking());
    } catch (error) {
      if (!(error instanceof RangeIgnored)) throw error;
      if (size > SMALL_BYTES) {
        const megabytes = Math.round(size / 1e6);
        throw new TabreelError(
          'fetch',
          `${label} (${megabytes} MB) must be fetched in parts, and ${url} only sends it whole (it ignores Range requests)`,
        );
      }
      const whole = (this.#whole ??= fetchRange(url, label, [0, size, size], this.#checking()));
      whole.catch(() => this.#whole === whole && (this.#whole = undefined));
      return (await whole).subarray(start, end);
    }
  }

  /** What the server says of the file now. @throws TabreelError `fetch`, `aborted` */
  async identify(): Promise<Identity> {
    const { label, url } = this.#file;
    const identity = await identify(url, label, this.#options);
    if (identity === undefined) throw new TabreelError('fetch', `${label} could not be fetched: ${url} answered 404`);
    this.#check(identity);
    return identity;
  }

  #checking(): RequestOptions {
    return { ...this.#options, onIdentity: (identity) => this.#check(identity) };
  }

  #check({ version }: Identity): void {
    this.#version ??= version;
    if (version === undefined || version === this.#version) return;
    this.replaced = true;
    const { label, url } = this.#file;
    throw new TabreelError('fetch', `${label} was replaced on the server while it was fetched (${url}): load the model again`);
  }
}

/** A file on a server of which nothing is kept. */
export class HttpSource extends PartSource {
  readonly #parts: HttpParts;

  constructor(file: HttpFile, options: RequestOptions = {}) {
    super(file.label, file.size);
    this.#parts = new HttpParts(file, options);
  }

  protected load(index: number): Promise<Bytes> {
    return this.#parts.fetch(index);
  }
}
