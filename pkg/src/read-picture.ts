/** One picture in any form that a browser draws, decoded to RGBA at its own size. The engine scales and cuts it. */
import { TabreelError } from './errors.js';
import type { Frame } from './frame.js';
import { WORK_MS, inTime, isLate } from './patience.js';

/** A picture in any form that a browser draws. A `Blob` is a file: PNG, JPEG, WebP, AVIF or whatever the browser decodes. */
export type PictureSource = Blob | ImageBitmap | ImageData | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas | VideoFrame | Frame;

/** The longest side that a clip can have: larger pictures are scaled down to it, more pixels would only cost memory. */
export const MAX_SIDE_PX = 2048;

/** By tag and not by class: a scope may lack some of the classes, and a frame's objects are of another scope's. */
const KINDS: ReadonlySet<string> = new Set([
  'Blob',
  'File',
  'ImageBitmap',
  'ImageData',
  'HTMLImageElement',
  'HTMLCanvasElement',
  'OffscreenCanvas',
  'VideoFrame',
]);

/** True for what {@link readPicture} takes; whether it decodes is another question. */
export const isPicture = (value: unknown): value is PictureSource => KINDS.has(tagOf(value)) || isFrame(value);

/** True for pixels as this package gives them. */
export function isFrame(value: unknown): value is Frame {
  const { width, height, data } = (value ?? {}) as Partial<Frame>;
  return data instanceof Uint8ClampedArray && Number.isInteger(width) && Number.isInteger(height) && data.length === width! * height! * 4;
}

/** "image must be a Blob, …, got null" */
export const notPicture = (name: string, value: unknown): TabreelError => invalid(`${name} must be ${KIND_WORDS}, got ${show(value)}`);

const KIND_WORDS = 'a Blob, ImageBitmap, ImageData, VideoFrame, image element, canvas or Frame';

/**
 * Decodes a picture to RGBA as `generate()` does: upright, opacity apart from colour, sRGB, at its own size or, where a side
 * is longer than 2048 px, scaled down to that. `name` is what an error calls it.
 *
 * @throws TabreelError `invalid-options` when it is no picture or does not decode
 */
export async function readPicture(source: PictureSource, name = 'image'): Promise<Frame> {
  if (!isPicture(source)) throw notPicture(name, source);
  const tag = tagOf(source);
  if (isPixels(source, tag)) {
    const { width, height, data } = source;
    // A copy: the pixels are handed over to the worker, and the caller's must stay usable.
    return { width, height, data: new Uint8ClampedArray(data) };
  }
  if (typeof createImageBitmap === 'undefined' || typeof OffscreenCanvas === 'undefined') {
    throw new TabreelError('unsupported-device', 'this browser cannot decode pictures (no createImageBitmap or no OffscreenCanvas)');
  }
  let bitmap: ImageBitmap;
  try {
    if (tag === 'HTMLImageElement') await inTime((source as HTMLImageElement).decode(), 'the picture decoder', WORK_MS);
    const drawn = isFrame(source) && tag !== 'ImageData' ? new ImageData(source.data, source.width, source.height) : source;
    const options: ImageBitmapOptions = { imageOrientation: 'from-image', premultiplyAlpha: 'none' };
    const decoding = createImageBitmap(drawn as Exclude<PictureSource, Frame>, options);
    bitmap = await inTime(decoding, 'the picture decoder', WORK_MS, (unused) => unused.close());
  } catch (error) {
    if (isLate(error)) throw new TabreelError('unsupported-device', `${name} could not be decoded: ${(error as Error).message}`);
    // To a decoder a file that cannot be read is one that it does not know.
    if (tag === 'Blob' || tag === 'File') await bytesOf(source as Blob, name, 1);
    throw invalid(`${name} must be a picture that this browser can decode (PNG, JPEG, WebP, …), got ${show(source)}`, error);
  }
  try {
    return pixelsOf(bitmap, name);
  } finally {
    bitmap.close();
  }
}

