/** Quality against compute: one prompt and seed at several step counts, side by side. */
import { OPTIONS, type Clip } from 'tabreel';
import { byId, make } from './dom';
import type { Job } from './jobs';
import { subjectOf, type Device } from './recipe';
import { totalSecs } from './result';
import { fromWords, seconds } from './words';

const section = byId('compare');
const row = byId('compare-row');

/** Step counts beside the clip's own, as shares of it. */
const SHARES = [1 / 3, 2 / 3, 2];

let hooks: CompareHooks;
let clips: Clip[] = [];
let players: { canvas: HTMLCanvasElement; clip: Clip }[] = [];
let turn = 0;

export interface CompareHooks {
  /** The clip on the stage. */
  shown(): Clip | undefined;
  device(): Device;
  submit(job: Job): void;
  onShow(clip: Clip): void;
}

export function startCompare(given: CompareHooks): void {
  hooks = given;
  const button = make('button', { type: 'button', id: 'quick-compare', className: 'quiet' }, 'Compare step counts');
  button.title = 'Makes the same clip with fewer and with more steps';
  byId('quick').append(button);
  button.addEventListener('click', () => {
    const clip = hooks.shown();
    if (clip === undefined) return;
    clips = [clip];
    render();
    for (const numSteps of counts(clip.options.numSteps)) {
      hooks.submit(
        jobOf(clip, numSteps, hooks.device(), (made) => {
          if (!clips.includes(clip)) return;
          clips.push(made);
          render();
        }),
      );
    }
  });
  byId('compare-close').addEventListener('click', () => {
    clips = [];
    render();
    byId('stage').focus();
  });
}

/** A clip that was given nothing is made again by its recipe. */
export const comparable = (clip: Clip): boolean => clip.task.name === 'generate' && fromWords(clip) === '';

function counts(own: number): number[] {
  const wanted = SHARES.map((share) => Math.min(OPTIONS.numSteps.max!, Math.max(1, Math.round(own * share))));
  return [...new Set(wanted)].filter((count) => count !== own);
}

function jobOf(clip: Clip, numSteps: number, device: Device, done: (clip: Clip) => void): Job {
  // Levels of its own would say another number of steps.
  const { sigmas: _, ...own } = clip.options;
  const recipe = { ...own, numSteps };
  return {
    recipe,
    device,
    words: `${numSteps} ${numSteps === 1 ? 'step' : 'steps'}: ${subjectOf(recipe)}`,
    shape: recipe,
    async run(engine, { onPass: _, ...hooks }) {
      const made = await engine.generate({ ...recipe, ...hooks });
      done(made);
      return made;
    },
    setSeed: () => undefined,
  };
}

function render(): void {
  section.hidden = clips.length === 0;
  const sorted = [...clips].sort((a, b) => a.options.numSteps - b.options.numSteps);
  players = sorted.map((clip) => ({ clip, canvas: make('canvas', { width: clip.width * 2, height: clip.height * 2 }) }));
  row.replaceChildren(
    ...players.map(({ clip, canvas }) => {
      const { numSteps } = clip.options;
      const words = `${numSteps} ${numSteps === 1 ? 'step' : 'steps'} · ${seconds(totalSecs(clip.timings))}`;
      const button = make('button', { type: 'button', className: 'thumb', title: 'Show on the stage' }, canvas, make('span', {}, words));
      button.addEventListener('click', () => hooks.onShow(clip));
      return make('li', {}, button);
    }),
  );
  cancelAnimationFrame(turn);
  if (players.length > 0) turn = requestAnimationFrame(play);
}

/** All at the same moment, so that the eye compares like with like; still where the visitor wants calm. */
function play(now: number): void {
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  for (const { clip, canvas } of players) {
    const index = calm ? Math.floor(clip.numFrames / 2) : Math.floor((now * clip.fps) / 1000) % clip.numFrames;
    if (canvas.dataset['index'] === String(index)) continue;
    canvas.dataset['index'] = String(index);
    clip.drawFrame(canvas, index);
  }
  turn = requestAnimationFrame(play);
}
