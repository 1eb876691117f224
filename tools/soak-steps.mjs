// Runs in the tab (tab.mjs): clip after clip, sizes and engines changing.
import { Tabreel } from 'tabreel';

const MODEL = new URL('model/', location.href).href;
let engine;

/** Makes one clip; every so often with a new engine. Returns the bytes it took. */
export async function clip({ width, height, numFrames, device, anew }) {
  if (anew || engine === undefined) {
    engine?.dispose();
    engine = await Tabreel.load({ model: MODEL, device });
  }
  const prompt = 'A red circle moves left.';
  const made = await engine.generate({ prompt, width, height, numFrames, fps: 8, numSteps: 2, seed: 1, onPreview: () => undefined });
  if (made.numFrames !== numFrames || made.width !== width) throw new Error('another clip came');
  return made.memory;
}
