/** One version of one file on this device: its data, and a journal of the parts that have landed. */
import { WORK_MS, inTime } from '../patience.js';
import { appendJournal, openSync, readJournal, writeAll, type SyncHandle } from './opfs.js';
import { PART_BYTES, partCount, partRange } from './parts.js';
import { sha256 } from './sha256.js';
import { allocate, type Bytes } from './source.js';

/** Which file this is; another version is another file. */
export interface FileVersion {
  /** Path in the model's folder. */
  path: string;
  /** SHA-256 of the card, or the server's ETag or Last-Modified. */
  version: string;
  /** Length, bytes. */
  bytes: number;
}

export const JOURNAL = '.log';
const DATA = '.bin';

type Line = Partial<FileVersion> & { partBytes?: number; part?: number; sha256?: string; gone?: number; verified?: boolean };

export class StoredFile implements FileVersion {
  readonly path: string;
  readonly version: string;
  readonly bytes: number;
  /** The whole matched its SHA-256, or, if none was known, has been given one. */
  verified: boolean;

  /** SHA-256 of each part that is here. */
  readonly #parts: Map<number, string>;
  #handle: SyncHandle | undefined;
  #opening: Promise<SyncHandle> | undefined;
  #lines: Promise<void> = Promise.resolve();

  private constructor(
    readonly folder: FileSystemDirectoryHandle,
    /** Name in the model's folder on this device, without ending. */
    readonly name: string,
    { path, version, bytes }: FileVersion,
    parts = new Map<number, string>(),
    verified = false,
  ) {
    [this.path, this.version, this.bytes, this.#parts, this.verified] = [path, version, bytes, parts, verified];
  }

  /** What the journal `name` tells; undefined if it does not even say of which file it is. */
  static async open(folder: FileSystemDirectoryHandle, name: string): Promise<StoredFile | undefined> {
    const lines = (await readJournal(folder, name + JOURNAL)) as (Line | null)[];
    const head = lines.find((line) => line?.path !== undefined);
    if (typeof head?.path !== 'string' || typeof head.version !== 'string' || !isCount(head.bytes)) return undefined;
    if (head.partBytes !== PART_BYTES) return undefined;
    // What a damaged line names beyond the file's end is no part of it.
    const isPart = (index: unknown): index is number => isCount(index) && index < partCount(head.bytes!);
    const parts = new Map<number, string>();
    let verified = false;
    for (const line of lines) {
      if (isPart(line?.part) && typeof line?.sha256 === 'string') parts.set(line.part, line.sha256);
      if (typeof line?.gone === 'number') parts.delete(line.gone);
      if (typeof line?.verified === 'boolean') verified = line.verified;
    }
    return new StoredFile(folder, name, head as FileVersion, parts, verified);
  }

  /** Begins a file; throws where nothing can be written. */
  static async create(folder: FileSystemDirectoryHandle, file: FileVersion): Promise<StoredFile> {
    const name = (await sha256(new TextEncoder().encode(`${file.path}\n${file.version}\n${file.bytes}`))).slice(0, 32);
    const { path, version, bytes } = file;
    const stored = new StoredFile(folder, name, { path, version, bytes });
    await stored.restart();
    return stored;
  }

  /** Begins anew with no part. */
  async restart(): Promise<void> {
    await this.forget();
    const { path, version, bytes } = this;
    await this.#append({ path, version, bytes, partBytes: PART_BYTES });
  }

  /** Bytes of the parts that are here. */
  get landed(): number {
    let sum = 0;
    for (const index of this.#parts.keys()) sum += this.#length(index);
    return sum;
  }

  get whole(): boolean {
    return this.#parts.size === partCount(this.bytes);
  }

  /** Which parts are here. */
  get parts(): number[] {
    return [...this.#parts.keys()].sort((a, b) => a - b);
  }

  has(index: number): boolean {
    return this.#parts.has(index);
  }

  /** A part, if it is here and as it was when it landed. */
  async read(index: number): Promise<Bytes | undefined> {
    const hash = this.#parts.get(index);
    if (hash === undefined) return undefined;
    try {
      const bytes = await inTime(this.#bytes(index), this.path, WORK_MS);
      if (bytes.length === this.#length(index) && (await sha256(bytes)) === hash) return bytes;
    } catch {
      // The data file is gone, cannot be read or is not given: as good as damaged.
    }
    return undefined;
  }

  /** Keeps a part: the data first, then the line that says so. Throws when there is no room. */
  async put(index: number, bytes: Bytes): Promise<void> {
    const hash = await sha256(bytes);
    const handle = await this.#open();
    writeAll(handle, bytes, partRange(index, this.bytes)[0]);
    handle.flush();
    await this.#append({ part: index, sha256: hash });
    this.#parts.set(index, hash);
  }

  /** Forgets a part that is not what it was. */
  async drop(index: number): Promise<void> {
    this.#parts.delete(index);
    this.verified = false;
    await this.#append({ gone: index }, { verified: false });
  }

  async setVerified(): Promise<void> {
    this.verified = true;
    await this.#append({ verified: true });
  }

  /** Deletes the file. */
  async forget(): Promise<void> {
    this.close();
    this.#parts.clear();
    this.verified = false;
    // Without its journal the data is nothing; the other way round it would be a file of damaged parts.
    await remove(this.folder, this.name + JOURNAL);
    await remove(this.folder, this.name + DATA);
  }

  /** Lets go of the data file, so that others may write or delete it. Reading goes on without. */
  close(): void {
    this.#handle?.close();
    this.#handle = this.#opening = undefined;
  }

  /** Once, however many parts land at the same time: the browser gives a file to one handle only. */
  #open(): Promise<SyncHandle> {
    return (this.#opening ??= this.#openNow().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    }));
  }

  async #openNow(): Promise<SyncHandle> {
    const handle = await openSync(await this.folder.getFileHandle(this.name + DATA, { create: true }));
    if (handle === undefined) throw new DOMException('files cannot be written in parts here', 'NotSupportedError');
    return (this.#handle = handle);
  }

  async #bytes(index: number): Promise<Bytes> {
    const [start, end] = partRange(index, this.bytes);
    if (this.#handle === undefined) {
      const file = await (await this.folder.getFileHandle(this.name + DATA)).getFile();
      return new Uint8Array(await file.slice(start, end).arrayBuffer());
    }
    const bytes = allocate(end - start, this.path);
    return bytes.subarray(0, this.#handle.read(bytes, { at: start }));
  }

  #length(index: number): number {
    const [start, end] = partRange(index, this.bytes);
    return end - start;
  }

  /** One line after the other. */
  #append(...lines: Line[]): Promise<void> {
    const next = this.#lines.then(() => appendJournal(this.folder, this.name + JOURNAL, lines));
    this.#lines = next.catch(() => undefined);
    return next;
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

async function remove(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  try {
    await folder.removeEntry(name);
  } catch (error) {
    if ((error as Error).name !== 'NotFoundError') throw error;
  }
}
