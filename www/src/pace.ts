/** What the next clip will take, from what the last one took: remembered per backend on this device. */
import { GUIDED_ABOVE, type Backend, type Clip } from 'tabreel';
import { isAmount, isObject, memory } from './dom';
import type { Recipe } from './recipe';

interface Pace {
  /** Seconds per denoising step and latent pixel. */
  denoise: number;
  /** Seconds per pixel of all the rest; most of it is decoding. */
  rest: number;
}

const isPace = (value: unknown): value is Pace & Record<string, unknown> =>
  isObject(value) && isAmount(value['denoise']) && isAmount(value['rest']);

const volume = ({ width, height, numFrames }: Recipe): number => width * height * numFrames;
const passes = ({ numSteps, guidanceScale }: Recipe): number => numSteps * (guidanceScale > GUIDED_ABOVE ? 2 : 1);

export function rememberPace(clip: Clip, wholeSecs: number): void {
  const { options } = clip;
  const denoiseSecs = clip.timings['denoise'] ?? wholeSecs * 0.8;
  memory.set(`pace.${clip.backend}`, {
    denoise: denoiseSecs / (volume(options) * passes(options)),
    rest: Math.max(0, wholeSecs - denoiseSecs) / volume(options),
  } satisfies Pace);
  memory.set('memoryBytes', clip.memory.wasmBytes + clip.memory.gpuPeakBytes);
}

/** Seconds for the whole recipe on this backend; undefined before the first clip. */
export function expectedSecs(recipe: Recipe, backend: Backend): number | undefined {
  const pace = memory.get(`pace.${backend}`, isPace);
  return pace && volume(recipe) * (pace.denoise * passes(recipe) + pace.rest);
}

/** Counts down through one generation. */
export class Countdown {
  readonly #startedAt = performance.now();
  readonly #expected: number | undefined;
  readonly #expectedRest: number | undefined;
  #denoising: Lap | undefined;
  #decoding: Lap | undefined;

  constructor(
    readonly recipe: Recipe,
    backend: Backend,
  ) {
    this.#expected = expectedSecs(recipe, backend);
    const pace = memory.get(`pace.${backend}`, isPace);
    this.#expectedRest = pace && pace.rest * volume(recipe);
  }

  denoiseStarts(): void {
    this.#denoising = new Lap(this.recipe.numSteps);
  }

  step(done: number): void {
    this.#denoising?.reach(done);
  }

  decodeStarts(): void {
    this.#decoding = new Lap(this.recipe.numFrames);
  }

  frame(done: number): void {
    this.#decoding?.reach(done);
  }

  /** Seconds left, or undefined while nothing is known. */
  left(): number | undefined {
    if (this.#decoding) {
      return this.#decoding.left() ?? Math.max(0, this.#rest() - this.#decoding.elapsed());
    }
    const steps = this.#denoising?.left();
    if (steps !== undefined) return steps + this.#rest();
    return this.#expected === undefined ? undefined : Math.max(0, this.#expected - (performance.now() - this.#startedAt) / 1000);
  }

  /** What comes after denoising. Before the first clip it is a guess: about as long as one step. */
  #rest(): number {
    return this.#expectedRest ?? this.#denoising?.each() ?? 0;
  }
}

/** So many equal parts, and when they were done. */
class Lap {
  readonly #startedAt = performance.now();
  #reachedAt = this.#startedAt;
  #done = 0;

  constructor(readonly parts: number) {}

  reach(done: number): void {
    this.#done = done;
    this.#reachedAt = performance.now();
  }

  elapsed(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }

  /** Seconds per part; undefined before the first. */
  each(): number | undefined {
    return this.#done === 0 ? undefined : (this.#reachedAt - this.#startedAt) / 1000 / this.#done;
  }

  left(): number | undefined {
    const each = this.each();
    if (each === undefined) return undefined;
    const sinceLast = (performance.now() - this.#reachedAt) / 1000;
    return Math.max(0, (this.parts - this.#done) * each - Math.min(each, sinceLast));
  }
}
