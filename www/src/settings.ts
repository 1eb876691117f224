/** The settings drawer: a form that remembers itself. */
import {
  GUIDED_ABOVE,
  OPTIONS,
  randomSeed,
  withPreset,
  type ModelCard,
  type ModelDefaults,
  type ModelRules,
  type OptionSpec,
  type Preset,
} from 'tabreel';
import { byId, isObject, make, memory } from './dom';
import type { Device, Recipe } from './recipe';
import { bound, field, pair } from './controls';
import { adoptSizes, adoptSteps, readSize, showSize, sizeFields } from './size';

type Settings = Omit<Recipe, 'prompt'> & { locked: boolean; device: Device };
type Field = keyof Settings;

/** The table's defaults, until the model's card says better. */
const DEFAULTS = {
  ...Object.fromEntries(Object.entries(OPTIONS as Record<string, OptionSpec>).map(([name, row]) => [name, row.default])),
  seed: 0,
  locked: false,
  device: 'auto',
} as unknown as Settings;

/** Which settings an element of the form stands for. */
const FIELDS: Record<string, readonly Field[]> = {
  size: ['width', 'height'],
  width: ['width', 'height'],
  height: ['width', 'height'],
  shape: ['width', 'height'],
  frames: ['numFrames'],
  'frames-range': ['numFrames'],
  fps: ['fps'],
  steps: ['numSteps'],
  'steps-range': ['numSteps'],
  guidance: ['guidanceScale'],
  'guidance-range': ['guidanceScale'],
  negative: ['negativePrompt'],
  backend: ['device'],
  sampler: ['sampler'],
  lock: ['locked', 'seed'],
  seed: ['locked', 'seed'],
  dice: ['seed'],
};

const form = byId<HTMLFormElement>('settings');
const input = (id: string): HTMLInputElement => byId<HTMLInputElement>(id);

let defaults = DEFAULTS;
/** What the model's card suggests. */
let suggested: ModelDefaults = {};
let presets: Readonly<Record<string, Preset>> = {};
let sizes: ModelCard['sizes'] = [];
/** What the visitor edited, in this visit or an earlier one: the only thing that is remembered. */
let edits: Partial<Settings> = {};
/** What a link or an earlier clip set; the visitor's edits go before it. */
let applied: Partial<Settings> = {};
/** In frames. */
let longestTrained = Infinity;
let onChange: () => void = () => undefined;

/** Builds the form. `changed` is called after every edit. */
export function buildSettings(changed: () => void): void {
  onChange = changed;
  const dice = make('button', { type: 'button', id: 'dice', className: 'quiet', title: 'Roll a new seed' }, 'Roll');
  const lock = make('label', { className: 'check' }, make('input', { type: 'checkbox', id: 'lock' }), 'Keep');
  const seed = make('input', { id: 'seed', type: 'number', min: '0', step: '1', inputMode: 'numeric' });
  const backend = make(
    'select',
    { id: 'backend' },
    make('option', { value: 'auto' }, 'Best available'),
    make('option', { value: 'gpu' }, 'GPU (WebGPU)'),
    make('option', { value: 'cpu' }, 'CPU'),
  );
  const words = { unipc: 'UniPC', euler: 'Euler', stochastic: 'Few steps (fresh noise at each)' } as const;
  const sampler = make(
    'select',
    { id: 'sampler', title: 'Models distilled to few steps want fresh noise at each' },
    make('option', { value: '' }, 'The model’s own'),
    ...(OPTIONS.sampler.choices as (keyof typeof words)[]).map((value) => make('option', { value }, words[value])),
  );
  const preset = make('select', { id: 'preset' });
  preset.addEventListener('input', takePreset);
  preset.setAttribute('aria-describedby', 'preset-note');
  form.append(
    make('div', { id: 'presets', hidden: true }, field('Preset', preset), make('p', { id: 'preset-note', className: 'fine' })),
    ...sizeFields(edited),
    pair('Length', 'frames', { min: 1, max: DEFAULTS.numFrames, step: 1 }, 'frames', 'frames-note'),
    field('Frames per second', make('input', { id: 'fps', type: 'number', min: '1', max: '120', step: '1' })),
    pair('Quality', 'steps', { min: 1, max: 50, step: 1 }, 'steps', 'steps-note'),
    pair('Guidance', 'guidance', { min: 0, max: 15, step: 0.5 }, '', 'guidance-note'),
    field('Sampler', sampler),
    field('Seed', make('div', { className: 'row seed' }, seed, dice, lock), 'seed'),
    field('Leave out', make('textarea', { id: 'negative', rows: 2, placeholder: 'What the clip should not show' })),
    field('Runs on', backend),
    make('p', { id: 'backend-note', className: 'fine' }),
    make('fieldset', { className: 'kept' }, make('legend', {}, 'Kept on this device'), make('div', { id: 'kept' })),
    make('button', { type: 'button', id: 'defaults', className: 'quiet' }, 'Back to the model’s settings'),
  );
  seed.addEventListener('input', () => (input('lock').checked = true));
  dice.addEventListener('click', () => {
    seed.value = String(randomSeed());
    edited('dice');
  });
  byId('defaults').addEventListener('click', () => {
    [edits, applied] = [{}, {}];
    byId<HTMLSelectElement>('sampler').value = '';
    byId<HTMLSelectElement>('preset').value = '';
    settle();
    show({ ...defaults, seed: readSettings().seed });
    edited();
  });
  form.addEventListener('input', ({ target }) => {
    const { id, name } = target as HTMLInputElement;
    edited(id || name);
  });
  form.addEventListener('submit', (event) => event.preventDefault());
  edits = sound(memory.get('settings', isObject));
  show({ ...defaults, seed: randomSeed(), ...edits });
  edited();
}

