/** Pieces of the settings form. */
import { byId, make } from './dom';

export const SHAPES = [
  { name: 'wide', words: 'Wide', w: 32, h: 18 },
  { name: 'square', words: 'Square', w: 24, h: 24 },
  { name: 'tall', words: 'Tall', w: 18, h: 32 },
] as const;

export function shapeOf(width: number, height: number): (typeof SHAPES)[number]['name'] {
  if (width > height) return 'wide';
  return width < height ? 'tall' : 'square';
}

/** A labelled control. `labelFor` names the input when it is wrapped in something. */
export function field(words: string, control: HTMLElement, labelFor = control.id): HTMLElement {
  return make('div', { className: 'setting' }, make('label', { htmlFor: labelFor }, words), control);
}

/**
 * A slider with a number field beside it. The number field is the truth: it takes values that the
 * slider's ends do not reach, and is what gets checked.
 */
export function pair(
  words: string,
  id: string,
  { min, max, step }: { min: number; max: number; step: number },
  unit: string,
  noteId: string,
): HTMLElement {
  const bounds = { min: String(min), max: String(max), step: String(step) };
  const slider = make('input', { type: 'range', id: `${id}-range`, ...bounds });
  slider.setAttribute('aria-label', `${words}, slider`);
  const number = make('input', { type: 'number', id, ...bounds });
  number.setAttribute('aria-describedby', noteId);
  // Before the form hears of it, so that it reads the new number.
  slider.addEventListener('input', () => (number.value = slider.value));
  return make(
    'div',
    { className: 'setting' },
    make('label', { htmlFor: id }, words),
    make('div', { className: 'row pair' }, slider, number, unit ? make('span', { className: 'unit' }, unit) : null),
    make('p', { id: noteId, className: 'fine' }),
  );
}

/** Changes the ends and the step of a {@link pair}; what stands in it stays. */
export function bound(id: string, { min, max, step }: { min: number; max: number; step: number }): void {
  for (const name of [`${id}-range`, id]) {
    const input = byId<HTMLInputElement>(name);
    const { value } = input;
    Object.assign(input, { min: String(min), max: String(max), step: String(step) });
    input.value = value;
  }
}
