/** The dialog of models: what there is, whether this machine runs it, under which licence; and which one the page uses. */
import {
  TabreelError,
  entryBytes,
  judgeEntry,
  judgePlan,
  type CatalogueEntry,
  type EntryModel,
  type Inspection,
  type ModelInfo,
  type Support,
  type Verdict,
} from 'tabreel';
import { cautionWords, memoryVerdicts } from './file-slot';
import { startAdd } from './model-add';
import { TakePanel, type FilesInHand } from './model-take';
import { checkedWord, fileWords, licenceLink } from './model-words';
import { choice, choose, isFolder, keepChoice, models, unchoose, type Choice } from './model-choice';
import { byId, make } from './dom';
import { engine, loadedModel, readyEngine } from './engine';
import { asError } from './material';
import type { Device } from './recipe';
import { download } from './result';
import { isRunning } from './runner';
import { bytesWords, explain } from './words';

export interface ModelsHooks {
  /** Undefined until the machine has been looked at. */
  support(): Support | undefined;
  device(): Device;
  /** A model was loaded. */
  onModel(model: ModelInfo): void;
  /** Another model was chosen. */
  onChoice(): Promise<void>;
}
let hooks: ModelsHooks;

const dialog = byId<HTMLDialogElement>('models');
const list = byId('models-list');
const status = byId('models-status');
/** The panel that was opened last. */
let taking: TakePanel | undefined;
/** Files that the visitor gave for entries of their own in this visit. */
const inHand = new Map<string, FilesInHand>();
/** What the headers of an entry's files told in this visit, and for which device. */
const looked = new Map<string, { found: Inspection; device: Device }>();

export function startModels(given: ModelsHooks): void {
  hooks = given;
  const open = byId('open-models');
  open.addEventListener('click', () => {
    say('');
    byId('model-name').textContent = choice().entry.name;
    render();
    dialog.showModal();
  });
  byId('models-close').addEventListener('click', () => dialog.close());
  // What is still being loaded then would come as a surprise later.
  dialog.addEventListener('close', () => taking?.stop());
  // A click beside the dialog closes it, as Escape does.
  dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close());
  startAdd({
    add(entry, files) {
      models.add(entry);
      inHand.set(entry.id, files);
      render();
      say(models.problem ?? `${entry.name} was added.`);
      focusEntry(entry.id);
    },
    taken: () => models.list().map(({ id }) => id),
    device: () => hooks.device(),
    support: () => hooks.support(),
  });
  const file = byId<HTMLInputElement>('models-import-file');
  byId('models-import').addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    const [chosen] = file.files ?? [];
    if (chosen) void importFile(chosen);
    file.value = '';
  });
  byId('models-export').addEventListener('click', () => download(jsonFile(models.export()), 'my-models.json'));
}

const jsonFile = (text: string): Blob => new Blob([text], { type: 'application/json' });

async function importFile(file: File): Promise<void> {
  try {
    const added = models.import(await file.text(), file.name);
    render();
    say(models.problem ?? `${added.map(({ name }) => name).join(', ') || 'Nothing'} was imported from ${file.name}.`);
  } catch (thrown) {
    say(`Nothing was imported: ${asError(thrown).message}.`, true);
  }
}

function say(words: string, bad = false): void {
  status.textContent = words;
  status.classList.toggle('bad', bad);
}

function render(): void {
  const all = models.list();
  list.replaceChildren(...all.map(entryItem));
  byId<HTMLButtonElement>('models-export').disabled = !all.some(({ own }) => own);
  if (models.problem) say(models.problem, true);
}

const focusEntry = (id: string): void => list.querySelector<HTMLElement>(`[data-id="${CSS.escape(id)}"] button`)?.focus();

function entryItem(entry: CatalogueEntry): HTMLElement {
  const { id, name, about, own } = entry;
  const used = choice().entry.id === id;
  // Of loose files another preset may want another LoRA.
  const settled = used && isFolder(choice());
  const title = make('h3', { id: `model-${id}` }, name);
  const use = make('button', { type: 'button', disabled: settled }, settled ? 'In use' : used ? 'Use anew…' : 'Use…');
  const panel = make('div', { className: 'take', hidden: true });
  use.setAttribute('aria-label', settled ? `${name} is in use` : `Use ${name}${used ? ' anew' : ''}`);
  use.addEventListener('click', () => openPanel(entry, use, panel));
  const acts = make('div', { className: 'acts' }, use);
  if (settled) {
    const needs = make('button', { type: 'button', className: 'quiet', ariaLabel: `What ${name} needs` }, 'What it needs…');
    needs.setAttribute('aria-expanded', 'false');
    needs.addEventListener('click', () => openPanel(entry, needs, panel, choice().set));
    acts.append(needs);
  } else use.setAttribute('aria-expanded', 'false');
  if (own) {
    const exported = make('button', { type: 'button', className: 'quiet', ariaLabel: `Export ${name}` }, 'Export');
    exported.addEventListener('click', () => download(jsonFile(models.export([id])), `${id}.json`));
    const remove = make('button', { type: 'button', className: 'quiet', ariaLabel: `Remove ${name} from this list` }, 'Remove');
    remove.addEventListener('click', () => removeEntry(entry));
    acts.append(exported, remove);
  }
  const item = make(
    'li',
    { className: 'entry', data: { id } },
    make('div', { className: 'entry-head' }, title, own ? make('span', { className: 'tag' }, 'yours') : null),
    about ? make('p', {}, about) : null,
    verdictLine(entry),
    make('p', { className: 'fine' }, ...factsOf(entry)),
    filesDetails(entry),
    acts,
    panel,
  );
  item.setAttribute('aria-labelledby', title.id);
  return item;
}

