/** `tabreel.json`, which stands beside `model_index.json`: what to fetch, and what to show before fetching. */
import { OPTIONS, type ModelDefaults, type Preset, type SizeRules } from './contract.js';
import { TabreelError } from './errors.js';
import { parseVocabulary, type Vocabulary } from './vocabulary.js';

/** One file of a model folder; `path` is relative, with forward slashes. */
export interface ModelFile {
  /** Relative to the folder, with forward slashes. */
  path: string;
  /** Length, bytes. */
  bytes: number;
  /** Hex. When given, what was fetched is checked against it. */
  sha256?: string | undefined;
}

/** The file's contents. Its names are snake_case, like all of a model folder's JSON; here they are camelCase. */
export interface ModelCard {
  /** Name to show. */
  name: string;
  /** SPDX expression. */
  license?: string | undefined;
  /** Where the weights come from, in words. */
  trainedOn?: string | undefined;
  /** Sizes that the model was trained on, in px, best first. */
  sizes: {
    /** Px. */
    width: number;
    /** Px. */
    height: number;
  }[];
  /** Clip lengths that the model was trained on, in frames. */
  numFrames: number[];
  /** What sizes and lengths must be multiples of; undefined on an older card, then the loaded model says it. */
  multiples?: SizeRules | undefined;
  /** Settings to start from. */
  defaults: ModelDefaults;
  /** Settings that go together, by name: `generate({ preset })`. */
  presets: Record<string, Preset>;
  /** Prompts that show what the model can do. */
  examples: string[];
  /** The words it was trained on; undefined for a model that was trained on any. */
  vocabulary: Vocabulary | undefined;
  /** What a load fetches. */
  files: ModelFile[];
  /** The card as it was read: the engine takes more from it, such as how many tokens a prompt may have. */
  source: string;
}

/** Where the card lies in a model folder. */
export const CARD = 'tabreel.json';

/** Sum of the bytes that the card lists. */
export const cardBytes = (card: ModelCard): number => card.files.reduce((sum, file) => sum + file.bytes, 0);

/**
 * Reads a card. Only `files` is needed (unless the caller has the files); all else that is missing or of
 * another kind is left out: a model is not refused for its label.
 *
 * @throws TabreelError `weights`
 */
export function parseCard(text: string, where: string, files?: ModelFile[]): ModelCard {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new TabreelError('weights', `${where} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  const card = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  return {
    name: words(card['name']) ?? '',
    license: words(card['license']),
    trainedOn: words(card['trained_on']),
    sizes: list(card['sizes']).flatMap((size) => {
      const [width, height] = list(size);
      return isCount(width) && isCount(height) ? [{ width, height }] : [];
    }),
    numFrames: list(card['num_frames']).filter(isCount),
    multiples: parseMultiples(card['multiples']),
    defaults: parseDefaults(card['default']),
    presets: parsePresets(card['presets']),
    examples: list(card['examples']).filter((example) => typeof example === 'string'),
    vocabulary: parseVocabulary(card['vocabulary']),
    files: files ?? parseFiles(card['files'], where),
    source: text,
  };
}

function parseMultiples(json: unknown): SizeRules | undefined {
  const { width, height, frames } = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  const whole = isCount(width) && isCount(height) && isCount(frames);
  return whole ? { widthMultiple: width, heightMultiple: height, frameMultiple: frames } : undefined;
}

/** Published grids of levels end in a 0 that is no step. */
export const withoutLastZero = <T>(numbers: readonly T[]): T[] =>
  numbers.length > 1 && numbers.at(-1) === 0 ? numbers.slice(0, -1) : [...numbers];

/** The `default` of a card; what is of another kind is left out, what is out of range is refused where it is used. */
export function parseDefaults(json: unknown): ModelDefaults {
  const given = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  const snake = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const pairs = Object.entries(OPTIONS).flatMap(([name, { kind }]) => {
    const value = given[snake(name)];
    if (name === 'prompt' || name === 'classLabel' || name === 'seed') return [];
    if (kind === 'list') return Array.isArray(value) ? [[name, withoutLastZero(value as unknown[])]] : [];
    return typeof value === (kind === 'text' || kind === 'choice' ? 'string' : 'number') ? [[name, value]] : [];
  });
  return Object.fromEntries(pairs) as ModelDefaults;
}

/** The `presets` of a card; read as its `default` is. */
export function parsePresets(json: unknown): Record<string, Preset> {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return {};
  return Object.fromEntries(Object.entries(json).map(([name, preset]) => [name, parsePreset(preset)]));
}

function parsePreset(json: unknown): Preset {
  const given = (typeof json === 'object' && json !== null ? json : {}) as Record<string, unknown>;
  const about = words(given['about']);
  const lora = words(given['lora']);
  const sizes = list(given['sizes']).filter((size): size is [number, number] => list(size).length === 2 && list(size).every(isCount));
  return {
    ...parseDefaults(json),
    ...(about === undefined ? {} : { about }),
    ...(lora === undefined ? {} : { lora }),
    ...(sizes.length === 0 ? {} : { sizes }),
  };
}

function parseFiles(json: unknown, where: string): ModelFile[] {
  const files = list(json) as Partial<ModelFile>[];
  const fine = (file: Partial<ModelFile> | null): file is ModelFile =>
    typeof file?.path === 'string' && Number.isSafeInteger(file.bytes) && file.bytes! >= 0;
  if (files.length === 0 || !files.every(fine)) {
    throw new TabreelError('weights', `${where} must list "files" as [{ "path", "bytes" }, …]`);
  }
  const seen = new Set<string>();
  return files.map(({ path, bytes, sha256 }) => {
    if (!staysInside(path) || seen.has(path)) {
      const rule = 'name files inside the folder, each once, with forward slashes';
      throw new TabreelError('weights', `${where} must ${rule}, got ${JSON.stringify(path)}`);
    }
    seen.add(path);
    if (sha256 === undefined || sha256 === null) return { path, bytes };
    if (typeof sha256 === 'string' && /^[0-9a-f]{64}$/i.test(sha256)) return { path, bytes, sha256: sha256.toLowerCase() };
    throw new TabreelError('weights', `"sha256" of ${path} in ${where} must be 64 hexadecimal digits, got ${JSON.stringify(sha256)}`);
  });
}

/** Other sites, the folder above and whatever a URL would read as such are no paths of a model folder. */
function staysInside(path: string): boolean {
  let plain: string;
  try {
    plain = decodeURIComponent(path);
  } catch {
    plain = path; // a lone % is a fine name
  }
  // eslint-disable-next-line no-control-regex
  if (/[\\\u0000-\u001f]/.test(plain) || /^[a-z][a-z0-9+.-]*:/i.test(plain)) return false;
  return plain.split('/').every((name) => name !== '' && name !== '.' && name !== '..');
}

const words = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0;
