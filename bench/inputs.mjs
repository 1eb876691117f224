// The tensors of a row, the same in every column: {name: {shape, data, weight?}}; quantized weights also have `bytes`.
// Matrices lie as GGUF and PyTorch have them, [out, in]; everything is one clip, without a batch axis.
import { seeded, uniform } from './lib/numbers.mjs';
import { weightMatrix } from './lib/weights.mjs';
import { decodePlainly } from './reference-vae.mjs';
import { describe, vaes } from './vae.mjs';

const product = (shape) => shape.reduce((a, b) => a * b, 1);

export function makeInputs({ name, kind, p }) {
  const made = {};
  /** An activation, or (with `weight`) something a model file holds. */
  const add = (key, shape, { scale = 1, offset = 0, weight = false } = {}) => {
    made[key] = { shape, weight, data: uniform(product(shape), seeded(`${name}/${key}`), scale, offset) };
  };
  const vector = (key, d, offset = 0) => add(key, [d], { weight: true, scale: 0.3, offset });
  const linear = (key, k, n, type = 'f32', bias = true) => {
    made[`${key}.weight`] = { ...weightMatrix(type, n, k, seeded(`${name}/${key}.weight`)), weight: true };
    if (bias) vector(`${key}.bias`, n);
  };
  inputsOf[kind](p, { made, add, vector, linear });
  return made;
}

const inputsOf = {
  gemm({ m, k, n, weights }, { add, linear }) {
    add('x', [m, k]);
    linear('w', k, n, weights);
  },
  attention({ heads, dim, lq, lk }, { add }) {
    add('q', [lq, heads * dim], { scale: 2 }); // large enough that the softmax is not flat
    add('k', [lk, heads * dim], { scale: 2 });
    add('v', [lk, heads * dim]);
  },
  conv({ cin, cout, f, h, w, kernel, cache }, { add, vector }) {
    add('x', [cin, f, h, w]);
    if (cache) add('past', [cin, 2, h, w]);
    add('weight', [cout, cin, ...kernel], { weight: true, scale: Math.sqrt(3 / (cin * product(kernel))) });
    vector('bias', cout);
  },
  modulate({ l, d }, { add }) {
    add('x', [l, d], { scale: 2, offset: 0.3 });
    add('scale', [d], { scale: 0.5 });
    add('shift', [d], { scale: 0.5 });
  },
  gate({ l, d }, { add }) {
    add('x', [l, d]);
    add('y', [l, d]);
    add('gate', [d]);
  },
  rope({ grid, d, dim }, { made, add, vector }) {
    add('q', [grid[0] * grid[1] * grid[2], d], { scale: 2 });
    add('k', [grid[0] * grid[1] * grid[2], d], { scale: 2 });
    vector('q.gain', d, 1);
    vector('k.gain', d, 1);
    Object.assign(made, ropeTables(grid, dim));
  },
  channelnorm({ c, f, h, w }, { add, vector }) {
    add('x', [c, f, h, w], { scale: 2 });
    vector('gain', c, 1);
  },
  block({ grid, l, d, dim, ffn, text, vace }, { made, add, vector, linear }) {
    add('x', [l, d]);
    add('text', [text, d]);
    add('modulation', [6, d], { scale: 0.5 }); // scale_shift_table + time embedding
    for (const part of ['self', 'cross']) {
      for (const one of ['q', 'k', 'v', 'o']) linear(`${part}.${one}`, d, d);
      vector(`${part}.q.gain`, d, 1);
      vector(`${part}.k.gain`, d, 1);
    }
    vector('norm2.gain', d, 1);
    vector('norm2.bias', d);
    linear('ffn.in', d, ffn);
    linear('ffn.out', ffn, d);
    if (vace) linear('proj_out', d, d);
    Object.assign(made, ropeTables(grid, dim));
  },
  t5({ l, d, heads, dim, ffn }, { add, vector, linear }) {
    add('x', [l, d]);
    add('position', [heads, l, l]); // this layer's relative position bias
    vector('norm1', d, 1);
    for (const one of ['q', 'k', 'v']) linear(one, d, heads * dim, 'f32', false);
    linear('o', heads * dim, d, 'f32', false);
    vector('norm2', d, 1);
    for (const one of ['wi_0', 'wi_1']) linear(one, d, ffn, 'f32', false);
    linear('wo', ffn, d, 'f32', false);
  },
  vae({ model, size, before, chunks }, { made, add, vector }) {
    const config = vaes[model];
    for (const [key, shape] of Object.entries(describe(config, false, size).weights)) {
      if (shape.length === 1) vector(key, shape[0]);
      else if (key.endsWith('.gamma')) add(key, shape, { weight: true, scale: 0.3, offset: 1 });
      else add(key, shape, { weight: true, scale: Math.sqrt(3 / product(shape.slice(1))) });
    }
    add('latents', [chunks, config.z_dim, ...size]);
    if (before) {
      add('before', [before, config.z_dim, ...size]);
      Object.assign(made, remembered(config, made, size));
    }
  },
  clip() {},
};

/** What the decoder remembers of the frames before: graphs are given it, the engine makes it itself. */
function remembered(config, made, size) {
  const pasts = {};
  decodePlainly(config, valuesOf(made), pasts, latentFrames(config, made.before, size), true);
  return Object.fromEntries(Object.entries(pasts).map(([key, values]) => {
    const channels = made[`${key}.weight`].shape[1];
    return [`past.${key}`, { shape: [channels, 2, values.length / (2 * channels)], data: Float32Array.from(values) }];
  }));
}

export const valuesOf = (inputs) => Object.fromEntries(Object.entries(inputs).map(([key, { data }]) => [key, data]));

/** Latent frames [n, z, h, w] one by one, as the decoder takes them. */
export function latentFrames({ z_dim }, { shape: [count], data }, size) {
  const length = z_dim * product(size);
  return Array.from({ length: count }, (_, i) => ({ shape: [z_dim, 1, ...size], value: Float64Array.from(data.subarray(i * length, (i + 1) * length)) }));
}

/** Cosines and sines `[l, dim / 2]` over frames, rows and columns, as crate/src/nn/rope.rs makes them. */
export function ropeTables([frames, height, width], dim) {
  const side = 2 * Math.floor(dim / 6);
  const axes = [dim - 2 * side, side, side];
  const [cos, sin] = [[], []];
  for (let i = 0; i < frames * height * width; i++) {
    const place = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
    axes.forEach((size, axis) => {
      for (let pair = 0; pair < size / 2; pair++) {
        const angle = place[axis] / 10000 ** ((2 * pair) / size);
        cos.push(Math.cos(angle));
        sin.push(Math.sin(angle));
      }
    });
  }
  const shape = [frames * height * width, dim / 2];
  return { cos: { shape, weight: true, data: Float32Array.from(cos) }, sin: { shape, weight: true, data: Float32Array.from(sin) } };
}

/** Shapes of what a row computes, in order. */
export function outputShapes({ kind, p }) {
  switch (kind) {
    case 'gemm': return [[p.m, p.n]];
    case 'attention': return [[p.lq, p.heads * p.dim]];
    case 'conv': return [[p.cout, ...p.out]];
    case 'rope': return [[p.l, p.d], [p.l, p.d]];
    case 'channelnorm': return [[p.c, p.f, p.h, p.w]];
    case 'vae': return [p.out];
    case 'block': return p.vace ? [[p.l, p.d], [p.l, p.d]] : [[p.l, p.d]];
    default: return [[p.l, p.d]];
  }
}
