/** What the chosen mode asks for: its places for pictures and clips, its canvas, its few settings. */
import { edges, taskSize, type Capabilities, type Clip, type SizedModel } from 'tabreel';
import { controlOf, maskedOf, type Length, type Moving } from './control';
import { byId, make } from './dom';
import { Easel } from './easel';
import { showError } from './error';
import { GROUND, fitWords, fitted, type Fit } from './fit';
import { asError, isVideo, ofClip, readMaterial, type Material } from './material';
import { MODES, mode, type Mode } from './modes';
import {
  added,
  between,
  classLabel,
  detail,
  direction,
  fit,
  growTo,
  hold,
  lines,
  panelOptions,
  refreshOptions,
  region,
  sayFit,
  scale,
  seam,
  steer,
  strength,
} from './panel-options';
import { Preview } from './preview';
import type { Size } from './size';
import { Slot } from './slot';
import { Timeline } from './timeline';

const panel = byId('panel');
let shown: () => Clip | undefined = () => undefined;
/** The clip to be made, as the settings say. */
let wanted: Size & Length = { width: 128, height: 128, numFrames: 17, fps: 16 };
/** What is known of the model's sizes; undefined before its card was read. */
let model: SizedModel | undefined;
/** What the loaded model can be given; undefined while none is loaded. */
let can: Capabilities | undefined;

/** Whether the loaded model makes only what lies between two pictures. */
export const needsLastImage = (): boolean => can?.needsLastImage === true;
/** Whether the model makes clips of a prompt alone; one that is not loaded yet may. */
export const takesText = (): boolean => can?.text !== false;

/** `name` is what errors call it; `fromStage` offers the clip that is shown. */
const slot = (
  id: string,
  words: string,
  name: string,
  takes: 'image' | 'clip',
  changed: () => void = renderPanel,
  fromStage = takes === 'clip',
): Slot => new Slot({ id, words, name, takes, ...(fromStage ? { shown: () => shown() } : {}), changed });

export const slots = {
  first: slot('first', 'first frame', 'image', 'image'),
  last: slot('last', 'last frame', 'lastImage', 'image'),
  clip: slot('clip', 'clip or picture', 'clip', 'clip', () => void adoptBackdrop()),
  second: slot('second', 'second clip', 'second clip', 'clip'),
  control: slot('control', 'clip or picture to follow', 'control', 'clip', () => void adoptControl()),
  maskClip: slot('mask-clip', 'mask clip', 'mask', 'clip', () => void adoptMask(), false),
  subject: slot('subject', 'picture of it', 'references', 'image'),
};

export const mask = new Easel({ id: 'mask', label: 'Paint over what is to be made anew', brush: 120, ink: 'rgb(255 110 50 / 72%)' });
export const sketch = new Easel({ id: 'sketch', label: 'Sketch in white lines', brush: 15, ink: '#fff' });
export const timeline = new Timeline(() => renderPanel());
const followed = new Preview('control-preview');
const masked = new Preview('mask-preview');
/** What the model follows in place of a drawing, prepared for the settings as they are. */
let control: Moving | undefined;

export const controlClip = (): Moving | undefined => control;

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

const has = ({ material }: Slot): boolean => material !== undefined;
const draws = (): boolean => lines.control.value === 'draw';
/** A clip has lines for every frame; a drawing or a picture may be for the first alone. */
const isStill = (): boolean => draws() || slots.control.material?.frames.length === 1;

/** The parts of each mode, in order. */
const PARTS: Record<Mode, () => (HTMLElement | false)[]> = {
  text: () => [],
  picture: () => [],
  image: () => [slots.first.box, (needsLastImage() || has(slots.first)) && slots.last.box],
  keyframes: () => [timeline.box, keyRow],
  extend: () => [slots.clip.box, direction.box, added.box],
  loop: () => [slots.clip.box, between.box],
  connect: () => [slots.clip.box, slots.second.box, between.box],
  edit: () => [slots.clip.box, strength.box],
  paint: () => [
    slots.clip.box,
    has(slots.clip) && slots.maskClip.box,
    has(slots.clip) && can?.source !== false && region.box,
    has(slots.clip) && seam.box,
    has(slots.clip) && (has(slots.maskClip) ? masked.box : mask.box),
  ],
  sketch: () => [
    lines.box,
    !draws() && slots.control.box,
    isStill() && hold.box,
    steer.box,
    draws() ? sketch.box : has(slots.control) && followed.box,
  ],
  subject: () => [slots.subject.box],
  grow: () => [slots.clip.box, growTo.box, seam.box],
  enlarge: () => [slots.clip.box, scale.box, detail.box],
  class: () => [classLabel.box],
};

/** What is given in each mode whose shape counts: a frame that grows, one that is enlarged and a subject keep their own. */
const GIVEN: Partial<Record<Mode, () => (Material | undefined)[]>> = {
  image: () => [slots.first.material, slots.last.material],
  keyframes: () => timeline.items.map(({ material }) => material),
  extend: () => [slots.clip.material],
  loop: () => [slots.clip.material],
  connect: () => [slots.clip.material, slots.second.material],
  edit: () => [slots.clip.material],
  paint: () => [slots.clip.material],
  sketch: () => [draws() ? undefined : slots.control.material],
};

/** The size of what is made: a task's hangs on its clip, all else on the settings. */
function madeSize(): Size {
  const own = slots.clip.material?.frames[0];
  const isTask = ['extend', 'loop', 'connect', 'edit', 'paint'].includes(mode());
  return isTask && own && model ? taskSize(own, model) : wanted;
}

