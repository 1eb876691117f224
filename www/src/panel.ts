/** What the chosen mode asks for: its places for pictures and clips, its canvas, its few settings. */
import { edges, type Clip } from 'tabreel';
import { byId, make } from './dom';
import { Easel } from './easel';
import { isVideo, ofClip, readMaterial } from './material';
import { MODES, mode, type Mode } from './modes';
import { added, between, detail, direction, growTo, hold, refreshOptions, scale, strength } from './panel-options';
import { Slot } from './slot';
import { Timeline } from './timeline';

const panel = byId('panel');
let shown: () => Clip | undefined = () => undefined;

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
}

/** The settings say something else. */
export function adoptSettings(next: { width: number; height: number; numFrames: number; fps: number; numSteps: number }): void {
  refreshOptions(next);
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
