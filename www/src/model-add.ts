/** Adding a model of the visitor's own to the list: by its address, or from files in hand, which are looked at first. */
import {
  ENTRY_PARTS,
  Tabreel,
  cardBytes,
  describeModel,
  modelAddress,
  type CatalogueEntry,
  type CatalogueFile,
  type FileSource,
  type Support,
} from 'tabreel';
import { FileSlot, inspectionLines } from './file-slot';
import { byId, make } from './dom';
import { asError } from './material';
import type { FilesInHand } from './model-take';
import { allowedWords, mayFetch } from './policy';
import type { Device } from './recipe';
import { bytesWords, licence } from './words';

export interface AddHooks {
  /** @throws TabreelError where the entry is not sound */
  add(entry: CatalogueEntry, files: FilesInHand): void;
  /** Ids that there are. */
  taken(): string[];
  device(): Device;
  /** Undefined until the machine has been looked at. */
  support(): Support | undefined;
}

const PARTS = ENTRY_PARTS.filter((part) => part !== 'model');
const WEIGHT_FILE = /\.(safetensors|gguf|pt|pth)(\?.*)?$/i;

/** Fills `#add-form`. */
export function startAdd(hooks: AddHooks): void {
  const form = byId<HTMLFormElement>('add-form');
  const text = (id: string, words: string, more: Partial<HTMLInputElement> = {}): [HTMLElement, HTMLInputElement] => {
    const input = make('input', { id, type: 'text', autocomplete: 'off', ...more });
    return [make('div', { className: 'setting' }, make('label', { htmlFor: id }, words), input), input];
  };
  const [nameBox, name] = text('add-name', 'Name', { required: true });
  const [urlBox, url] = text('add-url', 'Address of a model folder, or owner/name of a repository', {
    placeholder: 'https://…',
    inputMode: 'url',
  });
  const [licenceBox, spdx] = text('add-license', 'Licence, as its card says', { placeholder: 'Apache-2.0' });
  const [linkBox, link] = text('add-license-link', 'Where the licence stands', { placeholder: 'https://…', inputMode: 'url' });
  const found = make('div', { className: 'found', id: 'add-found', role: 'status' });
  const look = make('button', { type: 'button', id: 'add-look' }, 'Look at it');
  const add = make('button', { type: 'submit', className: 'primary', id: 'add-submit' }, 'Add to the list');
  const slots = PARTS.map((part) => new FileSlot({ id: `add-${part}`, part, changed: () => found.replaceChildren() }));
  form.append(
    nameBox,
    urlBox,
    make(
      'fieldset',
      {},
      make('legend', {}, 'Or files of your own'),
      make('div', { className: 'file-slots' }, ...slots.map(({ box }) => box)),
    ),
    licenceBox,
    linkBox,
    found,
    make('div', { className: 'acts' }, look, add),
  );

  const picked = (): { files: Record<string, FileSource>; loras: Record<string, FileSource> } => {
    const out = { files: {} as Record<string, FileSource>, loras: {} as Record<string, FileSource> };
    for (const { part, file } of slots) {
      if (file === undefined) continue;
      if (part === 'lora') out.loras[file.name] = file;
      else out.files[part] = file;
    }
    return out;
  };
  const bad = (words: string): void => found.replaceChildren(make('p', { className: 'bad' }, words));

  look.addEventListener('click', async () => {
    const { files, loras } = picked();
    found.replaceChildren(make('p', { className: 'fine' }, 'Looking…'));
    look.disabled = true;
    try {
      if (url.value.trim() !== '') found.replaceChildren(...(await lookAtAddress(url.value.trim(), hooks)));
      else if (Object.keys(files).length === 0) bad('Give an address or choose a file first.');
      else {
        const set = { ...files, loras: Object.values(loras).map((file) => ({ file })) };
        const told = files['transformer'] ? set : { files: [...Object.values(files), ...Object.values(loras)] };
        const inspected = await Tabreel.inspect({ ...told, device: hooks.device() });
        found.replaceChildren(...inspectionLines(inspected, hooks.support()));
      }
    } catch (thrown) {
      bad(asError(thrown).message);
    }
    look.disabled = false;
  });

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const { files, loras } = picked();
    const address = url.value.trim();
    if (name.value.trim() === '') {
      bad('Give it a name.');
      name.focus();
      return;
    }
    if (address === '' && files['transformer'] === undefined) return bad('Give an address, or choose a transformer’s file at least.');
    const own: CatalogueFile[] = slots.flatMap(({ part, file }) =>
      file === undefined
        ? []
        : [{ part, file: file.name, bytes: file.size, unverified: [], ...(part === 'lora' ? { name: file.name } : {}) }],
    );
    const remote: CatalogueFile[] =
      address === '' ? [] : [{ part: WEIGHT_FILE.test(address) ? 'transformer' : 'model', url: address, unverified: [] }];
    const license = { spdx: spdx.value.trim() || 'not stated', ...(link.value.trim() === '' ? {} : { link: link.value.trim() }) };
    const entry: CatalogueEntry = {
      id: freeId(name.value, hooks.taken()),
      name: name.value.trim(),
      kind: 'text-to-video',
      license,
      files: [...remote, ...own],
      modes: ['text'],
      presets: {},
      unverified: [],
    };
    try {
      hooks.add(entry, { files, loras } as FilesInHand);
    } catch (thrown) {
      return bad(asError(thrown).message);
    }
    form.reset();
    found.replaceChildren();
    byId<HTMLDetailsElement>('models-add').open = false;
  });
}

/** What a folder's card says, before anything large is fetched. */
async function lookAtAddress(address: string, { support }: AddHooks): Promise<HTMLElement[]> {
  if (!mayFetch(address)) {
    const { host } = new URL(modelAddress(address));
    return [
      make(
        'p',
        { className: 'fine' },
        `This page may only talk to ${allowedWords()}, not to ${host}. It can be added all the same: its files are then downloaded by a link and chosen here.`,
      ),
    ];
  }
  if (WEIGHT_FILE.test(address)) {
    return inspectionLines(await Tabreel.inspect({ files: [address], device: 'cpu' }), support());
  }
  const card = await describeModel(address);
  return [make('p', {}, `${card.name || 'A model'}, ${bytesWords(cardBytes(card))}, licence: ${licence(card.license)}.`)];
}

/** A name as an id that nobody has. */
function freeId(name: string, taken: readonly string[]): string {
  const plain =
    name
      .toLowerCase()
      .normalize('NFKD')
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^-+|-+$/g, '') || 'model';
  let id = plain;
  for (let i = 2; taken.includes(id); i++) id = `${plain}-${i}`;
  return id;
}