/** The words of the choice between cropping and padding; undefined where there is nothing to choose. */
function fitChoice(): ReturnType<typeof fitWords> {
  const given = GIVEN[mode()]?.().filter((one) => one !== undefined) ?? [];
  return fitWords(given, madeSize(), GROUND[mode()]);
}

/** What was chosen of cropping and padding; undefined where there was nothing to choose. */
export const chosenFit = (): Fit | undefined => (fitChoice() ? panelOptions().fit : undefined);

/** The size to which what is given is padded; undefined where it is cropped or has the shape already. */
export const padTo = (): Size | undefined => (chosenFit() === 'contain' ? madeSize() : undefined);

/** `clip` gives the one on the stage, `handOver` takes files that were chosen for an element. Fills the panel for the mode. */
export function startPanel(clip: () => Clip | undefined, handOver: (files: readonly File[], target: HTMLElement) => void): void {
  shown = clip;
  for (const { control } of [lines, fit]) {
    control.addEventListener('input', () => {
      renderPanel();
      void adoptControl();
    });
  }
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
  const choice = fitChoice();
  if (choice) sayFit(choice);
  const parts = [...PARTS[mode()](), choice !== undefined && fit.box].filter((part): part is HTMLElement => part !== false);
  const fields = [make('p', { className: 'fine', id: 'mode-hint' }, MODES[mode()].hint), ...parts];
  const same = fields.length === panel.children.length && parts.every((part, i) => panel.children[i + 1] === part);
  if (same) panel.firstElementChild!.textContent = MODES[mode()].hint;
  else panel.replaceChildren(...fields);
  if (!same && hadFocus instanceof HTMLElement && panel.contains(hadFocus)) hadFocus.focus({ preventScroll: true });
  // The stage makes room for a canvas.
  document.body.classList.toggle(
    'drawing',
    [mask, sketch, masked, followed].some(({ box }) => parts.includes(box)),
  );
  for (const preview of [masked, followed]) preview.play();
  for (const one of Object.values(slots)) one.render();
  addShown.hidden = shown() === undefined;
}

/** The settings say something else. */
export function adoptSettings(next: Size & Length & { numSteps: number }): void {
  refreshOptions(next);
  timeline.setLength(next.numFrames, next.fps);
  // What is half typed says nothing.
  if (next.width >= 1 && next.height >= 1 && next.numFrames >= 1 && next.fps > 0) {
    wanted = { ...next, numFrames: Math.floor(next.numFrames) };
    sketch.setShape(next.width, next.height);
    void adoptControl();
    void adoptMask();
  }
  renderPanel();
}

/** The sizes of the chosen model, of which a task takes one. */
export function adoptModelSizes(next: SizedModel): void {
  model = next;
  renderPanel();
}

/** What the loaded model needs, and can do without; undefined while none is loaded. */
export function adoptNeeds(capabilities: Capabilities | undefined): void {
  can = capabilities;
  renderPanel();
}

/** Of two that are prepared at once the later one stays. */
let controlTurn = 0;
let maskTurn = 0;

/** A clip was given for a sketch: its edges are followed, unless it was said to be a control clip. */
export function followClip(): void {
  if (draws()) lines.set('edges');
  renderPanel();
}

/** Prepares what the model follows, and shows it. */
async function adoptControl(): Promise<void> {
  const turn = ++controlTurn;
  const { material } = slots.control;
  const kind = panelOptions().lines;
  control = undefined;
  if (material && kind !== 'draw') {
    try {
      const made = await controlOf(material, kind, wanted, panelOptions().fit);
      if (turn !== controlTurn) return;
      control = made.control;
      const frames = control.count === 1 ? 'a picture' : `${control.count} frames`;
      followed.show(control, `What the model follows: ${frames}${kind === 'edges' ? ' of edges' : ''}`, made.note);
    } catch (thrown) {
      showError(asError(thrown), undefined);
    }
  }
  renderPanel();
}

/** Shows which part of the clip a mask clip marks. */
async function adoptMask(): Promise<void> {
  const turn = ++maskTurn;
  const [clip, marks] = [slots.clip.material, slots.maskClip.material];
  if (clip && marks) {
    try {
      const { shown, note } = await maskedOf(clip, marks, wanted.fps);
      if (turn !== maskTurn) return;
      masked.show(shown, 'The clip, with what is made anew in orange', note);
    } catch (thrown) {
      showError(asError(thrown), undefined);
    }
  }
  renderPanel();
}

/** The painted mask lies over the first frame of what it is for. */
async function adoptBackdrop(): Promise<void> {
  const frame = slots.clip.material?.frames[0];
  if (frame) mask.setShape(frame.width, frame.height);
  await mask.setBackdrop(frame);
  await adoptMask();
}

/** The longer side of a picture that is traced: edges of more pixels would be thinner than a pen's line. */
const TRACED_PX = 160;

/** Lines of a picture, onto the sketch. */
export async function traceOnto(file: File): Promise<void> {
  const { frames } = await readMaterial(file, 'image', 'image');
  const { width, height } = frames[0]!;
  const scale = TRACED_PX / Math.max(width, height);
  const small = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  sketch.drawing.add({ kind: 'picture', picture: edges(fitted(frames[0]!, small, 'cover', '#fff')) });
  sketch.render();
}

/** The places that files go to in this mode when they were aimed at none, in order. */
export function placesFor(file: File): Slot[] {
  const byMode: Partial<Record<Mode, Slot[]>> = {
    image: [slots.first, slots.last],
    connect: [slots.clip, slots.second],
    subject: [slots.subject],
    sketch: [slots.control],
  };
  const places = byMode[mode()] ?? (['extend', 'loop', 'edit', 'paint', 'grow', 'enlarge'].includes(mode()) ? [slots.clip] : []);
  return isVideo(file) && mode() === 'image' ? [] : places;
}
