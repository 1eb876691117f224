/** The full recipe of a clip, as it stands in saved files: what made it, so that it can be opened, changed and run again. */
import { BlobSource, Input } from 'mediabunny';
import { CARD, parseCard, type ModelCard, type ModelFile } from './card.js';
import type { ClipRecipe } from './contract.js';
import { gifText } from './gif-text.js';
import type { GivenParts } from './inputs.js';
import { pngText } from './png-text.js';
import { bytesOf, invalid, show, tagOf } from './read-picture.js';
import { INDEX } from './source/discover.js';
import { VIDEO_FORMATS } from './sniff.js';

/** What was asked for: text alone, or one of the methods of `Tabreel` of the same name. */
export type TaskName = 'generate' | 'extend' | 'loop' | 'connect' | 'edit' | 'inpaint' | 'outpaint' | 'upscale';

/** A task and the settings that only it has, such as `direction` and `strength`. */
export interface TaskRecipe {
  /** Which. */
  name: TaskName;
  /** By their names in the method's options. */
  [setting: string]: string | number | boolean | undefined;
}

/** Everything that makes a clip again, but for the pictures it was given. */
export interface FullRecipe {
  /** Of this form; 1. */
  tabreel: 1;
  /** The model. */
  model: {
    /** The name on its card. */
    name: string;
    /** SHA-256 over its list of files, hexadecimal; undefined where it cannot be computed (plain http). */
    hash?: string | undefined;
  };
  /** What was asked for. */
  task: TaskRecipe;
  /** Every option, settled. Of a task in several passes, those of the first pass. */
  options: ClipRecipe;
  /** What it was given; the pictures are not kept, but those that stand in the clip can be had back: `recoverGiven`. */
  given: GivenParts;
}

/**
 * SHA-256 over the paths, lengths and hashes of a model's files: two folders with the same one hold the same model. Beside
 * `model_index.json` only the folders of its parts count. A part that has all that the folder's card lists of it is what the card
 * says, whatever else lies beside; of any other, what is there counts. The command line has the same rule
 * (`crate/src/cli/identity.rs`); tests/fixtures/model_hash.json holds both to it.
 */
export async function modelHash({ files, source = '' }: ListedModel): Promise<string | undefined> {
  if (globalThis.crypto?.subtle === undefined) return undefined;
  const there = files.filter(({ path }) => path.includes('/') || path === INDEX);
  const promised = promisedBy(source);
  const partOf = ({ path }: ModelFile): string => path.split('/')[0]!;
  const counted = [...new Set(there.map(partOf))].flatMap((part) => {
    const ofCard = promised.filter((file) => partOf(file) === part);
    const isThere = (one: ModelFile): boolean => there.some(({ path, bytes }) => path === one.path && bytes === one.bytes);
    return ofCard.length > 0 && ofCard.every(isThere) ? ofCard : there.filter((file) => partOf(file) === part);
  });
  const lines = counted.map(({ path, bytes, sha256 }) => `${path} ${bytes} ${sha256?.toLowerCase() ?? ''}\n`).sort();
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(lines.join('')));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The files of a model, and, where its folder has one, the card's text. */
export type ListedModel = Pick<ModelCard, 'files'> & Partial<Pick<ModelCard, 'source'>>;

/** The files that a card lists; one that lists none, or wrongly, promises nothing. */
function promisedBy(card: string): ModelFile[] {
  try {
    return parseCard(card, CARD).files;
  } catch {
    return [];
  }
}

/** The comment of a PNG or GIF lies before its pixels: so many bytes are looked at. */
const HEAD_BYTES = 2 ** 20;

/**
 * The recipe in a file that `Clip.toBlob` or the command line wrote (MP4, WebM, PNG, GIF); undefined where there is none, as in files of
 * other programs and in those that a site or an editor has written anew.
 *
 * @throws TabreelError `invalid-options` when it is no file, or one that cannot be read
 */
export async function readRecipe(file: Blob): Promise<FullRecipe | undefined> {
  if (!['Blob', 'File'].includes(tagOf(file))) throw invalid(`a recipe is read from a Blob, got ${show(file)}`);
  const bytes = (length: number): Promise<Uint8Array> => bytesOf(file, 'a file with a recipe', length);
  const begins = String.fromCharCode(...(await bytes(4)));
  const comment = begins.endsWith('PNG')
    ? pngText(await bytes(HEAD_BYTES))
    : begins === 'GIF8'
      ? gifText(await bytes(HEAD_BYTES))
      : await videoComment(file);
  return comment === undefined ? undefined : parseRecipe(comment);
}

