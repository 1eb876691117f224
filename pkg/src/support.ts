/** What this machine has, and whether it will do: `probe()` and the judgement behind it. */
import { adapterName, looksLikeSoftware, type AdapterFacts } from './adapter.js';
import { keptKernelReport, type KernelFinding } from './kernel-report.js';
import { inTime } from './patience.js';

/** What was found, before anyone judges it. */
export interface MachineFacts {
  /** `navigator.gpu` exists. */
  webgpu: boolean;
  /** False on plain http pages, where browsers hide WebGPU, storage and video encoding. */
  secureContext: boolean;
  /** WebAssembly with 128-bit SIMD, which the engine needs on every path. */
  wasmSimd: boolean;
  /** The GPU that WebGPU offers, if any. */
  adapter?: AdapterFacts;
  /** Why there is no adapter, in the browser's words, if it gave any. */
  adapterError?: string;
  /** Optional features of the GPU. */
  features: {
    /** Shaders may use 16-bit floats. */
    'shader-f16': boolean;
    /** The GPU tells how long its work takes. */
    'timestamp-query': boolean;
    /** Threads of a group may exchange values directly. */
    subgroups: boolean;
  };
  /** Limits of the GPU, by their WebGPU names. */
  limits: Record<string, number>;
  /** How the GPU kernels compared with their plain twins when they last ran here; missing before the first load. */
  kernels?: KernelFinding[];
  /** What the browser tells about memory; both are hints, and both may be missing. */
  memory: {
    /** Rounded by the browser, at most 8. */
    deviceGiB?: number;
    /** What this site may still store, bytes. */
    storageFreeBytes?: number;
  };
}

/** What `probe()` found, and what it recommends. */
export interface Support extends MachineFacts {
  /** Something here can run the default model. */
  ok: boolean;
  /** Which backend 'auto' takes; 'none' if neither works. */
  recommended: 'gpu' | 'cpu' | 'none';
  /** One or two sentences for the visitor: what was chosen and why. */
  reason: string;
}

/** Limits that the kernels count on; WebGPU guarantees them, so a lower value means a broken adapter. */
export const NEEDED_LIMITS: Readonly<Record<string, number>> = {
  maxStorageBuffersPerShaderStage: 8,
  maxStorageBufferBindingSize: 128 * 1024 * 1024,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupStorageSize: 16 * 1024,
};

const REPORTED_LIMITS = [...Object.keys(NEEDED_LIMITS), 'maxBufferSize', 'maxComputeWorkgroupsPerDimension'];

/** Looks at the machine without keeping anything: no device is created, nothing is downloaded. */
export async function probe(): Promise<Support> {
  return judge(await lookAround());
}

/** Decides from facts alone. */
export function judge(facts: MachineFacts): Support {
  const verdict = (recommended: Support['recommended'], reason: string): Support => ({
    ...facts,
    ok: recommended !== 'none',
    recommended,
    reason,
  });
  if (!facts.wasmSimd) {
    return verdict('none', 'This browser lacks WebAssembly SIMD. Any current Chrome, Edge, Firefox or Safari has it.');
  }
  if (!facts.webgpu) {
    const why = facts.secureContext
      ? 'This browser has no WebGPU'
      : 'WebGPU is hidden because this page was not opened over https or from localhost';
    return verdict('cpu', `${why}, so clips are made on the CPU: slower, same result.`);
  }
  if (!facts.adapter) {
    const why = facts.adapterError ? ` (${facts.adapterError})` : '';
    return verdict('cpu', `WebGPU found no usable GPU${why}, so clips are made on the CPU: slower, same result.`);
  }
  if (facts.adapter.isFallback) {
    return verdict(
      'cpu',
      `The only WebGPU adapter here is software (${adapterName(facts.adapter)}); the CPU engine is faster than that, so it is used.`,
    );
  }
  for (const [name, needed] of Object.entries(NEEDED_LIMITS)) {
    const found = facts.limits[name];
    if (found !== undefined && found < needed) {
      return verdict('cpu', `The GPU offers ${name} = ${found}, but ${needed} is needed, so clips are made on the CPU.`);
    }
  }
  const f16 = facts.features['shader-f16'] ? 'with' : 'without';
  return verdict('gpu', `Clips are made on the GPU: ${adapterName(facts.adapter)}, ${f16} 16-bit floats.`);
}

async function lookAround(): Promise<MachineFacts> {
  const gpu = (navigator as { gpu?: GpuLike }).gpu;
  const facts: MachineFacts = {
    webgpu: gpu !== undefined,
    secureContext: globalThis.isSecureContext ?? false,
    wasmSimd: hasWasmSimd(),
    features: { 'shader-f16': false, 'timestamp-query': false, subgroups: false },
    limits: {},
    memory: await lookAtMemory(),
  };
  if (gpu === undefined) return facts;
  try {
    const adapter = await inTime(gpu.requestAdapter({ powerPreference: 'high-performance' }), 'WebGPU', 10_000);
    if (adapter === null) return facts;
    const info = adapter.info ?? {};
    const { vendor = '', architecture = '', description = '' } = info;
    const isFallback = info.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
    facts.adapter = {
      vendor,
      architecture,
      description,
      isFallback: isFallback || looksLikeSoftware({ vendor, architecture, description }),
    };
    const report = await keptKernelReport(facts.adapter);
    if (report) facts.kernels = report.findings;
    for (const name of Object.keys(facts.features)) {
      facts.features[name as keyof MachineFacts['features']] = adapter.features.has(name);
    }
    for (const name of REPORTED_LIMITS) {
      const value = adapter.limits[name];
      if (typeof value === 'number') facts.limits[name] = value;
    }
  } catch (error) {
    facts.adapterError = error instanceof Error ? error.message : String(error);
  }
  return facts;
}

async function lookAtMemory(): Promise<MachineFacts['memory']> {
  const memory: MachineFacts['memory'] = {};
  const { deviceMemory } = navigator as { deviceMemory?: number };
  if (deviceMemory !== undefined) memory.deviceGiB = deviceMemory;
  try {
    const { quota, usage } = (await inTime(Promise.resolve(navigator.storage?.estimate()), 'storage')) ?? {};
    if (quota !== undefined) memory.storageFreeBytes = Math.max(0, quota - (usage ?? 0));
  } catch {
    // Some privacy modes refuse to say; it is only a hint.
  }
  return memory;
}

/** Asks the browser to validate the smallest module that has a SIMD instruction in it. */
function hasWasmSimd(): boolean {
  if (typeof WebAssembly === 'undefined') return false;
  // (module (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt))
  const bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  return WebAssembly.validate(new Uint8Array(bytes));
}

/** The part of WebGPU that is looked at; spelled out so that users need no @webgpu/types. */
interface GpuLike {
  requestAdapter(options?: object): Promise<AdapterLike | null>;
}
interface AdapterLike {
  /** Optional features of the GPU. */
  features: ReadonlySet<string>;
  /** Limits of the GPU, by their WebGPU names. */
  limits: Record<string, number>;
  info?: { vendor?: string; architecture?: string; description?: string; isFallbackAdapter?: boolean };
  isFallbackAdapter?: boolean;
}
