// Weight matrices in GGUF's types, and the same weights as ONNX's MatMulNBits stores them.
import { fromHalf, fromHalves, halves, toHalf, uniform } from './numbers.mjs';

/** Bytes per weight of each type, as stored in a GGUF file. */
export const bytesPerWeight = { f32: 4, f16: 2, q8_0: 34 / 32, q4_0: 18 / 32, q4_k: 144 / 256 };

/**
 * A weight matrix `[n, k]` of a type: `data` its exact values as f32, `bytes` as GGUF stores it and, for quantized
 * types, `blocks` of 32 weights along k with a scale and a zero point each: weight = scale × (quant − zero).
 *
 * Quantized weights are made block by block instead of being rounded from something: any bits are as good for timing,
 * and so the values are exactly the same in both formats. For that the Q4_K minima are whole multiples of the scales,
 * because ONNX's zero points count quantized steps.
 */
export function weightMatrix(type, n, k, next) {
  const spread = Math.sqrt(3 / k); // variance 1/k: outputs as large as inputs
  const shape = [n, k];
  if (type === 'f32') return { type, shape, data: uniform(n * k, next, spread) };
  if (type === 'f16') {
    const stored = halves(uniform(n * k, next, spread));
    return { type, shape, data: fromHalves(stored), bytes: new Uint8Array(stored.buffer) };
  }
  const blocks = type === 'q4_k' ? superBlocks(n * k, spread, next) : plainBlocks(type, n * k, spread, next);
  const { quants, scales, zeros } = blocks;
  const data = new Float32Array(n * k);
  for (let i = 0; i < data.length; i++) data[i] = scales[i >> 5] * (quants[i] - zeros[i >> 5]);
  return { type, shape, data, bytes: ggufBytes[type](blocks), blocks };
}

const halfOf = (value) => fromHalf(toHalf(value));

/** Q4_0, Q8_0: a scale for each 32 weights, the zero point in the middle. */
function plainBlocks(type, length, spread, next) {
  const bits = type === 'q4_0' ? 4 : 8;
  const middle = 2 ** (bits - 1);
  const quants = new Uint8Array(length);
  // ggml never writes −128 into Q8_0
  for (let i = 0; i < length; i++) quants[i] = Math.max(bits === 8 ? 1 : 0, Math.floor(middle * (1 + next())));
  const scales = new Float32Array(length / 32);
  for (let i = 0; i < scales.length; i++) scales[i] = halfOf((spread / middle) * (1 + 0.3 * next()));
  return { bits, quants, scales, zeros: new Uint8Array(length / 32).fill(middle) };
}

/** Q4_K: 256 weights share `d`; each 32 of them have a 6-bit scale and a 6-bit minimum in units of it. */
function superBlocks(length, spread, next) {
  const quants = new Uint8Array(length);
  for (let i = 0; i < length; i++) quants[i] = Math.floor(8 * (1 + next()));
  const d = new Float32Array(length / 256);
  const steps = new Uint8Array(length / 32);
  const zeros = new Uint8Array(length / 32);
  const scales = new Float32Array(length / 32);
  for (let s = 0; s < d.length; s++) d[s] = halfOf((spread / 40) * (1 + 0.3 * next()));
  for (let b = 0; b < steps.length; b++) {
    steps[b] = 3 + Math.floor(2.5 * (1 + next()));
    zeros[b] = 7 + Math.floor(1 + next()); // minimum = steps × zero ≤ 56 < 64
    scales[b] = d[b >> 3] * steps[b];
  }
  return { bits: 4, quants, scales, zeros, d, steps };
}

/** GGUF's block layouts (ggml-common.h: block_q8_0, block_q4_0, block_q4_K). */
const ggufBytes = {
  q8_0({ quants, scales }) {
    const bytes = new Uint8Array(scales.length * 34);
    const view = new DataView(bytes.buffer);
    for (let b = 0; b < scales.length; b++) {
      view.setUint16(b * 34, toHalf(scales[b]), true);
      for (let i = 0; i < 32; i++) bytes[b * 34 + 2 + i] = quants[b * 32 + i] - 128;
    }
    return bytes;
  },
  q4_0({ quants, scales }) {
    const bytes = new Uint8Array(scales.length * 18);
    const view = new DataView(bytes.buffer);
    for (let b = 0; b < scales.length; b++) {
      view.setUint16(b * 18, toHalf(scales[b]), true);
      for (let i = 0; i < 16; i++) bytes[b * 18 + 2 + i] = quants[b * 32 + i] | (quants[b * 32 + 16 + i] << 4);
    }
    return bytes;
  },
  q4_k({ quants, d, steps, zeros }) {
    const bytes = new Uint8Array(d.length * 144);
    const view = new DataView(bytes.buffer);
    for (let s = 0; s < d.length; s++) {
      const at = s * 144;
      view.setUint16(at, toHalf(d[s]), true);
      view.setUint16(at + 2, toHalf(d[s]), true); // minima in the same unit as scales
      for (let j = 0; j < 8; j++) {
        const scale = steps[s * 8 + j];
        const minimum = scale * zeros[s * 8 + j];
        if (j < 4) {
          bytes[at + 4 + j] |= scale;
          bytes[at + 8 + j] |= minimum;
        } else {
          bytes[at + 8 + j] = (scale & 15) | ((minimum & 15) << 4);
          bytes[at + j] |= (scale >> 4) << 6;
          bytes[at + 4 + j] |= (minimum >> 4) << 6;
        }
      }
      for (let i = 0; i < 128; i++) {
        const first = s * 256 + (i >> 5) * 64 + (i & 31);
        bytes[at + 16 + i] = quants[first] | (quants[first + 32] << 4);
      }
    }
    return bytes;
  },
};

/** The three constants of com.microsoft.MatMulNBits (block size 32): B, scales, packed zero points. */
export function onnxBlocks({ shape: [n, k], blocks: { bits, quants, scales, zeros } }) {
  const pairs = (values) => {
    if (bits === 8) return values;
    const packed = new Uint8Array(values.length / 2);
    for (let i = 0; i < packed.length; i++) packed[i] = values[2 * i] | (values[2 * i + 1] << 4);
    return packed;
  };
  const perRow = k / 32;
  // each row of zero points starts on a byte of its own
  const even = bits === 8 || perRow % 2 === 0 ? zeros : padRows(zeros, n, perRow);
  return { bits, b: pairs(quants), bShape: [n, perRow, 4 * bits], scales, zeros: pairs(even) };
}

function padRows(values, rows, length) {
  const padded = new Uint8Array(rows * (length + 1));
  for (let r = 0; r < rows; r++) padded.set(values.subarray(r * length, (r + 1) * length), r * (length + 1));
  return padded;
}
