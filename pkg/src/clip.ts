/** A finished clip: its frames, drawing one, and saving all of them. */
import type { TokenCount } from './contract.js';
import type { Backend, MemoryUse } from './messages.js';
import type { ClipRecipe } from './options.js';
import { enlarge } from './enlarge.js';
import { TabreelError, toTabreelError } from './errors.js';
import type { Frame } from './frame.js';
import type { GivenParts } from './inputs.js';
import { contactSheet } from './picture.js';
import { withPngText } from './png-text.js';
import type { FullRecipe, TaskRecipe } from './recipe.js';
import { encodeVideo } from './video.js';

export interface ClipParts {
  frames: readonly Frame[];
  width: number;
  height: number;
  fps: number;
  seed: number;
  timings: Record<string, number>;
  tokens: { kept: number; total: number };
  warnings: readonly string[];
  backend: Backend;
  adapter: string | undefined;
  memory: MemoryUse;
  options: ClipRecipe;
  given: GivenParts;
  task: TaskRecipe;
  model: FullRecipe['model'];
}

/** How {@link Clip.toBlob} writes the clip. */
export interface SaveOptions {
  /** 'png' is the frame itself for a single picture, a contact sheet otherwise. */
  format: 'mp4' | 'webm' | 'png';
  /** Enlarges every frame by this whole factor, 1 to 8, before encoding. Default 1. */
  scale?: number;
  /** False leaves the recipe (prompt, seed, model, …) out of the file. Default true. */
  recipe?: boolean;
  /** Stops the encoding. */
  signal?: AbortSignal;
}

/** A generated clip: its frames as RGBA pixels, what it was made from, and ways to show and save it. */
export class Clip {
  /** All frames, in order. */
  readonly frames: readonly Frame[];
  /** Frame width, px. */
  readonly width: number;
  /** Frame height, px. */
  readonly height: number;
  /** Frames per second. */
  readonly fps: number;
  /** How many frames. */
  readonly numFrames: number;
  /** The noise's seed. */
  readonly seed: number;
  /** Seconds, by stage. */
  readonly timings: Readonly<Record<string, number>>;
  /** How many of the prompt's tokens the model read. */
  readonly tokens: Readonly<TokenCount>;
  /** What the engine said that was no error. */
  readonly warnings: readonly string[];
  /** Which backend made it. */
  readonly backend: Backend;
  /** The GPU that made it, if one did and the browser tells. */
  readonly adapter: string | undefined;
  /** The memory it took. */
  readonly memory: MemoryUse;
  /** Every option with its final value: the recipe that makes this clip again, together with the pictures it was given. */
  readonly options: Readonly<ClipRecipe>;
  /** What it was given: the recipe alone makes another clip then. */
  readonly given: GivenParts;
  /** What was asked for. */
  readonly task: TaskRecipe;
  /** The model that made it. */
  readonly model: FullRecipe['model'];

  constructor(parts: ClipParts) {
    this.frames = parts.frames;
    this.width = parts.width;
    this.height = parts.height;
    this.fps = parts.fps;
    this.numFrames = parts.frames.length;
    this.seed = parts.seed;
    this.timings = parts.timings;
    this.tokens = parts.tokens;
    this.warnings = parts.warnings;
    this.backend = parts.backend;
    this.adapter = parts.adapter;
    this.memory = parts.memory;
    this.options = parts.options;
    this.given = parts.given;
    this.task = parts.task;
    this.model = parts.model;
  }

  /** How long it plays, in seconds. */
  get seconds(): number {
    return this.numFrames / this.fps;
  }

  /** Everything that makes it again but for what it was given; {@link Clip.toBlob} writes it into the file. */
  get recipe(): FullRecipe {
    const { model, task, options, given } = this;
    return { tabreel: 1, model, task, options, given };
  }

  /** Fills the canvas with frame `index` (0-based), smoothly scaled to the canvas's own width and height. */
  drawFrame(canvas: HTMLCanvasElement | OffscreenCanvas, index: number): void {
    const frame = this.frames[index];
    if (frame === undefined) {
      throw new TabreelError('invalid-options', `frame must be 0 to ${this.numFrames - 1}, got ${index}`);
    }
    drawSmooth(canvas, frame);
  }

