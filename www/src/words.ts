/** Numbers, stages and errors as a visitor reads them. */
import { TabreelError, type Clip, type LoadProgress, type Stage, type TabreelErrorCode, type TaskName } from 'tabreel';

export function megabytes(bytes: number): string {
  const mb = bytes / 1e6;
  // What is there is never nothing.
  return `${mb < 10 ? Math.max(bytes > 0 ? 0.1 : 0, mb).toFixed(1) : Math.round(mb)} MB`;
}

/** Bytes, in GB where there are many. */
export const bytesWords = (bytes: number): string => (bytes < 1e9 ? megabytes(bytes) : `${(bytes / 1e9).toFixed(1)} GB`);

/** A duration that has been measured. */
export function seconds(value: number): string {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 90) return `${Math.round(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

/** A duration that is guessed: rounder the longer it is. */
export function about(value: number): string {
  if (value < 1.5) return 'about a second left';
  if (value < 20) return `about ${Math.round(value)} s left`;
  if (value < 90) return `about ${Math.round(value / 5) * 5} s left`;
  return `about ${Math.round(value / 60)} min left`;
}

const LICENCES: Record<string, string> = { 'MIT OR Apache-2.0': 'free to use (MIT or Apache 2.0)' };
export const licence = (spdx: string | undefined): string => (spdx ? (LICENCES[spdx] ?? spdx) : 'not stated');

export function loadWords({ phase, loaded, total, fromDevice, bytesPerSecond, secondsLeft, waiting }: LoadProgress): string {
  if (phase === 'build') return total > 0 ? `Building the model: ${loaded} of ${total}` : 'Building the model';
  const bytes = total > 0 ? `${megabytes(loaded)} of ${megabytes(total)}` : megabytes(loaded);
  if (phase === 'engine') return `Starting the engine: ${bytes}`;
  if (fromDevice) return `Reading the model from this device: ${bytes}`;
  // Said by the package in lower case, as errors are.
  if (waiting) return `${waiting.charAt(0).toUpperCase()}${waiting.slice(1)}`;
  const rate = bytesPerSecond ? ` at ${megabytes(bytesPerSecond)}/s` : '';
  return `Fetching the model: ${bytes}${rate}${secondsLeft && secondsLeft > 5 ? `, ${about(secondsLeft)}` : ''}`;
}

export const STAGES: Record<Stage, string> = {
  tokenize: 'Reading the prompt',
  'encode-text': 'Understanding the prompt',
  condition: 'Setting the scene',
  denoise: 'Painting',
  decode: 'Developing the frames',
};

/** What a clip was made from besides its prompt; empty if from nothing. */
export function fromWords({ given, task }: Pick<Clip, 'given' | 'task'>): string {
  const ofTask: Partial<Record<TaskName, string>> = {
    extend: `extended ${task['direction'] ?? ''}`.trim(),
    loop: 'made to loop',
    connect: 'from two clips',
    edit: 'from a clip',
    inpaint: 'painted over',
    outpaint: 'in another shape',
    upscale: 'enlarged with new details',
  };
  const words = ofTask[task.name];
  if (words !== undefined) return words;
  const { image, lastImage, keyframes, clips, control, references, source } = given;
  if (keyframes + clips > 0) return 'from keyframes';
  if (image) return lastImage ? 'from a first and a last frame' : 'from a first frame';
  if (lastImage) return 'from a last frame';
  if (control) return 'from a sketch';
  if (references > 0) return 'with a subject';
  return source ? 'from a clip' : '';
}

interface Explanation {
  title: string;
  what: string;
  hint: string;
}

const EXPLAINED: Record<Exclude<TabreelErrorCode, 'aborted'>, { title: string; hint: string }> = {
  'invalid-options': { title: 'That will not work', hint: '' },
  fetch: {
    title: 'The model could not be fetched',
    hint: 'Check the connection and press Generate again. What has already arrived is kept.',
  },
  weights: {
    title: 'The model’s files are not right',
    hint: 'Delete the copy under Settings, “Kept on this device”, and press Generate to fetch it again.',
  },
  tokenizer: {
    title: 'The model’s vocabulary is not right',
    hint: 'Delete the copy under Settings, “Kept on this device”, and press Generate to fetch it again.',
  },
  'unsupported-device': {
    title: 'This device cannot do that',
    hint: 'The CPU works in every current browser: choose it under Settings, “Runs on”.',
  },
  'out-of-memory': {
    title: 'Not enough memory',
    hint: 'Choose a smaller size, a shorter clip or a smaller model, or close other tabs, and press Generate again.',
  },
  'device-lost': {
    title: 'The GPU went away',
    hint: 'Drivers restart, laptops sleep. Press Generate to start again, or choose the CPU under Settings.',
  },
  internal: {
    title: 'Something broke inside',
    hint: 'The engine will be started afresh when you press Generate.',
  },
};

const PARTS: Record<string, string> = {
  numFrames: 'Frames',
  numSteps: 'Steps',
  guidanceScale: 'Guidance',
  negativePrompt: 'The negative prompt',
  prompt: 'The prompt',
  width: 'Width',
  height: 'Height',
  fps: 'Frames per second',
  seed: 'The seed',
  image: 'The first frame',
  lastImage: 'The last frame',
};

export function explain(error: TabreelError): Explanation {
  const { title, hint } = EXPLAINED[error.code as Exclude<TabreelErrorCode, 'aborted'>] ?? EXPLAINED.internal;
  let what = error.message;
  if (error.code === 'invalid-options') {
    what = what
      .replace(/^\w+/, (name) => PARTS[name] ?? name)
      .replaceAll(/\b(keyframe|clip)s\[(\d+)\](?:\.\w+)?/g, (_, kind: string, index: string) => `${kind} ${Number(index) + 1}`);
  }
  return { title, what: `${what.charAt(0).toUpperCase()}${what.slice(1)}${/[.!?]$/.test(what) ? '' : '.'}`, hint };
}
