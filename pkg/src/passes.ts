/**
 * Tasks longer than one pass of the model: which frames each pass knows and makes. The rule is that of
 * `crate/src/tasks/window.rs`; tests/fixtures/windows.json holds both to it.
 */
import { MOST_ADDED } from './contract.js';
import { invalid, show } from './read-picture.js';

/** What a model says of its passes. */
export interface Way {
  /** A length is a multiple of it, and one; frames. */
  step: number;
  /** Whether it takes known clips; else a single frame at either end. */
  clips: boolean;
}

/** One pass of a clip that grows. */
export interface Pass {
  /** Frames of the pass, a length that the model takes. */
  length: number;
  /** How many frames of it are known. */
  known: number;
  /** How many new ones are kept; a last pass may make more. */
  fresh: number;
}

/** The known frames of a pass that leads from one clip to another. */
export interface Ends {
  /** How many at its start, the last ones of the first clip. */
  head: number;
  /** How many at its end, the first ones of the second clip. */
  tail: number;
}

/** The next length that a model takes: a multiple of `step`, and one. */
export const lengthUp = (frames: number, step: number): number => Math.ceil(Math.max(0, frames - 1) / step) * step + 1;

/** The longest length that a model takes within so many frames. */
export const lengthDown = (frames: number, step: number): number => Math.floor((frames - 1) / step) * step + 1;

/**
 * How many known frames a pass takes over where nothing is said: half of it, at most two strides; one by a model that takes no
 * clips. At a pass's start whole latent frames are `step · n + 1` frames, at its end `step · n`.
 */
export function usualOverlap(window: number, { step, clips }: Way, direction: 'forward' | 'backward'): number {
  if (!clips) return 1;
  const strides = Math.min(Math.floor((window - 1) / step / 2), 2);
  return Math.min(direction === 'backward' ? Math.max(strides, 1) * step : strides * step + 1, window - 1);
}

/** @throws TabreelError `invalid-options` when a pass that goes on from a clip cannot be so long */
export function checkWindow(window: number, step: number): void {
  if (window !== lengthUp(window, step)) throw invalid(`window must be ${step}n + 1 frames, got ${show(window)}`);
  if (window < 2) throw invalid(`window must be 2 frames at least to go on from a clip, got ${window}`);
}

/**
 * The passes that add `wanted` frames to a clip of `have`: each knows the last `overlap` frames (or as many as there are)
 * and is at most `window` long, which {@link checkWindow} has seen.
 *
 * @throws TabreelError `invalid-options`
 */
export function planPasses(have: number, wanted: number, overlap: number, window: number, step: number): Pass[] {
  if (!Number.isInteger(overlap) || overlap < 1 || overlap >= window) {
    throw invalid(`overlap must be a whole number of frames from 1 to ${window - 1}, below the window, got ${show(overlap)}`);
  }
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > MOST_ADDED) {
    throw invalid(`frames must be a whole number from 1 to ${MOST_ADDED}, got ${show(wanted)}`);
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

/**
 * What a pass of `window` frames knows at its ends, between clips of `from` and `to` frames.
 *
 * @throws TabreelError `invalid-options` when no frame is left to make
 */
export function planBridge(from: number, to: number, window: number, { step, clips }: Way): Ends {
  // Whole latent frames at both ends where the pass is long enough for it, and room between them.
  const long = window > 3 * step;
  const [start, end] = clips ? [long ? step + 1 : 1, long ? step : Math.max(1, Math.min(step, window - 2))] : [1, 1];
  const [head, tail] = [Math.min(start, from), Math.min(end, to)];
  if (head + tail >= window) throw invalid(`a pass needs 3 frames at least, two to stand and one to make, got ${window}`);
  return { head, tail };
}

/** The shortest pass that can put `wanted` frames between clips of `from` and `to` frames, whole latent frames at both ends. */
export const bridgeLength = (from: number, to: number, wanted: number, { step, clips }: Way): number =>
  lengthUp(wanted + (clips ? Math.min(step + 1, from) + Math.min(step, to) : 2), step);
