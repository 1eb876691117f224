/** The few settings that only some modes have. */
import type { Capabilities, ModelInfo } from 'tabreel';
import { make } from './dom';
import type { Fit } from './fit';

/** What the settings say: frames a second, and steps. */
let settings = { fps: 16, numSteps: 12 };

interface Option<T> {
  control: T;
  box: HTMLElement;
  set(value: string): void;
  /** Writes the note anew: what it says may hang on the settings. */
  refresh(): void;
}

/** A number or a choice; `note` says what its value means. */
function option<T extends HTMLInputElement | HTMLSelectElement>(
  id: string,
  words: string,
  control: T,
  note: (value: string) => string = () => '',
): Option<T> {
  control.id = id;
  const about = make('span', { className: 'fine', id: `${id}-note` });
  control.setAttribute('aria-describedby', about.id);
  const refresh = (): void => {
    about.textContent = note(control.value);
  };
  const set = (value: string): void => {
    control.value = value;
  };
  control.addEventListener('input', refresh);
  const box = make('div', { className: 'option' }, make('label', { htmlFor: id }, words), control, about);
  return { control, box, set, refresh };
}
const select = (...choices: [string, string][]): HTMLSelectElement =>
  make('select', {}, ...choices.map(([value, words]) => make('option', { value }, words)));
const number = (max: number, value: number): HTMLInputElement =>
  make('input', { type: 'number', min: '1', max: String(max), step: '1', value: String(value) });
const secs = (frames: string): string => (Number(frames) > 0 ? `${(Number(frames) / settings.fps).toFixed(1)} s` : '');

/** Of the sliders for strength. */
const SHARE_STEP = 0.05;

/** A strength from the least that leaves a step to be made anew in; what is less, the package refuses. */
function share(id: string, usual: string): Option<HTMLInputElement> {
  const control = make('input', { type: 'range', max: '1', step: String(SHARE_STEP) });
  const plain = option(id, 'How much changes', control, (text) => {
    const value = Number(text);
    const words = value < 0.35 ? 'details' : value < 0.75 ? 'looks, hardly the layout' : value < 1 ? 'nearly everything' : 'everything';
    const isLeast = text === control.min && value > SHARE_STEP;
    return `${Math.round(value * 100)} %: ${words}${isLeast ? `; ${settings.numSteps} steps allow no less` : ''}`;
  });
  // More steps give back what fewer did not allow.
  let wanted = usual;
  control.addEventListener('input', () => (wanted = control.value));
  const refresh = (): void => {
    const least = Math.ceil(1 / (settings.numSteps * SHARE_STEP) - 1e-9) * SHARE_STEP;
    control.min = String(Number(Math.min(1, least).toFixed(2)));
    control.value = wanted;
    plain.refresh();
  };
  return { ...plain, refresh, set: (value) => (wanted = value) };
}

export const direction = option('direction', 'Direction', select(['forward', 'Goes on after the end'], ['backward', 'Begins earlier']));
export const added = option('added', 'New frames', number(1000, 24), secs);
export const between = option('between', 'Frames between', number(200, 8), secs);
export const strength = share('strength', '0.6');
export const detail = share('detail', '0.3');
/** Of what is painted over. */
export const region = share('region', '1');
const slider = (max: string, step: string, value: string): HTMLInputElement => make('input', { type: 'range', min: '0', max, step, value });
/** How strongly lines steer, where nothing is said as trained. */
export const steer = option('steer', 'How closely it is followed', slider('2', '0.1', '1'), (text) => {
  const value = Number(text);
  return `${Math.round(value * 100)} %: ${value === 1 ? 'as trained' : value < 1 ? 'more loosely' : 'more closely'}`;
});
/** How far colours are evened out beside what stands, px; the package's own where nothing is said. */
export const seam = option('seam', 'Soft edge', slider('64', '1', '4'), (text) => `${text} px${text === '0' ? ': a hard edge' : ''}`);
export const scale = option('scale', 'Larger by', select(['2', '2 times'], ['3', '3 times'], ['4', '4 times']));
export const growTo = option('grow-to', 'New size', select());
export const classLabel = option('class-label', 'What it shows', select());
export const hold = option('hold', 'They are for', select(['first', 'The first frame'], ['all', 'All frames']));

