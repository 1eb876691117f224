/**
 * What is kept on this device of one model folder: its card, and its files in parts.
 *
 * Whatever fails here (private windows, full disks, a site's data deleted under us) only costs a download; so most of
 * this answers "nothing" and never throws.
 */
import type { ModelFile } from '../card.js';
import { throwIfAborted } from '../errors.js';
import { ANSWER_MS, WORK_MS, inTime } from '../patience.js';
import { appendJournal, canWriteParts, modelsFolder, namesIn, readJournal } from './opfs.js';
import { sha256 } from './sha256.js';
import { JOURNAL, StoredFile, type FileVersion } from './stored-file.js';

const MODEL = `model${JOURNAL}`;

type Line = { url?: string; card?: string; used?: number } | null;

export class ModelStore {
  readonly url: string;
  /** The `tabreel.json` of the last load that was whole. */
  readonly card: string | undefined;
  /** When the model was last loaded, ms since 1970. */
  readonly used: number | undefined;
  /** Every version of every file, whole or not. */
  files: StoredFile[];

  private constructor(
    readonly folder: FileSystemDirectoryHandle,
    lines: Line[],
    files: StoredFile[],
    url: string,
  ) {
    const last = <K extends 'card' | 'used'>(key: K): NonNullable<Line>[K] =>
      lines.filter((line) => line?.[key] !== undefined).at(-1)?.[key];
    [this.url, this.files, this.card, this.used] = [url, files, last('card'), last('used')];
  }

  /** The store of a folder's URL; `create` makes one, where parts can be written. */
  static async open(url: string, { create = false } = {}): Promise<ModelStore | undefined> {
    const open = async (): Promise<ModelStore | undefined> => {
      const models = await modelsFolder({ create: create && canWriteParts() });
      if (models === undefined) return undefined;
      const name = await folderName(url);
      const folder = await models.getDirectoryHandle(name, { create: create && canWriteParts() });
      const store = await ModelStore.#read(folder, url);
      if (create && store.used === undefined) await appendJournal(folder, MODEL, [{ url }]);
      return store;
    };
    try {
      return await inTime(open(), 'the file store', WORK_MS);
    } catch {
      return undefined;
    }
  }

  /** Every model on this device. */
  static async all(): Promise<ModelStore[]> {
    try {
      const models = await modelsFolder({ create: false });
      if (models === undefined) return [];
      const stores: ModelStore[] = [];
      for (const name of await inTime(namesIn(models), 'the file store')) {
        // One that is none, is being deleted or cannot be read hides no other.
        const store = await inTime(ModelStore.#named(models, name), 'the file store').catch(() => undefined);
        if (store) stores.push(store);
      }
      return stores;
    } catch {
      return [];
    }
  }

  static async #named(models: FileSystemDirectoryHandle, name: string): Promise<ModelStore | undefined> {
    const folder = await models.getDirectoryHandle(name);
    const url = ((await readJournal(folder, MODEL)) as Line[]).find((line) => line?.url !== undefined)?.url;
    return url === undefined ? undefined : ModelStore.#read(folder, url);
  }

  static async #read(folder: FileSystemDirectoryHandle, url: string): Promise<ModelStore> {
    const lines = (await readJournal(folder, MODEL)) as Line[];
    const names = (await namesIn(folder)).filter((name) => name.endsWith(JOURNAL) && name !== MODEL);
    const files = await Promise.all(names.map((name) => StoredFile.open(folder, name.slice(0, -JOURNAL.length))));
    return new ModelStore(
      folder,
      lines,
      files.filter((file) => file !== undefined),
      url,
    );
  }

  /** Bytes on this device. */
  get bytes(): number {
    return this.files.reduce((sum, file) => sum + file.landed, 0);
  }

  /** The file in this version. */
  find({ path, version, bytes }: FileVersion): StoredFile | undefined {
    return this.files.find((file) => file.path === path && file.version === version && file.bytes === bytes);
  }

  /** The file in any version that is whole and has the right length: what is left when no server can be asked. */
  findWhole({ path, bytes }: ModelFile): StoredFile | undefined {
    return this.files.find((file) => file.path === path && file.bytes === bytes && file.whole && file.verified);
  }

  /** The file, begun if need be; undefined where nothing can be written. */
  async begin(version: FileVersion): Promise<StoredFile | undefined> {
    const found = this.find(version);
    if (found) return found;
    try {
      const file = await StoredFile.create(this.folder, version);
      this.files.push(file);
      return file;
    } catch {
      return undefined;
    }
  }

  /** Everything is here: notes the card and the day, and deletes what no file of the card uses. */
  async settle(card: string, current: readonly StoredFile[]): Promise<void> {
    const lines: object[] = [{ used: Date.now() }];
    if (card !== this.card) lines.push({ card });
    await appendJournal(this.folder, MODEL, lines).catch(() => undefined);
    for (const file of this.files) {
      if (!current.includes(file)) await file.forget().catch(() => undefined);
    }
    this.files = [...current];
  }

  /** Lets go of every file. */
  close(): void {
    for (const file of this.files) file.close();
  }

  /** Deletes the model. Throws while somebody writes to it. */
  async delete(): Promise<void> {
    const models = await modelsFolder({ create: false });
    await models?.removeEntry(this.folder.name, { recursive: true });
  }
}

/** Readable, and different for different addresses. */
async function folderName(url: string): Promise<string> {
  const words = url
    .replace(/^\w+:\/\//, '')
    .replaceAll(/[^\w.-]+/g, '-')
    .slice(-60);
  return `${words.replace(/^[-.]+|[-.]+$/g, '')}-${(await sha256(new TextEncoder().encode(url))).slice(0, 16)}`;
}

/** Why so many bytes cannot be kept, in words; undefined if they can, or if the browser does not say. */
export async function noRoomFor(bytes: number): Promise<string | undefined> {
  try {
    const { storage } = navigator;
    const { quota, usage } = await inTime(storage.estimate(), 'storage');
    if (quota === undefined || usage === undefined || quota - usage >= bytes) return undefined;
    const mega = (count: number): string => `${Math.max(0, Math.round(count / 1e6))} MB`;
    return `it takes ${mega(bytes)} and the browser allows this site ${mega(quota - usage)} more`;
  } catch {
    return undefined;
  }
}

/**
 * Makes this tab the only one that writes a model; `onWait` hears when another one is at it. Resolves to what ends it.
 * A tab that is closed gives the lock back by itself.
 *
 * @throws TabreelError `aborted`
 */
export async function lockModel(url: string, signal?: AbortSignal, onWait?: () => void): Promise<() => void> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (locks === undefined) return () => undefined;
  const name = lockName(url);
  const hold = (options: LockOptions): Promise<(() => void) | undefined> =>
    new Promise((resolve, reject) => {
      const held = (lock: Lock | null): Promise<void> | undefined => {
        if (lock === null) return void resolve(undefined);
        return new Promise((release) => resolve(release));
      };
      locks.request(name, options, held).catch(reject);
    });
  const asked = inTime(hold({ ifAvailable: true }), 'locks', ANSWER_MS, (release) => release?.());
  const free = await asked.catch(() => () => undefined);
  if (free) return free;
  onWait?.();
  try {
    return (await hold(signal ? { signal } : {})) ?? (() => undefined);
  } catch {
    throwIfAborted(signal, 'loading');
    return () => undefined; // a browser that refuses locks, or says nothing: the file handles are exclusive all the same
  }
}

/** The Web Lock of who writes a model. */
export const lockName = (url: string): string => `tabreel-model ${url}`;
