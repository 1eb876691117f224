/** Tasks as arrangements of what is known: each builds the inputs of one or more passes of `generate()`. */
import { Clip } from './clip.js';
import type { Frame } from './frame.js';
import type { GenerateOptions, ModelInfo } from './generator.js';
import { DEFAULT_STRENGTH, type ClipInputs } from './inputs.js';
import { holdColours, lengthDown, lengthUp, planPasses } from './passes.js';
import { isClip, notClip, readClip, type ClipSource } from './read-clip.js';
import { invalid, isPicture, readPicture, show, type PictureSource } from './read-picture.js';
import type { TaskRecipe } from './recipe.js';
import { enough, fitFrames, sizeFor } from './task-size.js';

/** What every task takes: the options of `generate()`, but for the known parts, which the task lays out itself. */
export interface TaskOptions extends Omit<GenerateOptions, Exclude<keyof ClipInputs, 'controlScale' | 'references' | 'seam'>> {
  /** Called before each pass of the model, for tasks that take several. */
  onPass?: ((pass: { pass: number; numPasses: number }) => void) | undefined;
}

/** Options of `Tabreel.extend`. */
export interface ExtendOptions extends Omit<TaskOptions, 'numFrames'> {
  /** How many frames to add. Default: as many as fit one pass. */
  frames?: number | undefined;
  /** 'forward' (default) goes on after the last frame, 'backward' makes what came before the first. */
  direction?: 'forward' | 'backward' | undefined;
  /** How many frames each pass sees of what is there. Default: what the model was trained with (5 of Wan's family). */
  overlap?: number | undefined;
  /** The longest pass, frames. Default: the model's own length. */
  window?: number | undefined;
}

/** Options of `Tabreel.loop` and `Tabreel.connect`. */
export interface BridgeOptions extends Omit<TaskOptions, 'numFrames'> {
  /** How many frames to put between; made a length that the model takes, with a warning. Default: as many as fit one pass. */
  frames?: number | undefined;
}

/** Options of `Tabreel.edit` and `Tabreel.upscale`. */
export interface EditOptions extends Omit<TaskOptions, 'numFrames'> {
  /** How much is made anew: 0 keeps everything, 1 nothing. Default 0.6; 0.3 for `upscale`. */
  strength?: number | undefined;
}

/** Options of `Tabreel.inpaint`. */
export interface InpaintOptions extends Omit<TaskOptions, 'numFrames'> {
  /** White where something is to be made: one picture for all frames, or a clip. */
  mask: PictureSource | ClipSource;
}

/** Options of `Tabreel.outpaint`. */
export type OutpaintOptions = Omit<TaskOptions, 'numFrames'>;

/** Options of `Tabreel.upscale`. */
export interface UpscaleOptions extends EditOptions {
  /** By how much the sides grow. Default 2. */
  scale?: number | undefined;
}

/** What makes the passes: a `Tabreel`. */
export interface Maker {
  readonly model: ModelInfo;
  generate(options: GenerateOptions): Promise<Clip>;
}

/** Frames at the size and rate of what is to be made. */
interface Material {
  frames: Frame[];
  width: number;
  height: number;
  fps: number;
  warnings: string[];
}

async function material(maker: Maker, source: ClipSource, name: string, options: TaskOptions): Promise<Material> {
  if (!isClip(source)) throw notClip(name, source);
  const fps = options.fps ?? ('fps' in source ? source.fps : undefined) ?? maker.model.defaults.fps;
  const read = await readClip(source, { fps, name, cover: enough(maker.model), signal: options.signal });
  const { width, height } = sizeFor(read.frames[0]!, maker.model, options);
  return { frames: read.frames, width, height, fps: fps ?? read.fps ?? 16, warnings: read.warnings };
}

/** One picture or a clip, as frames. */
const pictureOrClip = async (source: PictureSource | ClipSource): Promise<ClipSource> =>
  isPicture(source) && !isClip(source) ? [await readPicture(source)] : (source as ClipSource);

