/** What the chosen mode asks for: its places for pictures and clips, its canvas, its few settings. */
import { edges, type Capabilities, type Clip } from 'tabreel';
import { byId, make } from './dom';
import { Easel } from './easel';
import { isVideo, ofClip, readMaterial } from './material';
import { MODES, mode, type Mode } from './modes';
import { Slot } from './slot';
import { Timeline } from './timeline';

const panel = byId('panel');
let shown: () => Clip | undefined = () => undefined;
/** How many frames a second, and how many, the settings say. */
let length = { numFrames: 17, fps: 16 };

const slot = (id: string, words: string, name: string, takes: 'image' | 'clip', changed?: () => void): Slot =>
  new Slot({ id, words, name, takes, ...(takes === 'clip' ? { shown: () => shown() } : {}), ...(changed ? { changed } : {}) });

export const slots = {
  first: slot('first', 'first frame', 'image', 'image', () => renderPanel()),
  last: slot('last', 'last frame', 'lastImage', 'image'),
  clip: slot('clip', 'clip or picture', 'clip', 'clip', () => void adoptBackdrop()),
  second: slot('second', 'second clip', 'second clip', 'clip'),
  subject: slot('subject', 'picture of it', 'references', 'image'),
};

export const mask = new Easel({ id: 'mask', label: 'Paint over what is to be made anew', brush: 120, ink: 'rgb(255 110 50 / 72%)' });
export const sketch = new Easel({ id: 'sketch', label: 'Sketch in white lines', brush: 15, ink: '#fff' });
export const timeline = new Timeline();

/** A number or a choice that only some modes have; `note` says what its value means. */
function option<T extends HTMLInputElement | HTMLSelectElement>(
  id: string,
  words: string,
  control: T,
  note: (value: string) => string = () => '',
): { control: T; box: HTMLElement } {
  control.id = id;
  const about = make('span', { className: 'fine', id: `${id}-note` });
  control.setAttribute('aria-describedby', about.id);
  const write = (): void => {
    about.textContent = note(control.value);
  };
  control.addEventListener('input', write);
  const box = make('div', { className: 'option' }, make('label', { htmlFor: id }, words), control, about);
  box.addEventListener('refresh', write);
  return { control, box };
}
const select = (...choices: [string, string][]): HTMLSelectElement =>
  make('select', {}, ...choices.map(([value, words]) => make('option', { value }, words)));
const number = (max: number, value: number): HTMLInputElement =>
  make('input', { type: 'number', min: '1', max: String(max), step: '1', value: String(value) });
const secs = (frames: string): string => (Number(frames) > 0 ? `${(Number(frames) / length.fps).toFixed(1)} s` : '');
const changeWords = (share: string): string => {
  const value = Number(share);
  return `${Math.round(value * 100)} %: ${value < 0.35 ? 'details' : value < 0.75 ? 'looks, hardly the layout' : 'nearly everything'}`;
};
const share = (): HTMLInputElement => make('input', { type: 'range', min: '0.05', max: '1', step: '0.05', value: '0.6' });

const direction = option('direction', 'Direction', select(['forward', 'Goes on after the end'], ['backward', 'Begins earlier']));
const added = option('added', 'New frames', number(1000, 24), secs);
const between = option('between', 'Frames between', number(200, 8), secs);
const strength = option('strength', 'How much changes', share(), changeWords);
const detail = option('detail', 'How much changes', Object.assign(share(), { value: '0.3' }), changeWords);
const scale = option('scale', 'Larger by', select(['2', '2 times'], ['3', '3 times'], ['4', '4 times']));
const growTo = option('grow-to', 'New size', select());
const hold = option('hold', 'The lines are for', select(['first', 'The first frame'], ['all', 'All frames']));

export interface PanelOptions {
  direction: 'forward' | 'backward';
  added: number;
  between: number;
  strength: number;
  detail: number;
  scale: number;
  hold: 'first' | 'all';
  /** Px; undefined before the model's sizes are known. */
  growTo: { width: number; height: number } | undefined;
}

/** What the options of the panel say. */
export const panelOptions = (): PanelOptions => ({
  direction: direction.control.value as 'forward' | 'backward',
  added: Number(added.control.value),
  between: Number(between.control.value),
  strength: Number(strength.control.value),
  detail: Number(detail.control.value),
  scale: Number(scale.control.value),
  hold: hold.control.value as 'first' | 'all',
  growTo: sizeOf(growTo.control.value),
});

function sizeOf(words: string): { width: number; height: number } | undefined {
  const [width, height] = words.split('x').map(Number);
  return width && height ? { width, height } : undefined;
}

/** What came before a clip needs a model that takes clips; undefined while none is loaded. */
export function adoptDirections(capabilities: Capabilities | undefined): void {
  const backward = direction.control.options[1]!;
  backward.disabled = capabilities?.keyframes === false;
  backward.title = backward.disabled ? `Not with this model: ${capabilities!.why}` : '';
  if (backward.disabled) direction.control.value = 'forward';
}

/** The sizes that a frame can grow to. */
export function adoptGrowSizes(sizes: readonly { width: number; height: number }[]): void {
  const wide = [...sizes].sort((a, b) => Number(a.width === a.height) - Number(b.width === b.height));
  growTo.control.replaceChildren(
    ...wide.map(({ width, height }) => make('option', { value: `${width}x${height}` }, `${width} × ${height} px`)),
  );
}

/** Sets options of the panel, as a recipe says. */
export function setPanelOptions(values: Partial<Record<Exclude<keyof PanelOptions, 'growTo'>, unknown>>): void {
  const controls = { direction, added, between, strength, detail, scale, hold };
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) controls[name as keyof typeof controls].control.value = String(value);
  }
  renderPanel();
}

