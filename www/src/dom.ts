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

/** localStorage that never throws: private windows may refuse it, and may hand out old nonsense. */
export const memory = {
  get<T>(key: string): T | undefined {
    try {
      return (JSON.parse(localStorage.getItem(`tabreel.${key}`) ?? 'null') as T | null) ?? undefined;
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