export async function extend(maker: Maker, source: ClipSource, options: ExtendOptions): Promise<Clip> {
  const { direction = 'forward', onPass, onFrame, ...shared } = options;
  if (!['forward', 'backward'].includes(direction)) throw invalid(`direction must be forward or backward, got ${show(direction)}`);
  const forward = direction === 'forward';
  const step = maker.model.frameMultiple;
  const window = options.window ?? lengthUp(maker.model.defaults.numFrames ?? 4 * step + 1, step);
  // Latents hold one frame, then `step` each: so many frames are whole latents at either end.
  const overlap = options.overlap ?? (forward ? step + 1 : step);
  const wanted = options.frames ?? window - overlap;
  const first = await material(maker, source, 'clip', options);
  const { width, height, fps } = first;
  const whole = await fitFrames(first.frames, width, height);
  const passes = planPasses(whole.length, wanted, overlap, window, step);
  const { frames: _frames, overlap: _overlap, window: _window, ...common } = shared;
  const before = forward ? whole.length : wanted;
  const parts: Clip[] = [];
  for (const [index, { length, known, fresh }] of passes.entries()) {
    onPass?.({ pass: index + 1, numPasses: passes.length });
    const seen = forward ? whole.slice(-known) : whole.slice(0, known);
    const clip = await maker.generate({
      ...common,
      ...seedOf(options, parts[0], index),
      width,
      height,
      fps,
      numFrames: length,
      clips: [{ at: forward ? 0 : length - known, clip: seen }],
    });
    parts.push(clip);
    const made = forward ? clip.frames.slice(known, known + fresh) : clip.frames.slice(length - known - fresh, length - known);
    if (forward) holdColours(made, made[0]!, whole.at(-1)!);
    else holdColours(made, made.at(-1)!, whole[0]!);
    const done = forward ? whole.length : before - (whole.length - first.frames.length) - fresh;
    made.forEach((frame, i) => onFrame?.({ index: done + i, ...frame }));
    if (forward) whole.push(...made);
    else whole.unshift(...made);
  }
  return joined(parts, whole, first.warnings, { name: 'extend', direction, frames: wanted, overlap, window });
}

export async function loop(maker: Maker, source: ClipSource, options: BridgeOptions): Promise<Clip> {
  const first = await material(maker, source, 'clip', options);
  const frames = await fitFrames(first.frames, first.width, first.height);
  const { clip, between, warnings } = await bridge(maker, frames, frames, first, options);
  return joined([clip], [...frames, ...between], [...first.warnings, ...warnings], { name: 'loop', frames: between.length });
}

export async function connect(maker: Maker, from: ClipSource, to: ClipSource, options: BridgeOptions): Promise<Clip> {
  const first = await material(maker, from, 'first clip', options);
  const { width, height, fps } = first;
  const second = await material(maker, to, 'second clip', { ...options, width, height, fps });
  const [a, b] = [await fitFrames(first.frames, width, height), await fitFrames(second.frames, width, height)];
  const { clip, between, warnings } = await bridge(maker, a, b, first, options);
  const said = [...first.warnings, ...second.warnings, ...warnings];
  return joined([clip], [...a, ...between, ...b], said, { name: 'connect', frames: between.length });
}

/** The frames that lead from the end of one clip to the beginning of another. */
async function bridge(
  maker: Maker,
  from: readonly Frame[],
  to: readonly Frame[],
  { width, height, fps }: Material,
  { frames, onPass, onFrame, ...options }: BridgeOptions,
): Promise<{ clip: Clip; between: Frame[]; warnings: string[] }> {
  const step = maker.model.frameMultiple;
  // Whole latents at either end where the clips are long enough, else a single frame.
  const head = from.length > step ? step + 1 : 1;
  const tail = to.length >= step ? step : 1;
  const own = lengthUp(maker.model.defaults.numFrames ?? 4 * step + 1, step) - head - tail;
  const wanted = frames ?? Math.max(step, own);
  if (!Number.isInteger(wanted) || wanted < 1) throw invalid(`frames must be a whole number from 1, got ${show(wanted)}`);
  const numFrames = lengthUp(head + wanted + tail, step);
  const count = numFrames - head - tail;
  onPass?.({ pass: 1, numPasses: 1 });
  const clip = await maker.generate({
    ...options,
    width,
    height,
    fps,
    numFrames,
    clips: [
      { at: 0, clip: from.slice(-head) },
      { at: numFrames - tail, clip: to.slice(0, tail) },
    ],
    onFrame:
      onFrame &&
      (({ index, ...frame }) => index >= head && index < head + count && onFrame({ ...frame, index: from.length + index - head })),
  });
  const warnings =
    frames === undefined || count === frames ? [] : [`${count} frames were put between, not ${frames}: the model takes ${step}n + 1`];
  return { clip, between: clip.frames.slice(head, head + count), warnings };
}

