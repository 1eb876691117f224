/** A model folder on a web server: its address, its card, or its list of files where it has no card. */
import { CARD, parseCard, type ModelCard } from '../card.js';
import { TabreelError, throwIfAborted } from '../errors.js';
import { listFolder } from './discover.js';
import { TIMING, brief, fetchText, type RequestOptions } from './request.js';
import { ModelStore } from './store.js';

/** Where a model folder lies. */
export interface RemoteFolder {
  /** The folder's URL, with a slash at its end, or a template with `{path}`. */
  base: string;
  /** Sent with every request, e.g. `Authorization`. */
  headers: Record<string, string>;
  /** True where `base` is no folder but the address of its only file. */
  single?: boolean;
}

const HUB = 'https://huggingface.co';
const PATH = '{path}';

/**
 * The folder behind a URL, a URL template with `{path}`, the name `owner/name` of a repository on `hub`, or its page there.
 *
 * @throws TabreelError `invalid-options`
 */
export function remoteFolder(model: string | URL, headers: Record<string, string> = {}, hub: string | URL = HUB): RemoteFolder {
  const given = String(model);
  const here = globalThis.document?.baseURI ?? globalThis.location?.href;
  const host = parse(hub, here)?.href.replace(/\/$/, '');
  if (host === undefined) throw new TabreelError('invalid-options', `hub must be a URL, got "${String(hub)}"`);
  const name = /^[\w-][\w.-]*\/[\w-][\w.-]*$/.exec(given)?.[0] ?? repositoryOf(given, host);
  const [repository, revision = 'main'] = name?.split('@') ?? [];
  const url = parse(repository === undefined ? given : `${host}/${repository}/resolve/${revision}/`, here);
  if (url === undefined || !/^(https?|blob|data|file):$/.test(url.protocol)) {
    throw new TabreelError('invalid-options', `model must be the URL of a model folder, got "${given}"`);
  }
  const base = url.href.replace('%7Bpath%7D', PATH);
  if (base.includes(PATH)) return { base, headers };
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  return { base: url.href, headers };
}

/**
 * The full address of a model's folder, as `load` reads it and `keptModels` names it: of `owner/name`, its files on the hub.
 *
 * @throws TabreelError `invalid-options`
 */
export const modelAddress = (model: string | URL): string => remoteFolder(model).base;

/**
 * A file on a server, as a folder of its own, and its name; the page of a file in a repository (`/blob/`) stands for the file.
 *
 * @throws TabreelError `invalid-options`
 */
export function remoteFile(
  given: string | URL,
  what: string,
  headers: Record<string, string> = {},
): { folder: RemoteFolder; name: string } {
  const url = parse(given, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (url === undefined || !/^(https?|blob|data|file):$/.test(url.protocol)) {
    throw new TabreelError('invalid-options', `${what} must be the URL of a file, got "${String(given)}"`);
  }
  if (url.origin === HUB) url.pathname = url.pathname.replace(/^(\/[^/]+\/[^/]+)\/blob\//, '$1/resolve/');
  const last = url.pathname.split('/').at(-1)!;
  if (last === '') throw new TabreelError('invalid-options', `${what} must be the URL of a file and not of a folder, got "${url.href}"`);
  return { folder: { base: url.href, headers, single: true }, name: decoded(last) };
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name).replaceAll(/[\\/]/g, '_');
  } catch {
    return name;
  }
}

/** `owner/name@revision` of a repository's page on the hub. */
function repositoryOf(given: string, host: string): string | undefined {
  if (!given.startsWith(`${host}/`)) return undefined;
  const page = /^([\w.-]+\/[\w.-]+)(?:\/tree\/([\w.%-]+))?\/?$/.exec(given.slice(host.length + 1));
  return page ? `${page[1]}@${page[2] ?? 'main'}` : undefined;
}

function parse(url: string | URL, base: string | undefined): URL | undefined {
  try {
    return new URL(url, base);
  } catch {
    return undefined;
  }
}

/** The address of a file of the folder; `path` is a name in it and stays one, whatever it looks like. */
export function addressOf({ base, single }: Pick<RemoteFolder, 'base' | 'single'>, path: string): string {
  if (single) return base;
  const encoded = path.split('/').map(encodeURIComponent).join('/');
  if (base.includes(PATH)) return base.replace(PATH, encoded);
  const url = new URL(base);
  url.pathname += encoded;
  return url.href;
}

/**
 * The folder's card. Without a network, or if what the server sends is none, the card of the last whole load on this
 * device; for a folder without a card, one made from what is found in it.
 *
 * @throws TabreelError `fetch`, `weights`, `aborted`
 */
export async function remoteCard(folder: RemoteFolder, signal?: AbortSignal, timing = TIMING): Promise<ModelCard> {
  throwIfAborted(signal, 'loading');
  const url = addressOf(folder, CARD);
  const kept = (await ModelStore.open(folder.base))?.card;
  // With a card at hand a visitor without a network should not wait for more tries.
  const patience = kept === undefined ? timing : brief(timing);
  const options: RequestOptions = { headers: folder.headers, signal, timing: patience };
  try {
    const { text, missing } = await fetchText(url, CARD, options);
    if (text !== undefined) return parseCard(text, url);
    return await listFolder(folder, missing, options);
  } catch (error) {
    throwIfAborted(signal, 'loading');
    if (kept === undefined) throw error;
    return parseCard(kept, url);
  }
}
