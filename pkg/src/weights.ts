/** Reading a model folder: from the network with progress, keeping pieces on this device, or from files in hand. */
import { cardBytes, parseCard, type ModelCard, type ModelFile } from './card.js';
import { TabreelError, throwIfAborted } from './errors.js';
import type { ModelFolder } from './folder.js';
import { localFolder } from './local.js';
import { Shelf } from './shelf.js';

/** A model is a folder laid out as diffusers does: a base URL, or its files in hand. */
export type ModelSource =
  | string
  | URL
  | {
      /** By their paths in the folder. */
      files: Record<string, Blob | ArrayBuffer | Uint8Array>;
    };

/** Pieces of this many bytes are kept as they arrive, so that a broken download goes on where it stopped. */
export const PIECE_BYTES = 8 * 1024 * 1024;

/** Reads only `tabreel.json` (a few kB): sizes, defaults, licence, and how many bytes a load would fetch. */
export async function describeModel(model: ModelSource, signal?: AbortSignal): Promise<ModelCard> {
  const folder = openFolder(model);
  return folder.card(signal);
}

export function openFolder(model: ModelSource): ModelFolder {
  if (typeof model === 'string' || model instanceof URL) return remoteFolder(model);
  if (typeof model === 'object' && model !== null && typeof model.files === 'object') return localFolder(model.files);
  throw new TabreelError('invalid-options', 'model must be the URL of a model folder, or { files }');
}

function remoteFolder(model: string | URL): ModelFolder {
  let base: URL;
  try {
    base = new URL(model, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    throw new TabreelError('invalid-options', `model must be the URL of a model folder, got "${String(model)}"`);
  }
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  const shelf = new Shelf(base.href);

  return {
    async card(signal) {
      const url = new URL('tabreel.json', base).href;
      let text: string;
      try {
        // `no-cache` asks the server whether the copy is still good; offline, the kept copy will do.
        text = await (await request(url, 'tabreel.json', { cache: 'no-cache' }, signal)).text();
        await shelf.putCard(text);
      } catch (error) {
        const kept = signal?.aborted ? undefined : await shelf.card();
        if (kept === undefined) throw error;
        text = kept;
      }
      return parseCard(text, url);
    },

    async *read(card, { onProgress, signal, keep = true }) {
      if (keep) await shelf.tidy(card.files);
      const total = cardBytes(card);
      let before = 0;
      for (const file of card.files) {
        const report = (loaded: number, fromDevice: boolean): void =>
          onProgress?.({ loaded: before + loaded, total, what: file.path, fromDevice });
        const bytes = await fetchFile(new URL(file.path, base).href, file, keep ? shelf : undefined, report, signal);
        before += file.bytes;
        yield { path: file.path, bytes };
      }
    },
  };
}

/**
 * Reads a file from the pieces on the shelf and, from the first missing one on, from the network.
 * Pieces are put on the shelf as they fill up.
 */
async function fetchFile(
  url: string,
  file: ModelFile,
  shelf: Shelf | undefined,
  report: (loaded: number, fromDevice: boolean) => void,
  signal: AbortSignal | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = allocate(file);
  let filled = 0;
  const keep = async (): Promise<void> => {
    const start = Math.floor((filled - 1) / PIECE_BYTES) * PIECE_BYTES;
    await shelf?.putPiece(url, file, start, bytes.slice(start, filled));
  };

  while (shelf !== undefined && filled < file.bytes) {
    throwIfAborted(signal, 'loading');
    const piece = await shelf.piece(url, file, filled);
    if (piece === undefined || filled + piece.length > file.bytes) break;
    bytes.set(piece, filled);
    filled += piece.length;
    report(filled, true);
  }
  if (filled === file.bytes) return checked(bytes, file, shelf, url);

  const resumed = filled;
  const headers = resumed > 0 ? { range: `bytes=${resumed}-` } : undefined;
  const response = await request(url, file.path, headers ? { headers } : {}, signal);
  // A server that ignores ranges sends the whole file: skip what is here already.
  let skip = response.status === 206 ? 0 : resumed;
  report(filled, false);
  for await (let chunk of chunks(response, file.path, signal)) {
    if (skip > 0) {
      const passed = Math.min(skip, chunk.length);
      skip -= passed;
      chunk = chunk.subarray(passed);
    }
    if (filled + chunk.length > file.bytes) {
      throw new TabreelError('weights', `${file.path} must be ${file.bytes} bytes, got more`);
    }
    while (chunk.length > 0) {
      const room = PIECE_BYTES - (filled % PIECE_BYTES);
      const part = chunk.subarray(0, room);
      bytes.set(part, filled);
      filled += part.length;
      chunk = chunk.subarray(part.length);
      if (filled % PIECE_BYTES === 0 || filled === file.bytes) await keep();
    }
    report(filled, false);
  }
  if (filled !== file.bytes) {
    throw new TabreelError('weights', `${file.path} is cut short: it must be ${file.bytes} bytes, got ${filled}`);
  }
  return checked(bytes, file, shelf, url);
}

function allocate(file: ModelFile): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(file.bytes);
  } catch {
    throw new TabreelError('out-of-memory', `no room for ${file.path} (${file.bytes} bytes) in this tab's memory`);
  }
}

async function checked(
  bytes: Uint8Array<ArrayBuffer>,
  file: ModelFile,
  shelf: Shelf | undefined,
  url: string,
): Promise<Uint8Array<ArrayBuffer>> {
  if (file.sha256 === undefined || globalThis.crypto?.subtle === undefined) return bytes;
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (hex === file.sha256.toLowerCase()) return bytes;
  await shelf?.forget(url);
  throw new TabreelError('weights', `${file.path} is damaged: its SHA-256 must be ${file.sha256}, got ${hex}`);
}

async function request(url: string, what: string, init: RequestInit, signal?: AbortSignal): Promise<Response> {
  throwIfAborted(signal, 'loading');
  let response: Response;
  try {
    response = await fetch(url, signal ? { ...init, signal } : init);
  } catch (error) {
    throwIfAborted(signal, 'loading');
    throw new TabreelError('fetch', `could not reach ${url}: ${(error as Error).message}`, { cause: error });
  }
  if (!response.ok) throw new TabreelError('fetch', `${what} could not be fetched: ${url} answered ${response.status}`);
  // Page servers answer unknown paths with their start page.
  if (response.headers.get('content-type')?.startsWith('text/html')) {
    throw new TabreelError('fetch', `${what} could not be fetched: ${url} answered with a web page`);
  }
  return response;
}

async function* chunks(response: Response, what: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      throwIfAborted(signal, 'loading');
      if (done) return;
      yield value;
    }
  } catch (error) {
    throwIfAborted(signal, 'loading');
    if (error instanceof TabreelError) throw error;
    throw new TabreelError('fetch', `the download of ${what} broke off: ${(error as Error).message}`, { cause: error });
  } finally {
    // Also reached when the caller stops reading: ends the transfer. Nobody is left to hear a failure.
    void reader.cancel().catch(() => undefined);
  }
}
