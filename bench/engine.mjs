// The engine's columns: our kernels and stock Burn, the same wasm with the kernels switched on and off.
// bench/engine is built by `npm run bench` (build.mjs); both columns share one device of their own on the same adapter.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, 'engine/wasm');
const none = new Float32Array(0);

let loaded;
async function engine() {
  if (!existsSync(folder)) throw new Error('bench/engine is not built: npm run bench');
  loaded ??= (async () => {
    const wasm = await import(join(folder, 'tabreel_bench.js'));
    await wasm.default({ module_or_path: readFileSync(join(folder, 'tabreel_bench_bg.wasm')) });
    return wasm.Bench;
  })();
  return loaded;
}

export async function columns(_gpu, kind) {
  const Bench = await engine();
  const bench = await Bench.create(kind);
  const column = (name, own) => ({
    name,
    type: 'f32',
    async prepare(row, inputs) {
      const make = rows[row.kind];
      if (!make) return { skipped: 'not attached to the bench yet' };
      const one = make(bench, own, row.p, inputs);
      if (typeof one === 'string') return { skipped: one };
      return {
        run: async () => one.run(),
        done: () => one.done(),
        read: () => one.read(),
        async dispose() {
          one.free();
          bench.release();
        },
      };
    },
  });
  return kind === 'gpu' ? [column('ours f32', true), column('stock Burn', false)] : [column('ours (flex)', false)];
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
};
