// The onnxruntime-web columns: WebGPU with everything kept on the GPU, and the wasm provider on one thread.
import { variants } from './graphs.mjs';
import { readBack, storage } from './lib/gpu.mjs';
import { fromHalves, halves } from './lib/numbers.mjs';
import { interleave } from './lib/time.mjs';

/** One of onnxruntime-web's builds; each has its own wasm instance, so several can live in one process. */
async function load(host, bundle) {
  const ort = await import(`${host.ort}${bundle}`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = host.ort;
  ort.env.logLevel = 'error';
  return ort;
}

/** @param gpu from openGpu; @param type of the activations, 'f32' or 'f16' */
export async function ortWebGpu(host, gpu, type) {
  const ort = await (ortWebGpu.loaded ??= load(host, 'ort.webgpu.min.mjs'));
  const { device } = gpu;
  const unit = type === 'f16' ? 2 : 4;
  const encode = type === 'f16' ? halves : (values) => values;
  const decode = (bytes) => (type === 'f16' ? fromHalves(new Uint16Array(bytes)) : new Float32Array(bytes));

  async function open(variant, preferredLayout) {
    const { graph, feeds, restore = (output) => output } = variant.build();
    const session = await ort.InferenceSession.create(graph.bytes(), {
      // the bench's own device: the same adapter and limits as the raw column, and its buffers can be inputs
      executionProviders: [{ name: 'webgpu', device, preferredLayout }],
      preferredOutputLocation: 'gpu-buffer',
      graphOptimizationLevel: 'all',
      // without this an operator that WebGPU lacks would silently run in wasm, with copies to and fro
      extra: { session: { disable_cpu_ep_fallback: '1' } },
    });
    const buffers = [];
    const tensor = (buffer, dims) => (buffers.push(buffer), ort.Tensor.fromGpuBuffer(buffer, { dataType: type === 'f16' ? 'float16' : 'float32', dims }));
    const ins = Object.fromEntries(graph.inputs.map(({ name, shape }) => [name, tensor(storage(device, encode(feeds[name])), shape)]));
    const outs = Object.fromEntries(graph.outputs.map(({ name, shape }) => [name, tensor(storage(device, size(shape) * unit), shape)]));
    return {
      note: variant.name + (preferredLayout === 'NCHW' ? ', NCHW' : ''),
      async run() {
        await session.run(ins, outs);
      },
      done: () => device.queue.onSubmittedWorkDone(),
      async read() {
        const parts = [];
        for (const { name, shape } of graph.outputs) parts.push(restore(decode(await readBack(device, outs[name].gpuBuffer, size(shape) * unit))));
        return joined(parts);
      },
      async dispose() {
        await device.queue.onSubmittedWorkDone();
        await session.release();
        buffers.forEach((buffer) => buffer.destroy());
      },
    };
  }

  return {
    name: `ORT ${type}`,
    type,
    async prepare(row, inputs, { right }) {
      if (row.alone) return { skipped: row.alone };
      if (type === 'f16' && !gpu.hasF16) return { skipped: 'the adapter has no shader-f16' };
      if (type === 'f16' && row.kind === 'gemm' && row.weights === 'f32') return { skipped: 'f32 weights are for f32 activations' };
      const ways = variants(row, inputs, type).flatMap((variant) =>
        // its convolutions exist in two layouts, with transposes around the one that is not the graph's
        (row.kind === 'conv' && variant.name !== 'MatMul' ? ['NHWC', 'NCHW'] : ['NHWC']).map((layout) => () => open(variant, layout)));
      return fastest(ways, right);
    },
  };
}

/** The CPU column: onnxruntime-web's wasm provider, one thread, SIMD. */
export async function ortWasm(host) {
  const ort = await load(host, 'ort.wasm.min.mjs');
  async function open(variant) {
    const { graph, feeds, restore = (output) => output } = variant.build();
    const session = await ort.InferenceSession.create(graph.bytes(), { executionProviders: ['wasm'], graphOptimizationLevel: 'all' });
    const ins = Object.fromEntries(graph.inputs.map(({ name, shape }) => [name, new ort.Tensor('float32', feeds[name], shape)]));
    let outs;
    return {
      note: variant.name,
      async run() {
        outs = await session.run(ins);
      },
      read: async () => joined(graph.outputs.map(({ name }) => restore(outs[name].data))),
      dispose: () => session.release(),
    };
  }
  return {
    name: 'ORT wasm',
    type: 'f32',
    prepare: (row, inputs, { right }) =>
      row.alone ? { skipped: row.alone } : fastest(variants(row, inputs, 'f32').map((variant) => () => open(variant)), right),
  };
}

const size = (shape) => shape.reduce((a, b) => a * b, 1);

function joined(parts) {
  if (parts.length === 1) return parts[0];
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/**
 * Tries every way; of those that are right, the fastest stays. What failed or was wrong is told in `tried`, so that the
 * table can say what onnxruntime does not support.
 */
async function fastest(ways, right) {
  const tried = [];
  let best;
  for (const open of ways) {
    let candidate;
    try {
      candidate = await open();
      await candidate.run();
      const verdict = right(await candidate.read());
      if (!verdict.right) throw new Error(`wrong: ${verdict.words}`);
      const [{ ms }] = await interleave([candidate], { repeats: 3, atLeastMs: 20, mostMs: 2000 });
      tried.push(`${candidate.note}: ${ms.toPrecision(3)} ms`);
      if (!best || ms < best.ms) [best, candidate] = [{ ms, candidate }, best?.candidate];
    } catch (error) {
      tried.push(`${candidate?.note ?? 'session'}: ${String(error.message ?? error).split('\n')[0].slice(0, 300)}`);
    }
    await candidate?.dispose();
  }
  return best ? { ...best.candidate, tried } : { skipped: tried.join('; '), tried };
}
