/** A canvas to draw on: a mask over a picture, or white lines on black. By pointer, by touch and by keyboard. */
import type { Frame } from 'tabreel';
import { make } from './dom';
import { Drawing, paintMarks } from './drawing';
import { announce } from './progress';

/** The longer side of what is drawn, px: enough for smooth lines at every size that a model makes here. */
const SIDE_PX = 512;
/** How far an arrow key moves the pen, in shares of the width. */
const KEY_STEP = 1 / 64;

export interface EaselOptions {
  id: string;
  /** What the canvas is, for screen readers. */
  label: string;
  /** Brush size at first, in thousandths of the width. */
  brush: number;
  /** What the brush looks like over the picture. */
  ink: string;
  changed?: () => void;
}

export class Easel {
  readonly box: HTMLElement;
  readonly drawing = new Drawing();
  readonly tools: HTMLElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #layer = new OffscreenCanvas(SIDE_PX, SIDE_PX).getContext('2d', { willReadFrequently: true })!;
  readonly #size: HTMLInputElement;
  readonly #erase: HTMLButtonElement;
  readonly #undo: HTMLButtonElement;
  readonly #redo: HTMLButtonElement;
  readonly #clear: HTMLButtonElement;
  #backdrop: ImageBitmap | undefined;
  /** The stroke under way. */
  #stroke: [number, number][] | undefined;
  /** Where the keyboard's pen is, in shares of the width. */
  #pen: [number, number] = [0.5, 0.5];
  #penShows = false;

