/** The loaded model: fetched at the first click, after a crash, and when another backend or model was chosen. */
import { Tabreel, type ModelCard, type ModelInfo, type resolveOptions } from 'tabreel';
import { choice, type Choice } from './model-choice';
import { announce, progress } from './progress';
import type { Device } from './recipe';
import { loadWords } from './words';

let loaded: { engine: Tabreel; device: Device; choice: Choice } | undefined;

/** Why the model is fetched again next time, in words. */
let notKept: string | undefined;

export const whyNotKept = (): string | undefined => notKept;

/** The engine that was used last, alive or not. */
export const engine = (): Tabreel | undefined => loaded?.engine;

/** Frees what the model holds. */
export const disposeEngine = (): void => loaded?.engine.dispose();

/** Loads the chosen model unless it is there; `adopt` hears of a newly loaded one, `tell` how far it is. */
export async function readyEngine(
  device: Device,
  signal: AbortSignal,
  adopt: (model: ModelInfo) => void,
  tell: (words: string, share?: number) => void = progress,
): Promise<Tabreel> {
  const wanted = choice();
  if (loaded && loaded.engine.alive && loaded.device === device && loaded.choice === wanted) return loaded.engine;
  loaded?.engine.dispose();
  loaded = undefined;
  notKept = undefined;
  announce('Loading the model.');
  tell('Starting');
  const engine = await Tabreel.load({
    ...wanted.set,
    device,
    signal,
    onProgress: (now) => tell(loadWords(now), now.total > 0 ? now.loaded / now.total : undefined),
    onWarning: (message) => (notKept = message),
  });
  loaded = { engine, device, choice: wanted };
  adopt(engine.model);
  return engine;
}

/** The chosen model, once it is loaded. */
export const loadedModel = (): ModelInfo | undefined => (loaded?.choice === choice() ? loaded.engine.model : undefined);

/** The model's rules; its card's before it is loaded. */
export function rules(card: ModelCard | undefined): Parameters<typeof resolveOptions>[1] {
  const { widthMultiple = 1, heightMultiple = 1, frameMultiple = 1 } = card?.multiples ?? {};
  return loadedModel() ?? { widthMultiple, heightMultiple, frameMultiple, defaults: {} };
}
