/** Finding and making elements. */

/** The element with this id; a missing one is a mistake in index.html. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found as T;
}

type Child = Node | string | null | undefined | false;

/** `make('p', { className: 'fine' }, 'words')`. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> & { data?: Record<string, string> } = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const { data, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest) as HTMLElementTagNameMap[K];
  Object.assign(element.dataset, data);
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

export function capital(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * localStorage that never throws: private windows may refuse it, and what lies in it may be of an older page, or anything.
 * So whoever reads says how a value must look.
 */
export const memory = {
  /** What is kept, if it `looks` right. */
  get<T>(key: string, looks: (value: unknown) => value is T): T | undefined {
    try {
      const value: unknown = JSON.parse(localStorage.getItem(`tabreel.${key}`) ?? 'null');
      return looks(value) ? value : undefined;
    } catch {
      return undefined;
    }
  },
  set(key: string, value: unknown): void {
    try {
      localStorage.setItem(`tabreel.${key}`, JSON.stringify(value));
    } catch {
      // Remembered until the tab closes, then.
    }
  },
};

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A finite number that is not below 0. */
export const isAmount = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value >= 0;
