/** Which model the page uses, and the catalogue that it is chosen from. */
import {
  catalogue,
  modelAddress,
  parseCatalogue,
  type Capabilities,
  type CatalogueEntry,
  type EntryChoice,
  type EntryModel,
} from 'tabreel';
import shipped from '../../models/models.json?raw';
import { memory } from './dom';

/** The site's entries and the visitor's own. */
export const models = catalogue({ builtIn: parseCatalogue(shipped, 'models.json') });

/** The model that the page uses. */
export interface Choice {
  entry: CatalogueEntry;
  /** What is loaded. */
  set: EntryModel;
  /** The preset that it was chosen with. */
  preset?: string | undefined;
}

let chosen = remembered() ?? usual();

export const choice = (): Choice => chosen;

/** From now on this one. */
export function choose(entry: CatalogueEntry, files: EntryChoice = {}): Choice {
  chosen = { entry, set: models.model(entry, files), preset: files.preset };
  return chosen;
}

/** The choice has come to something: one that lies on a server is remembered for the next visit. */
export const keepChoice = (): void => memory.set('model', modelUrl() === undefined ? null : chosen.entry.id);

/** Puts back what was there before a choice that came to nothing. */
export function unchoose(before: Choice): void {
  chosen = before;
}

/** What the list says that a model takes, before it is loaded; undefined where it does not say, as of what the visitor added. */
export function promised({ entry: { own, modes } }: Choice): Capabilities | undefined {
  if (own || modes.length === 0) return undefined;
  const has = (mode: (typeof modes)[number]): boolean => modes.includes(mode);
  return {
    text: has('text'),
    classes: 0,
    pictureOnly: false,
    image: has('image'),
    lastImage: has('lastImage'),
    needsLastImage: false,
    keyframes: has('keyframes'),
    mask: has('mask'),
    control: has('control'),
    reference: has('reference'),
    source: has('source'),
    why: 'the list of models does not name it',
  };
}

/** A model of one folder has a card, which is read before anything large. */
export function isFolder({ set: { model, presets: _, ...parts } }: Choice): boolean {
  return model !== undefined && Object.values(parts).every((part) => part === undefined);
}

/** The address of the model's folder; undefined for files in hand and loose files. */
export function modelUrl(): string | undefined {
  const { model } = chosen.set;
  return typeof model === 'string' && isFolder(chosen) ? modelAddress(model) : undefined;
}

function usual(): Choice {
  const entry = models.list()[0];
  if (entry === undefined) throw new Error('models.json lists no model');
  return { entry, set: models.model(entry) };
}

function remembered(): Choice | undefined {
  const id = memory.get('model', (value) => typeof value === 'string');
  const entry = models.list().find((one) => one.id === id);
  try {
    return entry && { entry, set: models.model(entry) };
  } catch {
    return undefined; // a file of the visitor's own that is not at hand
  }
}
