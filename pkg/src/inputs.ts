/** Pictures given to `generate()`: checked, and decoded to RGBA at their own size. The engine scales and cuts them. */
import type { Capabilities, EngineCondition, EnginePiece } from './contract.js';
import { TabreelError } from './errors.js';
import type { Frame } from './frame.js';

/** A picture in any form that a browser draws. A `Blob` is a file: PNG, JPEG, WebP, AVIF or whatever the browser decodes. */
export type PictureSource = Blob | ImageBitmap | ImageData | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas | VideoFrame;

/** What a clip can be given besides text. A picture of another shape is scaled to cover the frame and cut around the middle. */
export interface GivenPictures {
  /** What the first frame shows. */
  image?: PictureSource | undefined;
  /** What the last frame shows; most models take it only beside `image`. */
  lastImage?: PictureSource | undefined;
}

/** Where each lies in the clip (−1 is the last frame), and its name in sentences. */
const PLACES = {
  image: { index: 0, words: 'first frame' },
  lastImage: { index: -1, words: 'last frame' },
} as const;

type Name = keyof typeof PLACES;
const NAMES = Object.keys(PLACES) as Name[];

/** The longest side that a clip can have: larger pictures are scaled down to it, more pixels would only cost memory. */
const MAX_SIDE_PX = 2048;

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

/**
 * Refuses what is no picture and what the model cannot take, before anything is decoded or sent.
 *
 * @throws TabreelError `invalid-options`
 */
export function checkPictures(given: GivenPictures, capabilities: Capabilities): void {
  const { image, lastImage, keyframes, text, why } = capabilities;
  const takes = { image: image || keyframes, lastImage: lastImage || keyframes };
  for (const name of NAMES) {
    const source = given[name];
    if (source === undefined) continue;
    if (!KINDS.has(tagOf(source))) throw invalid(`${name} must be ${KIND_WORDS}, got ${show(source)}`);
    if (!takes[name]) throw invalid(`this model takes no ${PLACES[name].words}: ${why}`);
  }
  if (given.image !== undefined) return;
  if (given.lastImage !== undefined && !keyframes) {
    throw invalid('this model takes a last frame only beside a first one, got the last alone');
  }
  if (!text) throw invalid(`this model needs a picture for the first frame: ${why}`);
}

const KIND_WORDS = 'a Blob, ImageBitmap, ImageData, VideoFrame, image element or canvas';

/**
 * The pictures as the engine takes them; undefined where none is given.
 *
 * @throws TabreelError `invalid-options` when one does not decode
 */
export async function readCondition(given: GivenPictures): Promise<EngineCondition | undefined> {
  const pieces: EnginePiece[] = [];
  for (const name of NAMES) {
    const source = given[name];
    if (source === undefined) continue;
    const { width, height, data } = await readPicture(source, name);
    const rgba = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    pieces.push({ kind: 'frame', at: PLACES[name].index, picture: { width, height, rgba } });
  }
  return pieces.length === 0 ? undefined : { pieces };
}

/** The memory of a condition's pictures, to be handed over to the worker. */
export const buffersOf = ({ pieces }: EngineCondition): ArrayBuffer[] => [
  ...new Set(pieces.flatMap((piece) => ('frames' in piece ? piece.frames : [piece.picture])).map(({ rgba }) => rgba.buffer)),
];

/**
 * Decodes a picture to RGBA as `generate()` does: upright, opacity apart from colour, sRGB, at its own size or, where a side
 * is longer than 2048 px, scaled down to that. `name` is what an error calls it.
 *
 * @throws TabreelError `invalid-options` when it is no picture or does not decode
 */
export async function readPicture(source: PictureSource, name = 'image'): Promise<Frame> {
  const tag = tagOf(source);
  if (!KINDS.has(tag)) throw invalid(`${name} must be ${KIND_WORDS}, got ${show(source)}`);
  if (tag === 'ImageData' && isPlain(source as ImageData)) {
    const { width, height, data } = source as ImageData;
    // A copy: the pixels are handed over to the worker, and the caller's must stay usable.
    return { width, height, data: new Uint8ClampedArray(data) };
  }
  if (typeof createImageBitmap === 'undefined' || typeof OffscreenCanvas === 'undefined') {
    throw new TabreelError('unsupported-device', 'this browser cannot decode pictures (no createImageBitmap or no OffscreenCanvas)');
  }
  let bitmap: ImageBitmap;
  try {
    if (tag === 'HTMLImageElement') await (source as HTMLImageElement).decode();
    bitmap = await createImageBitmap(source, { imageOrientation: 'from-image', premultiplyAlpha: 'none' });
  } catch (error) {
    throw invalid(`${name} must be a picture that this browser can decode (PNG, JPEG, WebP, …), got ${show(source)}`, error);
  }
  try {
    return pixelsOf(bitmap, name);
  } finally {
    bitmap.close();
  }
}

/** Eight bits a channel in sRGB and not too large: as it is. */
const isPlain = ({ width, height, data, colorSpace }: ImageData): boolean =>
  Math.max(width, height) <= MAX_SIDE_PX && data instanceof Uint8ClampedArray && (colorSpace ?? 'srgb') === 'srgb';

function pixelsOf(bitmap: ImageBitmap, name: string): Frame {
  const scale = Math.min(1, MAX_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
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

const tagOf = (value: unknown): string => Object.prototype.toString.call(value).slice('[object '.length, -1);

/** "notes.txt (text/plain, 12 bytes)", "an HTMLCanvasElement of 0 × 0 px", "the string …" */
function show(value: unknown): string {
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
  return value === null ? 'null' : `${typeof value} (${tag})`;
}

const invalid = (message: string, cause?: unknown): TabreelError =>
  new TabreelError('invalid-options', message, cause === undefined ? {} : { cause });
