/** What was drawn: strokes that can be taken back, and how they look on a canvas. */
import type { Frame } from 'tabreel';

export type Mark =
  /** Points and size in shares of the width. */
  | { kind: 'stroke'; points: [number, number][]; size: number; erase: boolean }
  /** White lines on black. */
  | { kind: 'picture'; picture: Frame }
  | { kind: 'clear' };

export class Drawing {
  #marks: Mark[] = [];
  #undone: Mark[] = [];

  get marks(): readonly Mark[] {
    return this.#marks;
  }
  get canUndo(): boolean {
    return this.#marks.length > 0;
  }
  get canRedo(): boolean {
    return this.#undone.length > 0;
  }
  /** True if nothing can be seen of it for sure. */
  get isEmpty(): boolean {
    return this.#marks.length === 0 || this.#marks.at(-1)!.kind === 'clear';
  }

  add(mark: Mark): void {
    this.#marks.push(mark);
    this.#undone = [];
  }

  undo(): void {
    const mark = this.#marks.pop();
    if (mark) this.#undone.push(mark);
  }

  redo(): void {
    const mark = this.#undone.pop();
    if (mark) this.#marks.push(mark);
  }

  /** Forgets everything, history too. */
  reset(): void {
    this.#marks = [];
    this.#undone = [];
  }
}

/** Paints marks in white on a transparent canvas. */
export function paintMarks(context: OffscreenCanvasRenderingContext2D, marks: readonly Mark[]): void {
  const { width, height } = context.canvas;
  const from = marks.map(({ kind }) => kind).lastIndexOf('clear') + 1;
  context.clearRect(0, 0, width, height);
  Object.assign(context, { lineCap: 'round', lineJoin: 'round', strokeStyle: '#fff', fillStyle: '#fff' });
  for (const mark of marks.slice(from)) {
    if (mark.kind === 'picture') drawOver(context, mark.picture);
    if (mark.kind !== 'stroke') continue;
    context.globalCompositeOperation = mark.erase ? 'destination-out' : 'source-over';
    context.lineWidth = Math.max(1, mark.size * width);
    context.beginPath();
    const [first, ...rest] = mark.points.map(([x, y]) => [x * width, y * width] as const);
    if (first === undefined) continue;
    context.moveTo(...first);
    for (const point of rest.length > 0 ? rest : [first]) context.lineTo(...point);
    context.stroke();
    context.globalCompositeOperation = 'source-over';
  }
}

function drawOver(context: OffscreenCanvasRenderingContext2D, { data, width, height }: Frame): void {
  const picture = new OffscreenCanvas(width, height);
  // What is black in it is no stroke.
  const lines = data.map((value, i) => (i % 4 === 3 ? data[i - 1]! : value));
  picture.getContext('2d')?.putImageData(new ImageData(lines, width, height), 0, 0);
  context.drawImage(picture, 0, 0, context.canvas.width, context.canvas.height);
}