const trace = make('button', { type: 'button', id: 'sketch-trace', className: 'quiet' }, 'Trace a picture');
const traceFile = make('input', { type: 'file', id: 'sketch-file', accept: 'image/*', hidden: true, ariaLabel: 'Picture to trace' });
const addKey = make('button', { type: 'button', id: 'key-add' }, 'Add a picture or clip');
const addShown = make('button', { type: 'button', id: 'key-shown', className: 'quiet' }, 'Use the clip above');
const keyFile = make('input', {
  type: 'file',
  id: 'key-file',
  accept: 'image/*,video/*',
  multiple: true,
  hidden: true,
  ariaLabel: 'Keyframes',
});
const keyRow = make('div', { className: 'slot', data: { slot: 'key' } }, addKey, addShown, keyFile);

/** The parts of each mode, in order. */
const PARTS: Record<Mode, () => (HTMLElement | false)[]> = {
  text: () => [],
  picture: () => [],
  image: () => [slots.first.box, slots.first.material !== undefined && slots.last.box],
  keyframes: () => [timeline.box, keyRow],
  extend: () => [slots.clip.box, direction.box, added.box],
  loop: () => [slots.clip.box, between.box],
  connect: () => [slots.clip.box, slots.second.box, between.box],
  edit: () => [slots.clip.box, strength.box],
  paint: () => [slots.clip.box, slots.clip.material !== undefined && mask.box],
  sketch: () => [sketch.box, hold.box],
  subject: () => [slots.subject.box],
  grow: () => [slots.clip.box, growTo.box],
  enlarge: () => [slots.clip.box, scale.box, detail.box],
};

/** `clip` gives the one on the stage, `handOver` takes files that were chosen for an element. Fills the panel for the mode. */
export function startPanel(clip: () => Clip | undefined, handOver: (files: readonly File[], target: HTMLElement) => void): void {
  shown = clip;
  sketch.tools.append(trace, traceFile);
  trace.addEventListener('click', () => traceFile.click());
  traceFile.addEventListener('change', () => {
    const file = traceFile.files?.[0];
    traceFile.value = '';
    if (file) handOver([file], sketch.box);
  });
  addKey.addEventListener('click', () => keyFile.click());
  addShown.addEventListener('click', () => {
    const clip = shown();
    if (clip) void timeline.add(ofClip(clip));
  });
  keyFile.addEventListener('change', () => {
    const files = [...(keyFile.files ?? [])];
    keyFile.value = '';
    handOver(files, keyRow);
  });
  renderPanel();
}

/** Call when the mode, the settings or the shown clip changed. */
export function renderPanel(): void {
  const hadFocus = document.activeElement;
  const parts = PARTS[mode()]().filter((part): part is HTMLElement => part !== false);
  const fields = [make('p', { className: 'fine', id: 'mode-hint' }, MODES[mode()].hint), ...parts];
  const same = fields.length === panel.children.length && parts.every((part, i) => panel.children[i + 1] === part);
  if (same) panel.firstElementChild!.textContent = MODES[mode()].hint;
  else panel.replaceChildren(...fields);
  if (!same && hadFocus instanceof HTMLElement && panel.contains(hadFocus)) hadFocus.focus({ preventScroll: true });
  // The stage makes room for a canvas.
  document.body.classList.toggle('drawing', parts.includes(mask.box) || parts.includes(sketch.box));
  for (const one of Object.values(slots)) one.render();
  addShown.hidden = shown() === undefined;
  for (const { box } of [direction, added, between, strength, detail, scale, hold]) box.dispatchEvent(new Event('refresh'));
}

/** The settings say another size or length. */
export function adoptLength(next: { width: number; height: number; numFrames: number; fps: number }): void {
  length = next;
  timeline.setLength(next.numFrames, next.fps);
  if (next.width > 0 && next.height > 0) sketch.setShape(next.width, next.height);
  renderPanel();
}

/** The painted mask lies over the first frame of what it is for. */
async function adoptBackdrop(): Promise<void> {
  const frame = slots.clip.material?.frames[0];
  if (frame) mask.setShape(frame.width, frame.height);
  await mask.setBackdrop(frame);
  renderPanel();
}

/** Lines of a picture, onto the sketch. */
export async function traceOnto(file: File): Promise<void> {
  const { frames } = await readMaterial(file, 'image', 'image');
  const { width, height } = frames[0]!;
  const small = new OffscreenCanvas(
    Math.round((width / Math.max(width, height)) * 160),
    Math.round((height / Math.max(width, height)) * 160),
  );
  const bitmap = await createImageBitmap(new ImageData(frames[0]!.data, width, height));
  const context = small.getContext('2d')!;
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, small.width, small.height);
  bitmap.close();
  const { data } = context.getImageData(0, 0, small.width, small.height);
  sketch.drawing.add({
    kind: 'picture',
    picture: edges({ width: small.width, height: small.height, data: data as Uint8ClampedArray<ArrayBuffer> }),
  });
  sketch.render();
}

/** The places that files go to in this mode when they were aimed at none, in order. */
export function placesFor(file: File): Slot[] {
  const byMode: Partial<Record<Mode, Slot[]>> = {
    image: [slots.first, slots.last],
    connect: [slots.clip, slots.second],
    subject: [slots.subject],
  };
  const places = byMode[mode()] ?? (['extend', 'loop', 'edit', 'paint', 'grow', 'enlarge'].includes(mode()) ? [slots.clip] : []);
  return isVideo(file) && mode() === 'image' ? [] : places;
}
