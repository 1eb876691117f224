/** A model, wherever it lies: describe it here, on the page; the worker opens it (open.ts). */
import { parseCard, type ModelCard } from '../card.js';
import { TabreelError, toTabreelError } from '../errors.js';
import { localCard, localFiles, type Content } from './local.js';
import { describeParts, measure, placeParts, type FileSource, type LooseParts } from './loose.js';
import type { FolderDescription, OneFolder } from './open.js';
import { remoteCard, remoteFolder } from './remote.js';

/**
 * A model is a folder laid out as diffusers does: its URL, the name `owner/name` of a Hugging Face repository (or the
 * address of its page), or its files in hand.
 */
export type ModelSource =
  | string
  | URL
  | {
      /** As above. With `{path}` in it, a template: the file's path stands there. */
      url: string | URL;
      /** Sent with every request, e.g. `{ Authorization: 'Bearer …' }`. */
      headers?: Record<string, string>;
      /** Where repositories lie. Default `https://huggingface.co`. */
      hub?: string | URL;
    }
  | {
      /** By their paths in the folder, or as a folder picker gives them. What no model needs stays unread. */
      files: Record<string, Content> | Iterable<File>;
    };

/** A model: a folder, loose files, or a folder of which loose files replace parts. */
export interface ModelSet extends LooseParts {
  /** The folder; not needed where the parts make a whole model. */
  model?: ModelSource | undefined;
}

/** A model folder as the page knows it. */
export interface ModelFolder<Description = FolderDescription> {
  card(signal?: AbortSignal): Promise<ModelCard>;
  describe(card: ModelCard, keep: boolean): Description;
}

/** Reads only `tabreel.json` (a few kB): sizes, defaults, licence, and how many bytes a load would fetch. */
export async function describeModel(model: ModelSource, signal?: AbortSignal): Promise<ModelCard> {
  try {
    return await findFolder(model).card(signal);
  } catch (error) {
    throw toTabreelError(error);
  }
}

/**
 * The model that a folder and loose files make. `unplaced` are files whose part their tensors are to tell.
 *
 * @throws TabreelError `invalid-options`, `weights`
 */
export function findSet(set: ModelSet, unplaced: readonly FileSource[] = []): ModelFolder {
  const { model } = set;
  const { files, replaced } = placeParts(set, unplaced);
  if (files.length === 0) return findFolder(model as ModelSource);
  const base = model === undefined || model === null ? undefined : findFolder(model);
  if (base === undefined && set.transformer === undefined && unplaced.length === 0) {
    throw new TabreelError('invalid-options', 'without a model, a transformer must be given');
  }
  const isReplaced = ({ path }: { path: string }): boolean => replaced.some((part) => path.startsWith(`${part}/`));
  const isPlaced = ({ path }: { path: string }): boolean => files.some((file) => file.path === path);
  return {
    async card(signal) {
      const [card, measured] = await Promise.all([base?.card(signal), measure(files, signal)]);
      const name = (files.find(({ path }) => path.startsWith('transformer/')) ?? files[0]!).path.split('/').at(-1)!;
      if (card === undefined) return { ...parseCard('{}', name, measured), name };
      return { ...card, files: [...card.files.filter((file) => !isReplaced(file)), ...measured] };
    },
    describe(card, keep) {
      const rest = card.files.filter((file) => !isPlaced(file));
      const described = base?.describe({ ...card, files: rest }, keep);
      const placed = describeParts(files, card, keep);
      if (described?.kind === 'local') {
        const own = Object.entries(described.files).filter(([path]) => !isReplaced({ path }));
        return { kind: 'set', base: { ...described, files: Object.fromEntries(own) }, files: placed };
      }
      return { kind: 'set', base: described && { ...described, without: replaced }, files: placed };
    },
  };
}

/** @throws TabreelError `invalid-options`, `weights` */
export function findFolder(model: ModelSource): ModelFolder<OneFolder> {
  if (typeof model === 'string' || model instanceof URL) return remote(model);
  if (typeof model === 'object' && model !== null) {
    if ('url' in model && model.url) return remote(model.url, model.headers, model.hub);
    if ('files' in model && typeof model.files === 'object' && model.files !== null) {
      const folder = localFiles(model.files);
      return { card: () => localCard(folder), describe: () => ({ kind: 'local', files: folder.files }) };
    }
  }
  throw new TabreelError('invalid-options', 'model must be the URL of a model folder, { url, headers }, or { files }');
}

function remote(model: string | URL, headers?: Record<string, string>, hub?: string | URL): ModelFolder<OneFolder> {
  const folder = remoteFolder(model, headers, hub);
  return {
    card: (signal) => remoteCard(folder, signal),
    describe: ({ files, source }, keep) => ({ kind: 'remote', ...folder, files, card: source, keep }),
  };
}
