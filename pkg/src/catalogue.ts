/** A catalogue of models (`models.json`): what there is, where its files lie, what it needs, and under which licence. */
import { parsePresets } from './card.js';
import type { Capabilities, Preset } from './contract.js';
import { TabreelError } from './errors.js';
import { checkDefaults } from './options.js';
import { PARTS } from './source/loose.js';

/** What a file of an entry is: a whole model folder, or a part of a model. */
export type EntryPart = 'model' | keyof typeof PARTS | 'lora';

/** All that there are. */
export const ENTRY_PARTS: readonly EntryPart[] = ['model', ...(Object.keys(PARTS) as (keyof typeof PARTS)[]), 'lora'];

/** What a model does, as `model.capabilities` names it once it is loaded. */
export const MODES = [
  'text',
  'image',
  'lastImage',
  'keyframes',
  'mask',
  'control',
  'reference',
  'source',
] as const satisfies readonly Exclude<keyof Capabilities, 'why'>[];

/** What models make. */
export const KINDS = ['text-to-video', 'image-to-video', 'control-to-video'] as const;

/** Under which terms something may be used. */
export interface License {
  /** SPDX expression, or words where there is none. */
  spdx: string;
  /** Where its text, or the card that states it, can be read. */
  link?: string | undefined;
}

/** One file of an entry, or the folder of a whole model. */
export interface CatalogueFile {
  /** What it is. */
  part: EntryPart;
  /** Where it lies; `{name}` at its start stands for a host of the catalogue. Missing for a file of the visitor's own. */
  url?: string | undefined;
  /** Its name, for a file of the visitor's own, who picks it at each visit. */
  file?: string | undefined;
  /** Of a LoRA: what presets call it. */
  name?: string | undefined;
  /** Of a LoRA: factor of its difference, 1 where it is left out. */
  strength?: number | undefined;
  /** Length, bytes; undefined where nobody knows it. */
  bytes?: number | undefined;
  /** Hex. What is fetched is checked against it. */
  sha256?: string | undefined;
  /** Where it is another than the entry's. */
  license?: License | undefined;
  /** Fields that could not be checked when this was written. */
  unverified: string[];
}

/** What a model takes on its device while it makes a clip of the size `at`, bytes. */
export interface EntryMemory {
  /** With all layers kept, on a GPU. */
  keptBytes: number;
  /** With layers read again in each step, on a GPU: the least it runs with. */
  streamedBytes: number;
  /** The least on the CPU, whose weights are expanded; undefined where it has not been tried there. */
  cpuBytes?: number | undefined;
  /** Width and height (px) and frames of that clip. */
  at?: [number, number, number] | undefined;
  /** How the numbers were found, in words. */
  source?: string | undefined;
}

/** One model of a catalogue. */
export interface CatalogueEntry {
  /** Unique in the catalogue: small letters, digits, `.`, `_` and `-`. */
  id: string;
  /** Name to show. */
  name: string;
  /** What it makes. */
  kind: (typeof KINDS)[number];
  /** A sentence or two. */
  about?: string | undefined;
  /** What its transformer's tensors are recognised as: the name that `inspect` gives. */
  knownAs?: string | undefined;
  /** Of the model. */
  license: License;
  /** What a load takes. */
  files: CatalogueFile[];
  /** Undefined where nobody knows it. */
  memory?: EntryMemory | undefined;
  /** What it takes besides text. */
  modes: (typeof MODES)[number][];
  /** Settings that go together, by name. */
  presets: Record<string, Preset>;
  /** Fields that could not be checked when this was written. */
  unverified: string[];
  /** True for an entry that the visitor added. */
  own?: boolean;
}

/** A whole catalogue. */
export interface Catalogue {
  /** What stands for `{name}` at the start of addresses. */
  hosts: Record<string, string>;
  /** In the order in which they are shown. */
  models: CatalogueEntry[];
}

/**
 * Reads a catalogue, as text or as the JSON that it was. Its names are snake_case, as in a model's card.
 *
 * @param where - What messages call the file
 * @throws TabreelError `invalid-options`: file, field, rule and what was found
 */
