/**
 * What is kept on this device, in the browser's Cache API: pieces of model files and each model's card.
 *
 * Keys are URLs: `FILE?tabreel-piece=START&of=VERSION`, where VERSION is the file's SHA-256 if the card
 * gives one, else its length; so a changed file never mixes with pieces of the old one. Every failure to
 * keep something (private windows, full disks, plain http) only costs the next visit a download.
 */
import type { ModelFile } from './card.js';
import { deleteKernelReports } from './kernel-report.js';

const CACHE = 'tabreel-models';
const MODEL_HEADER = 'x-tabreel-model';
const BYTES_HEADER = 'x-tabreel-bytes';
const PIECE = 'tabreel-piece';
const VERSION = 'of';

/** One model that was kept on this device. */
export interface KeptModel {
  /** The folder's URL. */
  url: string;
  /** What it takes on this device, bytes. */
  bytes: number;
}

/** Lists what earlier loads left on this device, for this site. */
export async function keptModels(): Promise<KeptModel[]> {
  const bytes = new Map<string, number>();
  const cache = await open();
  for (const request of (await cache?.keys()) ?? []) {
    const headers = (await cache!.match(request))?.headers;
    const model = headers?.get(MODEL_HEADER);
    // A card alone is no model: it only was looked at.
    if (model && request.url.includes(`${PIECE}=`)) bytes.set(model, (bytes.get(model) ?? 0) + Number(headers!.get(BYTES_HEADER)));
  }
  return [...bytes].map(([url, total]) => ({ url, bytes: total }));
}

/** Deletes one model, or everything this package has kept. */
export async function deleteKept(modelUrl?: string): Promise<void> {
  if (modelUrl === undefined) {
    await globalThis.caches?.delete(CACHE);
    await deleteKernelReports();
    return;
  }
  const cache = await open();
  for (const request of (await cache?.keys()) ?? []) {
    const owner = (await cache!.match(request))?.headers.get(MODEL_HEADER);
    if (owner === modelUrl) await cache!.delete(request);
  }
}

/** The shelf of one model folder. */
export class Shelf {
  constructor(readonly modelUrl: string) {}

  async card(): Promise<string | undefined> {
    return (await this.get(this.cardKey()))?.text();
  }

  async putCard(text: string): Promise<void> {
    await this.put(this.cardKey(), new TextEncoder().encode(text));
  }

  async piece(url: string, file: ModelFile, start: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const response = await this.get(pieceKey(url, file, start));
    if (response === undefined) return undefined;
    const bytes = new Uint8Array(await response.arrayBuffer());
    // An entry that was cut short (a crash, a full disk) is as good as none.
    return bytes.length === Number(response.headers.get(BYTES_HEADER)) && bytes.length > 0 ? bytes : undefined;
  }

  async putPiece(url: string, file: ModelFile, start: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.put(pieceKey(url, file, start), bytes);
  }

  /** Forgets this model's pieces that no file of the card can use any more. */
  async tidy(files: readonly ModelFile[]): Promise<void> {
    const current = new Set(files.map((file) => `${new URL(file.path, this.modelUrl).href} ${version(file)}`));
    const cache = await open();
    for (const request of (await cache?.keys()) ?? []) {
      const { searchParams, origin, pathname } = new URL(request.url);
      if (!searchParams.has(PIECE) || !request.url.startsWith(this.modelUrl)) continue;
      if (!current.has(`${origin}${pathname} ${searchParams.get(VERSION)}`)) await cache!.delete(request);
    }
  }

  /** Forgets every piece of a file, of every version. */
  async forget(url: string): Promise<void> {
    const cache = await open();
    const bare = url.split('?')[0]!;
    for (const request of (await cache?.keys()) ?? []) {
      if (request.url.startsWith(`${bare}?`)) await cache!.delete(request);
    }
  }

  private cardKey(): string {
    return new URL('tabreel.json?tabreel-card', this.modelUrl).href;
  }

  private async get(key: string): Promise<Response | undefined> {
    try {
      return await (await open())?.match(key);
    } catch {
      return undefined;
    }
  }

  private async put(key: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const headers = { [MODEL_HEADER]: this.modelUrl, [BYTES_HEADER]: String(bytes.length) };
    try {
      await (await open())?.put(key, new Response(bytes, { headers }));
    } catch {
      // See the head of this file.
    }
  }
}

function pieceKey(url: string, file: ModelFile, start: number): string {
  const key = new URL(url);
  key.searchParams.set(PIECE, String(start));
  key.searchParams.set(VERSION, version(file));
  return key.href;
}

const version = (file: ModelFile): string => file.sha256 ?? String(file.bytes);

async function open(): Promise<Cache | undefined> {
  try {
    return await globalThis.caches?.open(CACHE);
  } catch {
    return undefined;
  }
}
