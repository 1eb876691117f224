/** A recipe: everything that makes the same clip again. It fits in a link. */
import type { Backend } from 'tabreel';

export interface Recipe {
  prompt: string;
  negativePrompt: string;
  width: number;
  height: number;
  numFrames: number;
  fps: number;
  numSteps: number;
  guidanceScale: number;
  seed: number;
}

export type Device = 'auto' | Backend;

/** Short names, so that a shared link can be read and edited by hand. */
const KEYS = {
  negativePrompt: 'negative',
  numFrames: 'frames',
  fps: 'fps',
  numSteps: 'steps',
  guidanceScale: 'guidance',
  seed: 'seed',
} as const;

export function toHash(recipe: Recipe): string {
  const params = new URLSearchParams({ prompt: recipe.prompt, size: `${recipe.width}x${recipe.height}` });
  for (const [field, key] of Object.entries(KEYS) as [keyof typeof KEYS, string][]) {
    const value = recipe[field];
    if (value !== '') params.set(key, String(value));
  }
  return `#${params}`;
}

/** What a link says; fields that it lacks or garbles are left out, the rules are checked later. */
export function fromHash(hash: string): Partial<Recipe> {
  const params = new URLSearchParams(hash.replace(/^#/, ''));
  const recipe: Partial<Recipe> = {};
  const prompt = params.get('prompt');
  if (prompt === null) return recipe;
  recipe.prompt = prompt;
  recipe.negativePrompt = params.get('negative') ?? '';
  const size = /^(\d+)x(\d+)$/.exec(params.get('size') ?? '');
  if (size) {
    recipe.width = Number(size[1]);
    recipe.height = Number(size[2]);
  }
  for (const field of ['numFrames', 'fps', 'numSteps', 'guidanceScale', 'seed'] as const) {
    const text = params.get(KEYS[field]);
    if (text !== null && text.trim() !== '' && Number.isFinite(Number(text))) recipe[field] = Number(text);
  }
  return recipe;
}
