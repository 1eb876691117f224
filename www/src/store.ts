/**
 * Clips kept on this device, in the browser's private file system: `NAME.json` says what it is, `NAME.mp4` (or `.webm`) is the
 * clip. Every failure (private windows, full disks, browsers without it) only costs the history.
 */
import { Clip, readClip, resolveOptions } from 'tabreel';

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
  if (typeof name !== 'string' || typeof made !== 'string' || !thumb?.startsWith('data:image/') || parts?.given === undefined) return false;
  try {
    resolveOptions(parts.options, { widthMultiple: 1, heightMultiple: 1, frameMultiple: 1, defaults: {} });
    return true;
  } catch {
    return false;
  }
}

/** Everything that is kept, newest first. */
export async function keptClips(): Promise<Kept[]> {
  const found: Kept[] = [];
  try {
    const entries = (await folder()) as unknown as { values(): AsyncIterable<FileSystemFileHandle> } | undefined;
    if (entries === undefined) return [];
    for await (const entry of entries.values()) {
      if (!entry.name.endsWith('.json')) continue;
      try {
        const kept = JSON.parse(await (await entry.getFile()).text()) as Kept;
        if (isKept(kept)) found.push(kept);
      } catch {
        // Cut short by a crash: as good as none.
      }
    }
  } catch {
    // See the head of this file.
  }
  return found.sort((a, b) => b.name.localeCompare(a.name));
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
  return written ? kept : undefined;
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
