/** Models that earlier loads left on this device: listed, checked, deleted. */
import { TabreelError } from '../errors.js';
import { deleteKernelReports } from '../kernel-report.js';
import { WORK_MS, inTime, isLate } from '../patience.js';
import { modelAddress } from './remote.js';
import { ModelStore, lockName } from './store.js';

/** One model that was kept on this device. */
export interface KeptModel {
  /** The folder's URL. */
  url: string;
  /** What it takes on this device, bytes. */
  bytes: number;
  /** When it was last loaded; undefined while it never was whole. */
  lastUsed: Date | undefined;
}

/** What {@link verifyKept} found. */
export interface VerifiedModel {
  /** The folder's URL. */
  url: string;
  /** Files that are whole and as they were when they landed. */
  good: number;
  /** Paths of files of which something was damaged; the damaged parts are forgotten, and fetched again by the next load. */
  damaged: string[];
  /** Paths of files that are not whole. */
  unfinished: string[];
}

/** Lists what earlier loads left on this device, for this site. */
export async function keptModels(): Promise<KeptModel[]> {
  const stores = await ModelStore.all();
  return stores
    .map(({ url, bytes, used }) => ({ url, bytes, lastUsed: used === undefined ? undefined : new Date(used) }))
    .filter(({ bytes }) => bytes > 0);
}

/**
 * Deletes one model, or everything this package has kept.
 *
 * @throws TabreelError `invalid-options` while a tab downloads the model
 */
export async function deleteKept(modelUrl?: string): Promise<void> {
  const stores = (await ModelStore.all()).filter(({ url }) => isMeant(url, modelUrl));
  for (const store of stores) {
    try {
      await alone(store, () => store.delete());
    } catch (error) {
      if ((error as Error).name === 'NotFoundError') continue;
      const why = isLate(error) ? 'the browser does not answer' : 'a tab is downloading it';
      const words = `${store.url} cannot be deleted just now: ${why}`;
      throw new TabreelError('invalid-options', words, { cause: error });
    }
  }
  if (modelUrl === undefined) await deleteKernelReports().catch(() => undefined);
}

/** Reads every part of the kept models (or of one) and compares it with its SHA-256. */
export async function verifyKept(modelUrl?: string): Promise<VerifiedModel[]> {
  const found: VerifiedModel[] = [];
  for (const { url, files } of await ModelStore.all()) {
    if (!isMeant(url, modelUrl)) continue;
    const result: VerifiedModel = { url, good: 0, damaged: [], unfinished: [] };
    for (const file of files) {
      let damaged = false;
      for (const index of file.parts) {
        if ((await file.read(index)) !== undefined) continue;
        damaged = true;
        await file.drop(index).catch(() => file.forget().catch(() => undefined));
      }
      if (damaged) result.damaged.push(file.path);
      else if (file.whole) result.good++;
      else result.unfinished.push(file.path);
    }
    found.push(result);
  }
  return found;
}

/** All are, where none is named; a name is the kept folder's URL, or what `load` was given for it. */
function isMeant(url: string, wanted: string | undefined): boolean {
  if (wanted === undefined || url === wanted) return true;
  try {
    return url === modelAddress(wanted);
  } catch {
    return false;
  }
}

/** Runs `action` unless somebody writes the model. */
async function alone({ url }: ModelStore, action: () => Promise<void>): Promise<void> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (locks === undefined) return action();
  const locked = locks.request(lockName(url), { ifAvailable: true }, async (lock) => {
    if (lock === null) throw new DOMException('the model is being written', 'NoModificationAllowedError');
    await action();
  });
  await inTime(Promise.resolve(locked), 'the file store', WORK_MS);
}