  /**
   * Encodes the clip. MP4 is H.264 where the browser can, else AV1 or VP9; WebM is VP9, else AV1 or VP8.
   * Its recipe goes into the file as JSON (the comment tag of a video, the comment of a PNG): `readRecipe` finds it there.
   *
   * @throws TabreelError `unsupported-device` when no codec of that format can be encoded here, `invalid-options`, `out-of-memory`,
   *   `aborted`
   */
  async toBlob(options: SaveOptions): Promise<Blob> {
    try {
      return await this.#encoded(options);
    } catch (thrown) {
      throw toTabreelError(thrown);
    }
  }

  async #encoded({ format, scale = 1, recipe = true, signal }: SaveOptions): Promise<Blob> {
    if (!Number.isInteger(scale) || scale < 1 || scale > 8) {
      throw new TabreelError('invalid-options', `scale must be a whole number from 1 to 8, got ${String(scale)}`);
    }
    const comment = recipe ? JSON.stringify(this.recipe) : undefined;
    switch (format) {
      case 'mp4':
      case 'webm':
        return (await encodeVideo(this.frames, { format, fps: this.fps, scale, comment, signal })).blob;
      case 'png': {
        const png = await contactSheet(this.frames, scale);
        return comment === undefined ? png : withPngText(png, comment);
      }
      default:
        throw new TabreelError('invalid-options', `format must be mp4, webm or png, got ${String(format)}`);
    }
  }
}

/**
 * Draws a frame over the whole canvas. Small frames are first enlarged by a whole factor with a better filter
 * than the browser's, once per frame; the browser only does the rest of the way.
 */
export function drawSmooth(canvas: HTMLCanvasElement | OffscreenCanvas, frame: Frame): void {
  const { width, height } = canvas;
  if (frame.width === width && frame.height === height) {
    context(canvas).putImageData(new ImageData(frame.data, width, height), 0, 0);
    return;
  }
  const wanted = Math.floor(Math.min(width / frame.width, height / frame.height));
  const affordable = Math.floor(ENLARGED_PX / Math.max(frame.width, frame.height));
  const big = enlarged(frame, Math.min(wanted, affordable, 8));
  const from = scratch(big.width, big.height);
  context(from).putImageData(new ImageData(big.data, big.width, big.height), 0, 0);
  drawWhole(from, canvas);
}

/** Frames are enlarged to at most this side: a quarter of a MB each, some ten ms. */
const ENLARGED_PX = 384;
const enlargements = new WeakMap<Frame, Frame>();

function enlarged(frame: Frame, scale: number): Frame {
  if (scale <= 1) return frame;
  let big = enlargements.get(frame);
  if (big?.width !== frame.width * scale) {
    big = enlarge(frame, scale);
    enlargements.set(frame, big);
  }
  return big;
}

function drawWhole(from: OffscreenCanvas, to: HTMLCanvasElement | OffscreenCanvas): void {
  const target = context(to);
  target.imageSmoothingEnabled = true;
  target.imageSmoothingQuality = 'high';
  target.drawImage(from, 0, 0, to.width, to.height);
}

const scratches = new Map<string, OffscreenCanvas>();

/** Canvases between two sizes; players draw many frames a second, so they are kept (a handful of them). */
function scratch(width: number, height: number): OffscreenCanvas {
  const key = `${width}x${height}`;
  let canvas = scratches.get(key);
  if (canvas === undefined) {
    if (scratches.size >= 8) scratches.clear();
    canvas = new OffscreenCanvas(width, height);
    scratches.set(key, canvas);
  }
  return canvas;
}

function context(canvas: HTMLCanvasElement | OffscreenCanvas): CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D {
  const found = canvas.getContext('2d') as CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D | null;
  if (found === null) throw new TabreelError('internal', 'this canvas already has another kind of context');
  return found;
}