/** "Runs here: needs 14 MB, the adapter allows 2.1 GB." */
function verdictLine(entry: CatalogueEntry): HTMLElement {
  const support = hooks.support();
  if (support === undefined) return make('p', { className: 'verdict fine' }, 'Looking at this machine…');
  const { verdict, runs, reason, caution } = verdictOf(entry, support);
  const words = {
    fits: 'Runs here',
    streams: 'Runs here, slower',
    unknown: 'May run here',
    'too-large': 'Too large here',
    unsupported: 'Not on this device',
  };
  return make(
    'p',
    { className: `verdict ${runs ? 'good' : 'bad'}`, data: { verdict } },
    make('strong', {}, words[verdict]),
    `: ${reason}. `,
    cautionWords(caution),
  );
}

/** What the files themselves told goes before what the list says of them. */
function verdictOf(entry: CatalogueEntry, support: Support): Verdict {
  const { found, device } = looked.get(entry.id) ?? {};
  const [told] = found && device === hooks.device() ? memoryVerdicts(found, support) : [];
  if (found && told) return { ...told, runs: found.runs, ...(found.runs ? {} : { reason: found.reason }) };
  const plan = choice().entry.id === entry.id ? loadedModel()?.plan : undefined;
  return plan ? judgePlan(plan, engine()!.device, support) : judgeEntry(entry, support, hooks.device());
}

/** Says anew whether an entry runs here. */
function judgeAnew(entry: CatalogueEntry): void {
  list.querySelector(`[data-id="${CSS.escape(entry.id)}"] > .verdict`)?.replaceWith(verdictLine(entry));
}

function factsOf(entry: CatalogueEntry): (Node | string)[] {
  const bytes = entryBytes(entry);
  const open = entry.files.some((file) => file.bytes === undefined && file.part !== 'lora');
  const words = bytes === 0 ? 'size not known' : `${bytesWords(bytes)}${open ? ' or more' : ''}`;
  const kinds = {
    'text-to-video': 'text to video',
    'image-to-video': 'image to video',
    'control-to-video': 'text, pictures and control to video',
  };
  const unchecked = entry.unverified.length > 0 ? `; not checked: ${entry.unverified.map(checkedWord).join(', ')}` : '';
  return [`${kinds[entry.kind]} · ${words} · licence `, licenceLink(entry.license), unchecked];
}

function filesDetails({ files, name }: CatalogueEntry): HTMLElement {
  const summary = make('summary', {}, `${files.length === 1 ? 'One file' : `${files.length} files`}`);
  summary.setAttribute('aria-label', `Files of ${name}`);
  return make(
    'details',
    { className: 'files fine' },
    summary,
    make('ul', {}, ...files.map((file) => make('li', {}, ...fileWords(file, models.hosts)))),
  );
}

function removeEntry(entry: CatalogueEntry): void {
  models.remove(entry.id);
  inHand.delete(entry.id);
  looked.delete(entry.id);
  render();
  say(`${entry.name} was removed from this list; what is kept of it on this device stays until it is deleted in the settings.`);
  byId('models-close').focus();
}

/** Opens what says of an entry what it is and needs, and takes what is lacking; or closes it. */
function openPanel(entry: CatalogueEntry, button: HTMLButtonElement, panel: HTMLElement, used?: EntryModel): void {
  const opening = panel.hidden;
  button.setAttribute('aria-expanded', String(opening));
  panel.hidden = !opening;
  if (!opening) return;
  const given = inHand.get(entry.id) ?? {};
  const device = hooks.device();
  taking = new TakePanel(panel, {
    entry,
    given,
    used,
    device,
    support: hooks.support(),
    looked(found) {
      if (found?.plan) looked.set(entry.id, { found, device });
      else if (!looked.delete(entry.id)) return;
      judgeAnew(entry);
    },
    use: (choice, tell, signal) => use(entry, choice, tell, signal),
  });
}

/**
 * Makes an entry the page's model. Loose files and files in hand are loaded now, for only then is known what they suggest.
 *
 * @throws TabreelError when that fails; then the model is the one that was
 */
async function use(
  entry: CatalogueEntry,
  files: FilesInHand,
  tell: (words: string, share?: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const before: Choice = choice();
  try {
    if (isRunning()) throw new TabreelError('invalid-options', 'a clip is being made: wait for it or cancel it, then choose again');
    const next = choose(entry, files);
    if (!isFolder(next) || typeof next.set.model !== 'string') await readyEngine(hooks.device(), signal, hooks.onModel, tell);
    keepChoice();
    dialog.close();
    await hooks.onChoice();
  } catch (thrown) {
    unchoose(before);
    const error = asError(thrown);
    if (error.code !== 'aborted') say(explain(error).what, true);
    throw error;
  }
}
