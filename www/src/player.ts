/** The stage: the shipped sample, previews while a clip is made, and the clip itself, looping. */
import { drawSmooth, type Clip, type Frame } from 'tabreel';
import { byId, make } from './dom';
import { subjectOf } from './recipe';

type State = 'empty' | 'sample' | 'waiting' | 'preview' | 'clip';

const PLAY = 'M6 4l10 6-10 6z';
const PAUSE = 'M5 4h4v12H5zM11 4h4v12h-4z';

const stage = byId('stage');
const canvas = stage.querySelector('canvas')!;
const badge = byId('stage-badge');
const transport = byId('transport');
const playButton = byId<HTMLButtonElement>('play');
const scrub = byId<HTMLInputElement>('scrub');
const scrubLabel = byId<HTMLOutputElement>('scrub-label');
const calm = matchMedia('(prefers-reduced-motion: reduce)');

let clip: Clip | undefined;
let still: Frame | undefined;
let sample: HTMLVideoElement | undefined;
let playing = false;
let shown: 'nothing' | 'sample' | 'canvas' = 'nothing';
let index = 0;
/** When frame 0 would have been shown, in ms. */
let started = 0;
/** The frames that are there while later ones are still made. */
let partial: { frames: readonly Frame[]; fps: number } | undefined;
/** The next turn of the loop: there is only one loop. */
let turn = 0;

export function showSample(about: { prompt: string; width: number; height: number } | null): void {
  if (about === null) return;
  const video = make('video', { id: 'sample', muted: true, loop: true, playsInline: true, src: './sample.mp4' });
  video.setAttribute('aria-label', `Sample clip: ${about.prompt}`);
  // Without sound, and still only if the visitor has not asked for calm.
  if (calm.matches) video.controls = true;
  else video.autoplay = true;
  video.addEventListener('error', () => {
    video.remove();
    sample = undefined;
    if (stage.dataset['state'] === 'sample') enter('empty');
  });
  sample = video;
  stage.prepend(video);
  setShape(about.width, about.height);
  enter('sample', `Sample, made by this model: “${about.prompt}”`);
}

/** Between the click and the first preview: what was there stays, dimmed, unless the new clip has another shape. */
export function showWaiting(width: number, height: number): void {
  playing = false;
  partial = undefined;
  still = clip?.frames[index];
  clip = undefined;
  if (setShape(width, height)) shown = 'nothing';
  enter('waiting', shown === 'nothing' ? undefined : badge.textContent || undefined);
}

export function showPreview(frame: Frame, words: string): void {
  still = frame;
  enter('preview', words);
  paint();
}

/** Plays what is there of a clip, over and over, while the rest is made; the last frame alone where the visitor wants calm. */
export function showPartial(frames: readonly Frame[], fps: number, words: string): void {
  const last = frames.at(-1);
  if (last === undefined) return;
  if (frames.length < 2 || calm.matches) return showPreview(last, words);
  if (partial === undefined) started = performance.now();
  partial = { frames, fps };
  enter('preview', words);
  cancelAnimationFrame(turn);
  turn = requestAnimationFrame(advancePartial);
}

function advancePartial(now: number): void {
  if (partial === undefined) return;
  const { frames, fps } = partial;
  const frame = frames[Math.max(0, Math.floor(((now - started) * fps) / 1000)) % frames.length]!;
  if (frame !== still) {
    still = frame;
    paint();
  }
  turn = requestAnimationFrame(advancePartial);
}

export function showClip(made: Clip): void {
  clip = made;
  still = undefined;
  partial = undefined;
  index = 0;
  setShape(made.width, made.height);
  scrub.max = String(made.numFrames - 1);
  enter('clip');
  stage.setAttribute('aria-label', `Clip: ${subjectOf(made.options)}. Space plays and pauses, arrow keys step through the frames.`);
  if (made.numFrames > 1 && !calm.matches) play();
  else pause();
}

