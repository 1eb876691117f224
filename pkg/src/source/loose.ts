/** A model put together from files that lie apart, as ComfyUI users have them: a transformer, a text encoder, a VAE, LoRAs. */
import { cardBytes, parseCard, type ModelCard, type ModelFile } from '../card.js';
import { TabreelError, throwIfAborted } from '../errors.js';
import { blobOf, type Content } from './local.js';
import type { FolderDescription, PlacedFile } from './open.js';
import { remoteFile, type RemoteFolder } from './remote.js';
import { TIMING, brief, identify } from './request.js';
import { ModelStore } from './store.js';

/** One file: its URL, the file in hand, or its bytes. */
export type FileSource =
  | string
  | URL
  | Content
  | {
      /** Where it lies. */
      url: string | URL;
      /** Sent with every request, e.g. `{ Authorization: 'Bearer …' }`. */
      headers?: Record<string, string>;
      /** Hex. When given, what was fetched is checked against it. */
      sha256?: string | undefined;
    };

/** A part of a model: one file, or the files of its folder (shards, with or without `config.json`). */
export type PartSource =
  | FileSource
  | {
      /** By their paths in the folder, or as a picker gives them. */
      files: Record<string, Content> | Iterable<File>;
    };

/** A LoRA for the transformer. */
export interface LoraSource {
  /** In diffusers', ComfyUI's or kohya's names. */
  file: FileSource;
  /** Factor of its difference; 1 (default) is as it was trained, 0 is without it. */
  strength?: number | undefined;
}

/** Parts in place of a model folder's, or instead of one. What each is, its tensors say; names of files do not matter. */
export interface LooseParts {
  /** Safetensors, GGUF or PyTorch, in diffusers' or the original names. */
  transformer?: PartSource | undefined;
  /** umT5 in transformers', llama.cpp's or Wan's own names. */
  textEncoder?: PartSource | undefined;
  /** `tokenizer.json` or a SentencePiece file; not needed where the text encoder's file brings its own. */
  tokenizer?: PartSource | undefined;
  /** Wan's own VAE, or a tiny one (TAEHV). */
  vae?: PartSource | undefined;
  /** CLIP's ViT-H, for models that look at the given picture (Wan 2.1 I2V, first + last frame). */
  imageEncoder?: PartSource | undefined;
  /** Several add up. */
  loras?: readonly LoraSource[] | undefined;
}

/** The parts, and their folders in a model. */
export const PARTS: Readonly<Record<Exclude<keyof LooseParts, 'loras'>, string>> = {
  transformer: 'transformer',
  textEncoder: 'text_encoder',
  tokenizer: 'tokenizer',
  vae: 'vae',
  imageEncoder: 'image_encoder',
};

/** A file with its place in the model. */
interface Found {
  path: string;
  strength?: number;
  source: Blob | { folder: RemoteFolder; file: string; sha256?: string | undefined };
}

/**
 * The given parts as files of a model; nothing is read or fetched. `unplaced` are files whose part their tensors are to tell.
 *
 * @throws TabreelError `invalid-options`
 */
export function placeParts(parts: LooseParts, unplaced: readonly FileSource[] = []): { files: Found[]; replaced: string[] } {
  const files: Found[] = [];
  const replaced: string[] = [];
  for (const [name, folder] of Object.entries(PARTS)) {
    const part = parts[name as keyof typeof PARTS];
    if (part === undefined || part === null) continue;
    replaced.push(folder);
    files.push(...ofPart(part, name, folder));
  }
  const { loras = [] } = parts;
  if (!Array.isArray(loras)) throw invalid(`loras must be a list of { file, strength }, got ${typeof loras}`);
  for (const [i, lora] of (loras as readonly LoraSource[]).entries()) {
    const strength = lora?.strength ?? 1;
    if (!Number.isFinite(strength)) throw invalid(`the strength of a LoRA must be a finite number, got ${String(strength)}`);
    const found = ofFile(lora?.file, `loras[${i}].file`, 'lora');
    // As the command line writes it; the strength is part of what the model is.
    files.push({ ...found, path: `loras/${i + 1}/${found.path}=${strength}`, strength });
  }
  unplaced.forEach((file, i) => {
    const found = ofFile(file, `files[${i}]`, `file-${i + 1}`);
    files.push({ ...found, path: `loose/${found.path}` });
  });
  const twice = files.find(({ path }, i) => files.findIndex((other) => other.path === path) !== i);
  if (twice) throw invalid(`two files would be ${twice.path}: give them different names`);
  return { files, replaced };
}

