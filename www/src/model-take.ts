/** What stands between a model of the list and its use: its size and licences, the files that the page may not fetch, and a look at them. */
import {
  Tabreel,
  addressIn,
  filesOf,
  type CatalogueEntry,
  type CatalogueFile,
  type EntryChoice,
  type EntryModel,
  type FileSource,
  type Inspection,
  type Support,
} from 'tabreel';
import { models } from './model-choice';
import { make } from './dom';
import { FileSlot, PART_WORDS, inspectionLines } from './file-slot';
import { asError } from './material';
import { fileWords, licenceLink } from './model-words';
import { allowedWords, mayFetch } from './policy';
import type { Device } from './recipe';
import { bytesWords } from './words';

/** What the visitor gives of an entry. */
export type FilesInHand = EntryChoice;

export interface TakeOptions {
  entry: CatalogueEntry;
  /** Given earlier in this visit. */
  given: FilesInHand;
  /** What the page uses of it already: then there is nothing to choose. */
  used: EntryModel | undefined;
  device: Device;
  /** Undefined until the machine has been looked at. */
  support: Support | undefined;
  /** The files were looked at: this is what they are, or undefined where others were chosen since. */
  looked(found: Inspection | undefined): void;
  /** Loads the model; rejects where that fails. */
  use(choice: FilesInHand, tell: (words: string, share?: number) => void, signal: AbortSignal): Promise<void>;
}

/** A file of the entry, and the place for it where the page cannot fetch it. */
interface Wanted {
  file: CatalogueFile;
  slot: FileSlot | undefined;
}

const policyWords = (): string =>
  `This page may only talk to ${allowedWords()}, so it cannot fetch these files itself. Download them with the links, then choose them here; they stay on your machine.`;

/** The panel below an entry. */
export class TakePanel {
  readonly #options: TakeOptions;
  readonly #preset: HTMLSelectElement | undefined;
  readonly #note = make('p', { className: 'fine' });
  readonly #slots = make('div', { className: 'file-slots' });
  readonly #policy = make('p', { className: 'fine policy' }, policyWords());
  readonly #found = make('div', { className: 'found', role: 'status' });
  readonly #bar = make('progress', { max: 1, hidden: true, ariaLabel: 'Loading the model' });
  readonly #go = make('button', { type: 'button', className: 'primary' });
  readonly #look = make('button', { type: 'button' });
  readonly #cancel = make('button', { type: 'button', className: 'quiet', hidden: true }, 'Cancel');
  #wanted: Wanted[] = [];
  #running: AbortController | undefined;
  /** Ends a look: its answer would stand over what was said since. */
  #looking: AbortController | undefined;

  /** Fills `panel`. */
  constructor(panel: HTMLElement, options: TakeOptions) {
    this.#options = options;
    const { entry, used } = options;
    const names = used ? [] : Object.keys(entry.presets);
    const choices = names.map((value) => make('option', { value }, value));
    this.#preset = names.length > 0 ? make('select', { id: `preset-of-${entry.id}` }, ...choices) : undefined;
    this.#preset?.addEventListener('change', () => this.#changed(() => this.#rebuild()));
    this.#look.addEventListener('click', () => void this.#inspect());
    this.#go.hidden = used !== undefined;
    this.#go.addEventListener('click', () => void this.#use());
    this.#cancel.addEventListener('click', () => this.stop());
    const licence = make(
      'p',
      { className: 'fine' },
      'Licence of the model: ',
      licenceLink(entry.license),
      '. Files with another one say so.',
    );
    const label = this.#preset && make('label', { htmlFor: this.#preset.id }, 'Settings');
    const settings = label && make('div', { className: 'setting' }, label, this.#preset, this.#note);
    const acts = make('div', { className: 'acts' }, this.#go, this.#look, this.#cancel);
    panel.replaceChildren(licence, ...(settings ? [settings] : []), this.#policy, this.#slots, this.#found, this.#bar, acts);
    this.#rebuild();
  }

  /** Stops loading and looking. */
  stop(): void {
    this.#running?.abort();
    this.#looking?.abort();
  }

  /** The files that the chosen preset wants, each with its line or its place. */
  #rebuild(): void {
    const { entry, used } = this.#options;
    const preset = this.#preset?.value;
    this.#note.textContent = preset === undefined ? '' : (entry.presets[preset]?.about ?? '');
    this.#wanted = filesOf(entry, preset).map((file) => ({ file, slot: used || this.#fetched(file) ? undefined : this.#slotOf(file) }));
    this.#policy.hidden = !this.#wanted.some(({ file, slot }) => slot !== undefined && addressIn(models.hosts, file) !== undefined);
    const lines = this.#wanted.map(({ file, slot }) => slot?.box ?? make('p', { className: 'fine' }, ...fileWords(file, models.hosts)));
    this.#slots.replaceChildren(...lines);
    this.#refresh();
  }

  #slotOf(file: CatalogueFile): FileSlot {
    const { entry } = this.#options;
    const about = this.#inHand(file) ? ['given in this visit'] : fileWords(file, models.hosts).slice(1);
    return new FileSlot({
      id: `file-${entry.id}-${file.part}-${file.name ?? ''}`,
      part: file.part,
      about,
      changed: () => this.#changed(() => this.#refresh()),
    });
  }

  #inHand({ part, name }: CatalogueFile): boolean {
    const { model, files, loras } = this.#options.given;
    return (part === 'lora' ? loras?.[name!] : part === 'model' ? model : files?.[part]) !== undefined;
  }

