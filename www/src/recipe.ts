/** A recipe: everything that makes the same clip again. It fits in a link. */
import { OPTIONS, type Backend, type ClipRecipe, type OptionSpec } from 'tabreel';

export type Recipe = ClipRecipe;

/** What a recipe shows, in words. */
export const subjectOf = ({ prompt, classLabel }: Pick<Recipe, 'prompt' | 'classLabel'>): string => prompt || `class ${classLabel}`;

export type Device = 'auto' | Backend;

type Field = keyof Recipe;

/** Width and height stand together in a link, as `size`. */
const SIZE: readonly Field[] = ['width', 'height'];

/** The command line's flags are the names in a link, so that one can be read and edited by hand. */
const fields = (Object.entries(OPTIONS) as [Field, OptionSpec][]).filter(([field]) => !SIZE.includes(field));

export function toHash(recipe: Recipe): string {
  const params = new URLSearchParams({ prompt: recipe.prompt, size: `${recipe.width}x${recipe.height}` });
  for (const [field, { flag }] of fields) {
    const value = recipe[field];
    if (flag !== undefined && value !== undefined && value !== '') params.set(flag, String(value));
  }
  return `#${params}`;
}

/** What a link says; fields that it lacks or garbles are left out, the rules are checked later. */
export function fromHash(hash: string): Partial<Recipe> {
  const params = new URLSearchParams(hash.replace(/^#/, ''));
  if (params.get('prompt') === null) return {};
  const recipe: Record<string, string | number | number[]> = { negativePrompt: '' };
  const size = /^(\d{1,5})x(\d{1,5})$/.exec(params.get('size') ?? '');
  if (size) Object.assign(recipe, { width: Number(size[1]), height: Number(size[2]) });
  for (const [field, { flag, kind }] of fields) {
    const text = params.get(flag ?? '');
    if (text === null) continue;
    if (kind === 'text' || kind === 'label' || kind === 'choice') recipe[field] = text;
    else if (kind === 'list') {
      const words = text.split(',');
      if (words.every((word) => word.trim() !== '' && Number.isFinite(Number(word)))) recipe[field] = words.map(Number);
    } else if (text.trim() !== '' && Number.isFinite(Number(text))) recipe[field] = Number(text);
  }
  return recipe as Partial<Recipe>;
}
