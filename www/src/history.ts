/** The strip of what was made here: clips of this visit, and recipes of earlier ones. */
import { resolveOptions, type Clip } from 'tabreel';
import { byId, isObject, make, memory } from './dom';
import type { Recipe } from './recipe';

interface Entry {
  recipe: Recipe;
  /** A small JPEG as a data URL. */
  thumb: string;
  /** "CPU, 12 s" */
  made: string;
}

export interface HistoryHooks {
  /** The clip is still in memory: show it. */
  onShow(clip: Clip, made: string): void;
  /** Only the recipe was kept: take its settings. */
  onReuse(recipe: Recipe): void;
}

/** Recipes are small; clips are megabytes, so fewer of them are held. */
const MAX_ENTRIES = 24;
const MAX_CLIPS = 8;
const THUMB_PX = 96;

const section = byId('history');
const strip = byId('history-strip');
const clips = new Map<Entry, Clip>();
let entries: Entry[] = (memory.get('history', Array.isArray) ?? []).filter(isEntry).slice(0, MAX_ENTRIES);
let hooks: HistoryHooks;

/** One that an older page wrote, or nobody, is left out: what is shown must make a clip. */
function isEntry(value: unknown): value is Entry {
  if (!isObject(value) || typeof value['made'] !== 'string' || !isObject(value['recipe'])) return false;
  if (typeof value['thumb'] !== 'string' || !value['thumb'].startsWith('data:image/')) return false;
  try {
    resolveOptions(value['recipe'] as unknown as Recipe, { widthMultiple: 1, heightMultiple: 1, frameMultiple: 1, defaults: {} });
    return true;
  } catch {
    return false;
  }
}

export function startHistory(given: HistoryHooks): void {
  hooks = given;
  byId('history-clear').addEventListener('click', () => {
    clips.clear();
    save([]);
    byId('prompt').focus();
  });
  render();
}

export function addToHistory(clip: Clip, made: string): void {
  const entry: Entry = { recipe: clip.options, thumb: thumbnail(clip), made };
  clips.set(entry, clip);
  const oldest = clips.keys().next().value;
  if (clips.size > MAX_CLIPS && oldest) clips.delete(oldest);
  save([entry, ...entries].slice(0, MAX_ENTRIES));
}

function save(next: Entry[]): void {
  entries = next;
  memory.set('history', entries);
  render();
}

function render(): void {
  section.hidden = entries.length === 0;
  strip.replaceChildren(
    ...entries.map((entry) => {
      const clip = clips.get(entry);
      const { prompt, seed } = entry.recipe;
      const image = make('img', { src: entry.thumb, alt: prompt, loading: 'lazy' });
      const note = make('span', {}, clip ? entry.made : 'Settings');
      const button = make('button', { type: 'button', title: `${prompt}\nseed ${seed} · ${entry.made}` }, image, note);
      button.addEventListener('click', () => (clip ? hooks.onShow(clip, entry.made) : hooks.onReuse(entry.recipe)));
      return make('li', {}, button);
    }),
  );
}

function thumbnail(clip: Clip): string {
  const canvas = document.createElement('canvas');
  const scale = THUMB_PX / Math.min(clip.width, clip.height);
  canvas.width = Math.round(clip.width * scale);
  canvas.height = Math.round(clip.height * scale);
  clip.drawFrame(canvas, Math.floor(clip.numFrames / 2));
  return canvas.toDataURL('image/jpeg', 0.8);
}