function ofPart(part: PartSource, name: string, folder: string): Found[] {
  if (typeof part === 'object' && 'files' in part) {
    const { files } = part;
    if (typeof files !== 'object' || files === null) throw invalid(`${name}.files must be files, got ${String(files)}`);
    const entries: [string, unknown][] =
      Symbol.iterator in files ? [...(files as Iterable<File>)].map((file) => [file.name, file]) : Object.entries(files);
    const found = entries
      .map(([path, file]) => ({ path: path.replaceAll('\\', '/').split('/').at(-1)!, file }))
      .filter(({ path }) => /\.(json|model|safetensors|gguf|pt|pth)$/.test(path));
    if (found.length === 0) throw invalid(`${name}.files holds no weights, configuration or tokenizer`);
    return found.map(({ path, file }) => ({ path: `${folder}/${path}`, source: blobOf(path, file) }));
  }
  const found = ofFile(part, name, folder);
  return [{ ...found, path: `${folder}/${folder === 'tokenizer' ? tokenizerName(found.path, part) : found.path}` }];
}

/** The engine looks for a tokenizer's file by its name, and a file in hand may have any, or none. */
function tokenizerName(name: string, part: FileSource): string {
  const bytes = part instanceof ArrayBuffer ? new Uint8Array(part) : part instanceof Uint8Array ? part : undefined;
  if (name.endsWith('.json') || bytes?.[0] === '{'.charCodeAt(0)) return 'tokenizer.json';
  return bytes && bytes[0] !== 'G'.charCodeAt(0) ? 'spiece.model' : name;
}

function ofFile(file: FileSource, what: string, nameless: string): Found {
  if (typeof file === 'string' || file instanceof URL) return ofUrl(file, what);
  if (typeof file === 'object' && file !== null) {
    if ('url' in file && file.url) return ofUrl(file.url, what, file.headers, file.sha256);
    if (file instanceof Blob || file instanceof ArrayBuffer || file instanceof Uint8Array) {
      const name = (file as Partial<File>).name?.split(/[\\/]/).at(-1);
      return { path: name || nameless, source: blobOf(what, file) };
    }
  }
  throw invalid(`${what} must be a URL, { url, headers }, a File, or bytes`);
}

function ofUrl(url: string | URL, what: string, headers?: Record<string, string>, sha256?: string): Found {
  const { folder, name } = remoteFile(url, what, headers);
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256)) throw invalid(`sha256 of ${what} must be 64 hexadecimal digits`);
  return { path: name, source: { folder, file: name, sha256: sha256?.toLowerCase() } };
}

/** How long each is. @throws TabreelError `fetch`, `aborted` */
export async function measure(found: readonly Found[], signal: AbortSignal | undefined, timing = TIMING): Promise<ModelFile[]> {
  throwIfAborted(signal, 'loading');
  return Promise.all(
    found.map(async ({ path, source }): Promise<ModelFile> => {
      if (source instanceof Blob) return { path, bytes: source.size };
      const { folder, file, sha256 } = source;
      const kept = (await ModelStore.open(folder.base))?.card;
      const patience = kept === undefined ? timing : brief(timing);
      try {
        const identity = await identify(folder.base, file, { headers: folder.headers, signal, timing: patience });
        if (identity === undefined) throw new TabreelError('fetch', `${folder.base} does not exist`);
        if (identity.size === undefined) throw new TabreelError('fetch', `${folder.base} does not say how long it is`);
        return { path, bytes: identity.size, sha256 };
      } catch (error) {
        throwIfAborted(signal, 'loading');
        if (kept === undefined) throw error;
        return { path, bytes: cardBytes(parseCard(kept, folder.base)), sha256 };
      }
    }),
  );
}

/** For the worker. `card` lists them, as {@link measure} found them. */
export function describeParts(found: readonly Found[], card: ModelCard, keep: boolean): PlacedFile[] {
  return found.map(({ path, strength, source }) => {
    const placed = strength === undefined ? { path } : { path, strength };
    if (source instanceof Blob) return { ...placed, from: source };
    const { bytes, sha256 } = card.files.find((file) => file.path === path)!;
    const files = [sha256 === undefined ? { path: source.file, bytes } : { path: source.file, bytes, sha256 }];
    const text = JSON.stringify({ name: source.file, files });
    return { ...placed, from: { kind: 'remote', ...source.folder, files, card: text, keep } satisfies FolderDescription };
  });
}

const invalid = (message: string): TabreelError => new TabreelError('invalid-options', message);
