/** What becomes of pictures and clips whose shape is not that of the clip to be made. */
import type { Frame } from 'tabreel';
import type { Material } from './material';
import type { Mode } from './modes';
import type { Size } from './size';

export type Fit = 'cover' | 'contain';

/** Shapes that differ by less are taken for the same. */
const SAME = 0.01;

/** How a picture's shape differs from a clip's; undefined where it does not. */
export function shapeBeside(own: Size, clip: Size): 'wider' | 'taller' | undefined {
  const ratio = (own.width * clip.height) / (own.height * clip.width);
  if (!(Math.abs(ratio - 1) >= SAME)) return undefined;
  return ratio > 1 ? 'wider' : 'taller';
}

/** A frame brought to a size: cut around its middle to cover it, or whole, with `ground` (a colour, or nothing) beside it. */
export function fitted(frame: Frame, { width, height }: Size, fit: Fit, ground?: string): Frame {
  if (frame.width === width && frame.height === height) return frame;
  const picture = new OffscreenCanvas(frame.width, frame.height);
  picture.getContext('2d')!.putImageData(new ImageData(frame.data, frame.width, frame.height), 0, 0);
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })!;
  context.imageSmoothingQuality = 'high';
  if (ground !== undefined) {
    context.fillStyle = ground;
    context.fillRect(0, 0, width, height);
  }
  const scale = (fit === 'cover' ? Math.max : Math.min)(width / frame.width, height / frame.height);
  // Whole pixels, so that what has the right size stays as sharp as it is.
  const [w, h] = [Math.round(frame.width * scale), Math.round(frame.height * scale)];
  context.drawImage(picture, Math.floor((width - w) / 2), Math.floor((height - h) / 2), w, h);
  return { width, height, data: context.getImageData(0, 0, width, height).data as Uint8ClampedArray<ArrayBuffer> };
}

/** The size of a frame kept whole within another. */
export function inside(frame: Size, { width, height }: Size): Size {
  const scale = Math.min(width / frame.width, height / frame.height);
  const side = (px: number): number => Math.max(1, Math.round(px * scale));
  return { width: side(frame.width), height: side(frame.height) };
}

/** What lies beside a picture that is kept whole. Where nothing stands here it stays open, and the model makes it. */
export const GROUND: Partial<Record<Mode, string>> = {
  extend: '#000',
  loop: '#000',
  connect: '#000',
  edit: '#000',
  sketch: '#000',
};

/** Material kept whole within a frame of another shape. */
export const padded = (material: Material, size: Size, ground: string | undefined): Material => ({
  ...material,
  frames: material.frames.map((frame) => fitted(frame, size, 'contain', ground)),
});

/** What the choice says; undefined where every shape is the clip's. */
export function fitWords(given: readonly Material[], clip: Size, ground: string | undefined): Record<Fit | 'label', string> | undefined {
  const others = given.filter(({ frames }) => shapeBeside(frames[0]!, clip) !== undefined);
  const [one] = others;
  if (one === undefined) return undefined;
  const how = shapeBeside(one.frames[0]!, clip)!;
  const what = one.frames.length > 1 ? 'The given clip' : 'The picture';
  const beside = ground === undefined ? 'made' : 'black';
  const them = others.length === 1 ? 'it' : 'them';
  const label = others.length === 1 ? `${what} is ${how} than the clip to be made` : 'Some are of another shape than the clip to be made';
  const cut = others.length === 1 ? (how === 'wider' ? ': its sides go' : ': its top and bottom go') : '';
  return { label, cover: `Crop ${them}${cut}`, contain: `Pad ${them}: the rest is ${beside}` };
}
