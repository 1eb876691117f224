/** Opens a described model folder where it is read: in the worker. */
import type { ModelFile } from '../card.js';
import { TabreelError } from '../errors.js';
import { KeptSource, type Keeping } from './kept.js';
import { blobSource } from './memory.js';
import { Meter, type FetchProgress, type FileMeter } from './meter.js';
import { addressOf, type RemoteFolder } from './remote.js';
import { identify, type RequestOptions, type Timing } from './request.js';
import type { ByteSource } from './source.js';
import { ModelStore, lockModel, noRoomFor } from './store.js';
import type { FileVersion, StoredFile } from './stored-file.js';

/** A folder on a web server. */
type RemoteDescription = RemoteFolder & {
  kind: 'remote';
  files: readonly ModelFile[];
  /** The card's text, kept beside the files for a visit without a network. */
  card: string;
  /** False leaves nothing on this device. */
  keep: boolean;
  /** Folders in it whose files are not read this time; what is kept of them stays. */
  without?: readonly string[];
};

type LocalDescription = { kind: 'local'; files: Record<string, Blob> };

/** A file that comes from elsewhere than the rest of its model. */
export interface PlacedFile {
  /** Its path in the model. */
  path: string;
  /** Of a LoRA. */
  strength?: number;
  from: Blob | RemoteDescription;
}

/** A folder, all of one place. */
export type OneFolder = RemoteDescription | LocalDescription;

/** What the page tells the worker of a model. */
export type FolderDescription = OneFolder | { kind: 'set'; base: OneFolder | undefined; files: readonly PlacedFile[] };

export interface OpenOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: FetchProgress) => void) | undefined;
  /** What the caller should know, e.g. why nothing is kept. */
  onWarning?: ((message: string) => void) | undefined;
  timing?: Timing | undefined;
  /** Nothing but headers is wanted: no part is fetched before it is asked for. */
  headersOnly?: boolean;
}

/** A file of an open model; LoRAs have a strength. */
export type OpenFile = ByteSource & { strength?: number };

/** A model folder that can be read. */
export interface OpenFolder {
  files: OpenFile[];
  /**
   * To be called when a model has been built: brings what it did not read and is to be kept, checks the hashes, deletes
   * older versions.
   *
   * @throws TabreelError `weights`, `fetch`, `aborted`
   */
  finish(): Promise<void>;
  /** Lets go of everything; what has landed stays. */
  close(): void;
}

