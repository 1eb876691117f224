/** A job: what the page asks of the engine, taken from the mode and the settings at the moment of the click. */
import { Clip, TabreelError, type ClipInputs, type Frame, type Tabreel, type TaskOptions } from 'tabreel';
import { framesOf, isEmpty } from './control';
import { GROUND, padded, shapeBeside, type Fit } from './fit';
import { clipOf, type Material } from './material';
import { MODES, mode } from './modes';
import { chosenFit, controlClip, mask, needsLastImage, padTo, sketch, slots, takesText, timeline } from './panel';
import { panelOptions } from './panel-options';
import { subjectOf, type Device, type Recipe } from './recipe';
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
  const { run: make, shape } = parts(recipe);
  const fit = chosenFit();
  // A task's clip is padded here, so that only the page knows of it.
  const run: Job['run'] = async (engine, hooks) => withFit(await make(engine, hooks), fit);
  const setSeed = (seed: number): void => {
    recipe.seed = seed;
  };
  return { recipe, device, words: `${MODES[mode()].words}: ${subjectOf(recipe)}`, shape: shape ?? recipe, run, setSeed };
}

/** A clip whose recipe says how what it was given came to its shape. */
const withFit = (clip: Clip, fit: Fit | undefined): Clip =>
  fit === undefined ? clip : new Clip({ ...clip, given: { ...clip.given, fit } });

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
  const { direction, added, between, strength, detail, region, steer, seam, scale, hold, growTo, lines } = panelOptions();
  const size = padTo();
  const whole = (material: Material): Material => (size ? padded(material, size, GROUND[mode()]) : material);
  const generate = (inputs: ClipInputs): Parts => ({
    run: (engine, { onPass: _, ...hooks }) => engine.generate({ ...recipe, ...inputs, ...hooks }),
  });
  const fit: ClipInputs = size ? { fit: 'contain' } : {};
  const ofClip = (run: (engine: Tabreel, clip: ReturnType<typeof clipOf>, hooks: Hooks) => Promise<Clip>): Parts => {
    const given = need(slots.clip, 'a clip');
    return { shape: size ?? given.frames[0]!, run: (engine, hooks) => run(engine, clipOf(whole(given)), hooks) };
  };
  switch (mode()) {
    case 'text':
    case 'picture':
    case 'class':
      return generate({});
    case 'image': {
      const image = need(slots.first, 'a first frame').frames[0];
      const last = needsLastImage() ? need(slots.last, 'a last frame with this model') : slots.last.material;
      return generate({ image, lastImage: last?.frames[0], ...fit });
    }
    case 'keyframes': {
      const items = [...timeline.items];
      if (items.length === 0) throw missing('a picture or a clip on the timeline');
      if (timeline.outside !== '') throw new TabreelError('invalid-options', timeline.outside);
      const isClip = ({ material }: { material: Material }): boolean => material.frames.length > 1;
      return generate({
        keyframes: items.filter((item) => !isClip(item)).map(({ at, material }) => ({ frame: at, image: material.frames[0]! })),
        clips: items.filter(isClip).map(({ at, material }) => ({ at, clip: clipOf(material) })),
        ...fit,
      });
    }
    case 'extend':
      return ofClip((engine, clip, hooks) => engine.extend(clip, { ...shared(recipe), ...hooks, direction, frames: added }));
    case 'loop':
      // Without a clip the prompt makes one, as large and long as the settings say.
      if (slots.clip.material === undefined && takesText()) {
        return { run: (engine, hooks) => engine.loop(undefined, { ...recipe, ...hooks, frames: between }) };
      }
      return ofClip((engine, clip, hooks) => engine.loop(clip, { ...shared(recipe), ...hooks, frames: between }));
    case 'connect': {
      const second = need(slots.second, 'a second clip');
      return ofClip((engine, clip, hooks) => engine.connect(clip, clipOf(whole(second)), { ...shared(recipe), ...hooks, frames: between }));
    }
    case 'edit':
      return ofClip((engine, clip, hooks) => engine.edit(clip, { ...shared(recipe), ...hooks, strength }));
    case 'paint': {
      const marks = maskFor(need(slots.clip, 'a clip or picture'));
      // What lies beside the mask is open already, as is what lies beside the clip.
      const laid = size ? padded(marks, size, '#000') : marks;
      return ofClip((engine, clip, hooks) =>
        engine.inpaint(clip, { ...shared(recipe), ...hooks, mask: clipOf(laid), strength: region, seam }),
      );
    }
    case 'sketch':
      return generate({ control: lines === 'draw' ? drawnControl(recipe, hold) : givenControl(recipe, hold), controlScale: steer });
    case 'subject': {
      const [picture] = need(slots.subject, 'a picture of the subject').frames;
      return generate({ references: [picture!] });
    }
    case 'grow': {
      const { width, height } = growTo ?? recipe;
      return {
        ...ofClip((engine, clip, hooks) => engine.outpaint(clip, { ...shared(recipe), ...hooks, width, height, seam })),
        shape: { width, height },
      };
    }
    case 'enlarge':
      return ofClip((engine, clip, hooks) => engine.upscale(clip, { ...shared(recipe), ...hooks, scale, strength: detail }));
  }
}

/** The mask clip where there is one, else what was painted. */
function maskFor(clip: Material): Material {
  const given = slots.maskClip.material;
  if (given) {
    const [own, of] = [given.frames[0]!, clip.frames[0]!];
    if (shapeBeside(own, of)) {
      const rule = `The mask must have the shape of what it lies on, ${of.width} × ${of.height} px`;
      throw new TabreelError('invalid-options', `${rule}, got ${own.width} × ${own.height} px`);
    }
    return given;
  }
  const painted = mask.result();
  if (painted === undefined) throw missing('something painted over, or a mask clip');
  return { name: 'the mask', frames: [painted], fps: undefined, warnings: [] };
}

const forAll = <T>(one: T, { numFrames }: Recipe): T[] => Array.from({ length: numFrames }, () => one);

function drawnControl(recipe: Recipe, hold: 'first' | 'all'): Frame[] {
  const drawn = sketch.result();
  if (drawn === undefined) throw missing('a few lines on the canvas');
  return hold === 'all' ? forAll(drawn, recipe) : [drawn];
}

function givenControl(recipe: Recipe, hold: 'first' | 'all'): Frame[] {
  const control = controlClip();
  if (control === undefined) throw missing('a clip or picture to follow');
  if (isEmpty(control)) throw new TabreelError('invalid-options', 'What the clip follows must have lines, got frames that are all black');
  const frames = framesOf(control);
  return hold === 'all' && frames.length === 1 ? forAll(frames[0]!, recipe) : frames;
}

function need({ material }: Slot, what: string): Material {
  if (material === undefined) throw missing(what);
  return material;
}

const missing = (what: string): TabreelError =>
  new TabreelError('invalid-options', `${MODES[mode()].words} needs ${what}: add it above, or choose another mode`);
