/** A job: what the page asks of the engine, taken from the mode and the settings at the moment of the click. */
import { TabreelError, type Clip, type ClipInputs, type Tabreel, type TaskOptions } from 'tabreel';
import { clipOf, type Material } from './material';
import { MODES, mode } from './modes';
import { mask, sketch, slots, timeline } from './panel';
import { panelOptions } from './panel-options';
import type { Device, Recipe } from './recipe';
import type { Slot } from './slot';

/** Called while a job runs. */
export type Hooks = Pick<TaskOptions, 'signal' | 'onStage' | 'onStep' | 'onPreview' | 'onFrame' | 'onWarning' | 'onPass'>;

export interface Job {
  recipe: Recipe;
  device: Device;
  /** "Extend: a red ball" */
  words: string;
  /** The shape of what is made. */
  shape: { width: number; height: number };
  run(engine: Tabreel, hooks: Hooks): Promise<Clip>;
  /** Seeds are given when all else is right, so that a refused click uses none up. */
  setSeed(seed: number): void;
}

/**
 * Takes everything that the chosen mode needs.
 *
 * @throws TabreelError `invalid-options` that says what is missing
 */
export function takeJob(settings: Recipe, device: Device): Job {
  const recipe = { ...settings, ...(mode() === 'picture' ? { numFrames: 1 } : {}) };
  const { run, shape } = parts(recipe);
  const setSeed = (seed: number): void => {
    recipe.seed = seed;
  };
  return { recipe, device, words: `${MODES[mode()].words}: ${recipe.prompt}`, shape: shape ?? recipe, run, setSeed };
}

type Parts = Pick<Job, 'run'> & { shape?: Job['shape'] };

/** A task has a length of its own and keeps to the size of its clip. */
function shared({
  width: _width,
  height: _height,
  numFrames: _numFrames,
  ...rest
}: Recipe): Omit<Recipe, 'width' | 'height' | 'numFrames'> {
  return rest;
}

function parts(recipe: Recipe): Parts {
  const { direction, added, between, strength, detail, scale, hold, growTo } = panelOptions();
  const generate = (inputs: ClipInputs): Parts => ({
    run: (engine, { onPass: _, ...hooks }) => engine.generate({ ...recipe, ...inputs, ...hooks }),
  });
  const ofClip = (run: (engine: Tabreel, clip: ReturnType<typeof clipOf>, hooks: Hooks) => Promise<Clip>): Parts => {
    const given = need(slots.clip, 'a clip');
    return { shape: given.frames[0]!, run: (engine, hooks) => run(engine, clipOf(given), hooks) };
  };
  switch (mode()) {
    case 'text':
    case 'picture':
      return generate({});
    case 'image': {
      const image = need(slots.first, 'a first frame').frames[0];
      return generate({ image, lastImage: slots.last.material?.frames[0] });
    }
    case 'keyframes': {
      const items = [...timeline.items];
      if (items.length === 0) throw missing('a picture or a clip on the timeline');
      if (timeline.outside !== '') throw new TabreelError('invalid-options', timeline.outside);
      const isClip = ({ material }: { material: Material }): boolean => material.frames.length > 1;
      return generate({
        keyframes: items.filter((item) => !isClip(item)).map(({ at, material }) => ({ frame: at, image: material.frames[0]! })),
        clips: items.filter(isClip).map(({ at, material }) => ({ at, clip: clipOf(material) })),
      });
    }
    case 'extend':
      return ofClip((engine, clip, hooks) => engine.extend(clip, { ...shared(recipe), ...hooks, direction, frames: added }));
    case 'loop':
      return ofClip((engine, clip, hooks) => engine.loop(clip, { ...shared(recipe), ...hooks, frames: between }));
    case 'connect': {
      const second = clipOf(need(slots.second, 'a second clip'));
      return ofClip((engine, clip, hooks) => engine.connect(clip, second, { ...shared(recipe), ...hooks, frames: between }));
    }
    case 'edit':
      return ofClip((engine, clip, hooks) => engine.edit(clip, { ...shared(recipe), ...hooks, strength }));
    case 'paint': {
      need(slots.clip, 'a clip or picture');
      const painted = mask.result();
      if (painted === undefined) throw missing('something painted over');
      return ofClip((engine, clip, hooks) => engine.inpaint(clip, { ...shared(recipe), ...hooks, mask: painted }));
    }
    case 'sketch': {
      const drawn = sketch.result();
      if (drawn === undefined) throw missing('a few lines on the canvas');
      return generate({ control: hold === 'all' ? Array.from({ length: recipe.numFrames }, () => drawn) : drawn });
    }
    case 'subject':
      return generate({ references: need(slots.subject, 'a picture of the subject').frames.slice(0, 1) });
    case 'grow': {
      const { width, height } = growTo ?? recipe;
      return {
        ...ofClip((engine, clip, hooks) => engine.outpaint(clip, { ...shared(recipe), ...hooks, width, height })),
        shape: { width, height },
      };
    }
    case 'enlarge':
      return ofClip((engine, clip, hooks) => engine.upscale(clip, { ...shared(recipe), ...hooks, scale, strength: detail }));
  }
}

function need({ material }: Slot, what: string): Material {
  if (material === undefined) throw missing(what);
  return material;
}

const missing = (what: string): TabreelError =>
  new TabreelError('invalid-options', `${MODES[mode()].words} needs ${what}: add it above, or choose another mode`);
