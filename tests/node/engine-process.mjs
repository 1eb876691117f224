// A process that holds one wasm engine, as the package's worker does in the browser, and answers one call at a time.
// A process of its own because Dawn must be left by process.exit, and because a panic kills the wasm instance.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { GpuLedger } from '../../pkg/dist/gpu-ledger.js';
import { provideWebGpu } from '../../bench/lib/dawn.mjs';

const root = join(import.meta.dirname, '../..');
let engine;
let pipelines = 0;
/** The files that `loose` got last. */
let given = [];
const ledger = new GpuLedger();
/** After this many `tick`s of a call the host says it is aborted; null: never. */
let ticks;

const calls = {
  /** Loads the wasm and makes an engine. `poor`: a GPU with nothing but what WebGPU guarantees. */
  async create({ device, poor = false }) {
    if (device === 'gpu') await provideWebGpu();
    if (poor) await impoverish();
    else if (device === 'gpu') watchDevices();
    const wasm = await import('../../pkg/wasm/tabreel.js');
    await wasm.default({ module_or_path: readFileSync(join(root, 'pkg/wasm/tabreel_bg.wasm')) });
    engine = await wasm.Engine.create({ device });
    const { host } = listen(null);
    // what another engine left behind: no shape that this one knows
    const kernels = await engine.checkKernels({ revision: 7, findings: [{ kernel: 'unknown' }] }, host);
    const checkTicks = ticks;
    const part = await engine.checkKernels({ ...kernels, findings: kernels.findings.slice(1) }, host);
    return { ...engine.info(), kernels, checkTicks, part, again: await engine.checkKernels(kernels, host) };
  },
  /** Hands over every file of a model folder and builds the models. */
  async load({ folder, budget, abortAfterTicks = null }) {
    const files = filesIn(folder).map((path) => fileOf(path, relative(folder, path).replaceAll('\\', '/')));
    const { host, events } = listen(abortAfterTicks);
    return {
      model: await engine.load(files, host, budget),
      events,
      reads: files.map(({ path, reads }) => ({ path, reads })),
      memory: memory(),
    };
  },
  /**
   * Hands over single files, `{ path, from, strength }` each, or `{ path, head, size }` of one whose header alone is there, and
   * builds the models, or with `inspect` only looks at them.
   */
  async loose({ files, inspect = false, budget }) {
    given = files.map(({ path, from, strength, head, size }) =>
      Object.assign(head ? headerOf(head, size, path) : fileOf(from, path), strength === undefined ? {} : { strength }),
    );
    if (inspect) return engine.inspect(given, budget);
    const { host, events } = listen(null);
    return { model: await engine.load(given, host, budget), events };
  },
  /** Bytes that were read of the files of the last `loose`, also where that failed. */
  async read() {
    return { bytes: given.reduce((sum, { bytes }) => sum + bytes, 0), wasmBytes: engine.info().wasmMemoryBytes };
  },
  /** Generates a clip, given pictures if there is a `condition`; the events come with it, in order. */
  async generate({ options, condition, abortAfterTicks = null }) {
    const { host, events } = listen(abortAfterTicks);
    ledger.startPeak();
    const clip = await engine.generate(options, condition, host);
    return { clip, events, ticks, info: engine.info(), memory: memory() };
  },
  /** Generates clips of text in one call; each one's result is an event `made`, after its frames. */
  async batch({ clips, abortAfterTicks = null }) {
    const { host, events } = listen(abortAfterTicks);
    const made = (place, clip) => events.push({ type: 'made', place, clip });
    ledger.startPeak();
    await engine.generateBatch(clips, made, host);
    return { events, ticks, memory: memory() };
  },
  async dispose() {
    engine.dispose();
  },
};

