/** The frame's size: the model's own ones by shape, or any that its step allows. */
import { OPTIONS, type ModelRules } from 'tabreel';
import { SHAPES, field, shapeOf } from './controls';
import { byId, make } from './dom';

export interface Size {
  width: number;
  height: number;
}

/** The choice that shows the fields for a size of one's own. */
const OTHER = 'other';

/** The table's, until the model's card says better. */
let sizes: Size[] = [{ width: Number(OPTIONS.width.default), height: Number(OPTIONS.height.default) }];
/** The fields stay open for a size that happens to be one of the list. */
let own = false;

const input = (id: string): HTMLInputElement => byId<HTMLInputElement>(id);
const select = (): HTMLSelectElement => byId<HTMLSelectElement>('size');
const isListed = ({ width, height }: Size): boolean => sizes.some((size) => size.width === width && size.height === height);

/** The elements of the form; `edited` is called when a shape was chosen. Begin with {@link showSize}. */
export function sizeFields(edited: (by: string) => void): HTMLElement[] {
  const choice = make('select', { id: 'size' });
  choice.addEventListener('input', () => {
    own = choice.value === OTHER;
    const [width, height] = choice.value.split('x').map(Number);
    if (!own) [input('width').value, input('height').value] = [String(width), String(height)];
    byId('own-size').hidden = !own;
  });
  const number = (id: 'width' | 'height'): HTMLElement => {
    const { min, max } = OPTIONS[id];
    const control = make('input', {
      type: 'number',
      id,
      min: String(min),
      max: String(max),
      ariaLabel: `${id === 'width' ? 'Width' : 'Height'}, px`,
    });
    return control;
  };
  const fields = make('div', { className: 'row', id: 'own-size', hidden: true }, number('width'), '×', number('height'), 'px');
  const shapes = make('fieldset', { id: 'shapes', className: 'shapes' }, make('legend', {}, 'Shape'));
  shapes.addEventListener('change', ({ target }) => {
    const found = sizes.find((size) => shapeOf(size.width, size.height) === (target as HTMLInputElement).value);
    if (found) showSize(found);
    edited('shape');
  });
  return [shapes, field('Size', make('div', { className: 'sizes' }, choice, fields), 'size')];
}

/** The sizes to choose from, best first. */
export function adoptSizes(next: readonly Size[]): void {
  const size = readSize();
  sizes = [...next];
  showSize(size);
}

/** The steps of the fields. */
export function adoptSteps({ widthMultiple, heightMultiple }: ModelRules | { widthMultiple: number; heightMultiple: number }): void {
  for (const [id, step] of [
    ['width', widthMultiple],
    ['height', heightMultiple],
  ] as const) {
    input(id).step = String(step);
    input(id).min = String(step);
  }
}

export const readSize = (): Size => {
  const number = (id: string): number => (input(id).value.trim() === '' ? NaN : Number(input(id).value));
  return { width: number('width'), height: number('height') };
};

export function showSize(size: Size): void {
  [input('width').value, input('height').value] = [size.width, size.height].map((px) => (Number.isNaN(px) ? '' : String(px))) as [
    string,
    string,
  ];
  own &&= !isListed(size) || select().value === OTHER;
  const words = sizes.map(({ width, height }) => make('option', { value: `${width}x${height}` }, `${width} × ${height} px`));
  select().replaceChildren(...words, make('option', { value: OTHER }, 'Another size…'));
  select().value = isListed(size) && !own ? `${size.width}x${size.height}` : OTHER;
  byId('own-size').hidden = select().value !== OTHER;
  showShapes();
}

/** One button for each shape that some size has. */
function showShapes(): void {
  const present = SHAPES.filter(({ name }) => sizes.some((size) => shapeOf(size.width, size.height) === name));
  const fieldset = byId('shapes');
  if (fieldset.querySelectorAll('input').length !== present.length) {
    const radios = present.map(({ name, words, w, h }) => {
      const picture = make('span', { className: 'shape' });
      picture.style.cssText = `width:${w}px;height:${h}px`;
      return make('label', {}, make('input', { type: 'radio', name: 'shape', value: name }), picture, words);
    });
    fieldset.replaceChildren(fieldset.firstElementChild!, ...radios);
  }
  const { width, height } = readSize();
  for (const radio of fieldset.querySelectorAll('input')) radio.checked = radio.value === shapeOf(width, height);
}
