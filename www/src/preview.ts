/** A small player for what the model will be given; still where the visitor wants calm. */
import type { Moving } from './control';
import { make } from './dom';

export class Preview {
  readonly box: HTMLElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #note: HTMLElement;
  #moving: Moving | undefined;
  /** The frame that is drawn. */
  #index = -1;
  #turn = 0;

  constructor(id: string) {
    this.#canvas = make('canvas', { id, role: 'img' });
    this.#note = make('p', { className: 'fine', id: `${id}-note`, role: 'status' });
    this.box = make('div', { className: 'preview', hidden: true }, this.#canvas, this.#note);
  }

  /** `words` say what is seen, `note` what is to be known about it. */
  show(moving: Moving | undefined, words = '', note = ''): void {
    this.#moving = moving;
    this.#index = -1;
    this.box.hidden = moving === undefined;
    this.#canvas.setAttribute('aria-label', words);
    this.#note.textContent = note;
    this.#note.hidden = note === '';
    this.play();
  }

  /** Call when its box was put on the page: it rests while it is not there. */
  play(): void {
    cancelAnimationFrame(this.#turn);
    this.#turn = requestAnimationFrame((now) => this.#draw(now));
  }

  #draw(now: number): void {
    const moving = this.#moving;
    if (moving === undefined || !this.box.isConnected) return;
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const index = calm ? 0 : Math.floor((now * moving.fps) / 1000) % moving.count;
    if (index !== this.#index) {
      this.#index = index;
      const { width, height, data } = moving.frame(index);
      Object.assign(this.#canvas, { width, height });
      this.#canvas.style.setProperty('--ratio', String(width / height));
      this.#canvas.getContext('2d')!.putImageData(new ImageData(data, width, height), 0, 0);
    }
    if (moving.count > 1 && !calm) this.play();
  }
}
