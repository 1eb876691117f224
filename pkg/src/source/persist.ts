/** Asking the browser not to delete what is kept. */
import type { FolderDescription } from './open.js';

/** What is quickly fetched again is not worth a question: Firefox puts it to the visitor. Bytes. */
const WORTH_ASKING = 100e6;

/** Asks that a model that is kept stays when the disk fills up. Only a window can ask; nobody waits for the answer. */
export function askToStay(folder: FolderDescription, bytes: number): void {
  const from = folder.kind === 'set' ? folder.base : folder;
  if (from?.kind !== 'remote' || !from.keep || bytes < WORTH_ASKING) return;
  const storage = globalThis.navigator?.storage as Partial<StorageManager> | undefined;
  try {
    void storage?.persist?.().catch(() => undefined);
  } catch {
    // A private window may refuse the question itself.
  }
}
