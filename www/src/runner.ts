/** Running jobs one after the other: progress, previews, the finished clip, and what went wrong. */
import type { Clip, Frame, ModelInfo, Tabreel, TabreelError } from 'tabreel';
import { byId } from './dom';
import { readyEngine } from './engine';
import type { Hooks, Job } from './jobs';
import { asError } from './material';
import { Countdown, rememberPace } from './pace';
import { showClip, showPartial, showPreview, showRest, showWaiting } from './player';
import { announce, countdown, endProgress, holdProgress, progress, startProgress } from './progress';
import { addToQueue, nextJob } from './queue';
import { hideResult, showResult } from './result';
import { STAGES, seconds } from './words';

const generateButton = byId<HTMLButtonElement>('generate');
const cancelButton = byId<HTMLButtonElement>('cancel');
const pauseButton = byId<HTMLButtonElement>('pause');

let running: AbortController | undefined;
let last: Clip | undefined;
/** The engine that works. */
let working: Tabreel | undefined;
/** Whether the job was held: then its time says nothing about this device. */
let held = false;

export interface RunnerHooks {
  onModel(model: ModelInfo): void;
  onClip(clip: Clip, job: Job): void;
  onError(error: TabreelError): void;
  onRest(): void;
}
let hooks: RunnerHooks;

export const isRunning = (): boolean => running !== undefined;
/** The clip on the stage, or the one that was there last. */
export const lastClip = (): Clip | undefined => last;

/** Puts a clip that was made earlier on the stage. */
export function present(clip: Clip): void {
  last = clip;
  showClip(clip);
  showResult(clip, undefined);
}

export function startRunner(given: RunnerHooks): void {
  hooks = given;
  cancelButton.addEventListener('click', () => {
    cancelButton.disabled = true;
    cancelButton.textContent = 'Stopping…';
    running?.abort();
  });
  pauseButton.addEventListener('click', () => setPaused(working?.paused === false));
}

function setPaused(paused: boolean): void {
  if (paused) {
    held = true;
    working?.pause();
  } else working?.resume();
  pauseButton.textContent = paused ? 'Resume' : 'Pause';
  holdProgress(paused);
  announce(paused ? 'Paused.' : 'Going on.');
}

/** Runs a job now, or after those that wait. */
export function submit(job: Job): void {
  if (running) addToQueue(job);
  else void runAll(job);
}

async function runAll(first: Job): Promise<void> {
  for (let job: Job | undefined = first; job; job = nextJob()) await runOne(job);
}

async function runOne(job: Job): Promise<void> {
  const controller = (running = new AbortController());
  const began = performance.now();
  let succeeded = false;
  setBusy(true);
  document.body.classList.add('has-clip');
  hideResult();
  showWaiting(job.shape.width, job.shape.height);
  startProgress();
  try {
    const engine = await readyEngine(job.device, controller.signal, hooks.onModel);
    working = engine;
    pauseButton.hidden = false;
    const clip = await make(engine, job, controller.signal);
    last = clip;
    endProgress();
    showClip(clip);
    showResult(clip, engine);
    hooks.onClip(clip, job);
    succeeded = true;
    announce(`Your clip is ready after ${seconds((performance.now() - began) / 1000)}.`);
  } catch (thrown) {
    endProgress();
    showRest(last, SAMPLE);
    if (last) showResult(last, undefined);
    const error = asError(thrown);
    if (error.code === 'aborted') announce('Cancelled.');
    else hooks.onError(error);
  } finally {
    if (working?.paused) setPaused(false);
    running = working = undefined;
    held = false;
    pauseButton.hidden = true;
    setBusy(false, succeeded ? byId('stage') : generateButton);
    hooks.onRest();
  }
}

async function make(engine: Tabreel, { recipe, run }: Job, signal: AbortSignal): Promise<Clip> {
  let clock = new Countdown(recipe, engine.device);
  let pass = '';
  let single = true;
  /** The frames so far, by their place in the whole. */
  const frames = new Map<number, Frame>();
  const began = performance.now();
  countdown(() => clock.left());
  const clip = await run(engine, {
    signal,
    onPass(now) {
      single = now.numPasses === 1;
      pass = single ? '' : `Part ${now.pass} of ${now.numPasses}: `;
      clock = new Countdown(recipe, engine.device);
    },
    onStage(stage) {
      announce(`${pass}${STAGES[stage]}`);
      if (stage === 'denoise') clock.denoiseStarts();
      if (stage === 'decode') clock.decodeStarts();
      progress(`${pass}${stage === 'denoise' ? `Painting: step 1 of ${recipe.numSteps}` : STAGES[stage]}`, stage === 'decode' ? 1 : 0);
    },
    onStep({ step, numSteps }) {
      clock.step(step);
      const next = Math.min(step + 1, numSteps);
      progress(`${pass}Painting: step ${next} of ${numSteps}`, step / (numSteps + 1));
      if (step === Math.ceil(numSteps / 2)) announce(`${pass}Half of ${numSteps} steps done.`);
    },
    onPreview(preview) {
      // What is finished of a longer clip plays on.
      if (frames.size > 1) return;
      showPreview(preview, `${pass}Preview after step ${preview.step} of ${recipe.numSteps}`);
    },
    onFrame(frame) {
      clock.frame(frame.index + 1);
      frames.set(frame.index, frame);
      const inOrder = [...frames].sort(([a], [b]) => a - b).map(([, done]) => done);
      showPartial(inOrder, recipe.fps, frames.size === 1 ? 'Frame 1' : `${frames.size} frames so far`);
      progress(`${pass}Developing the frames: ${frame.index + 1}`);
    },
  } satisfies Hooks);
  // A task's passes have lengths of their own: only a plain clip says how fast this device is.
  if (single && !held && clip.task.name === 'generate') rememberPace(clip, (performance.now() - began) / 1000);
  return clip;
}

function setBusy(busy: boolean, next: HTMLElement = generateButton): void {
  const hadFocus = [generateButton, cancelButton, pauseButton, document.body].includes(document.activeElement as HTMLElement);
  generateButton.textContent = busy ? 'Queue' : 'Generate';
  generateButton.classList.toggle('primary', !busy);
  cancelButton.hidden = !busy;
  cancelButton.disabled = false;
  cancelButton.textContent = 'Cancel';
  // A focused button that vanishes takes the focus with it: hand it on, but never take it from a field.
  if (hadFocus) (busy ? cancelButton : next).focus({ preventScroll: true });
}
