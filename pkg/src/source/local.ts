/** A model folder whose files are in hand: dropped, picked, or made by the caller. */
import { CARD, parseCard, type ModelCard } from '../card.js';
import { TabreelError } from '../errors.js';
import { WEIGHT_ENDINGS, WEIGHT_STEMS } from '../contract.js';
import { COMPONENTS, INDEX, WEIGHTS, shardsOf } from './discover.js';
import { textOf } from './memory.js';

/** What a file in hand may be. */
export type Content = Blob | ArrayBuffer | Uint8Array;

const ENDINGS = WEIGHT_ENDINGS.map((ending) => ending.slice(1));

/** Files of the folder itself, and those one level down in a folder that a model has; all else stays unread. */
const WANTED = new RegExp(`^(?:[^/]+\\.json|(?:${COMPONENTS.join('|')})/[^/]+\\.(?:json|model|${ENDINGS.join('|')}))$`);

/**
 * Those files of a folder that a model is read from, by their paths in it. A folder picker puts the folder's own name in
 * front of every path (`webkitRelativePath`); it is cut off.
 *
 * @throws TabreelError `weights` without `model_index.json`
 */
export function localFiles(given: Record<string, Content> | Iterable<File>): { name: string; files: Record<string, Blob> } {
  const entries = (
    Symbol.iterator in given
      ? [...(given as Iterable<File>)].map((file) => [file.webkitRelativePath || file.name, file] as const)
      : Object.entries(given as Record<string, Content>)
  ).map(([path, file]) => [path.replaceAll('\\', '/').replace(/^\.?\//, ''), file] as const);
  // The one that is least deep, should others lie below it.
  const index = entries
    .map(([path]) => path)
    .filter((path) => path === INDEX || path.endsWith(`/${INDEX}`))
    .sort((a, b) => a.length - b.length)[0];
  if (index === undefined) {
    throw new TabreelError('weights', `a model folder must hold ${INDEX}; got ${entries.length} files without one`);
  }
  const prefix = index.slice(0, -INDEX.length);
  const files = entries
    .filter(([path]) => path.startsWith(prefix) && WANTED.test(path.slice(prefix.length)))
    .map(([path, file]) => [path.slice(prefix.length), blobOf(path, file)] as const);
  return { name: prefix.replace(/\/$/, ''), files: Object.fromEntries(files) };
}

/**
 * Takes out of `files` all weights but one set a component: the shards that an index lists, else the file with diffusers' own
 * name; where there is neither, all stay. `one_set` of crate/src/pipeline/files.rs.
 */
async function keepOneSet(files: Record<string, Blob>): Promise<void> {
  for (const component of WEIGHTS) {
    const inside = Object.keys(files).filter((path) => path.startsWith(`${component}/`));
    const among = (names: string[]): string | undefined =>
      names.map((name) => `${component}/${name}`).find((path) => inside.includes(path));
    const index = among(WEIGHT_STEMS.map((stem) => `${stem}.safetensors.index.json`));
    const named = among(WEIGHT_STEMS.flatMap((stem) => ENDINGS.map((ending) => `${stem}.${ending}`)));
    if (index === undefined && named === undefined) continue;
    const shards =
      index === undefined ? [named] : shardsOf(await textOf(index, files[index]!), index).map((name) => `${component}/${name}`);
    for (const path of inside) {
      const isWeight = ENDINGS.some((ending) => path.endsWith(`.${ending}`)) || path.endsWith('.index.json');
      if (isWeight && path !== index && !shards.includes(path)) delete files[path];
    }
  }
}

/** The card in the folder, or one without a word; either way with the files that are there. Weights beside the set are let go. */
export async function localCard({ name, files }: { name: string; files: Record<string, Blob> }): Promise<ModelCard> {
  await keepOneSet(files);
  const text = files[CARD] === undefined ? '{}' : await textOf(CARD, files[CARD]);
  const listed = Object.entries(files).map(([path, file]) => ({ path, bytes: file.size }));
  const card = parseCard(text, CARD, listed);
  return { ...card, name: card.name || name || 'local folder' };
}

/** @throws TabreelError `invalid-options` */
export function blobOf(path: string, file: unknown): Blob {
  if (file instanceof Blob) return file;
  // `new Blob` copies: the caller's bytes stay theirs.
  if (file instanceof ArrayBuffer || (file instanceof Uint8Array && file.buffer instanceof ArrayBuffer))
    return new Blob([file as Uint8Array<ArrayBuffer>]);
  throw new TabreelError('invalid-options', `files must be Blobs, ArrayBuffers or Uint8Arrays, and ${path} is none`);
}
