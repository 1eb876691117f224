/** What a finished clip still shows of the pictures and clips that it was made from. */
import type { Frame } from './frame.js';
import type { GivenParts, GivenPlace } from './inputs.js';
import type { FullRecipe } from './recipe.js';

/** A picture, or a stretch of several, that a clip was given. */
export interface RecoveredStretch {
  /** The frame of the clip that its first one is. */
  at: number;
  /** In order; one at least. */
  frames: readonly Frame[];
}

/** What {@link recoverGiven} found. */
export interface Recovered {
  /** The clip that `extend`, `loop`, `connect` or `inpaint` began with. */
  clip?: readonly Frame[];
  /** The clip that `connect` led to. */
  second?: readonly Frame[];
  /** The pictures and clips that `generate` was given to stand in their places. */
  placed: readonly RecoveredStretch[];
}

/**
 * The pictures and clips that a clip was made from, as far as its own frames (all of them) show them: what is known comes back
 * unchanged, so that it can be given again. What does not stand in it is not found: a clip that was made anew or grew, references,
 * sketches, masks, what was padded; nor what an older recipe does not place.
 */
export function recoverGiven({ task, given, options }: FullRecipe, frames: readonly Frame[]): Recovered {
  if (task.name === 'generate') return { placed: placedOf(given, options.numFrames, frames) };
  if (task.name === 'inpaint') {
    // With a strength it counts what stood in the region before, and that is gone.
    const isThere = frames.length > 0 && given.paste !== false && task['strength'] === undefined;
    return isThere ? { clip: frames, placed: [] } : { placed: [] };
  }
  const added = task['frames'];
  const own = frames.length - (isLength(added) ? added : Infinity);
  if (own < 1) return { placed: [] };
  switch (task.name) {
    case 'extend':
      return { clip: task['direction'] === 'backward' ? frames.slice(-own) : frames.slice(0, own), placed: [] };
    case 'loop':
      // Without a clip, the prompt made it.
      return task['numFrames'] === undefined ? { clip: frames.slice(0, own), placed: [] } : { placed: [] };
    case 'connect': {
      const first = task['first'];
      if (!isLength(first) || first >= own) return { placed: [] };
      return { clip: frames.slice(0, first), second: frames.slice(first - own), placed: [] };
    }
    case 'edit':
    case 'outpaint':
    case 'upscale':
      return { placed: [] };
  }
}

const isLength = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0;

function placedOf(given: GivenParts, numFrames: number, frames: readonly Frame[]): RecoveredStretch[] {
  // Of another length it is another clip; and a padded picture cannot be told from what was made beside it.
  if (frames.length !== numFrames || given.paste === false || given.fit === 'contain') return [];
  const places = given.places ?? endsOf(given, numFrames);
  const isInside = ({ at, frames: length }: GivenPlace): boolean =>
    Number.isInteger(at) && at >= 0 && isLength(length) && at + length <= numFrames;
  return places.filter(isInside).map(({ at, frames: length }) => ({ at, frames: frames.slice(at, at + length) }));
}

/** Older recipes count what was given and do not say where: of pictures for the ends it is known. */
function endsOf({ image, lastImage, keyframes, clips }: GivenParts, numFrames: number): GivenPlace[] {
  if (keyframes + clips > 0) return [];
  return [...(image ? [{ at: 0, frames: 1 }] : []), ...(lastImage ? [{ at: numFrames - 1, frames: 1 }] : [])];
}
