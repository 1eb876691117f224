// Reading fixture folders and comparing frames.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '../..');
export const fixture = (name) => join(root, 'tests/fixtures', name);

/** One tensor of a .safetensors file (f32 only). */
export function readTensor(file, name) {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const { dtype, shape, data_offsets } = JSON.parse(bytes.subarray(8, 8 + length).toString())[name];
  if (dtype !== 'F32') throw new Error(`${name} is ${dtype}`);
  const [start, end] = data_offsets.map((offset) => offset + 8 + length);
  return { shape, values: new Float32Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + end)) };
}

/** What the reference made of a whole-folder case: the request, and its frames as bytes [F, H, W, 3]. */
export function folderCase(name) {
  const { args } = JSON.parse(readFileSync(join(fixture(name), 'config.json'), 'utf8'));
  const {
    shape: [, , frames, height, width],
    values,
  } = readTensor(join(fixture(name), 'io.safetensors'), 'out.video');
  const size = frames * height * width;
  const rgb = new Uint8Array(size * 3);
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) {
      const value = (values[c * size + i] + 1) / 2;
      rgb[i * 3 + c] = Math.round(Math.min(1, Math.max(0, value)) * 255);
    }
  }
  const options = {
    prompt: args.prompt,
    negativePrompt: args.negative_prompt,
    width: args.width,
    height: args.height,
    numFrames: args.num_frames,
    fps: 8,
    numSteps: args.num_steps,
    guidanceScale: args.guidance_scale,
    seed: args.seed,
  };
  return { folder: join(fixture(name), 'model'), options, rgb };
}

/** The frames among some events as one array of RGB bytes; checks their order and opacity. */
export function framesOf(events) {
  const frames = events.filter(({ type }) => type === 'frame');
  frames.forEach(({ index }, i) => {
    if (index !== i) throw new Error(`frame ${index} came at place ${i}`);
  });
  return Uint8Array.from(
    frames.flatMap(({ rgba, width, height }) => {
      if (rgba.length !== width * height * 4) throw new Error(`${rgba.length} bytes for ${width} × ${height} px`);
      if (rgba.some((value, i) => i % 4 === 3 && value !== 255)) throw new Error('a pixel is not opaque');
      return [...rgba.filter((_, i) => i % 4 !== 3)];
    }),
  );
}

/** A picture of the kind that the default model knows: sky over ground, a red ball between them. RGBA, 3 : 2. */
export function scene({ sky, ground, width = 96, height = 64 }) {
  const rgba = new Uint8Array(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inBall = Math.hypot(x - width / 2, y - height / 2) < height / 6;
      rgba.set([...(inBall ? [215, 40, 35] : y < height / 2 ? sky : ground), 255], (y * width + x) * 4);
    }
  }
  return { width, height, rgba };
}

/** Mean colours of the upper and the lower half of RGBA or, with 3 `channels`, RGB: six numbers in 0…255. */
export function halves(pixels, channels = 4) {
  const half = pixels.length / 2;
  const mean = (from, c) => {
    let sum = 0;
    for (let i = from + c; i < from + half; i += channels) sum += pixels[i];
    return sum / (half / channels);
  };
  return [0, half].flatMap((from) => [0, 1, 2].map((c) => mean(from, c)));
}

/** How far apart two lists of numbers are. */
export const distance = (a, b) => Math.hypot(...a.map((value, i) => value - b[i]));

/** ‖a − b‖ / ‖b‖ of two byte arrays. */
export function relativeL2(a, b) {
  if (a.length !== b.length) throw new Error(`${a.length} bytes against ${b.length}`);
  let [difference, norm] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return Math.sqrt(difference / norm);
}

/** The largest difference between two byte arrays. */
export const largestDifference = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
