/** Opening the recipe of a saved clip: its settings, its task, and, as far as the file shows them, its pictures. */
import { readClip, type FullRecipe } from 'tabreel';
import { byId } from './dom';
import { isVideo } from './material';
import { setMode, type Mode } from './modes';
import { slots, timeline } from './panel';
import { setPanelOptions } from './panel-options';
import { announce } from './progress';
import type { Recipe } from './recipe';

const note = byId('reopened');

export interface ReopenHooks {
  /** Puts settings into the form. */
  take(recipe: Partial<Recipe>): void;
  /** The model that the next clip is made with; undefined where nothing is known of it yet. */
  model(): Promise<FullRecipe['model'] | undefined>;
}
let hooks: ReopenHooks;

export function startReopen(given: ReopenHooks): void {
  hooks = given;
  byId('reopened-close').addEventListener('click', () => {
    note.hidden = true;
    byId('prompt').focus();
  });
}

/** Takes a recipe over. `file` is what it came in: a video shows the pictures that the clip began and ended with. */
export async function reopen(recipe: FullRecipe, file: Blob & { name?: string }): Promise<void> {
  hooks.take(recipe.options);
  setMode(modeOf(recipe));
  const { task, given } = recipe;
  const { direction, frames, strength, scale } = task;
  setPanelOptions({
    direction,
    scale,
    fit: given.fit === 'contain' ? 'contain' : 'cover',
    [task.name === 'upscale' ? 'detail' : 'strength']: strength,
    [task.name === 'extend' ? 'added' : 'between']: frames,
  });
  const missing = await refill(recipe, file);
  const opened = `Opened the recipe of ${file.name ?? 'a clip'}${missing ? `; ${missing} must be given again` : ''}.`;
  const words = [opened, otherModel(recipe.model, await hooks.model())].filter(Boolean).join(' ');
  byId('reopened-words').textContent = words;
  note.hidden = false;
  announce(words);
}

/** That a recipe is of another model than the one in use; empty where it is of the same, or nobody can tell. Hashes go before names. */
function otherModel(made: FullRecipe['model'], now: FullRecipe['model'] | undefined): string {
  if (now === undefined) return '';
  const same = made.hash && now.hash ? made.hash === now.hash : !made.name || made.name === now.name;
  if (same) return '';
  const what = made.name === now.name ? `another version of ${made.name}` : `another model, ${made.name || 'without a name'}`;
  return `It was made with ${what}: with ${now.name || 'the chosen model'} the result will differ.`;
}

function modeOf({ task, given, options }: FullRecipe): Mode {
  const ofTask: Partial<Record<string, Mode>> = { inpaint: 'paint', outpaint: 'grow', upscale: 'enlarge' };
  if (task.name !== 'generate') return ofTask[task.name] ?? (task.name as Mode);
  if (given.keyframes > 0 || given.clips > 0) return 'keyframes';
  if (given.image || given.lastImage) return 'image';
  if (given.control) return 'sketch';
  if (given.references > 0) return 'subject';
  return options.numFrames === 1 ? 'picture' : 'text';
}

/** Puts back what can be seen in the file; returns what cannot, in words, if there is any. */
async function refill({ given, task, options }: FullRecipe, file: Blob & { name?: string }): Promise<string> {
  const named = new File([file], file.name ?? 'clip', { type: file.type });
  const { width, height } = options;
  if (task.name === 'generate' && (given.image || given.lastImage) && isVideo(named)) {
    const { frames } = await readClip(file, { cover: { width, height } });
    const picture = (index: number) => ({ name: named.name, frames: [frames.at(index)!], fps: undefined, warnings: [] });
    if (given.image) await slots.first.set(picture(0));
    if (given.lastImage) await slots.last.set(picture(-1));
    return '';
  }
  if (task.name !== 'generate') {
    slots.clip.clear();
    // A loop without a clip: the prompt made it.
    if (task.name === 'loop' && task['numFrames'] !== undefined) return '';
    return task.name === 'connect' ? 'both clips' : task.name === 'inpaint' ? 'its clip and its mask' : 'its clip';
  }
  if (given.keyframes > 0 || given.clips > 0) {
    timeline.clear();
    return 'its keyframes';
  }
  if (given.image || given.lastImage) return 'its pictures';
  if (given.control) return 'its sketch or control clip';
  return given.references > 0 ? 'its subject' : '';
}
