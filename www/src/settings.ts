/** The settings drawer: a form that remembers itself. */
import { randomSeed, type ModelCard } from 'tabreel';
import { byId, make, memory } from './dom';
import type { Device, Recipe } from './recipe';
import { field, pair, SHAPES, shapeOf } from './controls';

type Settings = Omit<Recipe, 'prompt'> & { locked: boolean; device: Device };

/** Until the model's card says better. */
const DEFAULTS: Settings = {
  negativePrompt: '',
  width: 64,
  height: 64,
  numFrames: 17,
  fps: 16,
  numSteps: 12,
  guidanceScale: 4,
  seed: 0,
  locked: false,
  device: 'auto',
};

const SIZES = [
  { width: 64, height: 64 },
  { width: 96, height: 64 },
  { width: 64, height: 96 },
];

const form = byId<HTMLFormElement>('settings');
const input = (id: string): HTMLInputElement => byId<HTMLInputElement>(id);

let defaults = DEFAULTS;
let sizes: { width: number; height: number }[] = SIZES;
/** In frames. */
let longestTrained = Infinity;
let onChange: () => void = () => undefined;

/** Builds the form. `changed` is called after every edit. */
export function buildSettings(changed: () => void): void {
  onChange = changed;
  const shapes = make('fieldset', { id: 'shapes', className: 'shapes' }, make('legend', {}, 'Shape'));
  const size = make('select', { id: 'size' });
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
  form.append(
    shapes,
    field('Size', size),
    pair('Length', 'frames', { min: 1, max: 49, step: 4 }, 'frames', 'frames-note'),
    field('Frames per second', make('input', { id: 'fps', type: 'number', min: '1', max: '120', step: '1' })),
    pair('Quality', 'steps', { min: 1, max: 50, step: 1 }, 'steps', 'steps-note'),
    pair('Guidance', 'guidance', { min: 0, max: 15, step: 0.5 }, '', 'guidance-note'),
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
    edited();
  });
  byId('defaults').addEventListener('click', () => writeSettings(defaults));
  form.addEventListener('input', edited);
  form.addEventListener('submit', (event) => event.preventDefault());
  fillSizes();
  writeSettings({ ...defaults, seed: randomSeed(), ...memory.get<Partial<Settings>>('settings') });
}

/** The model's own sizes and defaults replace ours; what the visitor chose stays. */
export function adoptCard(card: ModelCard): void {
  const { flowShift: _flowShift, ...known } = card.defaults;
  defaults = { ...DEFAULTS, ...(known as Partial<Settings>) };
  if (card.sizes.length > 0) sizes = card.sizes;
  if (card.numFrames.length > 0) longestTrained = Math.max(...card.numFrames);
  fillSizes();
  writeSettings({ ...defaults, seed: readSettings().seed, ...memory.get<Partial<Settings>>('settings') });
}

/** As typed: a number that is none becomes NaN, and the rules answer in words. */
export function readSettings(): Settings {
  const [width, height] = byId<HTMLSelectElement>('size').value.split('x').map(Number);
  const number = (id: string): number => (input(id).value.trim() === '' ? NaN : Number(input(id).value));
  return {
    width: width!,
    height: height!,
    numFrames: number('frames'),
    fps: number('fps'),
    numSteps: number('steps'),
    guidanceScale: number('guidance'),
    seed: number('seed'),
    negativePrompt: byId<HTMLTextAreaElement>('negative').value,
    locked: input('lock').checked,
    device: byId<HTMLSelectElement>('backend').value as Device,
  };
}

export function writeSettings(settings: Partial<Settings>): void {
  const set = (id: string, value: unknown): void => {
    if (value !== undefined && value !== null) byId<HTMLInputElement>(id).value = String(value);
  };
  const { width, height } = settings;
  if (width !== undefined && height !== undefined) {
    if (!sizes.some((size) => size.width === width && size.height === height)) {
      sizes = [...sizes, { width, height }];
      fillSizes();
    }
    set('size', `${width}x${height}`);
  }
  set('frames', settings.numFrames);
  set('fps', settings.fps);
  set('steps', settings.numSteps);
  set('guidance', settings.guidanceScale);
  set('seed', settings.seed);
  set('negative', settings.negativePrompt);
  set('backend', settings.device);
  if (settings.locked !== undefined) input('lock').checked = settings.locked;
  edited();
}

/** The seed for the next clip: the kept one, or a new one that then stands in the field. */
export function nextSeed(): number {
  if (!input('lock').checked) {
    input('seed').value = String(randomSeed());
    edited();
  }
  return readSettings().seed;
}

function edited(): void {
  const { numFrames, fps, numSteps, guidanceScale } = readSettings();
  for (const id of ['frames', 'steps', 'guidance']) input(`${id}-range`).value = input(id).value;
  byId('frames-note').textContent = lengthWords(numFrames, fps);
  byId('steps-note').textContent = numSteps < 8 ? 'Draft' : numSteps < 20 ? 'Good' : 'Fine, and slower';
  byId('guidance-note').textContent =
    guidanceScale === 1 ? 'Off: twice as fast, looser' : guidanceScale > 8 ? 'Strict, may look harsh' : 'How closely to follow the prompt';
  markShape();
  const { seed, locked, ...rest } = readSettings();
  memory.set('settings', locked ? { ...rest, locked, seed } : { ...rest, locked });
  onChange();
}

function lengthWords(numFrames: number, fps: number): string {
  if (numFrames === 1) return 'A picture';
  const length = `${(numFrames / fps).toFixed(1)} s at ${fps} frames per second`;
  return numFrames > longestTrained ? `${length}; longer than the model learned (${longestTrained} frames), it may drift` : length;
}

function fillSizes(): void {
  const select = byId<HTMLSelectElement>('size');
  const chosen = select.value;
  select.replaceChildren(...sizes.map(({ width, height }) => make('option', { value: `${width}x${height}` }, `${width} × ${height} px`)));
  if (chosen !== '' && [...select.options].some(({ value }) => value === chosen)) select.value = chosen;
  fillShapes();
}

/** One button for each shape that some size has; choosing it takes the first size of that shape. */
function fillShapes(): void {
  const present = SHAPES.filter(({ name }) => sizes.some((size) => shapeOf(size.width, size.height) === name));
  const radios = present.map(({ name, words, w, h }) => {
    const radio = make('input', { type: 'radio', name: 'shape', value: name });
    radio.addEventListener('change', () => {
      writeSettings(sizes.find((size) => shapeOf(size.width, size.height) === name)!);
    });
    const picture = make('span', { className: 'shape' });
    picture.style.cssText = `width:${w}px;height:${h}px`;
    return make('label', {}, radio, picture, words);
  });
  const fieldset = byId('shapes');
  fieldset.replaceChildren(fieldset.firstElementChild!, ...radios);
  markShape();
}

function markShape(): void {
  const { width, height } = readSettings();
  const chosen = shapeOf(width, height);
  for (const radio of byId('shapes').querySelectorAll<HTMLInputElement>('input')) radio.checked = radio.value === chosen;
}