export function parseCatalogue(source: string | object, where = 'models.json'): Catalogue {
  let json: unknown = source;
  try {
    if (typeof source === 'string') json = JSON.parse(source);
  } catch (error) {
    throw new TabreelError('invalid-options', `${where} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  const root = new Field(json, where, '');
  root.only(['tabreel', 'hosts', 'models']);
  if (root.get('tabreel').value !== 1) root.get('tabreel').refuse('1, the form of catalogue that is known');
  const hosts = root.get('hosts').optional((field) => field.record((host) => host.address()));
  const models = root.get('models').list(parseEntry);
  const twice = models.find(({ id }, i) => models.findIndex((other) => other.id === id) !== i);
  if (twice) root.get('models').refuse(`a list of models with different ids`, `"${twice.id}" twice`);
  for (const [i, { files }] of models.entries()) {
    for (const [j, { url }] of files.entries()) {
      const host = /^\{(.*?)\}/.exec(url ?? '')?.[1];
      const at = root.get('models').at(i).get('files').at(j).get('url');
      if (host !== undefined && hosts?.[host] === undefined) at.refuse(`an address whose host stands in "hosts"`);
    }
  }
  return { hosts: hosts ?? {}, models };
}

/** The catalogue as {@link parseCatalogue} reads it. */
export function formatCatalogue({ hosts, models }: Catalogue): string {
  const entries = models.map(({ own: _own, ...entry }) => snakeKeys(entry, ['presets']));
  const presets = models.map((entry) => Object.entries(entry.presets).map(([name, preset]) => [name, snakeKeys(preset)]));
  const whole = entries.map((entry, i) => ({ ...entry, presets: Object.fromEntries(presets[i]!) as unknown }));
  return `${JSON.stringify({ tabreel: 1, hosts, models: whole }, null, 1)}\n`;
}

/** Bytes of the files of an entry that a load takes, as far as they are known; LoRAs that only a preset wants are left out. */
export const entryBytes = (entry: CatalogueEntry): number => filesOf(entry).reduce((sum, { bytes = 0 }) => sum + bytes, 0);

/** The files that a load takes: all but the LoRAs that only other presets than the chosen one want. */
export function filesOf(entry: CatalogueEntry, preset?: string): CatalogueFile[] {
  const wanted = preset === undefined ? undefined : entry.presets[preset]?.lora;
  const onDemand = new Set(Object.values(entry.presets).map(({ lora }) => lora));
  return entry.files.filter(({ part, name }) => part !== 'lora' || name === wanted || !onDemand.has(name));
}

/** Where a file of a catalogue lies; undefined for a file of the visitor's own. */
export function addressIn(hosts: Readonly<Record<string, string>>, { url }: Pick<CatalogueFile, 'url'>): string | undefined {
  return url?.replace(/^\{(.*?)\}/, (whole, host: string) => hosts[host]?.replace(/\/$/, '') ?? whole);
}

function parseEntry(field: Field): CatalogueEntry {
  field.only('id name kind about known_as license files memory modes presets unverified'.split(' '));
  const files = field.get('files').list(parseFile);
  const has = (part: EntryPart): boolean => files.some((file) => file.part === part);
  if (!has('model') && !has('transformer')) field.get('files').refuse('files with a "model" or a "transformer" among them');
  for (const part of ENTRY_PARTS) {
    const several = files.filter((file) => file.part === part).length;
    if (part !== 'lora' && several > 1) field.get('files').refuse(`files with one "${snake(part)}" at most`, `${several}`);
  }
  const presets = field.get('presets').optional(parseEntryPresets) ?? {};
  for (const [name, { lora }] of Object.entries(presets)) {
    if (lora === undefined || files.some((file) => file.part === 'lora' && file.name === lora)) continue;
    field.get('presets').get(name).get('lora').refuse('the name of a "lora" among the files');
  }
  return tidy({
    id: field.get('id').matching(/^[a-z0-9][a-z0-9._-]*$/, 'small letters, digits, ".", "_" and "-"'),
    name: field.get('name').words(),
    kind: field.get('kind').oneOf(KINDS),
    about: field.get('about').optional((about) => about.words()),
    knownAs: field.get('known_as').optional((name) => name.words()),
    license: parseLicense(field.get('license')),
    files,
    memory: field.get('memory').optional(parseMemory),
    modes:
      (field.get('modes').optional((modes) => modes.list((mode) => camel(mode.oneOf(MODES.map(snake))))) as CatalogueEntry['modes']) ?? [],
    presets,
    unverified: field.get('unverified').optional((names) => names.list((name) => name.words())) ?? [],
  });
}

function parseFile(field: Field): CatalogueFile {
  field.only('part url file name strength bytes sha256 license unverified'.split(' '));
  const part = camel(field.get('part').oneOf(ENTRY_PARTS.map(snake))) as EntryPart;
  const url = field.get('url').optional((address) => address.address());
  const file = field.get('file').optional((name) => name.words());
  if ((url === undefined) === (file === undefined)) field.refuse('a file with either "url" or "file"');
  return tidy({
    part,
    url,
    file,
    name: part === 'lora' ? field.get('name').words() : undefined,
    strength: field.get('strength').optional((factor) => factor.number()),
    bytes: field.get('bytes').optional((bytes) => bytes.count()),
    sha256: field.get('sha256').optional((hash) => hash.matching(/^[0-9a-f]{64}$/i, '64 hexadecimal digits').toLowerCase()),
    license: field.get('license').optional(parseLicense),
    unverified: field.get('unverified').optional((names) => names.list((name) => name.words())) ?? [],
  });
}

function parseLicense(field: Field): License {
  field.only(['spdx', 'link']);
  return tidy({ spdx: field.get('spdx').words(), link: field.get('link').optional((link) => link.address()) });
}

function parseMemory(field: Field): EntryMemory {
  field.only('kept_bytes streamed_bytes cpu_bytes at source'.split(' '));
  const at = field.get('at').optional((size) => size.list((side) => side.count()));
  if (at !== undefined && at.length !== 3) field.get('at').refuse('width, height and frames');
  return tidy({
    keptBytes: field.get('kept_bytes').count(),
    streamedBytes: field.get('streamed_bytes').count(),
    cpuBytes: field.get('cpu_bytes').optional((bytes) => bytes.count()),
    at: at as EntryMemory['at'],
    source: field.get('source').optional((words) => words.words()),
  });
}

/** What a card forgives is refused here: who writes a catalogue wants to hear of a slip. */
function parseEntryPresets(field: Field): Record<string, Preset> {
  field.record((preset) => preset);
  const presets = parsePresets(field.value);
  for (const [name, preset] of Object.entries(presets)) {
    const at = field.get(name);
    const taken = Object.keys(preset);
    const lost = Object.keys(at.value as object).find((key) => !taken.includes(camel(key)));
    if (lost !== undefined) at.get(lost).refuse('a setting of that kind');
    try {
      checkDefaults(preset);
    } catch (error) {
      at.refuse(`settings that a clip can have (${(error as Error).message})`);
    }
  }
  return presets;
}

/** A value of the file and the way to it, for messages. */
class Field {
  constructor(
    readonly value: unknown,
    readonly where: string,
    readonly path: string,
  ) {}

  get(key: string): Field {
    const record = this.object();
    return new Field(record[key], this.where, this.path === '' ? key : `${this.path}.${key}`);
  }

  at(index: number): Field {
    return new Field((this.value as unknown[])[index], this.where, `${this.path}[${index}]`);
  }

  refuse(rule: string, found: string = show(this.value)): never {
    throw new TabreelError('invalid-options', `${this.where}: ${this.path || 'the file'} must be ${rule}, got ${found}`);
  }

  only(names: readonly string[]): void {
    const stranger = Object.keys(this.object()).find((key) => !names.includes(key));
    if (stranger !== undefined) this.get(stranger).refuse(`left out: known here are ${names.join(', ')}`);
  }

  optional<T>(read: (field: Field) => T): T | undefined {
    return this.value === undefined || this.value === null ? undefined : read(this);
  }

  list<T>(read: (field: Field) => T): T[] {
    if (!Array.isArray(this.value)) return this.refuse('a list');
    return this.value.map((_, i) => read(this.at(i)));
  }

  record<T>(read: (field: Field) => T): Record<string, T> {
    return Object.fromEntries(Object.keys(this.object()).map((key) => [key, read(this.get(key))]));
  }

  words(): string {
    return typeof this.value === 'string' && this.value.trim() !== '' ? this.value : this.refuse('words');
  }

  number(): number {
    return typeof this.value === 'number' && Number.isFinite(this.value) ? this.value : this.refuse('a number');
  }

  count(): number {
    return Number.isSafeInteger(this.value) && (this.value as number) > 0
      ? (this.value as number)
      : this.refuse('a whole number, 1 or more');
  }

  oneOf<T extends string>(names: readonly T[]): T {
    return names.includes(this.value as T) ? (this.value as T) : this.refuse(`one of ${names.join(', ')}`);
  }

  matching(pattern: RegExp, rule: string): string {
    return pattern.test(this.words()) ? this.words() : this.refuse(rule);
  }

  /** What may become a link: nothing that a browser would run. */
  address(): string {
    const text = this.words();
    const plain = text.replace(/^\{\w+\}/, 'https://host');
    const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(plain)?.[1]?.toLowerCase();
    const good = (scheme === undefined || ['http', 'https'].includes(scheme)) && !/[\s\\<>"]/.test(text);
    return good ? text : this.refuse('an http(s) address, a path beside the page, or {host}/path');
  }

  private object(): Record<string, unknown> {
    const { value } = this;
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : this.refuse('an object');
  }
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

const snake = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const camel = (name: string): string => name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Without what is undefined. */
const tidy = <T extends object>(record: T): T => Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as T;

/** Names as the file has them; values that are such names too. */
function snakeKeys(value: unknown, left: readonly string[] = []): Record<string, unknown> {
  const inner = (key: string, part: unknown): unknown => {
    if (key === 'part') return snake(part as string);
    if (key === 'modes') return (part as string[]).map(snake);
    if (Array.isArray(part))
      return part.map((one) => (typeof one === 'object' && one !== null && !Array.isArray(one) ? snakeKeys(one) : one));
    return typeof part === 'object' && part !== null ? snakeKeys(part) : part;
  };
  const entries = Object.entries(value as object).filter(([key, part]) => !left.includes(key) && part !== undefined);
  return Object.fromEntries(entries.map(([key, part]) => [snake(key), inner(key, part)]));
}
