/** The typed protocol between the page and the worker, and between the worker and the wasm engine. */
import type { AdapterFacts } from './adapter.js';
import type * as contract from './contract.js';
import type { Backend, ClipRecipe, EngineCondition, EngineInfo, EngineModel, EngineResult, PlainError, Stage } from './contract.js';
import type { GpuLedger } from './gpu-ledger.js';
import type { FetchProgress } from './source/meter.js';
import type { FolderDescription } from './source/open.js';

export type { Backend, EngineInfo, EngineModel, EngineResult, Stage };

/** What the worker tells of a clip that is made. */
export type GenerateResult = EngineResult & { memory: MemoryUse };

/** How much memory a generation took, bytes. */
export interface MemoryUse {
  /** The engine's own (wasm) memory, which never shrinks: its size is its peak. */
  readonly wasmBytes: number;
  /** GPU buffers that stay, the weights above all; 0 on the CPU. */
  readonly gpuBytes: number;
  /** The most GPU buffers there were at once; 0 on the CPU. */
  readonly gpuPeakBytes: number;
  /** The most that was planned for them; 0 on the CPU. */
  readonly gpuPlannedBytes: number;
}

/** What the engine tells while it works. `rgba` is `width × height × 4` bytes, rows top to bottom. */
export type EngineEvent =
  | Exclude<contract.EngineEvent, { type: 'preview' | 'frame' }>
  | (Extract<contract.EngineEvent, { type: 'preview' | 'frame' }> & { rgba: Uint8Array<ArrayBuffer> })
  /** A clip of a batch is done, its place counted from 0. */
  | { type: 'made'; clip: number; result: GenerateResult };

/** A file of a model folder, read by range. */
export interface EngineFile {
  /** Relative to the folder, with forward slashes. */
  path: string;
  /** Length, bytes. */
  size: number;
  /** The bytes from `start` up to `end`; rejects with `{ code, message }`. */
  read(start: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Makes it a LoRA for the transformer; 1 is as it was trained. */
  strength?: number;
}

/** What the engine may ask of its surroundings while it works. */
export interface EngineHost {
  /** `rgba` comes with previews and frames. */
  event(event: contract.EngineEvent, rgba: Uint8Array<ArrayBuffer> | undefined): void;
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
  /** Reads the folder and builds the model. */
  | { type: 'load'; id: number; folder: FolderDescription; budget?: number | undefined }
  /** Tells what the folder is, and what it lacks. */
  | { type: 'inspect'; id: number; folder: FolderDescription; budget?: number | undefined }
  | { type: 'generate'; id: number; options: ClipRecipe & { preview: boolean }; condition?: EngineCondition | undefined }
  /** Several clips of text. */
  | { type: 'batch'; id: number; clips: ClipRecipe[] }
  /** Stops the job with this id at its next poll. */
  | { type: 'abort'; id: number }
  /** Whatever runs waits from its next poll on, or goes on. */
  | { type: 'pause'; paused: boolean };

export type FromWorker =
  /** The worker's script runs. */
  | { type: 'alive' }
  /** The job is still working; carries no news. Resets the watchdog. */
  | { type: 'beat' }
  | { type: 'engine-bytes'; loaded: number; total: number }
  /** How far the files of a 'load' are. */
  | { type: 'fetching'; id: number; progress: FetchProgress }
  | { type: 'event'; id: number; event: EngineEvent }
  | { type: 'done'; id: number; result: unknown }
  | { type: 'failed'; id: number; error: PlainError }
  /** The wasm instance or its GPU device is dead; nothing more will come. */
  | { type: 'dead'; error: PlainError };
