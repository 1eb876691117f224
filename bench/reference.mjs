// The plain twins: each row's outputs computed in double precision by the shortest loops. Of large rows only a sample
// (the first, the last and seeded random places; whole rows where the work cannot be split finer), because a column
// that is wrong is wrong in places a sample of hundreds finds: edges of tiles are among them.
import { latentFrames, valuesOf } from './inputs.mjs';
import { seeded } from './lib/numbers.mjs';
import { decodePlainly } from './reference-vae.mjs';
import { vaes } from './vae.mjs';

/** Multiply-adds up to which everything is computed, and how many a sample may take: well under a second each. */
const WHOLE = 1e7;
const BUDGET = 1e8;

/** @returns {{indices: Int32Array, values: Float64Array}} places in the outputs (joined in order) and what stands there */
export function reference({ name, kind, p }, inputs) {
  const pick = (total, costOfOne) => {
    const count = Math.max(2, Math.min(4096, Math.floor(BUDGET / costOfOne)));
    if (count >= total || total * costOfOne <= WHOLE) return Array.from({ length: total }, (_, i) => i);
    const next = seeded(`${name}/sample`);
    const chosen = new Set([0, total - 1]);
    while (chosen.size < count) chosen.add(Math.floor(((next() + 1) / 2) * total) % total);
    return [...chosen];
  };
  const data = valuesOf(inputs);
  const indices = [];
  const values = [];
  const emit = (at, value) => (indices.push(at), values.push(value));
  const emitRow = (at, rowOf) => rowOf.forEach((value, i) => emit(at + i, value));
  twins[kind](p, data, { pick, emit, emitRow, inputs });
  return { indices: Int32Array.from(indices), values: Float64Array.from(values) };
}

/** How far an output is from the reference: relative L2 norm, and the largest error in units of the reference's RMS. */
export function compare({ indices, values }, output) {
  let [wrong, norm, largest] = [0, 0, 0];
  for (let i = 0; i < indices.length; i++) {
    const error = Math.abs(output[indices[i]] - values[i]);
    wrong += error * error;
    norm += values[i] * values[i];
    largest = Number.isNaN(error) ? NaN : Math.max(largest, error);
  }
  return { relative: Math.sqrt(wrong / norm), largest: largest / Math.sqrt(norm / indices.length) };
}

