// The element by its import alone, and the same without an element.
import 'tabreel/element';
import { Tabreel, type ClipOptions } from 'tabreel';

const form = document.querySelector('form')!;
const output = document.querySelector('output')!;
const canvas = document.querySelector('canvas')!;
let loading: Promise<Tabreel> | undefined;

form.addEventListener('submit', (event) => {
  event.preventDefault();
  make({ prompt: String(new FormData(form).get('prompt')) }).catch((error: Error) => (output.value = error.message));
});

async function make(options: ClipOptions): Promise<void> {
  loading ??= Tabreel.load({ model: '/models/small-world/', onProgress: ({ phase }) => (output.value = phase) });
  const tabreel = await loading;
  // ?frames=5 in the page's address: a short clip, for those in a hurry
  const frames = Number(new URLSearchParams(location.search).get('frames')) || undefined;
  const clip = await tabreel.generate({
    ...options,
    ...(frames && { numFrames: frames, numSteps: 2, width: 64, height: 64 }),
    onStep: ({ step, numSteps }) => (output.value = `step ${step} of ${numSteps}`),
  });
  clip.drawFrame(canvas, 0);
  output.value = `${clip.numFrames} frames`;
}