/**
 * The bytes of a file in hand, or the first `length` of them; `name` is what an error calls it.
 *
 * @throws TabreelError `invalid-options` when it cannot be read
 */
export async function bytesOf(file: Blob, name: string, length = file.size): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const reading = file.slice(0, length).arrayBuffer();
    return new Uint8Array(await inTime(reading, 'the file', WORK_MS));
  } catch (error) {
    throw unreadable(file, name, error);
  }
}

/** Browsers hand out a file as it was when it was picked, and a dropped folder as a file. */
export function unreadable(file: Blob, name: string, error: unknown): TabreelError {
  const { name: kind, message } = error as Error;
  if (error instanceof RangeError) return new TabreelError('out-of-memory', `no room for ${show(file)}`, { cause: error });
  const gone = isUnreadable(error) ? 'it was changed, moved or deleted since it was picked, or it is a folder' : message || kind;
  return invalid(`${name} must be a file that can be read, got ${show(file)}: ${gone}`, error);
}

/** True for what reading a file rejects with when the file is not there as it was. */
export const isUnreadable = (error: unknown): boolean =>
  error instanceof DOMException && (error.name === 'NotFoundError' || error.name === 'NotReadableError');

/** Eight bits a channel in sRGB and not too large: as it is. */
function isPixels(source: PictureSource, tag: string): source is Frame {
  const { width, height, data, colorSpace } = source as ImageData;
  const inHand = tag === 'ImageData' ? (colorSpace ?? 'srgb') === 'srgb' : isFrame(source);
  return inHand && Math.max(width, height) <= MAX_SIDE_PX && data instanceof Uint8ClampedArray;
}

function pixelsOf(bitmap: ImageBitmap, name: string): Frame {
  const { width, height } = within(bitmap, MAX_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (context === null) throw new TabreelError('out-of-memory', `no canvas of ${width} × ${height} px for ${name}`);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, width, height);
  try {
    const { data } = context.getImageData(0, 0, width, height);
    return { width, height, data: data as Uint8ClampedArray<ArrayBuffer> };
  } catch (error) {
    const isForeign = error instanceof DOMException && error.name === 'SecurityError';
    if (isForeign) throw invalid(`${name} must be readable, got a picture of another site that does not allow it (CORS)`, error);
    throw new TabreelError('out-of-memory', `no room for the ${width} × ${height} px of ${name}`, { cause: error });
  }
}

export const tagOf = (value: unknown): string => Object.prototype.toString.call(value).slice('[object '.length, -1);

/** A size scaled by a factor, or left as it is by one above 1. */
export function within({ width, height }: { width: number; height: number }, factor: number): { width: number; height: number } {
  const scale = Math.min(1, factor);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

/** "notes.txt (text/plain, 12 bytes)", "an HTMLCanvasElement of 0 × 0 px", "the string …" */
export function show(value: unknown): string {
  const tag = tagOf(value);
  if (tag === 'Blob' || tag === 'File') {
    const { size, type, name } = value as Blob & { name?: string };
    return `${name || 'a file'} (${type || 'of unknown type'}, ${size} bytes)`;
  }
  if (KINDS.has(tag)) {
    const { width, height, naturalWidth, naturalHeight, displayWidth, displayHeight } = value as Partial<Record<string, number>>;
    return `${/^[AEIOH]/.test(tag) ? 'an' : 'a'} ${tag} of ${naturalWidth ?? displayWidth ?? width} × ${naturalHeight ?? displayHeight ?? height} px`;
  }
  if (typeof value === 'string') return `the string "${value.length > 40 ? `${value.slice(0, 40)}…` : value}"`;
  if (typeof value === 'number') return String(value);
  return value === null ? 'null' : `${typeof value} (${tag})`;
}

export const invalid = (message: string, cause?: unknown): TabreelError =>
  new TabreelError('invalid-options', message, cause === undefined ? {} : { cause });
