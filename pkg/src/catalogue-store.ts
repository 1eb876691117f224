/** The catalogue that a visitor sees: what the site lists, and entries of the visitor's own, which stay in this browser. */
import { addressIn, filesOf, formatCatalogue, parseCatalogue, type Catalogue, type CatalogueEntry, type EntryPart } from './catalogue.js';
import type { Preset } from './contract.js';
import { TabreelError } from './errors.js';
import type { ModelSet, ModelSource } from './source/index.js';
import type { FileSource, LoraSource, PartSource } from './source/loose.js';

/** Where own entries are kept: `localStorage`, or something like it. */
export type EntryStorage = Pick<Storage, 'getItem' | 'setItem'>;

/** What {@link catalogue} takes. */
export interface CatalogueOptions {
  /** What the site lists, as `parseCatalogue` read it. */
  builtIn?: Catalogue | undefined;
  /** Hosts in place of those that the catalogue names, e.g. a mirror. */
  hosts?: Readonly<Record<string, string>> | undefined;
  /** Default: `localStorage` where there is one. */
  storage?: EntryStorage | undefined;
}

/** What {@link ModelCatalogue.model} takes. */
export interface EntryChoice {
  /** Brings the LoRA that it needs, if it needs one. */
  preset?: string | undefined;
  /** The model's folder, where it lies elsewhere than the entry says, or its files in hand. */
  model?: ModelSource | undefined;
  /** Files in hand, in place of what the entry's addresses say. */
  files?: Partial<Record<Exclude<EntryPart, 'model' | 'lora'>, PartSource>> | undefined;
  /** LoRAs in hand, by the names that the entry gives them. */
  loras?: Readonly<Record<string, FileSource>> | undefined;
}

/** What {@link ModelCatalogue.model} gives: `Tabreel.load` takes it. */
export interface EntryModel extends ModelSet {
  /** The entry's. */
  presets: Record<string, Preset>;
}

const KEY = 'tabreel.catalogue';
/** What was there and could not be read is put aside under this name, so that nothing of the visitor's is lost. */
const DAMAGED = `${KEY}.damaged`;

/** The entries of a site and of its visitor. */
export class ModelCatalogue {
  /** What stands for `{name}` at the start of addresses. */
  readonly hosts: Readonly<Record<string, string>>;
  readonly #builtIn: readonly CatalogueEntry[];
  readonly #storage: EntryStorage | undefined;
  #unkept: CatalogueEntry[] | undefined;
  #problem: string | undefined;

  /** See {@link catalogue}. */
  constructor({ builtIn = { hosts: {}, models: [] }, hosts = {}, storage = ownStorage() }: CatalogueOptions = {}) {
    this.hosts = { ...builtIn.hosts, ...hosts };
    this.#builtIn = builtIn.models;
    this.#storage = storage;
  }

