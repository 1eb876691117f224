/** A model, wherever it lies: describe it here, on the page; the worker opens it (open.ts). */
import type { ModelCard } from '../card.js';
import { TabreelError, toTabreelError } from '../errors.js';
import { localCard, localFiles, type Content } from './local.js';
import type { FolderDescription } from './open.js';
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

/** A model folder as the page knows it. */
export interface ModelFolder {
  card(signal?: AbortSignal): Promise<ModelCard>;
  describe(card: ModelCard, keep: boolean): FolderDescription;
}

/** Reads only `tabreel.json` (a few kB): sizes, defaults, licence, and how many bytes a load would fetch. */
export async function describeModel(model: ModelSource, signal?: AbortSignal): Promise<ModelCard> {
  try {
    return await findFolder(model).card(signal);
  } catch (error) {
    throw toTabreelError(error);
  }
}

/** @throws TabreelError `invalid-options`, `weights` */
export function findFolder(model: ModelSource): ModelFolder {
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

function remote(model: string | URL, headers?: Record<string, string>, hub?: string | URL): ModelFolder {
  const folder = remoteFolder(model, headers, hub);
  return {
    card: (signal) => remoteCard(folder, signal),
    describe: ({ files, source }, keep) => ({ kind: 'remote', ...folder, files, card: source, keep }),
  };
}
