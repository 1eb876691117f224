/**
 * The site's private folder on this device (OPFS), and journals in it.
 *
 * A journal is a file of JSON lines that only grows. A line counts once its end is there, so a crash while one is written
 * loses that line and no other: it never claims what was not written before it.
 */
import { ANSWER_MS, inTime, isLate } from '../patience.js';
import type { Bytes } from './source.js';

/** What of `FileSystemSyncAccessHandle` is used; it exists in dedicated workers only, and TypeScript keeps it from pages. */
export interface SyncHandle {
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

/** How often a file is tried to open. */
const OPEN_TRIES = 3;

/**
 * Opens a file for writing; undefined where the browser cannot (a page, an old browser). Throws where another holds it.
 *
 * Chromium (156, on two cores) was seen to leave an opening without an answer: it is asked again.
 */
export async function openSync(file: FileSystemFileHandle): Promise<SyncHandle | undefined> {
  const able = file as FileSystemFileHandle & { createSyncAccessHandle?: () => Promise<SyncHandle> };
  if (able.createSyncAccessHandle === undefined) return undefined;
  let refused: unknown;
  for (let tries = 0; tries < OPEN_TRIES; tries++) {
    try {
      return await inTime(able.createSyncAccessHandle(), 'the file store', ANSWER_MS, (handle) => handle.close());
    } catch (error) {
      // What was not answered may have taken the file: then a later try is refused.
      if (tries === 0 && !isLate(error)) throw error;
      refused = error;
    }
  }
  throw refused;
}

/** Whether this is a place (a dedicated worker) where files can be written in parts. */
export const canWriteParts = (): boolean =>
  'createSyncAccessHandle' in ((globalThis as { FileSystemFileHandle?: { prototype: object } }).FileSystemFileHandle?.prototype ?? {});

const FOLDER = 'tabreel-models';

/** The folder of kept models; undefined where there is no OPFS (Node, plain http, private windows), or none yet. */
export async function modelsFolder({ create }: { create: boolean }): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    const open = async (): Promise<FileSystemDirectoryHandle | undefined> => {
      const root = await globalThis.navigator?.storage?.getDirectory?.();
      return root?.getDirectoryHandle(FOLDER, { create });
    };
    return await inTime(open(), 'the file store');
  } catch {
    return undefined;
  }
}

/** Names of what lies in a folder. */
export async function namesIn(folder: FileSystemDirectoryHandle): Promise<string[]> {
  const names: string[] = [];
  // TypeScript's DOM library does not list the iterator.
  const listed = folder as FileSystemDirectoryHandle & { keys(): AsyncIterable<string> };
  for await (const name of listed.keys()) names.push(name);
  return names;
}

/** A journal's lines, oldest first; none if there is no such file. */
export async function readJournal(folder: FileSystemDirectoryHandle, name: string): Promise<unknown[]> {
  let text: string;
  try {
    text = await (await (await folder.getFileHandle(name)).getFile()).text();
  } catch {
    return [];
  }
  return text
    .split('\n')
    .slice(0, -1)
    .flatMap((line) => {
      try {
        return line === '' ? [] : [JSON.parse(line) as unknown];
      } catch {
        return []; // cut short by a crash; the next line began on a new one
      }
    });
}

/** Adds lines, and returns when they are on the disk. */
export async function appendJournal(folder: FileSystemDirectoryHandle, name: string, lines: object[]): Promise<void> {
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  // Begins a line of its own, whatever a crash has left.
  const bytes: Bytes = new TextEncoder().encode(`\n${text}`);
  const file = await folder.getFileHandle(name, { create: true });
  const handle = await openSync(file);
  if (handle === undefined) {
    const stream = await file.createWritable({ keepExistingData: true });
    await stream.write({ type: 'write', position: (await file.getFile()).size, data: bytes });
    return stream.close();
  }
  try {
    writeAll(handle, bytes, handle.getSize());
    handle.flush();
  } finally {
    handle.close();
  }
}

/** Writes all of `bytes` or throws; a full disk may also show as a short count. */
export function writeAll(handle: SyncHandle, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length;) {
    const written = handle.write(bytes.subarray(done), { at: at + done });
    if (written === 0) throw new DOMException('no room is left on this device', 'QuotaExceededError');
    done += written;
  }
}
