// The engine's columns: our kernels and stock Burn, the same wasm with the kernels switched on and off.
// bench/engine is built by `npm run bench` (build.mjs); both columns share one device of their own on the same adapter.
import { prepareClip } from './clip.mjs';
import * as layers from './layers.mjs';

const none = new Float32Array(0);

let loaded;
const engine = (host) => (loaded ??= (async () => {
  const wasm = await import('./engine/wasm/tabreel_bench.js');
  await wasm.default({ module_or_path: await host.bytes('bench/engine/wasm/tabreel_bench_bg.wasm') });
  return wasm.Bench;
})());

/** @param kind 'gpu' or 'cpu'; @param gpu from openGpu, for 'gpu' */
export async function columns(host, kind, gpu) {
  const Bench = await engine(host);
  const bench = await Bench.create(kind);
  const column = (name, own, half = false) => ({
    name,
    type: half ? 'f16' : 'f32',
    async prepare(row, inputs) {
      if (half && !['gemm', 'attention', 'block', 't5'].includes(row.kind)) return { skipped: 'its kernel has no 16-bit tiles' };
      if (row.kind === 'clip') {
        return name.startsWith('stock') ? { skipped: 'the engine that ships has no switch for its kernels' } : prepareClip(host, kind, row.p);
      }
      bench.setHalfTiles(half);
      const one = await rows[row.kind](bench, own, row.p, inputs);
      if (typeof one === 'string') return { skipped: one };
      return {
        run: async () => (bench.setHalfTiles(half), one.run()),
        done: () => one.done(),
        read: () => one.read(),
        async dispose() {
          one.free();
          bench.release();
        },
      };
    },
  });
  if (kind === 'cpu') return [column('ours', true), column('stock Burn', false)];
  const two = [column('ours f32', true), column('stock Burn', false)];
  // software adapters run kernels without tiles
  return gpu.hasF16 && !gpu.software ? [...two, column('ours f16', true, true)] : two;
}

const rows = {
  gemm: (bench, own, { m, k, n, weights }, i) =>
    bench.gemm(own, i.x.data, i['w.weight'].data, i['w.bias'].data, m, k, n, weights, i['w.weight'].bytes ?? new Uint8Array(0)),
  attention: (bench, own, { heads, dim, lq, lk }, { q, k, v }) => bench.attention(own, q.data, k.data, v.data, heads, dim, lq, lk),
  conv: (bench, own, { cin, cout, f, h, w, kernel, stride, pads }, { x, past, weight, bias }) =>
    bench.conv(own, x.data, past?.data ?? none, weight.data, bias.data, Uint32Array.from([cin, cout, f, h, w, ...kernel, stride[0], stride[1], pads[0][0]])),
  modulate(bench, own, { l, d }, { x, scale, shift }) {
    const six = new Float32Array(6 * d);
    six.set(shift.data, 0);
    six.set(scale.data, d);
    return bench.modulate(own, x.data, six, l, d);
  },
  // our engine has no such launch: the matrix product before it does this as its epilogue
  gate: () => 'done by the matrix product before it',
  rope: (bench, own, { l, d }, i) =>
    bench.rope(own, i.q.data, i.k.data, i['q.gain'].data, i['k.gain'].data, i.cos.data, i.sin.data, l, d, 1e-6),
  channelnorm: (bench, own, { c, f, h, w }, { x, gain }) =>
    bench.channelNorm(own, x.data, gain.data.map((one) => one * Math.sqrt(c)), Uint32Array.from([c, f, h, w])),
  block(bench, own, p, inputs) {
    const { config, weights } = layers.block(p, inputs);
    const { x, text, modulation } = inputs;
    return bench.block(own, JSON.stringify(config), weights, x.data, text.data, modulation.data, Uint32Array.from(p.grid), p.vace);
  },
  t5(bench, own, p, inputs) {
    const { config, weights } = layers.t5(p, inputs);
    return bench.textLayer(own, JSON.stringify(config), weights, inputs.x.data, inputs.position.data);
  },
  vae(bench, own, p, inputs) {
    const { config, weights } = layers.vae(p, inputs);
    return bench.decode(own, JSON.stringify(config), weights, inputs.before?.data ?? none, inputs.latents.data, ...p.size);
  },
};
