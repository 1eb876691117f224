/** Tasks longer than one pass of the model: which frames each pass knows and makes, and how colours are held from one to the next. */
import type { Frame } from './frame.js';
import { invalid, show } from './read-picture.js';

/** One pass of a clip that grows. */
export interface Pass {
  /** Frames of the pass, a length that the model takes. */
  length: number;
  /** How many frames of it are known. */
  known: number;
  /** How many new ones are kept; a last pass may make more. */
  fresh: number;
}

/** The most frames that a task may add to a clip; `MOST_ADDED` of crate/src/tasks/mod.rs. */
const MOST_ADDED = 100_000;

/** The next length that a model takes: a multiple of `step`, and one. */
export const lengthUp = (frames: number, step: number): number => Math.ceil(Math.max(0, frames - 1) / step) * step + 1;

/** The longest length that a model takes within so many frames. */
export const lengthDown = (frames: number, step: number): number => Math.floor((frames - 1) / step) * step + 1;

/**
 * The passes that add `wanted` frames to a clip of `have`: each knows the last `overlap` frames (or as many as there are)
 * and is at most `window` long.
 *
 * @throws TabreelError `invalid-options`
 */
export function planPasses(have: number, wanted: number, overlap: number, window: number, step: number): Pass[] {
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > MOST_ADDED) {
    throw invalid(`frames must be a whole number from 1 to ${MOST_ADDED}, got ${show(wanted)}`);
  }
  if (window !== lengthUp(window, step)) throw invalid(`window must be ${step}n + 1 frames, got ${show(window)}`);
  if (!Number.isInteger(overlap) || overlap < 1 || overlap >= window) {
    throw invalid(`overlap must be a whole number of frames from 1 to ${window - 1}, below the window, got ${show(overlap)}`);
  }
  const passes: Pass[] = [];
  for (let made = 0; made < wanted;) {
    const known = Math.min(overlap, have + made);
    const length = Math.min(window, lengthUp(known + wanted - made, step));
    const fresh = Math.min(length - known, wanted - made);
    passes.push({ length, known, fresh });
    made += fresh;
  }
  return passes;
}

/** Frames whose mean colour is off by more than this show another scene: bytes. */
const LARGEST_DRIFT = 24;

/**
 * Shifts the colours of frames so that the one beside the join has the mean colour of its neighbour: a model's small error would
 * add up from pass to pass. Changes the frames' bytes.
 */
export function holdColours(frames: readonly Frame[], beside: Frame, neighbour: Frame): void {
  const [here, there] = [meanColour(beside), meanColour(neighbour)];
  const shift = here.map((mean, channel) => there[channel]! - mean);
  if (shift.some((by) => Math.abs(by) > LARGEST_DRIFT) || shift.every((by) => Math.abs(by) < 0.5)) return;
  for (const { data } of frames) {
    for (let i = 0; i < data.length; i++) if (i % 4 < 3) data[i] = data[i]! + shift[i % 4]!;
  }
}

function meanColour({ data }: Frame): number[] {
  const sums = [0, 0, 0];
  for (let i = 0; i < data.length; i += 4) for (let channel = 0; channel < 3; channel++) sums[channel]! += data[i + channel]!;
  return sums.map((sum) => sum / (data.length / 4));
}