const twins = {
  gemm({ m, k, n }, d, { pick, emit }) {
    for (const at of pick(m * n, k)) emit(at, dot(d.x, Math.floor(at / n) * k, d['w.weight'], (at % n) * k, k) + d['w.bias'][at % n]);
  },
  attention({ heads, dim, lq, lk }, { q, k, v }, { pick, emitRow }) {
    for (const at of pick(lq * heads, 2 * lk * dim)) {
      const [i, head] = [Math.floor(at / heads), at % heads];
      emitRow(i * heads * dim + head * dim, attend(q, i, k, v, lk, heads, head, dim, 1 / Math.sqrt(dim)));
    }
  },
  conv({ cin, f, h, w, cout, kernel: [kt, kh, kw], stride, pads, out, cache }, { x, past, weight, bias }, { pick, emit }) {
    const volume = out[0] * out[1] * out[2];
    for (const at of pick(cout * volume, cin * kt * kh * kw)) {
      const [co, rest] = [Math.floor(at / volume), at % volume];
      const place = [Math.floor(rest / (out[1] * out[2])), Math.floor(rest / out[2]) % out[1], rest % out[2]];
      const [t0, y0, x0] = place.map((one, axis) => one * stride[axis] - pads[axis][0]);
      let sum = bias[co];
      for (let ci = 0; ci < cin; ci++) for (let a = 0; a < kt; a++) for (let b = 0; b < kh; b++) for (let c = 0; c < kw; c++) {
        const [t, y, u] = [t0 + a, y0 + b, x0 + c];
        if (t >= f || y < 0 || y >= h || u < 0 || u >= w || (t < 0 && !cache)) continue;
        const value = t < 0 ? past[((ci * 2 + t + 2) * h + y) * w + u] : x[((ci * f + t) * h + y) * w + u];
        sum += value * weight[(((co * cin + ci) * kt + a) * kh + b) * kw + c];
      }
      emit(at, sum);
    }
  },
  modulate({ l, d }, { x, scale, shift }, { pick, emitRow }) {
    for (const i of pick(l, 8 * d)) emitRow(i * d, layerNorm(x, i, d).map((value, c) => value * (1 + scale[c]) + shift[c]));
  },
  gate({ l, d }, { x, y, gate }, { pick, emit }) {
    for (const at of pick(l * d, 1)) emit(at, x[at] + y[at] * gate[at % d]);
  },
  rope({ l, d, dim }, data, { pick, emitRow }) {
    for (const i of pick(l, 20 * d)) {
      for (const [which, one] of ['q', 'k'].entries()) {
        emitRow((which * l + i) * d, turn(rmsNorm(data[one], i, d, data[`${one}.gain`]), i, dim, data));
      }
    }
  },
  channelnorm({ c, f, h, w }, { x, gain }, { pick, emit }) {
    const volume = f * h * w;
    for (const at of pick(volume, 8 * c)) {
      let square = 0;
      for (let i = 0; i < c; i++) square += x[i * volume + at] ** 2;
      const factor = Math.sqrt(c) / Math.max(Math.sqrt(square), 1e-12);
      for (let i = 0; i < c; i++) {
        const value = x[i * volume + at] * factor * gain[i];
        emit(i * volume + at, value / (1 + Math.exp(-value)));
      }
    }
  },
  block({ l, d, heads, dim, ffn, text, vace }, data, { pick, emitRow }) {
    const { x, modulation } = data;
    const six = Array.from({ length: 6 }, (_, i) => modulation.subarray(i * d, (i + 1) * d));
    const modulated = (value, scale, shift) => value.map((one, c) => one * (1 + scale[c]) + shift[c]);
    const normed = flat(range(l).map((i) => modulated(layerNorm(x, i, d), six[1], six[0])), d);
    // keys and values of every token; everything else only of the tokens in the sample
    const keys = flat(range(l).map((i) => turn(rmsNorm(linear(normed, i, data, 'self.k', d, d), 0, d, data['self.k.gain']), i, dim, data)), d);
    const values = flat(range(l).map((i) => linear(normed, i, data, 'self.v', d, d)), d);
    const textKeys = flat(range(text).map((i) => rmsNorm(linear(data.text, i, data, 'cross.k', d, d), 0, d, data['cross.k.gain'])), d);
    const textValues = flat(range(text).map((i) => linear(data.text, i, data, 'cross.v', d, d)), d);
    const all = (q, k, v, lk) => Float64Array.from(range(heads).flatMap((head) => attend(q, 0, k, v, lk, heads, head, dim, 1 / Math.sqrt(dim))));
    for (const i of pick(l, 6 * d * d + 2 * d * ffn + 2 * (l + text) * d)) {
      const q = turn(rmsNorm(linear(normed, i, data, 'self.q', d, d), 0, d, data['self.q.gain']), i, dim, data);
      const own = linear(all(q, keys, values, l), 0, data, 'self.o', d, d);
      const one = Float64Array.from({ length: d }, (_, c) => x[i * d + c] + own[c] * six[2][c]);
      const normed2 = layerNorm(one, 0, d).map((value, c) => value * data['norm2.gain'][c] + data['norm2.bias'][c]);
      const q2 = rmsNorm(linear(Float64Array.from(normed2), 0, data, 'cross.q', d, d), 0, d, data['cross.q.gain']);
      const other = linear(all(q2, textKeys, textValues, text), 0, data, 'cross.o', d, d);
      const two = one.map((value, c) => value + other[c]);
      const normed3 = Float64Array.from(modulated(layerNorm(two, 0, d), six[4], six[3]));
      const hidden = linear(normed3, 0, data, 'ffn.in', d, ffn).map(geluTanh);
      const fed = linear(hidden, 0, data, 'ffn.out', ffn, d);
      const result = two.map((value, c) => value + fed[c] * six[5][c]);
      emitRow(i * d, [...result]);
      if (vace) emitRow((l + i) * d, [...linear(result, 0, data, 'proj_out', d, d)]);
    }
  },
  t5({ l, d, heads, dim, ffn }, data, { pick, emitRow }) {
    const inner = heads * dim;
    const normed = flat(range(l).map((i) => rmsNorm(data.x, i, d, data.norm1)), d);
    const [k, v] = ['k', 'v'].map((one) => flat(range(l).map((i) => linear(normed, i, data, one, d, inner)), inner));
    for (const i of pick(l, 2 * inner * d + 3 * d * ffn)) {
      const q = linear(normed, i, data, 'q', d, inner);
      const seen = range(heads).flatMap((head) => attend(q, 0, k, v, l, heads, head, dim, 1, data.position.subarray((head * l + i) * l)));
      const one = linear(Float64Array.from(seen), 0, data, 'o', inner, d).map((value, c) => value + data.x[i * d + c]);
      const normed2 = Float64Array.from(rmsNorm(one, 0, d, data.norm2));
      const [gate, up] = ['wi_0', 'wi_1'].map((key) => linear(normed2, 0, data, key, d, ffn));
      const fed = linear(gate.map((value, c) => geluTanh(value) * up[c]), 0, data, 'wo', ffn, d);
      emitRow(i * d, [...one.map((value, c) => value + fed[c])]);
    }
  },
  vae({ model, size, before }, data, { emitRow, inputs }) {
    // everything depends on everything: no sample could be had for less
    const pasts = Object.fromEntries(Object.entries(data).filter(([key]) => key.startsWith('past.')).map(([key, past]) => [key.slice(5), past]));
    const frames = latentFrames(vaes[model], inputs.latents, size);
    emitRow(0, decodePlainly(vaes[model], data, pasts, frames, before === 0).value);
  },
};