/** Of what is kept, the settings that are still settings. */
function sound(kept: Record<string, unknown> = {}): Partial<Settings> {
  const entries = Object.entries(kept);
  const like = (name: string, value: unknown): boolean => {
    if (name === 'sampler') return OPTIONS.sampler.choices!.includes(value as string);
    const kind = typeof (DEFAULTS as unknown as Record<string, unknown>)[name];
    return kind !== 'undefined' && typeof value === kind && (kind !== 'number' || Number.isFinite(value));
  };
  const { device, ...rest } = Object.fromEntries(entries.filter(([name, value]) => like(name, value))) as Partial<Settings>;
  return ['auto', 'gpu', 'cpu'].includes(device ?? '') ? { ...rest, device: device! } : rest;
}

/**
 * The model's own sizes, defaults and presets replace ours; what the visitor chose stays. `preset` is chosen; others that need a LoRA
 * are not offered, for it is not there.
 */
export function adoptCard(card: ModelCard, preset?: string): void {
  suggested = card.defaults;
  ({ sizes } = card);
  longestTrained = card.numFrames.length > 0 ? Math.max(...card.numFrames) : Infinity;
  presets = Object.fromEntries(Object.entries(card.presets).filter(([name, { lora }]) => lora === undefined || name === preset));
  const select = byId<HTMLSelectElement>('preset');
  const options = Object.keys(presets).map((value) => make('option', { value }, value));
  select.replaceChildren(make('option', { value: '' }, 'The model’s own settings'), ...options);
  select.value = preset !== undefined && preset in presets ? preset : '';
  byId('presets').hidden = options.length === 0;
  settle();
  if (card.multiples) adoptRules(card.multiples);
  show({ ...defaults, ...presetSampler(), seed: readSettings().seed, ...edits, ...applied });
  edited();
}

/** Another model was chosen: sizes and steps that were chosen for the one before say nothing of it. */
export function forgetEdits(): void {
  const { device } = edits;
  [edits, applied] = [device === undefined ? {} : { device }, {}];
}

const chosenPreset = (): Preset | undefined => presets[byId<HTMLSelectElement>('preset').value];

/** Works out what is suggested: the model's settings, or those of the chosen preset in their place. */
function settle(): void {
  const preset = chosenPreset();
  const model = preset === undefined ? suggested : withPreset(suggested, preset);
  const known = Object.fromEntries(Object.entries(model).filter(([, value]) => value !== undefined)) as Partial<Settings>;
  defaults = { ...DEFAULTS, ...known, ...(model.sigmas && { numSteps: model.sigmas.length }) };
  const own = preset?.sizes?.map(([width, height]) => ({ width, height })) ?? sizes;
  adoptSizes(own.length > 0 ? own : [defaults]);
  byId('preset-note').textContent = preset?.about ?? '';
}

/** A sampler of a preset stands in the field; without one it is the model's own. */
const presetSampler = (): Partial<Settings> => ({ sampler: (chosenPreset()?.sampler ?? '') as NonNullable<Settings['sampler']> });

/** The visitor chose a preset: what it sets, goes before what was edited until now. */
function takePreset(): void {
  const { about: _about, lora: _lora, sizes: own, ...rest } = chosenPreset() ?? {};
  const set = Object.keys({ ...rest, ...(own && { width: 0, height: 0 }), sampler: '' }) as Field[];
  if (rest.sigmas !== undefined || rest.numSteps !== undefined) set.push('sigmas', 'numSteps');
  const left = (settings: Partial<Settings>): Partial<Settings> =>
    Object.fromEntries(Object.entries(settings).filter(([name]) => !set.includes(name as Field)));
  [edits, applied] = [left(edits), left(applied)];
  settle();
  show({ ...defaults, ...presetSampler(), seed: readSettings().seed, ...edits, ...applied });
}

/** The fields take the model's steps; the slider ends at twice what it was trained on. */
export function adoptRules(rules: Omit<ModelRules, 'defaults'>): void {
  adoptSteps(rules);
  const step = rules.frameMultiple;
  const longest = Number.isFinite(longestTrained) ? longestTrained : defaults.numFrames;
  bound('frames', { min: 1, max: 1 + step * Math.ceil((2 * (longest - 1)) / step), step });
}

