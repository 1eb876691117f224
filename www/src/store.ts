/**
 * Clips kept on this device, in the browser's private file system: `NAME.json` says what it is, `NAME.mp4` (or `.webm`) is the
 * clip. Every failure (private windows, full disks, browsers without it) only costs the history.
 */
import { Clip, readClip, resolveOptions } from 'tabreel';
import { isAmount, isObject } from './dom';

/** What is kept of a clip besides its frames. */
export interface Kept {
  /** Name of its files. */
  name: string;
  /** A small JPEG as a data URL. */
  thumb: string;
  /** "CPU, 12 s" */
  made: string;
  /** Bytes of its video; 0 where this browser can encode none. */
  bytes: number;
  format: 'mp4' | 'webm' | undefined;
  /** Everything of the clip but its frames. */
  parts: Omit<ConstructorParameters<typeof Clip>[0], 'frames'>;
}

/** Older clips are deleted when all together take more. */
export const LIMIT_BYTES = 256e6;

const FOLDER = 'tabreel-history';

async function folder(): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return undefined;
  }
}

/** One that an older page wrote, or nobody, is left out: what is shown must make a clip. */
function isKept({ name, thumb, made, parts }: Partial<Kept>): boolean {
  if (typeof name !== 'string' || typeof made !== 'string' || !thumb?.startsWith('data:image/') || !isObject(parts)) return false;
  // What is told of a clip beside its settings.
  const { given, task, memory, model, timings, warnings } = parts;
  if (![given, task, memory, model, timings].every(isObject) || !Array.isArray(warnings)) return false;
  if (!Object.values(timings).every(isAmount) || ![parts.width, parts.height, parts.fps].every(isAmount)) return false;
  try {
    resolveOptions(parts.options, { widthMultiple: 1, heightMultiple: 1, frameMultiple: 1, defaults: {} });
    return true;
  } catch {
    return false;
  }
}

/** Everything that is kept, newest first. What a crash left of others is deleted. */
export async function keptClips(): Promise<Kept[]> {
  const found: Kept[] = [];
  const told = new Set<string>();
  const files = await fileNames();
  for (const file of files.filter((name) => name.endsWith('.json'))) {
    try {
      const handle = await (await folder())?.getFileHandle(file);
      const kept = JSON.parse((await (await handle?.getFile())?.text()) ?? '') as Kept;
      told.add(stemOf(file));
      if (isKept(kept)) found.push(kept);
    } catch {
      // Cut short: as good as none.
    }
  }
  for (const file of files) if (!told.has(stemOf(file)) && isOld(file)) await remove(file);
  return found.sort((a, b) => b.name.localeCompare(a.name));
}

const stemOf = (file: string): string => file.split('.', 1)[0]!;

/** Another tab may be writing a clip of today: its video lies there before its entry. */
const isOld = (file: string): boolean => Number(stemOf(file)) < Date.now() - 24 * 3600 * 1000;

async function fileNames(): Promise<string[]> {
  const found: string[] = [];
  try {
    const names = (await folder()) as unknown as { keys(): AsyncIterable<string> } | undefined;
    if (names) for await (const name of names.keys()) found.push(name);
  } catch {
    // See the head of this file.
  }
  return found;
}

/** Keeps a clip; returns what deletes it again, or undefined when it could not be kept. */
export async function keepClip(clip: Clip, thumb: string, made: string, scale: number): Promise<Kept | undefined> {
  const { frames: _, ...parts } = clip;
  const name = String(Date.now()).padStart(15, '0');
  let file: Blob | undefined;
  let format: Kept['format'];
  for (const wanted of ['mp4', 'webm'] as const) {
    file = await clip.toBlob({ format: wanted, scale }).catch(() => undefined);
    format = file && wanted;
    if (file) break;
  }
  const kept: Kept = { name, thumb, made, bytes: file?.size ?? 0, format, parts };
  const written = (!file || (await write(`${name}.${format}`, file))) && (await write(`${name}.json`, JSON.stringify(kept)));
  if (written) return kept;
  // A video without an entry would only take the room that was missing.
  await forgetClip(kept);
  return undefined;
}

async function write(name: string, content: Blob | string): Promise<boolean> {
  try {
    const handle = await (await folder())?.getFileHandle(name, { create: true });
    const stream = await handle?.createWritable();
    await stream?.write(content);
    await stream?.close();
    return stream !== undefined;
  } catch {
    await remove(name);
    return false;
  }
}

/** The video of a kept clip; undefined where there is none. */
export async function keptFile({ name, format }: Kept): Promise<File | undefined> {
  try {
    return format && (await (await (await folder())?.getFileHandle(`${name}.${format}`))?.getFile());
  } catch {
    return undefined;
  }
}

/** A kept clip with its frames; undefined where its video is gone or cannot be read. */
export async function openKept(kept: Kept): Promise<Clip | undefined> {
  const file = await keptFile(kept);
  if (file === undefined) return undefined;
  const { width, height } = kept.parts;
  try {
    const { frames } = await readClip(file, { cover: { width, height } });
    return new Clip({ ...kept.parts, frames });
  } catch {
    return undefined;
  }
}

/** Deletes everything, what no entry shows too. */
export async function forgetAll(): Promise<void> {
  for (const file of await fileNames()) await remove(file);
}

export async function forgetClip({ name, format }: Kept): Promise<void> {
  await remove(`${name}.json`);
  if (format) await remove(`${name}.${format}`);
}

async function remove(name: string): Promise<void> {
  try {
    await (await folder())?.removeEntry(name);
  } catch {
    // It was not there.
  }
}
