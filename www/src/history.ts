/** The strip of what was made here: each clip can be shown again, saved and deleted, after a reload too. */
import { TabreelError, type Clip } from 'tabreel';
import { byId, make } from './dom';
import { showError } from './error';
import { asError } from './material';
import { announce } from './progress';
import { subjectOf, type Recipe } from './recipe';
import { download, fileName, scaleFor } from './result';
import { LIMIT_BYTES, forgetAll, forgetClip, keepClip, keptClips, keptFile, openKept, type Kept } from './store';
import { megabytes } from './words';

/** A clip of this visit, kept on the device or not; or one of an earlier visit. */
interface Entry {
  kept: Kept | undefined;
  clip: Clip | undefined;
  thumb: string;
  made: string;
  recipe: Recipe;
}

export interface HistoryHooks {
  onShow(clip: Clip): void;
  /** The clip itself is gone: take its settings. */
  onReuse(recipe: Recipe): void;
}

/** So many clips are held in memory; the others are read when they are asked for. */
const MAX_CLIPS = 8;
const THUMB_PX = 96;

const section = byId('history');
const strip = byId('history-strip');
/** What the limit cost; read aloud. */
const goneNote = byId('history-gone');
let entries: Entry[] = [];
let hooks: HistoryHooks;

export function startHistory(given: HistoryHooks): void {
  hooks = given;
  byId('history-clear').addEventListener('click', async () => {
    entries = [];
    render();
    byId('prompt').focus();
    await forgetAll();
    announce('The history was deleted.');
  });
  void keptClips().then((found) => {
    const earlier = found.map((kept) => ({ kept, clip: undefined, thumb: kept.thumb, made: kept.made, recipe: kept.parts.options }));
    entries = [...entries, ...earlier];
    render();
  });
}

export function addToHistory(clip: Clip, made: string): void {
  const entry: Entry = { kept: undefined, clip, thumb: thumbnail(clip), made, recipe: clip.options };
  entries = [entry, ...entries];
  render();
  void keepClip(clip, entry.thumb, made, scaleFor(clip, 'mp4')).then(async (kept) => {
    if (kept === undefined) return;
    // Deleted while it was written.
    if (!entries.includes(entry)) return forgetClip(kept);
    entry.kept = kept;
    await tidy();
    render();
  });
}

/** Deletes the oldest clips beyond the limit, and lets go of frames that can be read again. */
async function tidy(): Promise<void> {
  let total = 0;
  const gone = entries.filter(({ kept }, index) => (total += kept?.bytes ?? 0) > LIMIT_BYTES && index > 0);
  entries = entries.filter((entry) => !gone.includes(entry));
  for (const entry of entries.filter(({ clip }) => clip).slice(MAX_CLIPS)) if (entry.kept?.format) entry.clip = undefined;
  for (const { kept } of gone) if (kept) await forgetClip(kept);
  const words = gone.length === 1 ? 'The oldest clip was' : `The ${gone.length} oldest clips were`;
  goneNote.textContent = gone.length > 0 ? `${words} deleted: more than ${megabytes(LIMIT_BYTES)} are not kept.` : '';
  goneNote.hidden = gone.length === 0;
}

async function show(entry: Entry): Promise<void> {
  entry.clip ??= entry.kept && (await openKept(entry.kept));
  if (entry.clip) hooks.onShow(entry.clip);
  else hooks.onReuse(entry.recipe);
}

async function save(entry: Entry): Promise<void> {
  const file = entry.kept && (await keptFile(entry.kept));
  const name = fileName(entry.recipe);
  if (file) download(file, `${name}.${entry.kept!.format}`);
  else if (entry.clip) download(await entry.clip.toBlob({ format: 'png' }), `${name}.png`);
  else throw new TabreelError('invalid-options', 'This clip is no longer on this device; a click on its picture takes its settings');
}

async function drop(entry: Entry): Promise<void> {
  // Gone from the disk first: a page that is reloaded at once must not bring it back.
  if (entry.kept) await forgetClip(entry.kept);
  const at = entries.indexOf(entry);
  if (at < 0) return;
  entries = entries.filter((other) => other !== entry);
  render();
  const next = strip.children[Math.min(at, entries.length - 1)]?.querySelector('button');
  (next ?? byId('prompt')).focus();
  announce('The clip was deleted.');
}

function render(): void {
  section.hidden = entries.length === 0;
  const bytes = entries.reduce((sum, { kept }) => sum + (kept?.bytes ?? 0), 0);
  byId('history-size').textContent = bytes > 0 ? `${megabytes(bytes)} of ${megabytes(LIMIT_BYTES)} on this device` : '';
  strip.replaceChildren(...entries.map(item));
}

function item(entry: Entry): HTMLElement {
  const { seed } = entry.recipe;
  const prompt = subjectOf(entry.recipe);
  const image = make('img', { src: entry.thumb, alt: prompt, loading: 'lazy' });
  const whole = entry.clip !== undefined || entry.kept?.format !== undefined;
  const thumb = make(
    'button',
    { type: 'button', className: 'thumb', title: `${prompt}\nseed ${seed} · ${entry.made}` },
    image,
    make('span', {}, whole ? entry.made : 'Settings'),
  );
  const tell = (thrown: unknown): void => showError(asError(thrown), undefined);
  thumb.addEventListener('click', () => void show(entry).catch(tell));
  const act = (words: string, run: () => Promise<void>): HTMLButtonElement => {
    const button = make('button', { type: 'button', className: 'quiet', ariaLabel: `${words}: ${prompt}` }, words);
    button.addEventListener('click', () => void run().catch(tell));
    return button;
  };
  const actions = make(
    'div',
    { className: 'acts' },
    whole && act('Save', () => save(entry)),
    act('Delete', () => drop(entry)),
  );
  return make('li', {}, thumb, actions);
}

function thumbnail(clip: Clip): string {
  const canvas = document.createElement('canvas');
  const scale = THUMB_PX / Math.min(clip.width, clip.height);
  canvas.width = Math.round(clip.width * scale);
  canvas.height = Math.round(clip.height * scale);
  clip.drawFrame(canvas, Math.floor(clip.numFrames / 2));
  return canvas.toDataURL('image/jpeg', 0.8);
}
