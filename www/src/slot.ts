/** A place for one picture or clip: chosen, dropped, pasted, or the clip that is shown; with a thumbnail and a button to remove it. */
import type { Clip } from 'tabreel';
import { capital, make } from './dom';
import { hideError, showError } from './error';
import { asError, describeMaterial, drawSmall, ofClip, readMaterial, type Material } from './material';
import { announce } from './progress';

/** Twice the thumbnail's height in the style sheet, for sharp screens. */
const THUMB_PX = 112;

export interface SlotOptions {
  /** Prefix of its elements' ids. */
  id: string;
  /** "first frame" */
  words: string;
  /** What errors call it. */
  name: string;
  takes: 'image' | 'clip';
  /** The clip on the stage, to be taken with a click; only for clips. */
  shown?: () => Clip | undefined;
  changed?: () => void;
}

export class Slot {
  readonly box: HTMLElement;
  readonly #add: HTMLButtonElement;
  readonly #useShown: HTMLButtonElement;
  readonly #given: HTMLElement;
  readonly #thumb: HTMLCanvasElement;
  readonly #about: HTMLElement;
  readonly #remove: HTMLButtonElement;
  /** What was changed on the way, such as an animation of which this browser reads the first picture alone. */
  readonly #warning = make('p', { className: 'fine warning', hidden: true });
  #material: Material | undefined;
  /** Counts what was put here, so that of two files the later one stays and not the slower one. */
  #turn = 0;
  /** The page shows an error of ours. */
  #complained = false;

  constructor(readonly options: SlotOptions) {
    const { id, words, takes } = options;
    this.#add = make('button', { type: 'button', id: `${id}-add` }, `Add a ${words}`);
    this.#useShown = make('button', { type: 'button', id: `${id}-shown`, className: 'quiet' }, 'Use the clip above');
    this.#thumb = make('canvas', { id: `${id}-thumb`, role: 'img' });
    this.#about = make('span', { className: 'fine' }, capital(words));
    this.#remove = make('button', { type: 'button', id: `${id}-remove`, className: 'quiet', ariaLabel: `Remove the ${words}` }, 'Remove');
    this.#given = make('div', { className: 'given' }, this.#thumb, this.#about, this.#remove);
    const accept = takes === 'image' ? 'image/*' : 'video/*,image/*';
    const file = make('input', { type: 'file', id: `${id}-file`, accept, hidden: true, ariaLabel: capital(words) });
    this.box = make('div', { className: 'slot', data: { slot: id } }, this.#add, this.#useShown, this.#given, this.#warning, file);
    this.#add.addEventListener('click', () => file.click());
    file.addEventListener('change', () => {
      if (file.files?.[0]) void this.put(file.files[0]);
      // The same file may be chosen again after it was removed.
      file.value = '';
    });
    this.#useShown.addEventListener('click', () => {
      const clip = options.shown?.();
      if (clip) void this.set(ofClip(clip));
    });
    this.#remove.addEventListener('click', () => this.clear());
    this.render();
  }

  get material(): Material | undefined {
    return this.#material;
  }

  /** Takes a file; one that does not decode changes nothing and is answered in words. */
  async put(file: File): Promise<void> {
    const turn = ++this.#turn;
    try {
      const material = await readMaterial(file, this.options.takes, this.options.name);
      if (turn === this.#turn) await this.set(material);
    } catch (thrown) {
      if (turn !== this.#turn) return;
      this.#complained = true;
      showError(asError(thrown), undefined);
    }
  }

  async set(material: Material): Promise<void> {
    const turn = ++this.#turn;
    await drawSmall(this.#thumb, material.frames[0]!, THUMB_PX);
    if (turn !== this.#turn) return;
    this.#material = material;
    const about = `${capital(this.options.words)}: ${describeMaterial(material)}`;
    this.#thumb.setAttribute('aria-label', about);
    this.#given.title = about;
    const length = material.frames.length > 1 ? `, ${material.frames.length} frames` : '';
    this.#about.textContent = `${capital(this.options.words)}${length}`;
    this.#warning.textContent = material.warnings.map((words) => `${capital(words)}.`).join(' ');
    if (this.#complained) hideError();
    this.#complained = false;
    this.render();
    this.options.changed?.();
    announce([about, ...material.warnings].map((words) => `${words}.`).join(' '));
  }

  clear(): void {
    this.#turn++;
    this.#material = undefined;
    this.render();
    this.options.changed?.();
    announce(`The ${this.options.words} was removed.`);
  }

  render(): void {
    const hadFocus = this.box.contains(document.activeElement);
    const has = this.#material !== undefined;
    this.#add.hidden = has;
    this.#useShown.hidden = has || this.options.shown?.() === undefined;
    this.#given.hidden = !has;
    this.#warning.hidden = !this.#material?.warnings.length;
    // A focused button that vanishes takes the focus with it.
    if (hadFocus && !(document.activeElement as HTMLElement).offsetParent) (has ? this.#remove : this.#add).focus({ preventScroll: true });
  }
}
