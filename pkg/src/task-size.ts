/**
 * Which size a task works at, and frames brought to it. The rule is that of `crate/src/tasks/size.rs`;
 * tests/fixtures/windows.json holds both to it.
 */
import type { ModelCard } from './card.js';
import { OPTIONS, type ClipOptions } from './contract.js';
import { TabreelError } from './errors.js';
import type { Frame } from './frame.js';
import { WORK_MS, inTime } from './patience.js';
import type { ModelInfo } from './generator.js';

interface Size {
  width: number;
  height: number;
}

type Asked = Pick<ClipOptions, 'width' | 'height' | 'preset'>;

/** What of a model says which sizes it takes and was trained on: a `ModelInfo`, or a card that says its multiples. */
export interface SizedModel extends Pick<ModelInfo, 'widthMultiple' | 'heightMultiple' | 'defaults'>, Partial<Pick<ModelInfo, 'presets'>> {
  /** The sizes it was trained on, best first. */
  card: Pick<ModelCard, 'sizes'>;
}

/**
 * The size that a task works at, px: what was asked for; else a clip's own size where the model takes it and it is not far beyond
 * what it was trained on; else the size of the model's own whose shape is nearest.
 */
export function sizeFor(own: Size, model: SizedModel, asked: Asked = {}): Size {
  const { widthMultiple, heightMultiple } = model;
  const trained = sizesOf(model, asked);
  const largest = Math.max(...trained.map(({ width, height }) => width * height));
  const takes = own.width % widthMultiple === 0 && own.height % heightMultiple === 0 && own.width * own.height <= 2 * largest;
  const skew = ({ width, height }: Size): number => Math.abs(Math.log((width * own.height) / (height * own.width)));
  const nearest = trained.reduce((best, size) => (skew(size) < skew(best) - 1e-9 ? size : best));
  const found = takes ? own : nearest;
  return { width: asked.width ?? found.width, height: asked.height ?? found.height };
}

/** What is worth reading of a clip: twice the longest side that the model was trained on. More would only fill memory. */
export function enough(model: SizedModel, asked: Asked): Size {
  const side = 2 * Math.max(...sizesOf(model, asked).flatMap(({ width, height }) => [width, height]));
  return { width: side, height: side };
}

/** What a model was trained on, best first; of one that does not say, the size that it makes where none is asked for. */
function sizesOf({ card, presets, defaults }: SizedModel, { preset = '' }: Asked): Size[] {
  const ofPreset = presets?.[preset]?.sizes?.map(([width, height]) => ({ width, height }));
  if (ofPreset !== undefined && ofPreset.length > 0) return ofPreset;
  if (card.sizes.length > 0) return card.sizes;
  const { width = Number(OPTIONS.width.default), height = Number(OPTIONS.height.default) } = defaults;
  return [{ width, height }];
}

/** Frames scaled to cover a size and cut around the middle, as the engine does with what it is given. */
export async function fitFrames(frames: readonly Frame[], width: number, height: number): Promise<Frame[]> {
  if (frames.every((frame) => frame.width === width && frame.height === height)) return [...frames];
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (context === null) throw new TabreelError('out-of-memory', `no canvas of ${width} × ${height} px for a clip`);
  context.imageSmoothingQuality = 'high';
  const fitted: Frame[] = [];
  for (const frame of frames) {
    const drawn = createImageBitmap(new ImageData(frame.data, frame.width, frame.height));
    const bitmap = await inTime(drawn, 'the browser', WORK_MS, (unused) => unused.close());
    const scale = Math.min(frame.width / width, frame.height / height);
    const [w, h] = [width * scale, height * scale];
    context.clearRect(0, 0, width, height);
    context.drawImage(bitmap, (frame.width - w) / 2, (frame.height - h) / 2, w, h, 0, 0, width, height);
    bitmap.close();
    fitted.push({ width, height, data: context.getImageData(0, 0, width, height).data as Uint8ClampedArray<ArrayBuffer> });
  }
  return fitted;
}
