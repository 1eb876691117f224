/** Still pictures: the contact sheet. */
import { enlarge } from './enlarge.js';
import { TabreelError } from './errors.js';
import type { Frame } from './frame.js';
import { WORK_MS, inTime } from './patience.js';

/** A gap between the pictures of a contact sheet, in px. */
const GAP = 4;

/** The frame itself as a PNG; several frames as a sheet, row by row, as square as possible. */
export async function contactSheet(frames: readonly Frame[], scale: number): Promise<Blob> {
  const first = frames[0];
  if (first === undefined) throw new TabreelError('invalid-options', 'a clip must have at least 1 frame, got 0 frames');
  const { columns, rows } = sheetShape(frames.length, first.width, first.height);
  const width = first.width * scale;
  const height = first.height * scale;
  const sheet = new OffscreenCanvas(columns * (width + GAP) - GAP, rows * (height + GAP) - GAP);
  const context = sheet.getContext('2d');
  if (context === null) throw new TabreelError('out-of-memory', `no canvas of ${sheet.width} × ${sheet.height} px`);
  frames.forEach((frame, index) => {
    const big = enlarge(frame, scale);
    const x = (index % columns) * (width + GAP);
    const y = Math.floor(index / columns) * (height + GAP);
    context.putImageData(new ImageData(big.data, big.width, big.height), x, y);
  });
  return inTime(sheet.convertToBlob({ type: 'image/png' }), 'the PNG encoder', WORK_MS);
}

/** The number of columns that makes the sheet's sides most alike. */
export function sheetShape(count: number, width: number, height: number): { columns: number; rows: number } {
  let columns = 1;
  let best = Infinity;
  for (let candidate = 1; candidate <= count; candidate++) {
    const skew = Math.abs(Math.log((candidate * width) / (Math.ceil(count / candidate) * height)));
    if (skew < best - 1e-9) {
      best = skew;
      columns = candidate;
    }
  }
  return { columns, rows: Math.ceil(count / columns) };
}
