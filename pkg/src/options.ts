/** Options of `generate()`, checked against the table in contract.ts: the sentences name rule, value and unit. */
import {
  MOST_NUMBERS,
  OPTIONS,
  type ClipOptions,
  type ClipRecipe,
  type ModelDefaults,
  type OptionSpec,
  type Preset,
  type SizeRules,
} from './contract.js';
import { withoutLastZero } from './card.js';
import { TabreelError } from './errors.js';
import { INPUTS } from './inputs.js';

export type { ClipOptions, ClipRecipe, ModelDefaults, Preset };

/** What the rules need to know about the model. */
export interface ModelRules extends SizeRules {
  /** What the model suggests. */
  defaults: ModelDefaults;
  /** Settings that go together, by name. */
  presets?: Readonly<Record<string, Preset>> | undefined;
  /** How many LoRAs lie over the model; undefined where that is not known. */
  loras?: number | undefined;
}

type Name = keyof ClipOptions;
const TABLE: Record<Name, OptionSpec> = OPTIONS;
const NAMES = Object.keys(OPTIONS) as Name[];

/** Names that `generate()` takes beside `ClipOptions`; they never reach the engine. */
const LISTENERS = ['onStep', 'onPreview', 'onStage', 'onFrame', 'onWarning'] as const;

const KNOWN = new Set<string>(['signal', ...LISTENERS, ...INPUTS, ...NAMES]);

/** @throws TabreelError `invalid-options` */
export function checkObject(given: unknown): asserts given is Record<string, unknown> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid(`options must be an object with a prompt, got ${show(given)}`);
  }
}

/**
 * Fills in what was left open (the model's suggestion, else the table's default) and checks every rule.
 *
 * @throws TabreelError `invalid-options`, whose message is rule + value + unit.
 */
export function resolveOptions(given: unknown, rules: ModelRules): ClipRecipe {
  checkObject(given);
  const options = given;
  for (const name of Object.keys(options)) {
    if (!KNOWN.has(name)) throw invalid(`unknown option ${name}${didYouMean(name)}`);
  }
  checkListeners(options, LISTENERS);
  // A number of steps asked for goes before the levels that the model suggests.
  const preset = pickPreset(options['preset'], rules);
  const defaults: Record<string, unknown> = preset === undefined ? { ...rules.defaults } : { ...withPreset(rules.defaults, preset) };
  if (options['numSteps'] !== undefined && options['numSteps'] !== null) delete defaults['sigmas'];
  const settled: Partial<Record<Name, unknown>> = {};
  for (const name of NAMES) {
    // A recipe has what the preset stood for.
    if (name === 'preset') continue;
    const value = options[name] ?? defaults[name] ?? TABLE[name].default ?? (name === 'seed' ? randomSeed() : undefined);
    if (value !== undefined) settled[name] = checked(name, value, rules);
  }
  if (settled.sigmas !== undefined) {
    const { length } = settled.sigmas as number[];
    if ((options['numSteps'] ?? length) !== length) {
      throw invalid(
        `numSteps must be the number of sigmas, ${length}, where both are given, got ${withUnit(options['numSteps'] as number, 'steps')}`,
      );
    }
    settled.numSteps = length;
  }
  if ((settled.prompt as string).trim() === '' && settled.classLabel === undefined) {
    throw invalid('prompt must not be empty (a model of classes takes classLabel instead)');
  }
  return settled as ClipRecipe;
}

/**
 * Refuses listeners that cannot be called, and a signal that is none.
 *
 * @throws TabreelError `invalid-options`
 */
export function checkListeners(given: object, names: readonly string[]): void {
  const options = given as Record<string, unknown>;
  for (const name of names) {
    const listener = options[name];
    if (listener !== undefined && typeof listener !== 'function') {
      throw invalid(`${name} must be a function, got ${show(listener)}`);
    }
  }
  const signal = options['signal'];
  if (signal !== undefined && !(typeof signal === 'object' && signal !== null && 'aborted' in signal)) {
    throw invalid(`signal must be an AbortSignal, got ${show(signal)}`);
  }
}

/**
 * What a model suggests with a preset chosen: the preset's settings in the place of the model's.
 *
 * Number of steps and levels are one thing: those of the model do not count beside either of the preset's.
 */
export function withPreset(defaults: ModelDefaults, preset: Preset): ModelDefaults {
  const { about: _about, lora: _lora, sizes, ...settings } = preset;
  const { numSteps, sigmas, ...rest } = defaults;
  const steps = settings.numSteps === undefined && settings.sigmas === undefined ? { numSteps, sigmas } : {};
  const [width, height] = sizes?.[0] ?? [defaults.width, defaults.height];
  return { ...rest, ...steps, width, height, ...settings };
}

