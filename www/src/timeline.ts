/**
 * The strip where keyframes and clips lie: each can be dragged, moved with the arrow keys, and removed. What a shorter clip leaves
 * outside stays where it was put, and is said to lie outside: the visitor moves it, removes it, or makes the clip longer.
 */
import { capital, make } from './dom';
import { describeMaterial, drawSmall, type Material } from './material';
import { announce } from './progress';

export interface TimelineItem {
  material: Material;
  /** Its first frame. */
  at: number;
}

interface Shown extends TimelineItem {
  button: HTMLButtonElement;
}

/** Twice the strip's height in the style sheet. */
const THUMB_PX = 88;

export class Timeline {
  readonly box: HTMLElement;
  readonly #track: HTMLElement;
  readonly #about: HTMLElement;
  readonly #outside: HTMLElement;
  readonly #remove: HTMLButtonElement;
  #items: Shown[] = [];
  #selected: Shown | undefined;
  #numFrames = 17;
  #fps = 16;

  constructor(readonly changed: () => void = () => undefined) {
    this.#track = make('div', { className: 'track', id: 'timeline-track' });
    this.#about = make('p', { className: 'fine', id: 'timeline-about' });
    this.#outside = make('p', { className: 'fine warning', id: 'timeline-outside', role: 'status' });
    this.#remove = make('button', { type: 'button', id: 'timeline-remove', className: 'quiet' }, 'Remove');
    this.#remove.addEventListener('click', () => this.#selected && this.#drop(this.#selected));
    this.box = make('div', { id: 'timeline' }, this.#track, make('div', { className: 'row' }, this.#about, this.#remove), this.#outside);
    this.render();
  }

  get items(): readonly TimelineItem[] {
    return this.#items;
  }

  /** What lies outside the clip, in a sentence; empty where nothing does. */
  get outside(): string {
    return outsideWords(
      this.#items.filter((item) => this.#isOutside(item)),
      this.#numFrames,
    );
  }

  /** The clip's length and rate, from the settings. */
  setLength(numFrames: number, fps: number): void {
    if (!(numFrames >= 1) || !(fps > 0)) return;
    [this.#numFrames, this.#fps] = [Math.floor(numFrames), fps];
    this.render();
  }

  /** Puts something on the strip: where it was aimed at, else at the start, the end, or in the largest gap. */
  async add(material: Material, at = this.#free()): Promise<void> {
    const canvas = make('canvas', {});
    await drawSmall(canvas, material.frames[0]!, THUMB_PX);
    const button = make('button', { type: 'button', className: 'key', role: 'slider' }, canvas);
    const item: Shown = { material, at, button };
    this.#items.push(item);
    this.#listen(item);
    this.#select(item);
    announce(`${describeMaterial(material)}: at frame ${at}.`);
    this.#update();
  }

  /** The frame below a point of the screen; undefined where it is not on the strip. */
  frameAt(clientX: number, clientY: number): number | undefined {
    const { left, right, top, bottom, width } = this.#track.getBoundingClientRect();
    if (clientX < left || clientX > right || clientY < top || clientY > bottom) return undefined;
    return Math.min(this.#numFrames - 1, Math.max(0, Math.round(((clientX - left) / width) * (this.#numFrames - 1))));
  }

  clear(): void {
    this.#items = [];
    this.#selected = undefined;
    this.#update();
  }

  #isOutside({ at }: TimelineItem): boolean {
    return at >= this.#numFrames;
  }

  #length({ material: { frames, fps } }: TimelineItem): number {
    return fps === undefined ? frames.length : Math.max(1, Math.round((frames.length * this.#fps) / fps));
  }

  #free(): number {
    const last = this.#numFrames - 1;
    const inside = this.#items.filter((item) => !this.#isOutside(item));
    const taken = inside.map((item) => [item.at, item.at + this.#length(item) - 1] as const).sort(([a], [b]) => a - b);
    const isFree = (frame: number): boolean => taken.every(([from, to]) => frame < from || frame > to);
    if (isFree(0)) return 0;
    if (isFree(last)) return last;
    let [best, gap] = [0, 0];
    for (const [index, [, to]] of taken.entries()) {
      const next = taken[index + 1]?.[0] ?? last;
      if (next - to > gap) [best, gap] = [Math.round((to + next) / 2), next - to];
    }
    return best;
  }

  #move(item: Shown, to: number): void {
    const at = Math.min(this.#numFrames - 1, Math.max(0, to));
    if (at === item.at) return;
    item.at = at;
    this.#update();
  }

  #drop(item: Shown): void {
    const index = this.#items.indexOf(item);
    this.#items.splice(index, 1);
    this.#selected = this.#items[Math.max(0, index - 1)];
    announce('Removed from the timeline.');
    this.#update();
    this.#selected?.button.focus();
  }

  #select(item: Shown): void {
    this.#selected = item;
    this.render();
  }

  #listen(item: Shown): void {
    const { button } = item;
    button.addEventListener('focus', () => this.#select(item));
    button.addEventListener('pointerdown', (event) => {
      button.setPointerCapture(event.pointerId);
      this.#select(item);
    });
    button.addEventListener('pointermove', (event) => {
      if (!button.hasPointerCapture(event.pointerId)) return;
      const { left, width } = this.#track.getBoundingClientRect();
      this.#move(item, Math.round(((event.clientX - left) / width) * (this.#numFrames - 1)));
    });
    button.addEventListener('keydown', (event) => {
      const steps: Record<string, number> = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -4, PageUp: 4 };
      if (event.key === 'Delete' || event.key === 'Backspace') this.#drop(item);
      else if (event.key === 'Home') this.#move(item, 0);
      else if (event.key === 'End') this.#move(item, this.#numFrames - 1);
      else if (steps[event.key] !== undefined) this.#move(item, item.at + steps[event.key]!);
      else return;
      event.preventDefault();
    });
  }

  #update(): void {
    this.render();
    this.changed();
  }

  render(): void {
    const last = Math.max(1, this.#numFrames - 1);
    for (const item of this.#items) {
      const { button, material, at } = item;
      const length = this.#length(item);
      const outside = this.#isOutside(item);
      button.style.setProperty('--at', String(Math.min(1, at / last)));
      button.style.setProperty('--long', String(length > 1 ? (length - 1) / last : 0));
      button.classList.toggle('chosen', item === this.#selected);
      button.classList.toggle('outside', outside);
      button.setAttribute('aria-label', describeMaterial(material));
      button.setAttribute('aria-valuemin', '0');
      button.setAttribute('aria-valuemax', String(Math.max(at, this.#numFrames - 1)));
      button.setAttribute('aria-valuenow', String(at));
      button.setAttribute('aria-valuetext', `frame ${at}, ${(at / this.#fps).toFixed(1)} s${outside ? ', outside the clip' : ''}`);
    }
    // Only what changed: moving an element takes its focus away.
    for (const child of [...this.#track.children]) if (!this.#items.some(({ button }) => button === child)) child.remove();
    for (const { button } of this.#items) if (!button.isConnected || button.parentElement !== this.#track) this.#track.append(button);
    const { material, at = 0 } = this.#selected ?? {};
    const of = at < this.#numFrames ? ` of 0 to ${this.#numFrames - 1}` : '';
    this.#about.textContent = material
      ? `${capital(material.name)}: frame ${at}${of}. Drag it, or use the arrow keys.`
      : `Frames 0 to ${this.#numFrames - 1}, ${(this.#numFrames / this.#fps).toFixed(1)} s`;
    this.#remove.hidden = material === undefined;
    const { outside } = this;
    // Written only when it changed: it is spoken.
    if (this.#outside.textContent !== outside) this.#outside.textContent = outside;
    this.#outside.hidden = outside === '';
  }
}

/** "ball.png at frame 12 lies outside frames 0 to 4: …"; empty where nothing does. */
function outsideWords(items: readonly TimelineItem[], numFrames: number): string {
  if (items.length === 0) return '';
  const which = items.map(({ material: { name }, at }) => `${name} at frame ${at}`).join(' and ');
  const frames = numFrames === 1 ? 'frame 0, the only one' : `frames 0 to ${numFrames - 1}`;
  const [lie, it] = items.length === 1 ? ['lies', 'it'] : ['lie', 'them'];
  return `${capital(which)} ${lie} outside ${frames}: move ${it}, remove ${it}, or make the clip longer.`;
}
