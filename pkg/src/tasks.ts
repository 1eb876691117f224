/** Tasks as arrangements of what is known: each builds the inputs of one or more passes of `generate()`. */
import { Clip } from './clip.js';
import { holdColours } from './drift.js';
import type { Frame } from './frame.js';
import type { GenerateOptions, ModelInfo } from './generator.js';
import { DEFAULT_STRENGTH, INPUTS, checkInputs, type ClipInputs, type GivenParts } from './inputs.js';
import { resolveOptions } from './options.js';
import { bridgeLength, checkWindow, lengthDown, planBridge, planPasses, usualOverlap, type Ends, type Way } from './passes.js';
import { isClip, notClip, readClip, type ClipSource } from './read-clip.js';
import { invalid, isPicture, readPicture, show, type PictureSource } from './read-picture.js';
import type { TaskName, TaskRecipe } from './recipe.js';
import { enough, fitFrames, sizeFor } from './task-size.js';

/** What every task takes: the options of `generate()`, but for the known parts, which the task lays out itself. */
export interface TaskOptions extends Omit<GenerateOptions, Exclude<keyof ClipInputs, 'controlScale' | 'references' | 'seam'>> {
  /** Called before each pass of the model, for tasks that take several. */
  onPass?: ((pass: { pass: number; numPasses: number }) => void) | undefined;
}

/** What tasks of several windows take: they lay out and paste what is known themselves. */
type WindowOptions = Omit<TaskOptions, 'numFrames' | 'seam'>;

/** Options of `Tabreel.extend`. */
export interface ExtendOptions extends WindowOptions {
  /** How many frames to add. Default: as many as one pass adds. */
  frames?: number | undefined;
  /** 'forward' (default) goes on after the last frame, 'backward' makes what came before the first. */
  direction?: 'forward' | 'backward' | undefined;
  /**
   * How many frames each pass takes over from what is there. Default: half a window, at most two strides of the model (of Wan's
   * family 9 forward and 8 backward). A model that takes no clips sees one frame.
   */
  overlap?: number | undefined;
  /** The longest pass, frames. Default: what the model, or the preset, suggests. */
  window?: number | undefined;
}

/** Options of `Tabreel.connect`. */
export interface BridgeOptions extends WindowOptions {
  /** How many frames to put between; made a length that the model takes, with a warning. Default: as many as fit one pass. */
  frames?: number | undefined;
}