/** @throws TabreelError `invalid-options` where there is no such preset, or not the LoRA that it needs */
function pickPreset(name: unknown, { presets = {}, loras }: ModelRules): Preset | undefined {
  if (name === undefined || name === null || name === '') return undefined;
  const names = Object.keys(presets);
  if (typeof name !== 'string' || !names.includes(name)) {
    const rule = names.length === 0 ? 'be left out, for this model has none' : `be one of ${names.join(', ')}`;
    throw invalid(`preset must ${rule}, got ${show(name)}`);
  }
  const preset = presets[name]!;
  if (preset.lora !== undefined && loras === 0) {
    throw invalid(`preset ${name} needs the LoRA "${preset.lora}": load the model with it (loras)`);
  }
  return preset;
}

/**
 * Checks what a card or a catalogue suggests against the table; a model's own multiples are not known yet.
 *
 * @throws TabreelError `invalid-options`
 */
export function checkDefaults(defaults: ModelDefaults): void {
  const any: SizeRules = { widthMultiple: 1, heightMultiple: 1, frameMultiple: 1 };
  for (const name of NAMES) {
    const value = (defaults as Record<string, unknown>)[name];
    if (value !== undefined) checked(name, value, any);
  }
}

/** A seed short enough to read aloud: 0 to 2^32 − 1. */
export function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

/** The value, if it keeps to its row of the table. */
function checked(name: Name, value: unknown, rules: SizeRules): unknown {
  const row = TABLE[name];
  if (row.kind === 'text') {
    if (typeof value !== 'string') throw invalid(`${name} must be a string, got ${show(value)}`);
    return value;
  }
  if (row.kind === 'label') {
    if (typeof value === 'string' ? value.trim() !== '' : Number.isSafeInteger(value) && (value as number) >= 0) return String(value);
    throw invalid(`${name} must be a name or a whole number from 0, got ${show(value)}`);
  }
  if (row.kind === 'choice') {
    if (row.choices!.includes(value as string)) return value;
    throw invalid(`${name} must be one of ${row.choices!.join(', ')}, got ${show(value)}`);
  }
  if (row.kind === 'list') return checkedList(name, value, rules);
  return checkedNumber(name, value, rules);
}

/** Numbers that fall from one to the next. */
function checkedList(name: Name, value: unknown, rules: SizeRules): number[] {
  if (!Array.isArray(value)) throw invalid(`${name} must be an array of numbers, got ${show(value)}`);
  const numbers = withoutLastZero(value as unknown[]);
  if (numbers.length < 1 || numbers.length > MOST_NUMBERS) {
    throw invalid(`${name} must be 1 to ${MOST_NUMBERS} numbers, got ${numbers.length}`);
  }
  const levels = numbers.map((number) => checkedNumber(name, number, rules));
  if (levels.some((level, i) => i > 0 && level >= levels[i - 1]!)) {
    throw invalid(`${name} must fall from one to the next, got ${levels.join(', ')}`);
  }
  return levels;
}

function checkedNumber(name: Name, value: unknown, rules: SizeRules): number {
  const row = TABLE[name];
  if (typeof value !== 'number') throw invalid(`${name} must be a number, got ${show(value)}`);
  if (row.kind === 'whole' && Number.isFinite(value) && !Number.isInteger(value)) {
    throw invalid(`${name} must be a whole number, got ${withUnit(value, row.unit)}`);
  }
  const { min = -Infinity, max = Infinity, aboveMin = false, unit, multiple } = row;
  if (!(value <= max && (aboveMin ? value > min : value >= min))) {
    const top = max === Number.MAX_SAFE_INTEGER ? '2^53 − 1' : max;
    const range = aboveMin ? `above ${min} up to ${top}` : `${min} to ${top}`;
    throw invalid(`${name} must be ${unit ? `${range} ${unit}` : range}, got ${withUnit(value, unit)}`);
  }
  if (multiple !== undefined) {
    const step = Math.max(1, rules[multiple]);
    const rest = multiple === 'frameMultiple' ? 1 : 0;
    if (value % step !== rest % step) {
      const rule = rest ? `${step}n + 1 (1, ${step + 1}, ${2 * step + 1}, …)` : `a multiple of ${step} ${unit}`;
      throw invalid(`${name} must be ${rule}, got ${withUnit(value, unit)}`);
    }
  }
  return value;
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

/** Catches the command line's names and plain typing errors in case. */
function didYouMean(name: string): string {
  const flat = (text: string): string => text.replaceAll('_', '').toLowerCase();
  const match =
    NAMES.find((known) => flat(TABLE[known].flag ?? '') === flat(name)) ?? [...KNOWN].find((known) => flat(known) === flat(name));
  return match === undefined ? '' : `; did you mean ${match}?`;
}

const invalid = (message: string): TabreelError => new TabreelError('invalid-options', message);
