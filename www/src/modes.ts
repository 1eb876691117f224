/** What to make: one mode at a time, each asking just for what it needs. */
import type { Capabilities } from 'tabreel';
import { byId, make } from './dom';

export type Mode =
  | 'text'
  | 'image'
  | 'keyframes'
  | 'extend'
  | 'loop'
  | 'connect'
  | 'edit'
  | 'paint'
  | 'sketch'
  | 'picture'
  | 'subject'
  | 'grow'
  | 'enlarge'
  | 'class';

interface ModeInfo {
  words: string;
  /** What it does, in a sentence. */
  hint: string;
  /** True if a model with these capabilities can. */
  can(capabilities: Capabilities): boolean;
}

/** On from what is there, into the open. */
const goesOn = ({ image, needsLastImage, keyframes }: Capabilities): boolean => keyframes || (image && !needsLastImage);
/** From one known end to the other: clips anywhere, or a first and a last frame. */
const bridges = ({ image, lastImage, keyframes }: Capabilities): boolean => keyframes || (image && lastImage);

export const MODES: Record<Mode, ModeInfo> = {
  text: { words: 'Text', hint: 'From words alone. Drop or paste a picture or a clip to start from it.', can: ({ text }) => text },
  image: {
    words: 'Image',
    hint: 'A picture begins to move. A last frame says where it ends.',
    can: ({ image, keyframes }) => image || keyframes,
  },
  keyframes: {
    words: 'Keyframes',
    hint: 'Pictures and clips wherever you put them; what lies between is made.',
    can: ({ keyframes }) => keyframes,
  },
  extend: { words: 'Extend', hint: 'A clip goes on, or gets a beginning.', can: goesOn },
  loop: {
    words: 'Loop',
    hint: 'A clip gets frames that lead from its end back to its start. Without one, the prompt makes it first.',
    can: bridges,
  },
  connect: { words: 'Connect', hint: 'One clip runs into another.', can: bridges },
  edit: { words: 'Edit', hint: 'A clip is made anew as the prompt says.', can: ({ source }) => source },
  paint: {
    words: 'Paint',
    hint: 'What you paint over, or a mask clip marks white, is made anew; the rest stays.',
    can: ({ mask, keyframes }) => mask && keyframes,
  },
  sketch: { words: 'Sketch', hint: 'Lines become the scene: drawn here, or taken from a clip or picture.', can: ({ control }) => control },
  picture: { words: 'Picture', hint: 'A single frame from words.', can: ({ text }) => text },
  subject: { words: 'Subject', hint: 'The thing in your picture appears in the clip.', can: ({ reference }) => reference },
  grow: { words: 'Grow', hint: 'The frame gets another shape; what was outside is made.', can: ({ mask, keyframes }) => mask && keyframes },
  enlarge: { words: 'Enlarge', hint: 'More pixels, with details made anew.', can: ({ source }) => source },
  class: { words: 'Class', hint: 'What the model shows in place of what a prompt says.', can: ({ classes }) => classes > 0 },
};

const names = Object.keys(MODES) as Mode[];

/** "Modes: Text, Edit. Not Image, …: it was trained on text alone." */
export function modesOf(capabilities: Capabilities): string {
  const words = (possible: boolean): string =>
    names
      // Only few models have classes: the others' visitors need not read of them.
      .filter((name) => MODES[name].can(capabilities) === possible && (possible || name !== 'class'))
      .map((name) => MODES[name].words)
      .join(', ');
  const [can, cannot] = [words(true), words(false)];
  const why = capabilities.why && `: ${capabilities.why}`;
  return [can && `Modes: ${can}.`, cannot && `Not ${cannot}${why}.`].filter(Boolean).join(' ');
}
const box = byId('modes');
const radios = new Map<Mode, HTMLInputElement>();
let current: Mode = 'text';
let onChange: () => void = () => undefined;

export const mode = (): Mode => current;

/** Builds the chooser; `changed` is called whenever another mode is chosen, by the visitor or by the page. */
export function startModes(changed: () => void): void {
  onChange = changed;
  for (const name of names) {
    const radio = make('input', { type: 'radio', name: 'mode', value: name, id: `mode-${name}`, checked: name === current });
    radio.addEventListener('change', () => setMode(name));
    radios.set(name, radio);
    box.append(make('label', { className: 'mode' }, radio, MODES[name].words));
    offer(name, radio, name !== 'class');
  }
  onChange();
}

/** Chooses a mode; one that there is not, or that the model cannot do, is left. */
export function setMode(name: Mode): void {
  const radio = radios.get(name);
  if (radio === undefined || radio.disabled) return;
  current = name;
  radio.checked = true;
  radio.parentElement!.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  onChange();
}

/** What a model that is not loaded yet can do, it says then. */
export function allowModes(): void {
  for (const [name, radio] of radios) offer(name, radio, name !== 'class');
}

/** Lets a mode be chosen or not, and says why not: here, and on the buttons elsewhere that lead to it. */
function offer(name: Mode, radio: HTMLInputElement, possible: boolean, why = ''): void {
  const label = radio.parentElement!;
  radio.disabled = !possible;
  // Only few models have classes: the others' visitors need not read of them.
  label.hidden = name === 'class' && !possible;
  const refusal = possible ? '' : `Not with this model: ${why || 'it cannot'}`;
  label.title = refusal || MODES[name].hint;
  for (const button of document.querySelectorAll<HTMLButtonElement>(`button[data-mode="${name}"]`)) {
    button.disabled = !possible;
    button.title = refusal;
  }
}

/** Why a mode cannot be chosen, in a sentence; empty where it can. */
export function refusalOf(name: Mode): string {
  const radio = radios.get(name);
  return radio?.disabled ? `${MODES[name].words}: ${radio.parentElement!.title}` : '';
}

/** What the loaded model cannot do is shown, and says why. */
export function adoptModes(capabilities: Capabilities): void {
  for (const [name, radio] of radios) offer(name, radio, MODES[name].can(capabilities), capabilities.why);
  if (radios.get(current)!.disabled) setMode(names.find((name) => !radios.get(name)!.disabled) ?? current);
}