/** A file as the engine wants it: read by range, from the disk. `reads` counts. */
function fileOf(full, path) {
  const handle = open(full);
  const file = {
    path,
    size: statSync(full).size,
    reads: 0,
    bytes: 0,
    async read(start, end) {
      file.reads += 1;
      file.bytes += end - start;
      const bytes = new Uint8Array(end - start);
      const { bytesRead } = await (await handle).read(bytes, 0, bytes.length, start);
      return bytes.subarray(0, bytesRead);
    },
  };
  return file;
}

/** A file of which no more than `head` is there, and zeros behind it. */
function headerOf(head, size, path) {
  const file = {
    path,
    size,
    bytes: 0,
    async read(start, end) {
      file.bytes += end - start;
      const bytes = new Uint8Array(end - start);
      bytes.set(head.subarray(Math.min(start, head.length), Math.min(end, head.length)));
      return bytes;
    },
  };
  return file;
}

function listen(abortAfterTicks) {
  const events = [];
  ticks = 0;
  const host = {
    // rgba may be a view of wasm memory, which the next call overwrites
    event: (event, rgba) => events.push(rgba === undefined ? event : { ...event, rgba: Uint8Array.from(rgba) }),
    aborted: () => abortAfterTicks !== null && ticks >= abortAfterTicks,
    gpu: ledger,
    tick: () => ((ticks += 1), new Promise((done) => setImmediate(done))),
  };
  return { host, events };
}

function filesIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

/** From here on every adapter has no features and the default limits, and is patched as the package's worker does. */
async function impoverish() {
  const guaranteed = {
    maxStorageBufferBindingSize: 128 * 2 ** 20,
    maxBufferSize: 256 * 2 ** 20,
    maxStorageBuffersPerShaderStage: 8,
    maxComputeInvocationsPerWorkgroup: 256,
    maxComputeWorkgroupSizeX: 256,
    maxComputeWorkgroupSizeY: 256,
    maxComputeWorkgroupSizeZ: 64,
    maxComputeWorkgroupStorageSize: 16384,
    maxBindGroups: 4,
  };
  const { gpu } = globalThis.navigator;
  const requestAdapter = gpu.requestAdapter.bind(gpu);
  const limitsOf = new WeakMap();
  // Dawn's binding puts these on each adapter; a browser has them as getters of the prototype.
  gpu.requestAdapter = async (options) => {
    const adapter = await requestAdapter(options);
    const real = adapter.limits;
    limitsOf.set(adapter, new Proxy(real, { get: (_, name) => guaranteed[name] ?? real[name] }));
    delete adapter.features;
    delete adapter.limits;
    return adapter;
  };
  Object.defineProperties(globalThis.GPUAdapter.prototype, {
    features: { configurable: true, get: () => new Set() },
    limits: {
      configurable: true,
      get() {
        return limitsOf.get(this);
      },
    },
  });
  const { patchWebGpu } = await import('../../pkg/dist/gpu-patch.js');
  patchWebGpu(() => {}, { watch });
}

/** Keeps the account of a device's buffers as the package's worker does, and counts its pipelines. */
function watch(device) {
  ledger.watch(device);
  const createComputePipeline = device.createComputePipeline.bind(device);
  device.createComputePipeline = (descriptor) => ((pipelines += 1), createComputePipeline(descriptor));
}

function watchDevices() {
  const { prototype } = globalThis.GPUAdapter;
  const { requestDevice } = prototype;
  prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    watch(device);
    return device;
  };
}

const memory = () => ({ bytes: ledger.bytes, peakBytes: ledger.peakBytes, pipelines });

/** A plain object that survives the way to the test: wasm may throw objects, Errors or strings. */
function plain(error) {
  if (error instanceof WebAssembly.RuntimeError) return { code: 'trap', message: String(error.message) };
  return { code: error?.code, message: String(error?.message ?? error) };
}

process.on('message', async ({ id, call, args }) => {
  try {
    process.send({ id, result: await calls[call](args) });
  } catch (error) {
    process.send({ id, error: plain(error) });
  }
});
process.on('disconnect', () => process.exit(0));
