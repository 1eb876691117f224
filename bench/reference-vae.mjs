// The VAE's decoder computed in double precision by plain loops: the oracle of the decode rows.
import { decode } from './vae.mjs';

/**
 * Decodes latent frames one after the other.
 * @param data {key: Float32Array} the weights
 * @param pasts {key: Float64Array or Float32Array} the two frames before each convolution's input; absent ones are zeros,
 * and what comes after is left in it
 * @returns {{shape, value}} the last chunk
 */
export function decodePlainly(config, data, pasts, frames, first) {
  let chunk;
  frames.forEach((latent, i) => (chunk = decode(plain(data, pasts), config, first && i === 0, latent)));
  return chunk;
}

const plain = (data, pasts) => ({
  conv({ shape: [input, f, h, w], value }, { key, output, kernel, split }) {
    const timed = kernel[0] === 3;
    const past = timed ? (pasts[key] ?? new Float64Array(input * 2 * h * w)) : undefined;
    const x = timed ? joined(past, value, input, f, h * w) : value;
    if (timed) pasts[key] = lastTwo(x, input, f + 2, h * w);
    const y = convolve(x, [input, f, h, w], data[`${key}.weight`], data[`${key}.bias`], output, kernel);
    return split ? interleaved(y, output / 2, f, h * w) : y;
  },
  norm({ shape: [c], value }, { key, silu }) {
    const [gain, volume] = [data[`${key}.gamma`], value.length / c];
    const out = new Float64Array(value.length);
    for (let at = 0; at < volume; at++) {
      let square = 0;
      for (let i = 0; i < c; i++) square += value[i * volume + at] ** 2;
      const factor = Math.sqrt(c) / Math.max(Math.sqrt(square), 1e-12);
      for (let i = 0; i < c; i++) {
        const one = value[i * volume + at] * factor * gain[i];
        out[i * volume + at] = silu ? one / (1 + Math.exp(-one)) : one;
      }
    }
    return out;
  },
  /** Single-head attention among the pixels of each frame. */
  attend({ shape: [c3, f, h, w], value }) {
    const [c, l] = [c3 / 3, h * w];
    const out = new Float64Array(c * f * l);
    const at = (part, channel, frame, i) => value[((part * c + channel) * f + frame) * l + i];
    for (let frame = 0; frame < f; frame++) for (let i = 0; i < l; i++) {
      const scores = Array.from({ length: l }, (_, j) => {
        let sum = 0;
        for (let k = 0; k < c; k++) sum += at(0, k, frame, i) * at(1, k, frame, j);
        return sum / Math.sqrt(c);
      });
      const top = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - top));
      const total = weights.reduce((a, b) => a + b);
      for (let k = 0; k < c; k++) {
        let sum = 0;
        for (let j = 0; j < l; j++) sum += weights[j] * at(2, k, frame, j);
        out[(k * f + frame) * l + i] = sum / total;
      }
    }
    return out;
  },
  double({ shape: [c, f, h, w], value }) {
    const out = new Float64Array(4 * value.length);
    for (let p = 0; p < c * f; p++) for (let y = 0; y < 2 * h; y++) for (let x = 0; x < 2 * w; x++) {
      out[(p * 2 * h + y) * 2 * w + x] = value[(p * h + (y >> 1)) * w + (x >> 1)];
    }
    return out;
  },
  /** diffusers' DupUp3D: channels repeated into a larger picture and clip. */
  duplicate({ shape: [c, f, h, w], value }, { output, time, first }) {
    const repeats = (output * time * 4) / c;
    const dropped = first ? time - 1 : 0;
    const frames = f * time - dropped;
    const out = new Float64Array(output * frames * 4 * h * w);
    for (let o = 0; o < output; o++) for (let t = 0; t < frames; t++) for (let y = 0; y < 2 * h; y++) for (let x = 0; x < 2 * w; x++) {
      const whole = t + dropped;
      const channel = Math.floor((((o * time + (whole % time)) * 2 + (y & 1)) * 2 + (x & 1)) / repeats);
      out[((o * frames + t) * 2 * h + y) * 2 * w + x] = value[((channel * f + Math.floor(whole / time)) * h + (y >> 1)) * w + (x >> 1)];
    }
    return out;
  },
  add: ({ value: a }, { value: b }) => a.map((one, i) => one + b[i]),
});

/** Two frames of `past` before `f` frames of `x`, in each channel. */
function joined(past, x, channels, f, size) {
  const all = new Float64Array(channels * (f + 2) * size);
  for (let c = 0; c < channels; c++) {
    all.set(past.subarray(c * 2 * size, (c + 1) * 2 * size), c * (f + 2) * size);
    all.set(x.subarray(c * f * size, (c + 1) * f * size), (c * (f + 2) + 2) * size);
  }
  return all;
}

function lastTwo(x, channels, frames, size) {
  const last = new Float64Array(channels * 2 * size);
  for (let c = 0; c < channels; c++) last.set(x.subarray((c * frames + frames - 2) * size, (c + 1) * frames * size), c * 2 * size);
  return last;
}

/** Channels s·C + c of frame t become channel c of frame 2t + s. */
function interleaved(y, channels, f, size) {
  const out = new Float64Array(y.length);
  for (let s = 0; s < 2; s++) for (let c = 0; c < channels; c++) for (let t = 0; t < f; t++) {
    const from = ((s * channels + c) * f + t) * size;
    out.set(y.subarray(from, from + size), (c * 2 * f + 2 * t + s) * size);
  }
  return out;
}

/** `x` has kt − 1 frames more than the `f` that come out; zeros around each picture. */
function convolve(x, [input, f, h, w], weight, bias, output, [kt, kh, kw]) {
  const frames = f + kt - 1;
  const size = input * kt * kh * kw;
  const out = new Float64Array(output * f * h * w);
  // what each position of a frame sees, in the order of the weights: then all is scalar products of long rows
  const seen = new Float64Array(h * w * size);
  for (let t = 0; t < f; t++) {
    let at = 0;
    for (let y = 0; y < h; y++) for (let u = 0; u < w; u++) {
      for (let ci = 0; ci < input; ci++) for (let a = 0; a < kt; a++) for (let b = 0; b < kh; b++) for (let c = 0; c < kw; c++) {
        const [row, column] = [y + b - (kh >> 1), u + c - (kw >> 1)];
        seen[at++] = row < 0 || row >= h || column < 0 || column >= w ? 0 : x[((ci * frames + t + a) * h + row) * w + column];
      }
    }
    for (let co = 0; co < output; co++) for (let p = 0; p < h * w; p++) {
      out[(co * f + t) * h * w + p] = bias[co] + dot(seen, p * size, weight, co * size, size);
    }
  }
  return out;
}

/** Four sums, since each waits for its last addition. */
function dot(a, i, b, j, length) {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  let c = 0;
  for (; c + 3 < length; c += 4) {
    s0 += a[i + c] * b[j + c];
    s1 += a[i + c + 1] * b[j + c + 1];
    s2 += a[i + c + 2] * b[j + c + 2];
    s3 += a[i + c + 3] * b[j + c + 3];
  }
  for (; c < length; c++) s0 += a[i + c] * b[j + c];
  return s0 + s1 + s2 + s3;
}
