/** What stands between a model of the list and its use: its size and licences, the files that the page may not fetch, and a look at them. */
import { Tabreel, addressIn, filesOf, type CatalogueEntry, type CatalogueFile, type EntryChoice, type FileSource } from 'tabreel';
import { FileSlot, PART_WORDS, inspectionLines } from './file-slot';
import { models } from './choice';
import { make } from './dom';
import { asError } from './material';
import { fileWords, licenceLink } from './model-words';
import type { Device } from './recipe';
import { bytesWords } from './words';

/** What the visitor gives of an entry. */
export type FilesInHand = EntryChoice;

export interface TakeOptions {
  entry: CatalogueEntry;
  /** Given earlier in this visit. */
  files: FilesInHand;
  mayFetch(url: string): boolean;
  device: Device;
  use(choice: FilesInHand, tell: (words: string, share?: number) => void, signal: AbortSignal): Promise<void>;
}

/** Fills the panel below an entry. */
export function takePanel(panel: HTMLElement, options: TakeOptions): void {
  const { entry, files: given, mayFetch } = options;
  const presets = Object.entries(entry.presets);
  const preset = make('select', { id: `preset-of-${entry.id}` }, ...presets.map(([name]) => make('option', { value: name }, name)));
  const note = make('p', { className: 'fine' });
  const slotsBox = make('div', { className: 'file-slots' });
  const policy = make('p', { className: 'fine policy' });
  const found = make('div', { className: 'found', role: 'status' });
  const go = make('button', { type: 'button', className: 'primary' });
  const look = make('button', { type: 'button' }, 'Look at the files');
  const cancel = make('button', { type: 'button', className: 'quiet', hidden: true }, 'Cancel');
  const bar = make('progress', { max: 1, hidden: true, ariaLabel: 'Loading the model' });
  let slots: { file: CatalogueFile; slot: FileSlot | undefined }[] = [];
  let running: AbortController | undefined;

  const presetName = (): string | undefined => (presets.length > 0 ? preset.value : undefined);
  const addressOf = (file: CatalogueFile): string | undefined => addressIn(models.hosts, file);
  const inHand = (file: CatalogueFile): unknown =>
    file.part === 'lora' ? given.loras?.[file.name!] : file.part === 'model' ? given.model : given.files?.[file.part];
  const fetched = (file: CatalogueFile): boolean => {
    const url = addressOf(file);
    return inHand(file) === undefined && url !== undefined && mayFetch(url);
  };

  const chosen = (): FilesInHand => {
    const choice: {
      preset?: string | undefined;
      model?: EntryChoice['model'];
      files: Record<string, FileSource>;
      loras: Record<string, FileSource>;
    } = {
      preset: presetName(),
      model: given.model,
      files: { ...(given.files as Record<string, FileSource>) },
      loras: { ...given.loras },
    };
    for (const { file, slot } of slots) {
      if (slot?.file === undefined) continue;
      if (file.part === 'model') choice.model = { files: slot.files };
      else if (file.part === 'lora') choice.loras[file.name!] = slot.file;
      else choice.files[file.part] = slot.file;
    }
    return choice as FilesInHand;
  };
  const missing = (): CatalogueFile[] =>
    slots.filter(({ file, slot }) => slot !== undefined && slot.file === undefined && inHand(file) === undefined).map(({ file }) => file);

  const refresh = (): void => {
    const lacking = missing();
    const bytes = slots.filter(({ file }) => fetched(file)).reduce((sum, { file }) => sum + (file.bytes ?? 0), 0);
    const some = slots.some(({ file }) => fetched(file));
    go.textContent = some ? `Fetch ${bytes > 0 ? bytesWords(bytes) : 'its files'} and use it` : 'Use these files';
    go.disabled = look.disabled = lacking.length > 0 || running !== undefined;
    look.hidden = slots.every(({ slot }) => slot === undefined);
    found.replaceChildren(
      ...(lacking.length > 0
        ? [make('p', { className: 'fine' }, `Still to be chosen: ${lacking.map(({ part }) => PART_WORDS[part]).join(', ')}.`)]
        : []),
    );
  };
  const rebuild = (): void => {
    const name = presetName();
    note.textContent = (name && entry.presets[name]?.about) ?? '';
    slots = filesOf(entry, name).map((file) => ({ file, slot: fetched(file) ? undefined : slotOf(file) }));
    const remote = slots.some(({ file, slot }) => slot !== undefined && addressOf(file) !== undefined);
    policy.hidden = !remote;
    policy.textContent =
      'This page may only talk to the server it came from, so it cannot fetch these files itself. Download them with the links, then choose them here; they stay on your machine.';
    slotsBox.replaceChildren(
      ...slots.map(({ file, slot }) => slot?.box ?? make('p', { className: 'fine' }, ...fileWords(file, models.hosts))),
    );
    refresh();
  };
  const slotOf = (file: CatalogueFile): FileSlot => {
    const about = inHand(file) === undefined ? fileWords(file, models.hosts).slice(1) : ['given in this visit'];
    return new FileSlot({ id: `file-${entry.id}-${file.part}-${file.name ?? ''}`, part: file.part, about, changed: refresh });
  };

  preset.addEventListener('change', rebuild);
  look.addEventListener('click', async () => {
    look.disabled = true;
    found.replaceChildren(make('p', { className: 'fine' }, 'Looking at the files…'));
    try {
      const set = models.model(entry, chosen());
      found.replaceChildren(...inspectionLines(await Tabreel.inspect({ ...set, device: options.device })));
    } catch (thrown) {
      found.replaceChildren(make('p', { className: 'bad' }, asError(thrown).message));
    }
    look.disabled = missing().length > 0;
  });
  go.addEventListener('click', async () => {
    const controller = (running = new AbortController());
    const line = make('p', { className: 'fine' });
    refresh();
    found.replaceChildren(line);
    bar.hidden = cancel.hidden = false;
    const tell = (words: string, share?: number): void => {
      line.textContent = words;
      if (share === undefined) bar.removeAttribute('value');
      else bar.value = share;
    };
    try {
      await options.use(chosen(), tell, controller.signal);
    } catch (thrown) {
      const error = asError(thrown);
      found.replaceChildren(make('p', { className: 'bad' }, error.code === 'aborted' ? 'Stopped.' : error.message));
    }
    running = undefined;
    bar.hidden = cancel.hidden = true;
    go.disabled = look.disabled = missing().length > 0;
  });
  cancel.addEventListener('click', () => running?.abort());

  const licence = make(
    'p',
    { className: 'fine' },
    'Licence of the model: ',
    licenceLink(entry.license),
    '. Files with another one say so.',
  );
  const presetBox =
    presets.length > 0 ? [make('div', { className: 'setting' }, make('label', { htmlFor: preset.id }, 'Settings'), preset, note)] : [];
  panel.replaceChildren(licence, ...presetBox, policy, slotsBox, found, bar, make('div', { className: 'acts' }, go, look, cancel));
  rebuild();
}
