/** The loaded model: fetched at the first click, after a crash, and when another backend was chosen. */
import { Tabreel, type ModelCard, type ModelInfo, type resolveOptions } from 'tabreel';
import { announce, progress } from './progress';
import type { Device } from './recipe';
import { loadWords } from './words';

export const MODEL = new URL('models/small-world/', document.baseURI).href;

let loaded: { engine: Tabreel; device: Device } | undefined;

/** Why the model is fetched again next time, in words. */
let notKept: string | undefined;

export const whyNotKept = (): string | undefined => notKept;

/** The engine that was used last, alive or not. */
export const engine = (): Tabreel | undefined => loaded?.engine;

/** Frees what the model holds. */
export const disposeEngine = (): void => loaded?.engine.dispose();

/** Loads the model unless it is there; `adopt` hears of a newly loaded one. */
export async function readyEngine(device: Device, signal: AbortSignal, adopt: (model: ModelInfo) => void): Promise<Tabreel> {
  if (loaded && loaded.engine.alive && loaded.device === device) return loaded.engine;
  loaded?.engine.dispose();
  loaded = undefined;
  notKept = undefined;
  announce('Loading the model.');
  progress('Starting');
  const engine = await Tabreel.load({
    model: MODEL,
    device,
    signal,
    onProgress: (now) => progress(loadWords(now), now.total > 0 ? now.loaded / now.total : undefined),
    onWarning: (message) => (notKept = message),
  });
  loaded = { engine, device };
  adopt(engine.model);
  return engine;
}

/** The model's rules; its card's before it is loaded. */
export function rules(card: ModelCard | undefined): Parameters<typeof resolveOptions>[1] {
  const { widthMultiple = 1, heightMultiple = 1, frameMultiple = 1 } = card?.multiples ?? {};
  return loaded?.engine.model ?? { widthMultiple, heightMultiple, frameMultiple, defaults: {} };
}