  /** What is wrong with what is kept here, in words; undefined where nothing is. Told by the last call. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** All entries, the site's first. Never throws: an own entry that cannot be read is left out, and `problem` says so. */
  list(): CatalogueEntry[] {
    // The site may list by now what the visitor had added.
    return [...this.#builtIn, ...this.#own().filter(({ id }) => !this.#builtIn.some((entry) => entry.id === id))];
  }

  /**
   * Adds an entry, in place of an own one with the same id. It is checked as the file would be.
   *
   * @throws TabreelError `invalid-options`
   */
  add(entry: CatalogueEntry): CatalogueEntry {
    return this.import(formatCatalogue({ hosts: this.hosts, models: [entry] }), `the entry "${entry.name}"`)[0]!;
  }

  /** Removes an own entry; false where there is none of that id. */
  remove(id: string): boolean {
    const own = this.#own();
    const rest = own.filter((entry) => entry.id !== id);
    if (rest.length === own.length) return false;
    this.#write(rest);
    return true;
  }

  /** Own entries as a file, or those of `ids`, whoever they are of: a catalogue that {@link ModelCatalogue.import} reads. */
  export(ids?: readonly string[]): string {
    const models = ids === undefined ? this.#own() : this.list().filter(({ id }) => ids.includes(id));
    const used = models.flatMap(({ files }) => files.map(({ url }) => /^\{(.*?)\}/.exec(url ?? '')?.[1]));
    const hosts = Object.fromEntries(Object.entries(this.hosts).filter(([name]) => used.includes(name)));
    return formatCatalogue({ hosts, models });
  }

  /**
   * Adds the entries of such a file, in place of own ones with the same ids. Hosts that it names go into its addresses.
   *
   * @throws TabreelError `invalid-options`; then nothing was added
   */
  import(text: string, where = 'the imported file'): CatalogueEntry[] {
    const { hosts, models } = parseCatalogue(text, where);
    const taken = models.find(({ id }) => this.#builtIn.some((entry) => entry.id === id));
    if (taken) throw new TabreelError('invalid-options', `${where}: id must be another than the site's own "${taken.id}"`);
    const added = models.map((entry): CatalogueEntry => {
      const files = entry.files.map((file) => (file.url === undefined ? file : { ...file, url: addressIn(hosts, file) }));
      return { ...entry, files, own: true };
    });
    this.#write([...this.#own().filter(({ id }) => !added.some((entry) => entry.id === id)), ...added]);
    return added;
  }

  /**
   * What `Tabreel.load` takes for an entry.
   *
   * @throws TabreelError `invalid-options` where a file of the visitor's own is not in hand, or the preset is unknown
   */
  model(entry: CatalogueEntry, { preset, model, files = {}, loras = {} }: EntryChoice = {}): EntryModel {
    if (preset !== undefined && entry.presets[preset] === undefined) {
      const names = Object.keys(entry.presets).join(', ') || 'none at all';
      throw new TabreelError('invalid-options', `preset of ${entry.name} must be one of ${names}, got "${preset}"`);
    }
    const set: ModelSet = {};
    const added: LoraSource[] = [];
    for (const file of filesOf(entry, preset)) {
      const { part, name = '', strength, sha256 } = file;
      const inHand = part === 'lora' ? loras[name] : part === 'model' ? model : files[part];
      const url = addressIn(this.hosts, file);
      if (inHand === undefined && url === undefined) {
        throw new TabreelError('invalid-options', `${entry.name} needs a file of yours, "${file.file}" (${part}): choose it again`);
      }
      if (part === 'lora') added.push({ file: (inHand as FileSource | undefined) ?? { url: url!, sha256 }, strength });
      else if (part === 'model') set.model = (inHand as ModelSource | undefined) ?? url!;
      else set[part] = (inHand as PartSource | undefined) ?? { url: url!, sha256 };
    }
    return { ...set, ...(added.length > 0 ? { loras: added } : {}), presets: entry.presets };
  }

  /** Read anew each time: another tab may have written. */
  #own(): CatalogueEntry[] {
    if (this.#unkept) return [...this.#unkept];
    this.#problem = undefined;
    let text: string | null | undefined;
    try {
      text = this.#storage?.getItem(KEY);
    } catch (error) {
      this.#problem = `own entries cannot be read: ${(error as Error).message}`;
    }
    if (text === null || text === undefined) return [];
    const { entries, problem } = readKept(text);
    this.#problem ??= problem;
    return entries;
  }

  #write(entries: readonly CatalogueEntry[]): void {
    const damaged = this.#unkept === undefined && this.#problem !== undefined;
    try {
      if (this.#storage === undefined) throw new Error('this browser gives the page no storage');
      const before = this.#storage.getItem(KEY);
      if (damaged && before !== null) this.#storage.setItem(DAMAGED, before);
      this.#storage.setItem(KEY, formatCatalogue({ hosts: {}, models: [...entries] }));
      this.#unkept = undefined;
      this.#problem = undefined;
    } catch (error) {
      this.#unkept = [...entries];
      this.#problem = `own entries last only until this tab closes: ${(error as Error).message}`;
    }
  }
}

/**
 * The site's catalogue with the visitor's own entries.
 */
export function catalogue(options: CatalogueOptions = {}): ModelCatalogue {
  return new ModelCatalogue(options);
}

/** One damaged entry does not take the others with it. */
function readKept(text: string): { entries: CatalogueEntry[]; problem: string | undefined } {
  let problem: string | undefined;
  const where = 'the kept entries';
  let models: unknown[] = [];
  try {
    const json = JSON.parse(text) as { models?: unknown[] } | null;
    if (!Array.isArray(json?.models)) throw new Error(`${where} must have "models", a list`);
    ({ models } = json as { models: unknown[] });
  } catch (error) {
    problem = `own entries cannot be read: ${(error as Error).message}`;
  }
  const entries = models.flatMap((model) => {
    try {
      return parseCatalogue(JSON.stringify({ tabreel: 1, models: [model] }), where).models.map((entry) => ({ ...entry, own: true }));
    } catch (error) {
      problem ??= `an own entry is left out: ${(error as Error).message}`;
      return [];
    }
  });
  return { entries, problem };
}

function ownStorage(): EntryStorage | undefined {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined; // a page without an origin of its own
  }
}