export const lines = option(
  'lines',
  'The lines are',
  select(['draw', 'Drawn here'], ['edges', 'Edges of a clip or picture'], ['ready', 'A control clip, as it is']),
);
export const fit = option('fit', '', select(['cover', ''], ['contain', '']));

/** Says what the choice is about; it is shown only where there is one. */
export function sayFit({ label, cover, contain }: Record<'label' | Fit, string>): void {
  fit.box.querySelector('label')!.textContent = label;
  for (const [index, words] of [cover, contain].entries()) fit.control.options[index]!.textContent = words;
}

/** Those that a recipe may set. */
const OPTIONS = { direction, added, between, strength, detail, region, steer, seam, scale, hold, fit, classLabel, growTo };

export interface PanelOptions {
  direction: 'forward' | 'backward';
  added: number;
  between: number;
  strength: number;
  detail: number;
  region: number;
  steer: number;
  /** Px. */
  seam: number;
  scale: number;
  hold: 'first' | 'all';
  lines: 'draw' | 'edges' | 'ready';
  fit: Fit;
  /** Its number; undefined by a model of text. */
  classLabel: number | undefined;
  /** Px; undefined before the model's sizes are known. */
  growTo: { width: number; height: number } | undefined;
}

/** What the options of the panel say. */
export const panelOptions = (): PanelOptions => ({
  direction: direction.control.value as PanelOptions['direction'],
  added: Number(added.control.value),
  between: Number(between.control.value),
  strength: Number(strength.control.value),
  detail: Number(detail.control.value),
  region: Number(region.control.value),
  steer: Number(steer.control.value),
  seam: Number(seam.control.value),
  scale: Number(scale.control.value),
  hold: hold.control.value as PanelOptions['hold'],
  lines: lines.control.value as PanelOptions['lines'],
  fit: fit.control.value as Fit,
  classLabel: classLabel.control.value === '' ? undefined : Number(classLabel.control.value),
  growTo: sizeOf(growTo.control.value),
});

function sizeOf(words: string): { width: number; height: number } | undefined {
  const [width, height] = words.split('x').map(Number);
  return width && height ? { width, height } : undefined;
}

/** Sets options of the panel, as a recipe says. */
export function setPanelOptions(values: Partial<Record<keyof typeof OPTIONS, unknown>>): void {
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) OPTIONS[name as keyof typeof OPTIONS].set(String(value));
  }
  refreshOptions();
  // A control clip is prepared by it.
  if (values.fit !== undefined) fit.control.dispatchEvent(new Event('input'));
}

/** Call when the settings changed. */
export function refreshOptions(next: Partial<typeof settings> = {}): void {
  const { fps = settings.fps, numSteps = settings.numSteps } = next;
  // What is half typed says nothing.
  settings = { fps: fps > 0 ? fps : settings.fps, numSteps: numSteps >= 1 ? numSteps : settings.numSteps };
  for (const one of Object.values(OPTIONS)) one.refresh();
}

/** What came before a clip needs a model that takes clips; undefined while none is loaded. */
export function adoptDirections(capabilities: Capabilities | undefined): void {
  const backward = direction.control.options[1]!;
  backward.disabled = capabilities?.keyframes === false;
  backward.title = backward.disabled ? `Not with this model: ${capabilities!.why}` : '';
  if (backward.disabled) direction.control.value = 'forward';
}

/** The classes of a model that shows them. */
export function adoptClasses({ labels, capabilities: { classes } }: Pick<ModelInfo, 'labels' | 'capabilities'>): void {
  const names = Array.from({ length: classes }, (_, at) =>
    make('option', { value: String(at) }, labels[at] ? `${at}: ${labels[at]}` : String(at)),
  );
  classLabel.control.replaceChildren(...names);
}

/** The sizes that a frame can grow to. */
export function adoptGrowSizes(sizes: readonly { width: number; height: number }[]): void {
  const wide = [...sizes].sort((a, b) => Number(a.width === a.height) - Number(b.width === b.height));
  growTo.control.replaceChildren(
    ...wide.map(({ width, height }) => make('option', { value: `${width}x${height}` }, `${width} × ${height} px`)),
  );
}