async function videoComment(file: Blob): Promise<string | undefined> {
  const input = new Input({ source: new BlobSource(file), formats: VIDEO_FORMATS });
  try {
    return (await input.canRead()) ? (await input.getMetadataTags()).comment : undefined;
  } catch {
    return undefined; // damaged tags are as good as none
  } finally {
    input.dispose();
  }
}

/**
 * A recipe from text, ours or the command line's; undefined where it is none. The options are only taken over: whoever uses them
 * checks them.
 */
export function parseRecipe(text: string): FullRecipe | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { tabreel, model, task, options, given } = (json ?? {}) as Record<string, unknown>;
  if (!isObject(options) || typeof options['prompt'] !== 'string' || !isObject(given)) return undefined;
  if (typeof tabreel === 'string' && typeof task === 'string') return ofCommandLine(model, task, options, given);
  const whole = tabreel === 1 && isObject(model) && isObject(task) && typeof task['name'] === 'string';
  return whole ? (json as FullRecipe) : undefined;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The command line names its tasks otherwise, and what was given by flag. */
function ofCommandLine(model: unknown, task: string, options: object, flags: Record<string, unknown>): FullRecipe {
  const same = ['extend', 'loop', 'connect', 'inpaint', 'outpaint', 'upscale'] satisfies TaskName[] as string[];
  const name = (task === 'video-to-video' ? 'edit' : same.includes(task) ? task : 'generate') as TaskName;
  const { backward, by, strength, fit } = flags;
  const { numFrames } = options as ClipRecipe;
  const scale = flags['control-scale'];
  const given = {
    image: 'image' in flags,
    lastImage: 'last-image' in flags,
    keyframes: Array.isArray(flags['keyframe']) ? flags['keyframe'].length : 0,
    clips: Array.isArray(flags['clip']) ? flags['clip'].length : 0,
    mask: 'mask' in flags,
    control: ['control', 'sketch', 'edges'].some((flag) => flag in flags),
    references: 'reference' in flags ? 1 : 0,
    source: 'source' in flags,
    ...(fit === 'cover' || fit === 'contain' ? { fit } : {}),
    ...(name === 'generate' ? placesOfFlags(flags, numFrames) : {}),
    ...(typeof scale === 'number' ? { controlScale: scale } : {}),
    ...(typeof flags['seam'] === 'number' ? { seam: flags['seam'] } : {}),
    ...(flags['no-paste'] === true ? { paste: false } : {}),
  } satisfies GivenParts;
  const settings = {
    ...(name === 'extend' ? { direction: backward === true ? 'backward' : 'forward' } : {}),
    ...(typeof by === 'number' ? { frames: by } : {}),
    // A loop without a clip, which the prompt made.
    ...(flags['loop'] === null ? { numFrames } : {}),
    ...(typeof strength === 'number' ? { strength } : {}),
  };
  // What it left open stands as null there, and nowhere else.
  const settled = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null)) as unknown as ClipRecipe;
  return { tabreel: 1, model: modelOf(model), task: { name, ...settings }, options: settled, given };
}

/** Where its pictures stand; nothing where a clip stands beside them, whose length it does not tell. */
function placesOfFlags(flags: Record<string, unknown>, numFrames: number): Pick<GivenParts, 'places'> {
  // What it lays side by side shows no clip by itself.
  if ('clip' in flags || 'compare-steps' in flags) return { places: [] };
  const { keyframe } = flags;
  const keys = Array.isArray(keyframe) ? keyframe.map((words) => Number.parseInt(String(words), 10)) : [];
  const all = [...('image' in flags ? [0] : []), ...('last-image' in flags ? [-1] : []), ...keys];
  const frames = all.map((at) => (at < 0 ? numFrames + at : at)).filter(Number.isInteger);
  const places = frames.map((at) => ({ at, frames: 1 }));
  return places.length > 0 ? { places } : {};
}

/** Earlier recipes of the command line had the name alone. */
function modelOf(model: unknown): FullRecipe['model'] {
  const { name, hash } = isObject(model) ? model : { name: model };
  return { name: String(name ?? ''), ...(typeof hash === 'string' ? { hash } : {}) };
}
