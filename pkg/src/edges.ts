/** A line drawing made from a picture, as `crate/src/condition/edges.rs` makes it, here without an engine. */
import type { Frame } from './frame.js';

/** Slope of brightness (−1…1, over two pixels) from which there is a line: what the default model was trained on. */
const SLOPE = 0.18;

/** White lines on black where a picture's brightness changes, two px wide: a `control` for models that follow edges. Of the clip's size. */
export function edges({ data, width, height }: Frame): Frame {
  const grey = Float32Array.from({ length: width * height }, (_, i) => (data[i * 4]! + data[i * 4 + 1]! + data[i * 4 + 2]!) / 382.5 - 1);
  const lines = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      const across = x > 0 && x < width - 1 ? grey[at + 1]! - grey[at - 1]! : 0;
      const down = y > 0 && y < height - 1 ? grey[at + width]! - grey[at - width]! : 0;
      const line = Math.hypot(across, down) > SLOPE ? 255 : 0;
      lines.set([line, line, line, 255], at * 4);
    }
  }
  return { width, height, data: lines };
}
