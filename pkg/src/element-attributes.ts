/** The attributes of `<tabreel-clip>` that are options of `generate()`: named and read by the table of options. */
import { OPTIONS, type ClipOptions } from './contract.js';
import { TabreelError } from './errors.js';

type Name = keyof ClipOptions;

/** `numFrames` → `num-frames`. */
export const attributeName = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

export const OPTION_NAMES = Object.keys(OPTIONS) as Name[];

/** The value of an option's attribute (a list has commas); undefined where it is missing, NaN where it is no number. */
export function readOption(element: Element, name: Name): string | number | number[] | undefined {
  const text = element.getAttribute(attributeName(name));
  const { kind } = OPTIONS[name];
  if (text === null || kind === 'text' || kind === 'label' || kind === 'choice') return text ?? undefined;
  const number = (word: string): number => (word.trim() === '' ? NaN : Number(word));
  return kind === 'list' ? text.split(',').map(number) : number(text);
}

/** Sets the attribute of an option; null and undefined remove it. */
export function writeOption(element: Element, name: Name, value: unknown): void {
  if (value === undefined || value === null) element.removeAttribute(attributeName(name));
  else element.setAttribute(attributeName(name), String(value));
}

/**
 * What the attributes ask for.
 *
 * @throws TabreelError `invalid-options` where a number is none
 */
export function readOptions(element: Element): ClipOptions {
  const options: Record<string, unknown> = { prompt: '' };
  for (const name of OPTION_NAMES) {
    const value = readOption(element, name);
    if ([value].flat().some(Number.isNaN)) {
      const attribute = attributeName(name);
      throw new TabreelError('invalid-options', `${attribute} must be a number, got "${element.getAttribute(attribute)}"`);
    }
    if (value !== undefined) options[name] = value;
  }
  return options as unknown as ClipOptions;
}