/** Options of `Tabreel.loop`. */
export interface LoopOptions extends BridgeOptions {
  /** Length of the clip that is made first where none is given, frames. Default: what the model, or the preset, suggests. */
  numFrames?: number | undefined;
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
  /**
   * How much of the marked region is made anew: 1 (default) makes it from nothing, less starts from what stands there, so that a thing
   * changes its look and keeps its place.
   */
  strength?: number | undefined;
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

/** `options` are those of a pass; with `all` what is in memory already is not cut to the length of a pass. */
async function material(maker: Maker, source: ClipSource, name: string, options: TaskOptions, all = false): Promise<Material> {
  if (!isClip(source)) throw notClip(name, source);
  const settled = resolveOptions(options, maker.model);
  const fps = options.fps ?? ('fps' in source ? source.fps : settled.fps);
  const maxFrames = all && (Array.isArray(source) || 'frames' in source) ? Infinity : undefined;
  const read = await readClip(source, { fps, maxFrames, name, cover: enough(maker.model, options), signal: options.signal });
  const { width, height } = sizeFor(read.frames[0]!, maker.model, options);
  return { frames: read.frames, width, height, fps, warnings: read.warnings };
}

/** One picture or a clip, as frames. */
const pictureOrClip = async (source: PictureSource | ClipSource): Promise<ClipSource> =>
  isPicture(source) && !isClip(source) ? [await readPicture(source)] : (source as ClipSource);

export async function extend(maker: Maker, source: ClipSource, options: ExtendOptions): Promise<Clip> {
  const { direction = 'forward', frames, overlap: asked, window: longest, onPass, onFrame, ...rest } = options;
  if (!['forward', 'backward'].includes(direction)) throw invalid(`direction must be forward or backward, got ${show(direction)}`);
  refuseInputs('extend', rest);
  const { way, why } = ofModel(maker.model);
  const window = longest ?? resolveOptions(rest, maker.model).numFrames;
  checkWindow(window, way.step);
  const overlap = asked ?? usualOverlap(window, way, direction);
  if (!way.clips && overlap !== 1) {
    throw invalid(`overlap must be 1 frame with a model that takes no clips (${why}), got ${show(overlap)}`);
  }
  const wanted = frames ?? window - overlap;
  const first = await material(maker, source, 'clip', rest, true);
  const { width, height, fps } = first;
  const whole = await fitFrames(first.frames, width, height);
  const passes = planPasses(whole.length, wanted, overlap, window, way.step);
  const forward = direction === 'forward';
  const parts: Clip[] = [];
  let left = wanted;
  for (const [index, { length, known, fresh }] of passes.entries()) {
    onPass?.({ pass: index + 1, numPasses: passes.length });
    // Said once is enough.
    const onWarning = index === 0 ? rest.onWarning : undefined;
    const pass = { ...rest, ...seedOf(rest, parts[0], index), onWarning, width, height, fps, numFrames: length };
    const { clip, made } = await makePass(maker, pass, forward ? whole.slice(-known) : [], forward ? [] : whole.slice(0, known));
    parts.push(clip);
    const kept = forward ? made.slice(0, fresh) : made.slice(made.length - fresh);
    left -= fresh;
    showFrames(kept, forward ? whole.length : left, onFrame);
    if (forward) whole.push(...kept);
    else whole.unshift(...kept);
  }
  return joined(parts, whole, first.warnings, { name: 'extend', direction, frames: wanted, overlap, window });
}

export async function loop(maker: Maker, source: ClipSource | undefined, options: LoopOptions): Promise<Clip> {
  refuseInputs('loop', options);
  if (source === undefined) return loopOfText(maker, options);
  if (options.numFrames !== undefined) {
    throw invalid(`numFrames is for a loop without a clip (frames says how many to put between), got ${show(options.numFrames)}`);
  }
  const first = await material(maker, source, 'clip', passOptions(options), true);
  const frames = await fitFrames(first.frames, first.width, first.height);
  const { clip, between, warnings } = await bridge(maker, frames, frames, first, options);
  return joined([clip], [...frames, ...between], [...first.warnings, ...warnings], { name: 'loop', frames: between.length });
}

/** The clip that the prompt makes, and its way back. */
async function loopOfText(maker: Maker, { onPass, ...options }: LoopOptions): Promise<Clip> {
  const { onFrame, ...rest } = options;
  const { numFrames, numSteps } = resolveOptions(passOptions(rest), maker.model);
  // The way back is refused before the clip is made, of which it must know no more than its length.
  const plan = bridgePlan(maker, numFrames, numFrames, options);
  const any = { width: 1, height: 1, data: new Uint8ClampedArray(4) };
  const ends = [plan.head, plan.tail].map((count) => Array<Frame>(count).fill(any)) as [Frame[], Frame[]];
  const known = knownInputs(maker, plan.numFrames, ...ends);
  checkInputs({ ...passOptions(rest), ...known }, { numFrames: plan.numFrames, numSteps }, maker.model.capabilities);
  onPass?.({ pass: 1, numPasses: 2 });
  const first = await maker.generate({ ...passOptions(rest), onFrame });
  const { width, height, fps, frames } = first;
  const back = {
    ...options,
    ...seedOf(rest, first, 1),
    // Said once is enough.
    onWarning: undefined,
    onPass: () => onPass?.({ pass: 2, numPasses: 2 }),
  };
  const { clip, between, warnings } = await bridge(maker, frames, frames, { width, height, fps }, back);
  const task = { name: 'loop', frames: between.length, numFrames: frames.length } as const;
  return joined([first, clip], [...frames, ...between], warnings, task);
}

export async function connect(maker: Maker, from: ClipSource, to: ClipSource, options: BridgeOptions): Promise<Clip> {
  refuseInputs('connect', options);
  const first = await material(maker, from, 'first clip', passOptions(options), true);
  const { width, height, fps } = first;
  const second = await material(maker, to, 'second clip', { ...passOptions(options), width, height, fps }, true);
  const [a, b] = [await fitFrames(first.frames, width, height), await fitFrames(second.frames, width, height)];
  const { clip, between, warnings } = await bridge(maker, a, b, first, options);
  const said = [...first.warnings, ...second.warnings, ...warnings];
  return joined([clip], [...a, ...between, ...b], said, { name: 'connect', frames: between.length, first: a.length });
}

const passOptions = ({ frames: _frames, onPass: _onPass, onFrame: _onFrame, ...options }: BridgeOptions): GenerateOptions => options;

/** The frames that lead from the end of one clip to the beginning of another. */
async function bridge(
  maker: Maker,
  from: readonly Frame[],
  to: readonly Frame[],
  { width, height, fps }: Pick<Material, 'width' | 'height' | 'fps'>,
  options: BridgeOptions,
): Promise<{ clip: Clip; between: Frame[]; warnings: string[] }> {
  const { frames: wanted, onPass, onFrame } = options;
  const { way } = ofModel(maker.model);
  const { numFrames, head, tail } = bridgePlan(maker, from.length, to.length, options);
  onPass?.({ pass: 1, numPasses: 1 });
  const pass = { ...passOptions(options), width, height, fps, numFrames };
  const { clip, made } = await makePass(maker, pass, from.slice(-head), to.slice(0, tail));
  showFrames(made, from.length, onFrame);
  const other = wanted !== undefined && made.length !== wanted;
  const warnings = other ? [`${made.length} frames were put between, not ${wanted}: the model takes ${way.step}n + 1`] : [];
  return { clip, between: made, warnings };
}

/** How long the pass between clips of `from` and `to` frames is, and what it knows at its ends. */
function bridgePlan(maker: Maker, from: number, to: number, options: BridgeOptions): Ends & { numFrames: number } {
  const { frames: wanted } = options;
  if (wanted !== undefined && (!Number.isInteger(wanted) || wanted < 1)) {
    throw invalid(`frames must be a whole number from 1, got ${show(wanted)}`);
  }
  const { way } = ofModel(maker.model);
  const own = (): number => resolveOptions(passOptions(options), maker.model).numFrames;
  const numFrames = wanted === undefined ? own() : bridgeLength(from, to, wanted, way);
  return { numFrames, ...planBridge(from, to, numFrames, way) };
}

const ofModel = ({ frameMultiple, capabilities }: ModelInfo): { way: Way; why: string } => ({
  way: { step: frameMultiple, clips: capabilities.keyframes },
  why: capabilities.why,
});

/** The new frames of a pass, between known ones at its start and end; their colours held to those. */
async function makePass(
  maker: Maker,
  options: GenerateOptions & { numFrames: number },
  before: readonly Frame[],
  after: readonly Frame[],
): Promise<{ clip: Clip; made: Frame[] }> {
  const known = knownInputs(maker, options.numFrames, before, after);
  // The decoder's own version of the known frames says how far its colours are off.
  const clip = await maker.generate({ ...options, ...known, paste: false });
  return { clip, made: holdColours(clip.frames, before, after) };
}

/** The known frames of a pass, as the model takes them. */
function knownInputs({ model }: Maker, numFrames: number, before: readonly Frame[], after: readonly Frame[]): ClipInputs {
  if (!model.capabilities.keyframes) return { image: before[0], lastImage: after[0] };
  const ends = [
    { at: 0, clip: before },
    { at: numFrames - after.length, clip: after },
  ];
  return { clips: ends.filter(({ clip }) => clip.length > 0) };
}

function showFrames(frames: readonly Frame[], from: number, onFrame: TaskOptions['onFrame']): void {
  frames.forEach((frame, i) => onFrame?.({ index: from + i, ...frame }));
}

/** What nobody would use is refused: what is known is laid out, and the rest follows from it. */
function refuseInputs(task: TaskName, options: ClipInputs): void {
  const kept: readonly string[] = ['controlScale', 'references'];
  const other = INPUTS.find((name) => !kept.includes(name) && options[name] !== undefined);
  if (other !== undefined) throw invalid(`${task} takes no ${other}: its passes have their own`);
}

export async function edit(maker: Maker, source: ClipSource, options: EditOptions): Promise<Clip> {
  const { strength = DEFAULT_STRENGTH, onPass: _, ...rest } = options;
  const whole = await wholeClip(maker, source, rest);
  const made = await maker.generate({ ...rest, ...whole.size, source: whole.frames, strength });
  return joined([made], made.frames, whole.warnings, { name: 'edit', strength });
}

export async function inpaint(maker: Maker, source: PictureSource | ClipSource, options: InpaintOptions): Promise<Clip> {
  const { mask, strength = 1, onPass: _, ...rest } = options;
  const whole = await wholeClip(maker, await pictureOrClip(source), rest);
  // What the mask leaves stands either way; of what it marks the source says how it looked.
  const start = strength === 1 ? {} : { source: whole.frames, strength };
  const made = await maker.generate({ ...rest, ...whole.size, clips: [whole.clip], mask, ...start });
  return joined([made], made.frames, whole.warnings, { name: 'inpaint', ...(strength === 1 ? {} : { strength }) });
}

export async function outpaint(maker: Maker, source: PictureSource | ClipSource, options: OutpaintOptions): Promise<Clip> {
  const { onPass: _, ...rest } = options;
  const whole = await wholeClip(maker, await pictureOrClip(source), rest);
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
  const small = await wholeClip(maker, source, { ...rest, width: undefined, height: undefined }, true);
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
  return start === undefined ? {} : { seed: Math.min(start + index, Number.MAX_SAFE_INTEGER) };
}

/** Tasks whose passes have a layout of their own. */
const WINDOWED: readonly TaskName[] = ['extend', 'loop', 'connect'];

/** What the caller gave to such a task: where a pass knows frames, and that they are not pasted, is the pass's own. */
const ofCaller = ({ places: _places, paste: _paste, ...given }: GivenParts): GivenParts => given;

/** The passes as one clip. */
function joined(parts: readonly Clip[], frames: readonly Frame[], warnings: readonly string[], task: TaskRecipe): Clip {
  const first = parts[0]!;
  const given = WINDOWED.includes(task.name) ? ofCaller(first.given) : first.given;
  const timings: Record<string, number> = {};
  for (const [stage, secs] of parts.flatMap((part) => Object.entries(part.timings))) timings[stage] = (timings[stage] ?? 0) + secs;
  const said = [...new Set([...warnings, ...parts.flatMap((part) => part.warnings)])];
  return new Clip({ ...first, frames, timings, warnings: said, given, task });
}
