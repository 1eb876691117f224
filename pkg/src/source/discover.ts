/** A model folder without a card: a browser cannot list it, so what diffusers would look for is asked for by name. */
import { parseCard, type ModelCard, type ModelFile } from '../card.js';
import { WEIGHT_STEMS } from '../contract.js';
import { TabreelError } from '../errors.js';
import { addressOf, type RemoteFolder } from './remote.js';
import { fetchText, identify, type RequestOptions } from './request.js';

/** The folders of a model that are read. */
export const COMPONENTS = ['scheduler', 'tokenizer', 'text_encoder', 'transformer', 'vae', 'image_encoder'] as const;

export const INDEX = 'model_index.json';

/** By component, names of which each that is there is taken. */
const CONFIGURATION: Record<(typeof COMPONENTS)[number], string[]> = {
  scheduler: ['scheduler_config.json'],
  tokenizer: ['tokenizer.json', 'spiece.model', 'tokenizer_config.json', 'special_tokens_map.json'],
  text_encoder: ['config.json'],
  transformer: ['config.json'],
  vae: ['config.json'],
  image_encoder: ['config.json'],
};
export const WEIGHTS: readonly string[] = ['text_encoder', 'transformer', 'vae', 'image_encoder'];

/**
 * A card made from what a folder holds.
 *
 * @throws TabreelError `fetch`, `weights`, `aborted`
 */
export async function listFolder(folder: RemoteFolder, noCard: string, options: RequestOptions): Promise<ModelCard> {
  const index = await fetchText(addressOf(folder, INDEX), INDEX, options);
  if (index.text === undefined) throw new TabreelError('fetch', `${noCard}; ${index.missing}`);
  const found = await Promise.all(named(index.text).map((component) => listComponent(folder, component, options)));
  const files = [...(await present(folder, [INDEX], options)), ...found.flat()];
  const name = decodeURIComponent(folder.base.replace(/\/resolve\/[^/]+\/$/, '/'))
    .split('/')
    .filter(Boolean)
    .at(-1);
  return parseCard(JSON.stringify({ name, files }), 'the list of files');
}

/**
 * The components that an index names, if it names those that every model has; a model of classes has no text encoder, and only some
 * have an image encoder. `["transformers", "CLIPVisionModel"]` names one; one that a model lacks is `[null, null]` or not there.
 */
function named(index: string): (typeof COMPONENTS)[number][] {
  let json: Record<string, unknown> | null = null;
  try {
    json = JSON.parse(index) as Record<string, unknown> | null;
  } catch {
    // What is wrong with it, its loading says.
  }
  const has = (component: string): boolean => {
    const entry = json?.[component];
    return Array.isArray(entry) && typeof entry[1] === 'string';
  };
  const whole = has('transformer') && has('vae');
  return COMPONENTS.filter((component) => (whole || component === 'image_encoder' ? has(component) : true));
}

async function listComponent(folder: RemoteFolder, component: (typeof COMPONENTS)[number], options: RequestOptions): Promise<ModelFile[]> {
  const inside = (names: string[]): string[] => names.map((name) => `${component}/${name}`);
  const configuration = await present(folder, inside(CONFIGURATION[component]), options);
  if (!WEIGHTS.includes(component)) return configuration;
  return [...configuration, ...(await weights(folder, component, options))];
}

/** One set: shards that an index lists, else a single file, as diffusers chooses. */
async function weights(folder: RemoteFolder, component: string, options: RequestOptions): Promise<ModelFile[]> {
  for (const stem of WEIGHT_STEMS) {
    const path = `${component}/${stem}.safetensors.index.json`;
    const { text } = await fetchText(addressOf(folder, path), path, options);
    if (text === undefined) continue;
    const shards = shardsOf(text, path).map((name) => `${component}/${name}`);
    const files = await present(folder, [path, ...shards], options);
    const missing = shards.filter((shard) => !files.some((file) => file.path === shard));
    if (missing.length > 0) throw new TabreelError('weights', `${path} names ${missing[0]}, which the server does not have`);
    return files;
  }
  const single = WEIGHT_STEMS.flatMap((stem) => [`${component}/${stem}.safetensors`, `${component}/${stem}.gguf`]);
  const [first] = await present(folder, single, options);
  if (first) return [first];
  throw new TabreelError('weights', `the model folder has no weights in ${component}/: none of ${single.join(', ')}`);
}

export function shardsOf(text: string, path: string): string[] {
  let map: unknown;
  try {
    map = (JSON.parse(text) as { weight_map?: unknown } | null)?.weight_map;
  } catch (error) {
    throw new TabreelError('weights', `${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  const names = [...new Set(Object.values(typeof map === 'object' && map !== null ? map : {}))];
  const fine = (name: unknown): name is string => typeof name === 'string' && /^[\w][\w.-]*$/.test(name);
  if (names.length > 0 && names.every(fine)) return names;
  throw new TabreelError('weights', `${path} must map tensors to files beside it ("weight_map")`);
}

/** Those of `paths` that the server has, with their lengths. */
async function present(folder: RemoteFolder, paths: string[], options: RequestOptions): Promise<ModelFile[]> {
  const files = await Promise.all(
    paths.map(async (path) => {
      const url = addressOf(folder, path);
      const identity = await identify(url, path, options);
      if (identity === undefined) return [];
      if (identity.size === undefined) throw new TabreelError('fetch', `${url} does not say how long ${path} is`);
      return [{ path, bytes: identity.size }];
    }),
  );
  return files.flat();
}
