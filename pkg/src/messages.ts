/** The typed protocol between the page and the worker, and between the worker and the wasm engine. */
import type { PlainError } from './errors.js';
import type { GpuLedger } from './gpu-ledger.js';
import type { ClipRecipe } from './options.js';
import type { AdapterFacts } from './support.js';

/** Where the arithmetic runs: WebGPU, or the CPU inside the same wasm. */
export type Backend = 'gpu' | 'cpu';

/** The rooms of a generation, in order. */
export type Stage = 'tokenize' | 'encode-text' | 'condition' | 'denoise' | 'decode';

/** What the wasm engine knows about the device it runs on. */
export interface EngineInfo {
  device: Backend;
  adapter?: {
    /** Often empty in browsers. */
    name: string;
    driver: string;
    backend: string;
    software: boolean;
    f16: boolean;
    maxStorageBufferBindingBytes: number;
    maxStorageBuffersPerStage: number;
    maxWorkgroupThreads: number;
  } | null;
  wasmMemoryBytes: number;
}

/** What the wasm engine read from the model folder. */
export interface EngineModel {
  name: string;
  /** Frame width must be a multiple of this many px. */
  widthMultiple: number;
  /** Frame height must be a multiple of this many px. */
  heightMultiple: number;
  /** Prompts longer than this many tokens are cut, with a warning. */
  maxTokens: number;
  /** What `tabreel.json` says under `default`, in its own names. */
  defaults: unknown;
}

export interface EngineResult {
  seed: number;
  numFrames: number;
  width: number;
  height: number;
  fps: number;
  tokens: { kept: number; total: number };
  /** Seconds, by stage. */
  timings: Record<string, number>;
  /** The device in words. */
  device: string;
}

/** What the worker answers to a 'generate'. */
export type GenerateResult = EngineResult & { memory: MemoryUse };

/** How much memory a generation took, bytes. */
export interface MemoryUse {
  /** The engine's own (wasm) memory, which never shrinks: its size is its peak. */
  readonly wasmBytes: number;
  /** GPU buffers that stay, the weights above all; 0 on the CPU. */
  readonly gpuBytes: number;
  /** The most GPU buffers there were at once; 0 on the CPU. */
  readonly gpuPeakBytes: number;
}

/** What the engine tells while it works. `rgba` is `width × height × 4` bytes, rows top to bottom. */
export type EngineEvent =
  | { type: 'stage'; stage: Stage }
  | { type: 'step'; step: number; numSteps: number; seconds: number }
  | { type: 'preview'; step: number; width: number; height: number; rgba: Uint8Array<ArrayBuffer> }
  | { type: 'warning'; message: string }
  | { type: 'frame'; index: number; width: number; height: number; rgba: Uint8Array<ArrayBuffer> }
  /** Only while loading: how much of the model has been built. */
  | { type: 'loading'; loaded: number; total: number; what: string };

/** What the engine may ask of its surroundings while it works. */
export interface EngineHost {
  event(event: EngineEvent): void;
  /** Polled between blocks. */
  aborted(): boolean;
  /** The account of GPU buffers. */
  readonly gpu: GpuLedger;
  /** Resolves on a later macrotask, so that messages reach the worker even on the CPU path. */
  tick(): Promise<void>;
}

export type ToWorker =
  /** Fetch and compile the wasm, then bring up the device; `adapter` is the GPU's, if it is one. */
  | { type: 'start'; id: number; device: Backend; adapter: AdapterFacts | undefined; wasmUrl: string | undefined }
  | { type: 'file'; id: number; path: string; bytes: Uint8Array<ArrayBuffer> }
  | { type: 'load'; id: number }
  | { type: 'generate'; id: number; options: ClipRecipe & { preview: boolean } }
  /** Stops the job with this id at its next poll. */
  | { type: 'abort'; id: number };

export type FromWorker =
  /** The worker's script runs. */
  | { type: 'alive' }
  /** The job is still working; carries no news. Resets the watchdog. */
  | { type: 'beat' }
  | { type: 'engine-bytes'; loaded: number; total: number }
  | { type: 'event'; id: number; event: EngineEvent }
  | { type: 'done'; id: number; result: unknown }
  | { type: 'failed'; id: number; error: PlainError }
  /** The wasm instance or its GPU device is dead; nothing more will come. */
  | { type: 'dead'; error: PlainError };
