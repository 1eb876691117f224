/** Opening the recipe of a saved clip: its settings, its task, and, as far as its frames show them, its pictures and clips. */
import { readClip, recoverGiven, type Clip, type Frame, type FullRecipe, type GivenParts, type Recovered } from 'tabreel';
import { byId } from './dom';
import { shapeBeside } from './fit';
import { isVideo, type Material } from './material';
import { mode, setMode, type Mode } from './modes';
import { slots, timeline } from './panel';
import { setPanelOptions } from './panel-options';
import { announce } from './progress';
import type { Recipe } from './recipe';
import type { Slot } from './slot';

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

/** Takes a recipe over. `file` is what it came in: of a video the frames are seen. */
export async function reopen(recipe: FullRecipe, file: Blob & { name?: string }): Promise<void> {
  const name = file.name ?? 'a clip';
  const missing = await adopt(recipe, name, await shownIn(new File([file], name, { type: file.type }), recipe));
  const opened = `Opened the recipe of ${name}${missing ? `; ${missing} must be given again` : ''}.`;
  tell([opened, otherModel(recipe.model, await hooks.model())].filter(Boolean).join(' '));
}

/** Takes over all that made a clip of this page. */
export async function reuse(clip: Clip): Promise<void> {
  const missing = await adopt(clip.recipe, 'the last clip', clip.frames);
  const words = `Took over what made this clip; ${missing} must be given again.`;
  if (missing) tell(words);
  else note.hidden = true;
}

function tell(words: string): void {
  byId('reopened-words').textContent = words;
  note.hidden = false;
  announce(words);
}

/** Chooses the mode and puts back what is there; returns what is not, in words, if there is any. */
async function adopt(recipe: FullRecipe, name: string, frames: readonly Frame[]): Promise<string> {
  hooks.take(recipe.options);
  const found = recoverGiven(recipe, frames);
  setMode(modeOf(recipe));
  const { task, given, options } = recipe;
  const { direction, frames: length, strength = given.strength, scale } = task;
  setPanelOptions({
    direction,
    scale,
    steer: given.controlScale ?? 1,
    seam: given.seam ?? 4,
    classLabel: options.classLabel,
    growTo: task.name === 'outpaint' ? `${options.width}x${options.height}` : undefined,
    fit: given.fit === 'contain' ? 'contain' : 'cover',
    ...(task.name === 'inpaint' ? { region: strength ?? 1 } : { [task.name === 'upscale' ? 'detail' : 'strength']: strength }),
    [task.name === 'extend' ? 'added' : 'between']: length,
  });
  await refill(found, (frames) => ({ name, frames, fps: frames.length > 1 ? options.fps : undefined, warnings: [] }));
  return missingOf(recipe, found);
}

/** All frames of a video, at the size that it was made in; none where they cannot be had, or show nothing that was given. */
async function shownIn(file: File, { task, given, options }: FullRecipe): Promise<readonly Frame[]> {
  if (!isVideo(file) || (task.name === 'generate' && placing(given) === 0)) return [];
  const { width, height, fps } = options;
  // What this browser does not decode is asked for again.
  const read = await readClip(file, { fps, cover: { width, height } }).catch(() => undefined);
  // One that is cut, of another rate, or several clips side by side, is not what the recipe speaks of.
  return read === undefined || read.warnings.length > 0 || shapeBeside(read.frames[0]!, options) ? [] : read.frames;
}

/** How many pictures and clips stand in a clip. */
const placing = ({ image, lastImage, keyframes, clips }: GivenParts): number => Number(image) + Number(lastImage) + keyframes + clips;

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
  if (options.classLabel !== undefined) return 'class';
  if (given.keyframes > 0 || given.clips > 0) return 'keyframes';
  if (given.image || given.lastImage) return 'image';
  if (given.control) return 'sketch';
  if (given.references > 0) return 'subject';
  if (given.source) return 'edit';
  return options.numFrames === 1 ? 'picture' : 'text';
}

/** Puts what was found where the mode has its places; what is there of something else goes. */
async function refill({ clip, second, placed }: Recovered, material: (frames: readonly Frame[]) => Material): Promise<void> {
  const put = async (slot: Slot, frames: readonly Frame[] | undefined): Promise<void> => {
    if (frames) await slot.set(material(frames));
    else if (slot.material) slot.clear();
  };
  const at = (wanted: (at: number) => boolean): readonly Frame[] | undefined => placed.find((one) => wanted(one.at))?.frames;
  switch (mode()) {
    case 'text':
    case 'picture':
    case 'class':
      return;
    case 'image':
      await put(
        slots.first,
        at((at) => at === 0),
      );
      return put(
        slots.last,
        at((at) => at > 0),
      );
    case 'keyframes':
      timeline.clear();
      for (const { at, frames } of placed) await timeline.add(material(frames), at);
      return;
    case 'sketch':
    case 'subject':
      // What was drawn, followed or shown here stays: it may be that.
      return;
    case 'extend':
    case 'loop':
    case 'connect':
    case 'edit':
    case 'paint':
    case 'grow':
    case 'enlarge':
      await put(slots.clip, clip);
      await put(slots.maskClip, undefined);
      return put(slots.second, second);
  }
}

/** What a recipe names and its clip does not show, in words; empty where that is nothing. */
function missingOf({ task, given }: FullRecipe, { clip, second, placed }: Recovered): string {
  if (task.name === 'connect') return clip && second ? '' : 'both clips';
  // A loop without a clip: the prompt made it.
  if (task.name === 'loop' && task['numFrames'] !== undefined) return '';
  if (task.name === 'inpaint') return clip ? 'its mask' : 'its clip and its mask';
  if (task.name !== 'generate') return clip ? '' : 'its clip';
  const missing = [
    placed.length < placing(given) && (given.keyframes + given.clips > 0 ? 'its keyframes' : 'its pictures'),
    given.mask && 'its mask',
    given.control && 'its sketch or control clip',
    given.references > 0 && 'its subject',
    given.source && 'its clip',
  ];
  return missing.filter((words) => words !== false).join(' and ');
}
