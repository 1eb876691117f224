/** What a model folder is to those who read it, wherever it lies. */
import type { ModelCard } from './card.js';

/** How far a download is. `loaded` and `total` are bytes of the whole folder. */
export interface FetchProgress {
  loaded: number;
  total: number;
  /** The file being read. */
  what: string;
  /** True while it comes from this device and not from the network. */
  fromDevice: boolean;
}

export interface FetchOptions {
  onProgress?: ((progress: FetchProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** False leaves nothing on this device. Default true. */
  keep?: boolean | undefined;
}

export interface ModelFolder {
  card(signal?: AbortSignal): Promise<ModelCard>;
  /** Reads one file after another, so that only one is in memory at a time. */
  read(card: ModelCard, options: FetchOptions): AsyncGenerator<{ path: string; bytes: Uint8Array<ArrayBuffer> }>;
}
