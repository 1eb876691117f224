/** Files and licences of a catalogue as a visitor reads them. */
import { addressIn, modelAddress, type CatalogueFile, type License } from 'tabreel';
import { make } from './dom';
import { PART_WORDS } from './file-slot';
import { bytesWords, licence } from './words';

/** A licence with its link. */
export function licenceLink({ spdx, link }: License): Node | string {
  if (link === undefined) return spdx;
  return make('a', { href: link, target: '_blank', rel: 'noreferrer' }, licence(spdx));
}

/** "Transformer: wan2.1_t2v.safetensors, 2.8 GB (length not checked), Apache-2.0" */
export function fileWords(file: CatalogueFile, hosts: Readonly<Record<string, string>>): (Node | string)[] {
  const { part, bytes, license, unverified } = file;
  const url = addressIn(hosts, file);
  const where: Node | string =
    url === undefined
      ? `${file.file}, a file of yours`
      : make('a', { href: part === 'model' ? pageOf(url) : url, target: '_blank', rel: 'noreferrer' }, nameOf(url));
  const size = bytes === undefined ? 'size not known' : bytesWords(bytes);
  const unchecked = unverified.length > 0 ? ` (not checked: ${unverified.map(checkedWord).join(', ')})` : '';
  return [`${PART_WORDS[part]}: `, where, `, ${size}${unchecked}`, ...(license ? [', ', licenceLink(license)] : [])];
}

/** Where a visitor can look at a folder: a repository's files are a page's. */
const pageOf = (url: string): string => modelAddress(url).replace(/\/resolve\/[^/]+\/$/, '/');

const nameOf = (url: string): string => url.split('/').filter(Boolean).at(-1) ?? url;

/** A field of the catalogue, as a visitor calls it. */
export const checkedWord = (field: string): string => ({ url: 'address', bytes: 'size', license: 'licence' })[field] ?? field;