  constructor(readonly options: EaselOptions) {
    const { id, label, brush } = options;
    const button = (name: string, words: string, act: () => void): HTMLButtonElement => {
      const made = make('button', { type: 'button', id: `${id}-${name}`, className: 'quiet' }, words);
      made.addEventListener('click', act);
      return made;
    };
    this.#canvas = make('canvas', { id: `${id}-canvas`, className: 'easel', tabIndex: 0, role: 'application' });
    this.#canvas.setAttribute('aria-label', `${label}. Arrow keys move the pen, Space puts it down and lifts it, Ctrl Z takes back.`);
    this.#size = make('input', { type: 'range', id: `${id}-size`, min: '5', max: '300', step: '5', value: String(brush) });
    this.#size.setAttribute('aria-label', 'Brush size');
    this.#erase = button('erase', 'Erase', () => this.#setErase(this.#erase.getAttribute('aria-pressed') !== 'true'));
    this.#erase.setAttribute('aria-pressed', 'false');
    this.#undo = button('undo', 'Undo', () => this.#change(() => this.drawing.undo()));
    this.#redo = button('redo', 'Redo', () => this.#change(() => this.drawing.redo()));
    this.#clear = button('clear', 'Clear', () => this.#change(() => this.drawing.add({ kind: 'clear' })));
    const brushRow = make('label', { className: 'brush fine' }, 'Brush', this.#size);
    this.tools = make('div', { className: 'tools' }, brushRow, this.#erase, this.#undo, this.#redo, this.#clear);
    this.box = make('div', { className: 'easel-box' }, this.#canvas, this.tools);
    this.#listen();
    this.setShape(1, 1);
  }

  /** The shape of the frame that is drawn on; what was drawn keeps its place. */
  setShape(width: number, height: number): void {
    const scale = SIDE_PX / Math.max(width, height);
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    if (this.#canvas.width === w && this.#canvas.height === h && this.#layer.canvas.width === w) return this.render();
    for (const canvas of [this.#canvas, this.#layer.canvas]) Object.assign(canvas, { width: w, height: h });
    this.#canvas.style.setProperty('--ratio', String(w / h));
    this.render();
  }

  /** The picture below the mask; a new one starts a new drawing. */
  async setBackdrop(frame: Frame | undefined): Promise<void> {
    const next = frame && (await createImageBitmap(new ImageData(frame.data, frame.width, frame.height)));
    this.#backdrop?.close();
    this.#backdrop = next;
    this.drawing.reset();
    this.render();
  }

  /** White where something was drawn, on black; undefined where nothing is. */
  result(): Frame | undefined {
    paintMarks(this.#layer, this.drawing.marks);
    const { width, height } = this.#layer.canvas;
    const { data } = this.#layer.getImageData(0, 0, width, height);
    let drawn = false;
    for (let i = 0; i < data.length; i += 4) {
      const value = data[i + 3]! > 127 ? 255 : 0;
      drawn ||= value > 0;
      data.set([value, value, value, 255], i);
    }
    return drawn ? { width, height, data: data as Uint8ClampedArray<ArrayBuffer> } : undefined;
  }

  render(): void {
    const context = this.#canvas.getContext('2d')!;
    const { width, height } = this.#canvas;
    const stroke = this.#stroke && ({ kind: 'stroke', points: this.#stroke, ...this.#brush() } as const);
    paintMarks(this.#layer, stroke ? [...this.drawing.marks, stroke] : this.drawing.marks);
    context.globalAlpha = 1;
    context.fillStyle = '#000';
    context.fillRect(0, 0, width, height);
    if (this.#backdrop) context.drawImage(this.#backdrop, ...covering(this.#backdrop, width, height), 0, 0, width, height);
    // The layer's white takes the ink's colour.
    const tinted = new OffscreenCanvas(width, height).getContext('2d')!;
    tinted.drawImage(this.#layer.canvas, 0, 0);
    tinted.globalCompositeOperation = 'source-in';
    tinted.fillStyle = this.options.ink;
    tinted.fillRect(0, 0, width, height);
    context.drawImage(tinted.canvas, 0, 0);
    if (this.#penShows) this.#drawPen(context);
    this.#undo.disabled = !this.drawing.canUndo;
    this.#redo.disabled = !this.drawing.canRedo;
    this.#clear.disabled = this.drawing.isEmpty;
  }

  #drawPen(context: CanvasRenderingContext2D): void {
    const { width } = this.#canvas;
    const [x, y] = this.#pen;
    for (const [colour, line] of [
      ['#000', 4],
      ['#fff', 2],
    ] as const) {
      Object.assign(context, { strokeStyle: colour, lineWidth: line });
      context.beginPath();
      context.arc(x * width, y * width, Math.max(5, (this.#brush().size * width) / 2), 0, 2 * Math.PI);
      context.stroke();
    }
  }

  #brush(): { size: number; erase: boolean } {
    return { size: Number(this.#size.value) / 1000, erase: this.#erase.getAttribute('aria-pressed') === 'true' };
  }

  #setErase(on: boolean): void {
    this.#erase.setAttribute('aria-pressed', String(on));
  }

  #change(act: () => void): void {
    act();
    this.render();
    this.options.changed?.();
    // A focused button that goes grey takes the focus with it.
    if ((document.activeElement as HTMLButtonElement | null)?.disabled) this.#canvas.focus({ preventScroll: true });
  }

  #finish(): void {
    const points = this.#stroke;
    this.#stroke = undefined;
    if (points) this.#change(() => this.drawing.add({ kind: 'stroke', points, ...this.#brush() }));
  }

  #listen(): void {
    const canvas = this.#canvas;
    const at = ({ clientX, clientY }: PointerEvent): [number, number] => {
      const { left, top, width } = canvas.getBoundingClientRect();
      return [(clientX - left) / width, (clientY - top) / width];
    };
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#penShows = false;
      this.#stroke = [at(event)];
      this.render();
    });
    canvas.addEventListener('pointermove', (event) => {
      if (!this.#stroke || !canvas.hasPointerCapture(event.pointerId)) return;
      this.#stroke.push(...(event.getCoalescedEvents?.().map(at) ?? []), at(event));
      this.render();
    });
    for (const name of ['pointerup', 'pointercancel'] as const) canvas.addEventListener(name, () => this.#finish());
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('blur', () => {
      this.#finish();
      this.#penShows = false;
      this.render();
    });
  }

  #key(event: KeyboardEvent): void {
    const { key, ctrlKey, metaKey, shiftKey } = event;
    const moves: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[key];
    const tall = this.#canvas.height / this.#canvas.width;
    if (move) {
      const step = KEY_STEP * (shiftKey ? 4 : 1);
      this.#pen = [clamp(this.#pen[0] + move[0] * step, 1), clamp(this.#pen[1] + move[1] * step, tall)];
      this.#stroke?.push([...this.#pen]);
    } else if (key === ' ' || key === 'Enter') {
      if (this.#stroke) this.#finish();
      else this.#stroke = [[...this.#pen]];
      announce(this.#stroke ? 'Pen down.' : 'Pen up.');
    } else if ((ctrlKey || metaKey) && key.toLowerCase() === 'z')
      this.#change(() => (shiftKey ? this.drawing.redo() : this.drawing.undo()));
    else if ((ctrlKey || metaKey) && key.toLowerCase() === 'y') this.#change(() => this.drawing.redo());
    else return;
    event.preventDefault();
    this.#penShows = true;
    this.render();
  }
}

const clamp = (value: number, max: number): number => Math.min(max, Math.max(0, value));

/** The middle part of a picture that has the shape of `width × height`: x, y, width, height. */
function covering(picture: ImageBitmap, width: number, height: number): [number, number, number, number] {
  const scale = Math.min(picture.width / width, picture.height / height);
  const [w, h] = [width * scale, height * scale];
  return [(picture.width - w) / 2, (picture.height - h) / 2, w, h];
}