  /** Whether the page itself fetches it. */
  #fetched(file: CatalogueFile): boolean {
    const url = addressIn(models.hosts, file);
    return !this.#inHand(file) && url !== undefined && mayFetch(url);
  }

  #lacking(): Wanted[] {
    return this.#wanted.filter(({ file, slot }) => slot !== undefined && slot.file === undefined && !this.#inHand(file));
  }

  #refresh(): void {
    const fetched = this.#wanted.filter(({ file }) => this.#fetched(file));
    const bytes = fetched.reduce((sum, { file }) => sum + (file.bytes ?? 0), 0);
    const all = fetched.every(({ file }) => file.bytes !== undefined);
    const size = bytes === 0 ? 'its files (size not known)' : `${bytesWords(bytes)}${all ? '' : ' or more'}`;
    // A folder alone is chosen now and fetched later.
    const later = this.#wanted.length === 1 && fetched[0]?.file.part === 'model';
    const fetches = later ? `Use it: the first clip fetches ${size}, once` : `Fetch ${size} and use it`;
    this.#go.textContent = fetched.length > 0 ? fetches : 'Use these files';
    this.#look.textContent = fetched.length > 0 ? 'See what it needs (fetches the files’ beginnings only)' : 'Look at the files';
    const words = this.#lacking().map(({ file }) => PART_WORDS[file.part]);
    this.#say(words.length > 0 ? `Still to be chosen: ${words.join(', ')}.` : '');
    this.#looking?.abort();
    this.#enable();
    // What is in hand is no download: what it needs is told without a click.
    if (fetched.length === 0 && words.length === 0) void this.#inspect();
  }

  /** The visitor chose something else: what was told of the files before is no longer so. */
  #changed(show: () => void): void {
    this.#options.looked(undefined);
    show();
  }

  #enable(): void {
    this.#go.disabled = this.#running !== undefined || this.#lacking().length > 0;
    this.#look.disabled = this.#go.disabled || this.#looking !== undefined;
    this.#bar.hidden = this.#cancel.hidden = this.#running === undefined;
  }

  #say(words: string, className = 'fine'): void {
    this.#found.replaceChildren(...(words === '' ? [] : [make('p', { className }, words)]));
  }

  #choice(): FilesInHand {
    const { given } = this.#options;
    const files: Record<string, FileSource> = { ...(given.files as Record<string, FileSource>) };
    const loras: Record<string, FileSource> = { ...given.loras };
    let { model } = given;
    for (const { file, slot } of this.#wanted) {
      if (slot?.file === undefined) continue;
      if (file.part === 'model') model = { files: slot.files };
      else if (file.part === 'lora') loras[file.name!] = slot.file;
      else files[file.part] = slot.file;
    }
    return { preset: this.#preset?.value, model, files, loras };
  }

  async #inspect(): Promise<void> {
    const { entry, used, device, support, looked } = this.#options;
    const controller = new AbortController();
    const { signal } = controller;
    this.#looking = controller;
    this.#enable();
    this.#say('Looking at the files…');
    try {
      const found = await Tabreel.inspect({ ...(used ?? models.model(entry, this.#choice())), device, signal });
      if (!signal.aborted) {
        this.#found.replaceChildren(...inspectionLines(found, support));
        looked(found);
      }
    } catch (thrown) {
      if (!signal.aborted) this.#say(asError(thrown).message, 'bad');
    }
    if (this.#looking === controller) this.#looking = undefined;
    this.#enable();
  }

  async #use(): Promise<void> {
    this.#looking?.abort();
    const { signal } = (this.#running = new AbortController());
    this.#enable();
    const tell = (words: string, share?: number): void => {
      this.#say(words);
      if (share === undefined) this.#bar.removeAttribute('value');
      else this.#bar.value = share;
    };
    try {
      await this.#options.use(this.#choice(), tell, signal);
    } catch (thrown) {
      const { code, message } = asError(thrown);
      if (code === 'aborted') this.#say('Stopped.');
      else this.#say(message, 'bad');
    }
    this.#running = undefined;
    this.#enable();
  }
}
