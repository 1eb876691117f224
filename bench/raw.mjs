// A column of raw WebGPU: one register-tiled GEMM, without workgroup memory or barriers. It proves the plumbing of the
// bench, and it is the plainest thing a kernel of ours has to beat.
import { dispatch, pipeline, readBack, storage } from './lib/gpu.mjs';

/** Each thread makes 4×4 outputs; w lies [n, k], so both operands are read along k in vectors of four. */
const code = ({ m, k, n }) => `
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(8, 8) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = id.x * 4u;
  let line = id.y * 4u;
  if (column >= ${n}u || line >= ${m}u) { return; }
  var sum: array<vec4<f32>, 4>;
  for (var i = 0u; i < ${k / 4}u; i++) {
    let w0 = w[column * ${k / 4}u + i];
    let w1 = w[min(column + 1u, ${n - 1}u) * ${k / 4}u + i];
    let w2 = w[min(column + 2u, ${n - 1}u) * ${k / 4}u + i];
    let w3 = w[min(column + 3u, ${n - 1}u) * ${k / 4}u + i];
    for (var r = 0u; r < 4u; r++) {
      let a = x[min(line + r, ${m - 1}u) * ${k / 4}u + i];
      sum[r] += vec4(dot(a, w0), dot(a, w1), dot(a, w2), dot(a, w3));
    }
  }
  for (var r = 0u; r < 4u; r++) {
    for (var c = 0u; c < 4u; c++) {
      if (line + r < ${m}u && column + c < ${n}u) { y[(line + r) * ${n}u + column + c] = sum[r][c] + b[column + c]; }
    }
  }
}`;

export function raw({ device }) {
  return {
    name: 'raw 4×4',
    type: 'f32',
    async prepare({ kind, p, weights }, inputs) {
      if (kind !== 'gemm' || weights !== 'f32') return { skipped: 'a GEMM with f32 weights is all it can do' };
      const program = await pipeline(device, code(p));
      const output = storage(device, p.m * p.n * 4);
      const buffers = [...['x', 'w.weight', 'w.bias'].map((key) => storage(device, inputs[key].data)), output];
      const groups = [Math.ceil(p.n / 32), Math.ceil(p.m / 32)];
      return {
        run: async () => dispatch(device, program, buffers, groups),
        done: () => device.queue.onSubmittedWorkDone(),
        read: async () => new Float32Array(await readBack(device, output, p.m * p.n * 4)),
        dispose: () => buffers.forEach((buffer) => buffer.destroy()),
      };
    },
  };
}