const range = (length) => Array.from({ length }, (_, i) => i);
const flat = (list, d) => {
  const all = new Float64Array(list.length * d);
  list.forEach((one, i) => all.set(one, i * d));
  return all;
};
const geluTanh = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

function dot(a, i, b, j, length) {
  let sum = 0;
  for (let c = 0; c < length; c++) sum += a[i + c] * b[j + c];
  return sum;
}
function linear(x, row, data, key, k, n) {
  const [w, bias] = [data[`${key}.weight`], data[`${key}.bias`]];
  return Float64Array.from({ length: n }, (_, j) => dot(x, row * k, w, j * k, k) + (bias ? bias[j] : 0));
}
function layerNorm(x, row, d) {
  const slice = Array.from(x.subarray(row * d, (row + 1) * d));
  const mean = slice.reduce((a, b) => a + b) / d;
  const variance = slice.reduce((a, b) => a + (b - mean) ** 2, 0) / d;
  return slice.map((value) => (value - mean) / Math.sqrt(variance + 1e-6));
}
function rmsNorm(x, row, d, gain) {
  const factor = 1 / Math.sqrt(dot(x, row * d, x, row * d, d) / d + 1e-6);
  return Array.from({ length: d }, (_, c) => x[row * d + c] * factor * gain[c]);
}
/** Rotary embedding of one token's heads. */
function turn(x, token, dim, { cos, sin }) {
  return x.map((value, c) => {
    const at = (token * dim) / 2 + ((c % dim) >> 1);
    return c % 2 === 0 ? value * cos[at] - x[c + 1] * sin[at] : x[c - 1] * sin[at] + value * cos[at];
  });
}
/** One head of one query over all keys. */
function attend(q, row, k, v, lk, heads, head, dim, scale, bias = undefined) {
  const d = heads * dim;
  const scores = Array.from({ length: lk }, (_, j) => scale * dot(q, row * d + head * dim, k, j * d + head * dim, dim) + (bias ? bias[j] : 0));
  const top = scores.reduce((a, b) => Math.max(a, b));
  const weights = scores.map((score) => Math.exp(score - top));
  const total = weights.reduce((a, b) => a + b);
  const out = new Array(dim).fill(0);
  for (let j = 0; j < lk; j++) for (let c = 0; c < dim; c++) out[c] += (weights[j] / total) * v[j * d + head * dim + c];
  return out;
}
