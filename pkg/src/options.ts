/** Options of `generate()`: defaults, ranges and the sentences that name a broken rule. */
import { TabreelError } from './errors.js';

/** What a clip is made from. Everything but the prompt has a default, which the model suggests. */
export interface ClipOptions {
  /** What to show. Must not be empty; longer prompts than the model reads are cut, with a warning. */
  prompt: string;
  /** What to steer away from. Default: none. */
  negativePrompt?: string;
  /** Frame width in px; a multiple of 16 (the model may ask for a coarser one), 16 to 2048. */
  width?: number;
  /** Frame height in px; a multiple of 16 (the model may ask for a coarser one), 16 to 2048. */
  height?: number;
  /** Number of frames: 4n + 1 (1, 5, 9, …), 1 to 1025. One frame is a picture. */
  numFrames?: number;
  /** Frames per second of the finished clip, 1 to 120. Does not change what is generated. */
  fps?: number;
  /** Denoising steps, 1 to 200. */
  numSteps?: number;
  /** How strongly the prompt steers, 0 to 50; 1 switches guidance off (and halves the time). */
  guidanceScale?: number;
  /** Integer from 0 to 2^53 − 1; the same seed gives the same clip. Default: random. */
  seed?: number;
  /** How far the schedule leans towards noise: above 0, up to 100. Default: the model's own. */
  flowShift?: number;
}

/** `ClipOptions` with nothing left open: the recipe that makes the same clip again. */
export type ClipRecipe = Required<Omit<ClipOptions, 'flowShift'>> & Pick<ClipOptions, 'flowShift'>;

/** What a model suggests. */
export type ModelDefaults = { [K in Exclude<keyof ClipOptions, 'prompt' | 'seed'>]?: ClipOptions[K] | undefined };

/** What the rules need to know about the model. */
export interface ModelRules {
  widthMultiple: number;
  heightMultiple: number;
  defaults: ModelDefaults;
}

const FALLBACK = {
  negativePrompt: '',
  width: 128,
  height: 128,
  numFrames: 17,
  fps: 12,
  numSteps: 12,
  guidanceScale: 4,
};

/** Names that `generate()` takes beside `ClipOptions`; they never reach the engine. */
const LISTENERS = ['onStep', 'onPreview', 'onStage', 'onFrame', 'onWarning'] as const;

const KNOWN = new Set<string>(['prompt', 'seed', 'flowShift', 'signal', ...LISTENERS, ...Object.keys(FALLBACK)]);

/**
 * Fills in defaults and checks every rule.
 *
 * @throws TabreelError `invalid-options`, whose message is rule + value + unit.
 */
export function resolveOptions(given: unknown, rules: ModelRules): ClipRecipe {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid(`options must be an object with a prompt, got ${show(given)}`);
  }
  const options = given as Record<string, unknown>;
  for (const name of Object.keys(options)) {
    if (!KNOWN.has(name)) throw invalid(`unknown option ${name}${didYouMean(name)}`);
  }
  for (const name of LISTENERS) {
    const listener = options[name];
    if (listener !== undefined && typeof listener !== 'function') {
      throw invalid(`${name} must be a function, got ${show(listener)}`);
    }
  }
  const signal = options['signal'];
  if (signal !== undefined && !(typeof signal === 'object' && signal !== null && 'aborted' in signal)) {
    throw invalid(`signal must be an AbortSignal, got ${show(signal)}`);
  }

  const value = (name: keyof typeof FALLBACK): unknown => options[name] ?? rules.defaults[name] ?? FALLBACK[name];
  const size = (name: 'width' | 'height', multiple: number): number => {
    const px = integer(name, value(name), 16, 2048, 'px');
    if (px % multiple !== 0) throw invalid(`${name} must be a multiple of ${multiple} px, got ${px} px`);
    return px;
  };

  const prompt = options['prompt'];
  if (typeof prompt !== 'string') throw invalid(`prompt must be a string, got ${show(prompt)}`);
  if (prompt.trim() === '') throw invalid('prompt must not be empty');

  const negativePrompt = value('negativePrompt');
  if (typeof negativePrompt !== 'string') {
    throw invalid(`negativePrompt must be a string, got ${show(negativePrompt)}`);
  }

  const numFrames = integer('numFrames', value('numFrames'), 1, 1025, 'frames');
  if (numFrames % 4 !== 1) throw invalid(`numFrames must be 4n + 1 (1, 5, 9, …), got ${numFrames} frames`);

  const flowShift = options['flowShift'] ?? rules.defaults.flowShift;
  if (flowShift !== undefined && !(number('flowShift', flowShift, 0, 100) > 0)) {
    throw invalid(`flowShift must be above 0 up to 100, got ${show(flowShift)}`);
  }

  return {
    prompt,
    negativePrompt,
    width: size('width', rules.widthMultiple),
    height: size('height', rules.heightMultiple),
    numFrames,
    fps: number('fps', value('fps'), 1, 120, 'frames per second'),
    numSteps: integer('numSteps', value('numSteps'), 1, 200, 'steps'),
    guidanceScale: number('guidanceScale', value('guidanceScale'), 0, 50),
    seed: integer('seed', options['seed'] ?? randomSeed(), 0, Number.MAX_SAFE_INTEGER),
    ...(flowShift === undefined ? {} : { flowShift: flowShift as number }),
  };
}

/** A seed short enough to read aloud: 0 to 2^32 − 1. */
export function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

function number(name: string, value: unknown, min: number, max: number, unit = ''): number {
  if (typeof value !== 'number') throw invalid(`${name} must be a number, got ${show(value)}`);
  if (!(value >= min && value <= max)) {
    const top = max === Number.MAX_SAFE_INTEGER ? '2^53 − 1' : max;
    throw invalid(`${name} must be ${min} to ${top}${unit && ` ${unit}`}, got ${withUnit(value, unit)}`);
  }
  return value;
}

function integer(name: string, value: unknown, min: number, max: number, unit = ''): number {
  if (typeof value === 'number' && Number.isFinite(value) && !Number.isInteger(value)) {
    throw invalid(`${name} must be a whole number, got ${withUnit(value, unit)}`);
  }
  return number(name, value, min, max, unit);
}

function withUnit(value: number, unit: string): string {
  if (Number.isNaN(value)) return 'no number';
  return unit === '' ? `${value}` : `${value} ${unit}`;
}

function show(value: unknown): string {
  if (typeof value === 'string') return `the string "${value.length > 40 ? `${value.slice(0, 40)}…` : value}"`;
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'function') return 'a function';
  return `${typeof value} ${String(value)}`;
}

/** Catches the snake_case names of the command line and plain typing errors in case. */
function didYouMean(name: string): string {
  const flat = name.replaceAll('_', '').toLowerCase();
  const aliases: Record<string, string> = { frames: 'numFrames', steps: 'numSteps', guidance: 'guidanceScale', negative: 'negativePrompt' };
  const match = aliases[flat] ?? [...KNOWN].find((known) => known.toLowerCase() === flat);
  return match === undefined ? '' : `; did you mean ${match}?`;
}

const invalid = (message: string): TabreelError => new TabreelError('invalid-options', message);
