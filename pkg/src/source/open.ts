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

/** What the page tells the worker of a model folder. */
export type FolderDescription =
  | (RemoteFolder & {
      kind: 'remote';
      files: readonly ModelFile[];
      /** The card's text, kept beside the files for a visit without a network. */
      card: string;
      /** False leaves nothing on this device. */
      keep: boolean;
    })
  | { kind: 'local'; files: Record<string, Blob> };

export interface OpenOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: FetchProgress) => void) | undefined;
  /** What the caller should know, e.g. why nothing is kept. */
  onWarning?: ((message: string) => void) | undefined;
  timing?: Timing | undefined;
}

/** A model folder that can be read. */
export interface OpenFolder {
  files: ByteSource[];
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
  if (folder.kind === 'remote') return openRemote(folder, options);
  const listed = Object.entries(folder.files).map(([path, { size }]) => ({ path, bytes: size }));
  const meter = new Meter(listed, (progress) => options.onProgress?.(progress));
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

async function openRemote(folder: Extract<FolderDescription, { kind: 'remote' }>, options: OpenOptions): Promise<OpenFolder> {
  const { signal, timing, onProgress, onWarning } = options;
  const meter = new Meter(folder.files, (progress) => onProgress?.(progress));
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
    return new KeptSource(file, shared, stored[i], meter.file(path));
  });
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
      if (whole.length === files.length) await store?.settle(folder.card, whole);
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
  { base, files }: RemoteFolder & { files: readonly ModelFile[] },
  store: ModelStore | undefined,
  request: RequestOptions,
): Promise<(FileVersion | undefined)[]> {
  return Promise.all(
    files.map(async (file): Promise<FileVersion | undefined> => {
      const { path, bytes, sha256 } = file;
      if (sha256 !== undefined) return { path, bytes, version: sha256.toLowerCase() };
      try {
        const identity = await identify(addressOf({ base }, path), path, request);
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
