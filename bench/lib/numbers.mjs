// Seeded random numbers and half precision.

/** A generator of numbers in [-1, 1), seeded by a text: the same inputs in every column, process and run. */
export function seeded(text) {
  let state = 0x811c9dc5;
  for (const char of text) state = Math.imul(state ^ char.charCodeAt(0), 0x01000193) >>> 0;
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2147483648 - 1;
  };
}

export function uniform(length, next, scale = 1, offset = 0) {
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) values[i] = offset + scale * next();
  return values;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Nearest half-precision number (ties to even) as its 16 bits; too large becomes infinity. */
export function toHalf(value) {
  float[0] = value;
  const x = bits[0];
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude >= 0x47800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude < 0x38800000) {
    // subnormal halves are multiples of 2^-24; Math.round would round ties up, so ties are made even by hand
    const scaled = Math.abs(value) * 2 ** 24;
    const down = Math.floor(scaled);
    const rest = scaled - down;
    return sign | (rest > 0.5 || (rest === 0.5 && down & 1) ? down + 1 : down);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

export function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : fraction * 2 ** -24);
}

export const halves = (values) => Uint16Array.from(values, toHalf);
export function fromHalves(values) {
  const table = (fromHalves.table ??= Float32Array.from({ length: 65536 }, (_, i) => fromHalf(i)));
  return Float32Array.from(values, (half) => table[half]);
}
