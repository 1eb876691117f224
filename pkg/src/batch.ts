/** Several clips of text in one call: checked before any is made, and put together from what the engine tells. */
import type { Clip } from './clip.js';
import { OPTIONS } from './contract.js';
import { TabreelError, toTabreelError, type TabreelErrorCode } from './errors.js';
import { frameOf, type Frame } from './frame.js';
import type { ModelInfo } from './generator.js';
import { INPUTS, checkInputs } from './inputs.js';
import { LISTENER_FAILED } from './link.js';
import type { EngineEvent, GenerateResult, Stage } from './messages.js';
import { checkListeners, resolveOptions, type ClipRecipe } from './options.js';
import { invalid, show } from './read-picture.js';

/** What `Tabreel.generateBatch` takes beside the clips, which are told by their places in it, counted from 0. */
export interface BatchOptions {
  /** Called when a stage begins, for one clip or for those that are made together. */
  onStage?: (stage: Stage, clips: readonly number[]) => void;
  /** After every denoising step, which is one of all clips that are made together; `step` counts from 1, `seconds` is how long it took. */
  onStep?: (step: { step: number; numSteps: number; seconds: number }, clips: readonly number[]) => void;
  /** Each finished frame, in order, while later ones are still being decoded. */
  onFrame?: (frame: Frame & { index: number }, clip: number) => void;
  /** Each finished clip, in order, while later ones are still to come. */
  onClip?: (made: Clip, clip: number) => void;
  /** E.g. that the prompt was cut, and to how many tokens. */
  onWarning?: (message: string, clips: readonly number[]) => void;
  /** Stops within one block of the model; the promise rejects with code 'aborted'. */
  signal?: AbortSignal;
}

const LISTENERS = ['onStage', 'onStep', 'onFrame', 'onClip', 'onWarning'] as const satisfies readonly (keyof BatchOptions)[];
const KNOWN: readonly string[] = [...LISTENERS, 'signal'];

/**
 * The clips with nothing left open.
 *
 * @throws TabreelError `invalid-options`, naming the clip that it is about
 */
export function resolveBatch(clips: unknown, options: unknown, model: ModelInfo): ClipRecipe[] {
  if (typeof options !== 'object' || options === null) {
    throw invalid(`what a batch takes beside its clips must be an object, got ${show(options)}`);
  }
  const unknown = Object.keys(options).find((name) => !KNOWN.includes(name));
  if (unknown !== undefined) throw invalid(`a batch takes ${KNOWN.join(', ')} beside its clips, got ${unknown}`);
  checkListeners(options, LISTENERS);
  if (!Array.isArray(clips) || clips.length === 0) {
    throw invalid(`clips must be an array of the options of one clip or more, got ${Array.isArray(clips) ? 'none' : show(clips)}`);
  }
  return Array.from(clips as unknown[], (given, clip) => {
    try {
      const settled = resolveOptions(given, model);
      refuseOthers(given as object);
      checkInputs({}, settled, model.capabilities);
      return settled;
    } catch (thrown) {
      throw blamed(toTabreelError(thrown), [clip]);
    }
  });
}

/** What `generate` takes and one clip of several cannot have. */
function refuseOthers(given: object): void {
  const inputs: readonly string[] = INPUTS;
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || name in OPTIONS) continue;
    if (inputs.includes(name)) throw invalid(`a clip of a batch is made of text alone, got ${name}`);
    throw invalid(KNOWN.includes(name) ? `${name} belongs beside the clips of a batch` : `a clip of a batch takes no ${name}`);
  }
}

/** What a clip is at fault for; a network, a driver and an abort are not its doing. */
const OF_A_CLIP: ReadonlySet<TabreelErrorCode> = new Set(['invalid-options', 'out-of-memory', 'internal']);

function blamed(error: TabreelError, clips: readonly number[]): TabreelError {
  const { code, message, device } = error;
  if (clips.length === 0 || !OF_A_CLIP.has(code) || message.startsWith(LISTENER_FAILED)) return error;
  const place = [...new Set([clips[0], clips.at(-1)])].map((clip) => `clips[${clip}]`).join(' to ');
  return new TabreelError(code, `${place}: ${message}`, { cause: error, device });
}

/** What the engine has sent of a clip. */
export interface Sent {
  frames: Frame[];
  warnings: string[];
}

/** The clips of a batch while they are made. */
export class Batch {
  readonly #sent: readonly Sent[];
  readonly #options: BatchOptions;
  readonly #finish: (result: GenerateResult, clip: number, sent: Sent) => Clip;
  readonly #made: Clip[] = [];
  #broken: TabreelError | undefined;
  /** Which clips the engine is at. */
  #about: readonly number[] = [];

  /** For so many clips, each of which `finish` makes of the engine's answer. */
  constructor(count: number, options: BatchOptions, finish: (result: GenerateResult, clip: number, sent: Sent) => Clip) {
    this.#sent = Array.from({ length: count }, () => ({ frames: [], warnings: [] }));
    this.#options = options;
    this.#finish = finish;
  }

  hear(event: EngineEvent): void {
    const { onStage, onStep, onFrame, onClip, onWarning } = this.#options;
    switch (event.type) {
      case 'clips':
        this.#about = Array.from({ length: event.count }, (_, i) => event.first + i);
        return undefined;
      case 'stage':
        return onStage?.(event.stage, this.#about);
      case 'step':
        return onStep?.({ step: event.step, numSteps: event.numSteps, seconds: event.seconds }, this.#about);
      case 'warning':
        for (const clip of this.#about) this.#sent[clip]?.warnings.push(event.message);
        return onWarning?.(event.message, this.#about);
      case 'frame': {
        const [clip = 0] = this.#about;
        const frame = frameOf(event);
        const frames = this.#sent[clip]?.frames;
        if (frames) frames[event.index] = frame;
        return onFrame?.({ index: event.index, ...frame }, clip);
      }
      case 'made': {
        const sent = this.#sent[event.clip];
        if (sent === undefined) return undefined;
        try {
          this.#made[event.clip] = this.#finish(event.result, event.clip, sent);
        } catch (thrown) {
          this.#broken ??= blamed(toTabreelError(thrown), [event.clip]);
          return undefined;
        }
        return onClip?.(this.#made[event.clip]!, event.clip);
      }
      case 'preview':
      case 'loading':
        return undefined; // comes only otherwise
    }
  }

  /**
   * The clips, in order.
   *
   * @throws TabreelError `internal` when the engine has not sent all of each
   */
  clips(): Clip[] {
    if (this.#broken) throw this.#broken;
    const missing = this.#sent.findIndex((_, clip) => this.#made[clip] === undefined);
    if (missing >= 0) throw new TabreelError('internal', `clips[${missing}]: the engine ended without it`);
    return this.#made;
  }

  /** The error, naming the clips that the engine was at. */
  blame(thrown: unknown): TabreelError {
    return blamed(toTabreelError(thrown), this.#about);
  }
}