export async function edit(maker: Maker, source: ClipSource, options: EditOptions): Promise<Clip> {
  const { strength = DEFAULT_STRENGTH, onPass: _, ...rest } = options;
  const { clip: _source, ...whole } = await wholeClip(maker, source, options);
  const made = await maker.generate({ ...rest, ...whole.size, source: whole.frames, strength });
  return joined([made], made.frames, whole.warnings, { name: 'edit', strength });
}

export async function inpaint(maker: Maker, source: PictureSource | ClipSource, options: InpaintOptions): Promise<Clip> {
  const { mask, onPass: _, ...rest } = options;
  const whole = await wholeClip(maker, await pictureOrClip(source), options);
  const made = await maker.generate({ ...rest, ...whole.size, clips: [whole.clip], mask });
  return joined([made], made.frames, whole.warnings, { name: 'inpaint' });
}

export async function outpaint(maker: Maker, source: PictureSource | ClipSource, options: OutpaintOptions): Promise<Clip> {
  const { onPass: _, ...rest } = options;
  const whole = await wholeClip(maker, await pictureOrClip(source), options);
  const { width, height } = whole.size;
  const from = whole.frames[0]!;
  if (Math.abs(from.width / from.height / (width / height) - 1) < 0.01) {
    throw invalid(`outpaint needs a frame of another shape than the clip's ${from.width} × ${from.height} px, got ${width} × ${height} px`);
  }
  const made = await maker.generate({ ...rest, ...whole.size, clips: [whole.clip], fit: 'contain' });
  return joined([made], made.frames, whole.warnings, { name: 'outpaint' });
}

export async function upscale(maker: Maker, source: ClipSource, options: UpscaleOptions): Promise<Clip> {
  const { scale = 2, strength = 0.3, onPass: _, ...rest } = options;
  if (typeof scale !== 'number' || !(scale > 1 && scale <= 8)) throw invalid(`scale must be above 1 up to 8, got ${show(scale)}`);
  const { widthMultiple, heightMultiple } = maker.model;
  const small = await wholeClip(maker, source, { ...options, width: undefined, height: undefined }, true);
  const sized = (px: number, step: number): number => Math.max(1, Math.round((px * scale) / step)) * step;
  const [width, height] = [sized(small.size.width, widthMultiple), sized(small.size.height, heightMultiple)];
  const made = await maker.generate({ ...rest, ...small.size, width, height, source: small.frames, strength });
  return joined([made], made.frames, small.warnings, { name: 'upscale', scale, strength });
}

/** A clip as long as the model can take it, from its first frame on. */
async function wholeClip(
  maker: Maker,
  source: ClipSource,
  options: TaskOptions,
  ownSize = false,
): Promise<{
  frames: Frame[];
  clip: { at: number; clip: Frame[] };
  size: { width: number; height: number; fps: number; numFrames: number };
  warnings: string[];
}> {
  const { frames: all, width, height, fps, warnings } = await material(maker, source, 'clip', options);
  const numFrames = lengthDown(all.length, maker.model.frameMultiple);
  const frames = all.slice(0, numFrames);
  const cut =
    numFrames === all.length ? [] : [`the clip has ${all.length} frames; the first ${numFrames} are used, a length that the model takes`];
  const size = ownSize ? { width: frames[0]!.width, height: frames[0]!.height } : { width, height };
  return { frames, clip: { at: 0, clip: frames }, size: { ...size, fps, numFrames }, warnings: [...warnings, ...cut] };
}

/** Each pass has noise of its own, else every stretch would repeat the first one's. */
function seedOf({ seed }: TaskOptions, first: Clip | undefined, index: number): { seed?: number } {
  const start = seed ?? first?.seed;
  return start === undefined ? {} : { seed: (start + index) % Number.MAX_SAFE_INTEGER };
}

/** The passes as one clip. */
function joined(parts: readonly Clip[], frames: readonly Frame[], warnings: readonly string[], task: TaskRecipe): Clip {
  const first = parts[0]!;
  const timings: Record<string, number> = {};
  for (const [stage, secs] of parts.flatMap((part) => Object.entries(part.timings))) timings[stage] = (timings[stage] ?? 0) + secs;
  const said = [...new Set([...warnings, ...parts.flatMap((part) => part.warnings)])];
  return new Clip({ ...first, frames, timings, warnings: said, task });
}