/** @throws TabreelError `fetch`, `aborted` */
export async function openFolder(folder: FolderDescription, options: OpenOptions): Promise<OpenFolder> {
  const meter = new Meter(listed(folder), (progress) => options.onProgress?.(progress));
  if (folder.kind !== 'set') return openOne(folder, options, meter);
  const opened: OpenFolder[] = [];
  const close = (): void => opened.forEach((one) => one.close());
  /** A file that is named twice is opened once: its lock is for one. */
  const byAddress = new Map<string, OpenFolder>();
  try {
    if (folder.base) opened.push(await openOne(folder.base, options, meter));
    const files: OpenFile[] = [...(opened[0]?.files ?? [])];
    for (const { path, strength, from } of folder.files) {
      const address = from instanceof Blob ? path : from.base;
      const description: OneFolder = from instanceof Blob ? { kind: 'local', files: { [path]: from } } : from;
      const one = byAddress.get(address) ?? (await openOne(description, options, meter, path));
      if (!byAddress.has(address)) opened.push(one);
      byAddress.set(address, one);
      const file = one.files[0]!;
      const read = (start: number, end: number): ReturnType<ByteSource['read']> => file.read(start, end);
      files.push({ label: path, size: file.size, read, ...(strength === undefined ? {} : { strength }) });
    }
    return {
      files,
      async finish() {
        for (const one of opened) await one.finish();
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** Every file with its length, by its path in the model. */
function listed(folder: FolderDescription): ModelFile[] {
  if (folder.kind === 'remote') return [...folder.files];
  if (folder.kind === 'local') return Object.entries(folder.files).map(([path, { size }]) => ({ path, bytes: size }));
  const placed = folder.files.map(({ path, from }) => ({ path, bytes: from instanceof Blob ? from.size : from.files[0]!.bytes }));
  return [...(folder.base ? listed(folder.base) : []), ...placed];
}

/** `placed` is the path in the model of a folder's only file. */
async function openOne(folder: OneFolder, options: OpenOptions, meter: Meter, placed?: string): Promise<OpenFolder> {
  if (folder.kind === 'remote') return openRemote(folder, options, meter, placed);
  const files = Object.entries(folder.files).map(([path, blob]) => metered(blobSource(path, blob, options.signal), meter.file(path)));
  return { files, finish: async () => undefined, close: () => undefined };
}

/** Counts what is read; what is read twice counts twice, up to the file's length. */
function metered(source: ByteSource, meter: FileMeter | undefined): ByteSource {
  return {
    label: source.label,
    size: source.size,
    async read(start, end) {
      const bytes = await source.read(start, end);
      meter?.add(bytes.length, 'device');
      return bytes;
    },
  };
}

async function openRemote(folder: RemoteDescription, options: OpenOptions, meter: Meter, placed?: string): Promise<OpenFolder> {
  const { signal, timing, onWarning, headersOnly = false } = options;
  const request: RequestOptions = { headers: folder.headers, signal, timing, onWait: (why) => meter.wait(why) };
  const warn = (message: string): void => onWarning?.(message);

  let store = folder.keep ? await ModelStore.open(folder.base) : undefined;
  const versions = folder.keep ? await versionsOf(folder, store, request) : [];
  let release: (() => void) | undefined;
  let stored = versions.map((version) => version && store?.find(version));
  const isThere = (file: StoredFile | undefined): boolean => file !== undefined && file.whole && file.verified;
  let lock: Promise<() => void> | undefined;
  const waitForLock = async (): Promise<void> => {
    lock ??= lockModel(folder.base, signal, () => meter.wait('another tab is downloading this model'));
    release = await lock;
    meter.wait(undefined);
  };
  const shared: Keeping = {
    request,
    keeping: false,
    ahead: headersOnly ? 0 : undefined,
    warn,
    async mend() {
      if (lock) return; // it may write, or has given up
      await waitForLock();
      shared.keeping = true;
    },
    stop(error) {
      if (!shared.keeping) return;
      shared.keeping = false;
      warn(`the model is not kept on this device: ${(error as Error).message}`);
    },
  };
  if (folder.keep && !stored.every(isThere)) {
    await waitForLock();
    // What another tab has brought meanwhile need not be fetched.
    store = await ModelStore.open(folder.base, { create: true });
    stored = versions.map((version) => version && store?.find(version));
    const why = store === undefined ? 'this browser gives the page no storage' : await obstacle(folder.files, versions, stored);
    shared.keeping = why === undefined;
    if (why !== undefined) warn(`the model is not kept on this device: ${why}`);
    for (const [i, version] of versions.entries()) {
      if (shared.keeping && version) stored[i] ??= await store?.begin(version);
    }
  }

  const files = folder.files.map(({ path, bytes, sha256 }, i) => {
    const file = { label: path, url: addressOf(folder, path), size: bytes, sha256 };
    return new KeptSource(file, shared, stored[i], meter.file(placed ?? path));
  });
  const unread = store?.files.filter(({ path }) => folder.without?.some((part) => path.startsWith(`${part}/`))) ?? [];
  const letGo = (): void => {
    store?.close();
    release?.();
    release = undefined;
  };
  return {
    files,
    async finish() {
      for (const file of files) await file.finish();
      for (const file of files) file.rest();
      const whole = files.map(({ stored }) => stored).filter((file) => file !== undefined);
      // Only now is an older version of no more use.
      if (whole.length === files.length) await store?.settle(folder.card, [...whole, ...unread]);
      letGo();
    },
    close() {
      for (const file of files) file.close();
      letGo();
    },
  };
}

/**
 * Which version of each file is wanted: by the card's hash, or by what the server says of it. Without an answer the one
 * that is whole on this device; undefined where there is none, or no name for a version.
 */
async function versionsOf(
  folder: RemoteFolder & { files: readonly ModelFile[] },
  store: ModelStore | undefined,
  request: RequestOptions,
): Promise<(FileVersion | undefined)[]> {
  return Promise.all(
    folder.files.map(async (file): Promise<FileVersion | undefined> => {
      const { path, bytes, sha256 } = file;
      if (sha256 !== undefined) return { path, bytes, version: sha256.toLowerCase() };
      try {
        const identity = await identify(addressOf(folder, path), path, request);
        return identity?.version === undefined ? undefined : { path, bytes, version: identity.version };
      } catch (error) {
        const whole = error instanceof TabreelError && error.code === 'fetch' ? store?.findWhole(file) : undefined;
        if (whole === undefined) throw error;
        return whole;
      }
    }),
  );
}

/** Why the files cannot be kept, in words. */
async function obstacle(
  files: readonly ModelFile[],
  versions: readonly (FileVersion | undefined)[],
  stored: readonly (StoredFile | undefined)[],
): Promise<string | undefined> {
  const nameless = files.find((_, i) => versions[i] === undefined);
  if (nameless) {
    return `the server names no version of ${nameless.path} (ETag or Last-Modified), and the card has no "sha256" of it`;
  }
  const missing = files.reduce((sum, { bytes }, i) => sum + bytes - (stored[i]?.landed ?? 0), 0);
  return noRoomFor(missing);
}
