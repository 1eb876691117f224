/**
 * What `crate/src/web.rs` promises to the worker: the shape of `pkg/wasm/tabreel.js`.
 *
 * wasm-bindgen writes the real file; this one lets the package be type-checked before Rust is built,
 * and is where both sides agree. Every rejection is an object `{ code, message }`.
 */
import type { EngineCondition, EngineInfo, EngineModel, EngineResult, Inspection, KernelReport } from '../../src/contract.js';
import type { EngineFile, EngineHost } from '../../src/messages.js';

export default function init(input?: {
  module_or_path: RequestInfo | URL | Response | BufferSource | WebAssembly.Module | Promise<Response>;
}): Promise<unknown>;

export class Engine {
  private constructor();
  /** 'gpu' initialises WebGPU through Burn; 'cpu' uses Burn's flex backend in the same wasm. */
  static create(options: { device: 'gpu' | 'cpu' }): Promise<Engine>;
  /** Compares the GPU kernels with their plain twins, unless `known` is of this revision and whole. Before `load`. */
  checkKernels(known: KernelReport | undefined, host?: EngineHost): Promise<KernelReport>;
  info(): EngineInfo;
  /**
   * Builds the model of a folder; the files are kept as long as the model. `budget`, in bytes, bounds the weights that are on
   * the device at once.
   */
  load(files: EngineFile[], host: EngineHost, budget?: number): Promise<EngineModel>;
  /** Tells what files are, what they lack, and whether this device can run them; a file `loose/NAME` is put where its tensors say. */
  inspect(files: EngineFile[], budget?: number): Promise<Inspection>;
  /** Walks from prompt to frames; everything it makes goes to `host.event`. */
  generate(options: object, condition: EngineCondition | undefined, host: EngineHost): Promise<EngineResult>;
  /**
   * Makes clips of text; an event 'clips' says which of them the next events are about. `made` is called for each, in order, after
   * its frames.
   */
  generateBatch(clips: object[], made: (place: number, result: EngineResult) => void, host: EngineHost): Promise<void>;
  dispose(): void;
}