/** Back to whatever can be shown when a generation came to nothing. */
export function showRest(last: Clip | undefined, about: { width: number; height: number } | null): void {
  partial = undefined;
  if (last) return showClip(last);
  if (sample && about) {
    setShape(about.width, about.height);
    return enter('sample', 'Sample, made by this model');
  }
  return enter('empty');
}

function enter(state: State, words?: string): void {
  stage.dataset['state'] = state;
  if (state === 'empty') shown = 'nothing';
  else if (state === 'sample') shown = 'sample';
  else if (state !== 'waiting') shown = 'canvas';
  canvas.hidden = shown !== 'canvas';
  if (sample) sample.hidden = shown !== 'sample';
  badge.textContent = words ?? '';
  badge.hidden = words === undefined;
  transport.hidden = state !== 'clip' || (clip?.numFrames ?? 0) < 2;
  if (state !== 'clip') stage.setAttribute('aria-label', 'Stage');
  resize();
}

/** True if this is another shape than before. */
function setShape(width: number, height: number): boolean {
  const ratio = String(width / height);
  const changed = stage.style.getPropertyValue('--ratio') !== ratio;
  stage.style.setProperty('--ratio', ratio);
  return changed;
}

function play(): void {
  if (clip === undefined) return;
  playing = true;
  started = performance.now() - (index * 1000) / clip.fps;
  setPlayIcon();
  cancelAnimationFrame(turn);
  turn = requestAnimationFrame(advance);
}

function pause(): void {
  playing = false;
  setPlayIcon();
  paint();
}

function setPlayIcon(): void {
  playButton.setAttribute('aria-label', playing ? 'Pause' : 'Play');
  playButton.querySelector('path')!.setAttribute('d', playing ? PAUSE : PLAY);
}

function advance(now: number): void {
  if (!playing || clip === undefined) return;
  const next = Math.floor(((now - started) * clip.fps) / 1000) % clip.numFrames;
  if (next >= 0 && next !== index) {
    index = next;
    paint();
  }
  turn = requestAnimationFrame(advance);
}

function seek(to: number): void {
  if (clip === undefined) return;
  index = (to + clip.numFrames) % clip.numFrames;
  pause();
}

function paint(): void {
  if (still) drawSmooth(canvas, still);
  if (clip === undefined) return;
  clip.drawFrame(canvas, index);
  scrub.value = String(index);
  const at = (index / clip.fps).toFixed(1);
  scrubLabel.textContent = `${at} s · ${index + 1}/${clip.numFrames}`;
  scrub.setAttribute('aria-valuetext', `frame ${index + 1} of ${clip.numFrames}, ${at} s`);
}

/** The canvas has as many pixels as the screen shows, up to a limit where it no longer helps. */
function resize(): void {
  const box = stage.getBoundingClientRect();
  const dense = Math.min(devicePixelRatio, 2);
  const shrink = Math.min(1, 1280 / (Math.max(box.width, box.height) * dense || 1));
  const width = Math.max(1, Math.round(box.width * dense * shrink));
  const height = Math.max(1, Math.round(box.height * dense * shrink));
  if (canvas.width === width && canvas.height === height) return;
  canvas.width = width;
  canvas.height = height;
  paint();
}

new ResizeObserver(resize).observe(stage);
playButton.addEventListener('click', () => (playing ? pause() : play()));
scrub.addEventListener('input', () => seek(Number(scrub.value)));
stage.addEventListener('click', () => clip && clip.numFrames > 1 && (playing ? pause() : play()));
stage.addEventListener('keydown', (event) => {
  if (clip === undefined || event.target !== stage) return;
  const keys: Record<string, () => void> = {
    ' ': () => (playing ? pause() : play()),
    ArrowRight: () => seek(index + 1),
    ArrowLeft: () => seek(index - 1),
    Home: () => seek(0),
    End: () => seek(clip!.numFrames - 1),
  };
  const action = keys[event.key];
  if (action === undefined) return;
  event.preventDefault();
  action();
});
