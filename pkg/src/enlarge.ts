/**
 * Enlarging small frames so that they look like pictures and not like pixels.
 *
 * The filter is round: a jinc windowed by a jinc ("EWA Lanczos", three lobes). Square filters, which is what
 * browsers have, show the pixel grid as stairs along every slanted edge. Overshoot at hard edges is cut to
 * the range of the sixteen pixels around the point (that of the nearest four leaves creases in gradients).
 */
import type { Frame } from './frame.js';

/** The jinc's first and third zero, in px. */
const FIRST_ZERO = 1.2196698912665045;
const RADIUS = 3.238315484166236;
/** Slightly narrower than the textbook's, which is softer than need be; the common choice. */
const BLUR = 0.9812505644269356;
/** Source px on each side that the filter can reach. */
const REACH = 4;

interface Phase {
  /** Offsets in the padded source, in px, from the pixel at the upper left of the point. */
  offsets: Int32Array;
  /** They add up to 1. */
  weights: Float32Array;
}

/** Enlarges by a whole factor. Alpha is taken to be 255 everywhere. */
export function enlarge(frame: Frame, scale: number): Frame {
  if (scale === 1) return frame;
  const { width, height } = frame;
  const padded = pad(frame);
  const stride = width + 2 * REACH;
  const phases = phaseTable(scale, stride);
  const { low, high } = ranges(padded, width, height);
  const wide = width * scale;
  const data = new Uint8ClampedArray(wide * height * scale * 4);
  for (let y = 0; y < height * scale; y++) {
    const top = Math.floor((y + 0.5) / scale - 0.5) + REACH;
    for (let x = 0; x < wide; x++) {
      const left = Math.floor((x + 0.5) / scale - 0.5) + REACH;
      const base = top * stride + left;
      const { offsets, weights } = phases[(y % scale) * scale + (x % scale)]!;
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let tap = 0; tap < weights.length; tap++) {
        const weight = weights[tap]!;
        const from = (base + offsets[tap]!) * 3;
        red += weight * padded[from]!;
        green += weight * padded[from + 1]!;
        blue += weight * padded[from + 2]!;
      }
      const to = (y * wide + x) * 4;
      const at = base * 3;
      data[to] = Math.min(Math.max(red, low[at]!), high[at]!);
      data[to + 1] = Math.min(Math.max(green, low[at + 1]!), high[at + 1]!);
      data[to + 2] = Math.min(Math.max(blue, low[at + 2]!), high[at + 2]!);
      data[to + 3] = 255;
    }
  }
  return { width: wide, height: height * scale, data };
}

/** Per channel, the least and the greatest value of the 4 × 4 pixels around each point between four pixels. */
function ranges(padded: Float32Array, width: number, height: number): { low: Float32Array; high: Float32Array } {
  const stride = width + 2 * REACH;
  const low = new Float32Array(padded.length);
  const high = new Float32Array(padded.length);
  for (let y = REACH - 1; y < height + REACH; y++) {
    for (let x = REACH - 1; x < width + REACH; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let least = Infinity;
        let greatest = -Infinity;
        for (let dy = -1; dy <= 2; dy++) {
          for (let dx = -1; dx <= 2; dx++) {
            const value = padded[((y + dy) * stride + x + dx) * 3 + channel]!;
            if (value < least) least = value;
            if (value > greatest) greatest = value;
          }
        }
        low[(y * stride + x) * 3 + channel] = least;
        high[(y * stride + x) * 3 + channel] = greatest;
      }
    }
  }
  return { low, high };
}

/** RGB with the edge repeated outwards, so that the inner loop need not look where it is. */
function pad({ data, width, height }: Frame): Float32Array {
  const stride = width + 2 * REACH;
  const padded = new Float32Array(stride * (height + 2 * REACH) * 3);
  for (let y = 0; y < height + 2 * REACH; y++) {
    const row = Math.min(Math.max(y - REACH, 0), height - 1) * width;
    for (let x = 0; x < stride; x++) {
      const from = (row + Math.min(Math.max(x - REACH, 0), width - 1)) * 4;
      const to = (y * stride + x) * 3;
      padded[to] = data[from]!;
      padded[to + 1] = data[from + 1]!;
      padded[to + 2] = data[from + 2]!;
    }
  }
  return padded;
}

let lastTable: { scale: number; stride: number; phases: Phase[] } | undefined;

/** The filter for each place that a new pixel can have between the old ones, row by row; a clip's frames share it. */
function phaseTable(scale: number, stride: number): Phase[] {
  if (lastTable?.scale === scale && lastTable.stride === stride) return lastTable.phases;
  const shift = (phase: number): number => {
    const position = (phase + 0.5) / scale - 0.5;
    return position - Math.floor(position);
  };
  const phases: Phase[] = [];
  for (let py = 0; py < scale; py++) {
    for (let px = 0; px < scale; px++) {
      const offsets: number[] = [];
      const weights: number[] = [];
      for (let dy = 1 - REACH; dy <= REACH; dy++) {
        for (let dx = 1 - REACH; dx <= REACH; dx++) {
          const weight = kernel(Math.hypot(dx - shift(px), dy - shift(py)));
          if (weight === 0) continue;
          offsets.push(dy * stride + dx);
          weights.push(weight);
        }
      }
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      phases.push({ offsets: Int32Array.from(offsets), weights: Float32Array.from(weights, (weight) => weight / total) });
    }
  }
  lastTable = { scale, stride, phases };
  return phases;
}

function kernel(distance: number): number {
  const x = distance / BLUR;
  return x >= RADIUS ? 0 : jinc(x) * jinc((x * FIRST_ZERO) / RADIUS);
}

const jinc = (x: number): number => (x < 1e-9 ? 1 : (2 * besselJ1(Math.PI * x)) / (Math.PI * x));

/** Bessel's integral; the midpoint rule is exact here to all digits, since the integrand is periodic and smooth. */
function besselJ1(x: number): number {
  const points = 48;
  let sum = 0;
  for (let point = 0; point < points; point++) {
    const angle = (Math.PI * (point + 0.5)) / points;
    sum += Math.cos(angle - x * Math.sin(angle));
  }
  return sum / points;
}