/** As typed: a number that is none becomes NaN, and the rules answer in words. */
export function readSettings(): Settings {
  const number = (id: string): number => (input(id).value.trim() === '' ? NaN : Number(input(id).value));
  const sigmas = levels();
  return {
    ...readSize(),
    numFrames: number('frames'),
    fps: number('fps'),
    numSteps: sigmas?.length ?? number('steps'),
    guidanceScale: number('guidance'),
    seed: number('seed'),
    negativePrompt: byId<HTMLTextAreaElement>('negative').value,
    locked: input('lock').checked,
    device: byId<HTMLSelectElement>('backend').value as Device,
    // They have no field: a link or an earlier clip brings them, else the model's own are taken.
    ...shift(),
    ...(sigmas && { sigmas }),
    ...samplerChosen(),
  };
}

/** The levels of a link or an earlier clip, else the model's; a number of steps that was chosen goes before them. */
function levels(): number[] | undefined {
  const chosen = edits.numSteps ?? applied.numSteps;
  return applied.sigmas ?? (chosen === undefined ? defaults.sigmas : undefined);
}

function shift(): Pick<Settings, 'flowShift'> {
  const flowShift = applied.flowShift ?? chosenPreset()?.flowShift;
  return flowShift === undefined ? {} : { flowShift };
}

/** Nothing stands for the model's own. */
function samplerChosen(): Pick<Settings, 'sampler'> {
  const { value } = byId<HTMLSelectElement>('sampler');
  return value === '' ? {} : { sampler: value as NonNullable<Settings['sampler']> };
}

/** Takes over what a link or an earlier clip says. */
export function writeSettings(settings: Partial<Settings>): void {
  // A whole recipe says by silence that the sampler and its levels were the model's own.
  const whole = settings.numSteps !== undefined;
  applied = { ...applied, ...(whole && { sigmas: undefined }), ...settings };
  if (whole && settings.sampler === undefined) byId<HTMLSelectElement>('sampler').value = '';
  show(settings);
  edited();
}

function show(settings: Partial<Settings>): void {
  const set = (id: string, value: unknown): void => {
    if (value !== undefined && value !== null) byId<HTMLInputElement>(id).value = String(value);
  };
  const { width, height } = settings;
  if (width !== undefined && height !== undefined) showSize({ width, height });
  set('frames', settings.numFrames);
  set('fps', settings.fps);
  set('steps', settings.numSteps);
  set('guidance', settings.guidanceScale);
  set('seed', settings.seed);
  set('negative', settings.negativePrompt);
  set('backend', settings.device);
  set('sampler', settings.sampler);
  if (settings.locked !== undefined) input('lock').checked = settings.locked;
}

/** The seed for the next clip: the kept one, or a new one that then stands in the field. */
export function nextSeed(): number {
  if (!input('lock').checked) {
    input('seed').value = String(randomSeed());
    edited();
  }
  return readSettings().seed;
}

/** Call after every change; `by` is the element that the visitor used. */
function edited(by?: string): void {
  // A number of steps goes before levels, the model's or those that a link or an earlier clip brought.
  if (by?.startsWith('steps')) {
    applied = { ...applied, sigmas: undefined };
    edits = { ...edits, numSteps: NaN }; // a number of the visitor's, which one is read below
  }
  const settings: Settings = readSettings();
  for (const field of FIELDS[by ?? ''] ?? []) {
    edits = { ...edits, [field]: settings[field] };
    applied = { ...applied, [field]: undefined };
  }
  if (!settings.locked) delete edits.seed;
  memory.set('settings', edits);
  const { numFrames, fps, numSteps, guidanceScale } = readSettings();
  for (const id of ['frames', 'steps', 'guidance']) input(`${id}-range`).value = input(id).value;
  byId('frames-note').textContent = lengthWords(numFrames, fps);
  // Against the model's own number: a few-step model is good with four.
  const share = numSteps / defaults.numSteps;
  byId('steps-note').textContent = share < 0.7 ? 'Draft' : share < 1.7 ? 'Good' : 'Fine, and slower';
  byId('guidance-note').textContent =
    guidanceScale <= GUIDED_ABOVE
      ? defaults.guidanceScale <= GUIDED_ABOVE
        ? 'Off, as this model is made for'
        : 'Off: twice as fast, looser'
      : guidanceScale > 8
        ? 'Strict, may look harsh'
        : 'How closely to follow the prompt';
  onChange();
}

function lengthWords(numFrames: number, fps: number): string {
  if (numFrames === 1) return 'A picture';
  const length = `${(numFrames / fps).toFixed(1)} s at ${fps} frames per second`;
  return numFrames > longestTrained ? `${length}; longer than the model learned (${longestTrained} frames), it may drift` : length;
}
