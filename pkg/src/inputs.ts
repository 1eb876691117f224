/** What `generate()` is given besides text: checked against the model, decoded, and laid out as the engine takes it. */
import type { Capabilities, ClipRecipe, EngineCondition, EnginePicture, EnginePiece } from './contract.js';
import type { Frame } from './frame.js';
import { isClip, notClip, readClip, type ClipSource } from './read-clip.js';
import { invalid, isPicture, notPicture, readPicture, show, type PictureSource } from './read-picture.js';

/** A picture at a frame of the clip. */
export interface Keyframe {
  /** Counted from 0; below 0 from the end, −1 is the last frame. */
  frame: number;
  /** What that frame shows. */
  image: PictureSource;
}

/** A clip placed on the timeline of the clip to be made. */
export interface PlacedClip {
  /** The frame that its first frame becomes, counted from 0. */
  at: number;
  /** Resampled to the frame rate of the clip to be made. */
  clip: ClipSource;
}

/**
 * What a clip can be given besides text: everything known of it. Known pixels come back unchanged, the rest is made.
 * What is not opaque in given pictures and clips counts as unknown for models that take masks; others see it over white.
 */
export interface ClipInputs {
  /** What the first frame shows. */
  image?: PictureSource | undefined;
  /** What the last frame shows; some models take it only beside `image`. */
  lastImage?: PictureSource | undefined;
  /** What other frames show. */
  keyframes?: readonly Keyframe[] | undefined;
  /** What stretches of the clip show. */
  clips?: readonly PlacedClip[] | undefined;
  /** White where given frames are to be made anew all the same: one picture for all frames, or a clip. */
  mask?: PictureSource | ClipSource | undefined;
  /** What the parts to be made follow: white lines on black, edges, depth or a pose, as the model was trained. A picture is for the first frame. */
  control?: PictureSource | ClipSource | undefined;
  /** How strongly `control` and all that is known act, 0 to 10. Default 1, as trained. */
  controlScale?: number | undefined;
  /** Things that should appear. A picture of another shape than the clip is seen whole, in the middle of white. */
  references?: readonly PictureSource[] | undefined;
  /** A clip to start from in place of noise. */
  source?: ClipSource | undefined;
  /** How much of `source` is made anew, above 0 to 1, in which nothing of it is left; with the number of steps it must come to one at least. Default 0.6. */
  strength?: number | undefined;
  /** How pictures of another shape come to the frame's: 'cover' (default) cuts around the middle, 'contain' has the room beside them made. */
  fit?: 'cover' | 'contain' | undefined;
  /** How far made pixels are evened out beside known ones, 0 to 64 px. Default 4; 0 is a hard edge. */
  seam?: number | undefined;
  /** Whether known pixels come back unchanged. Default true; false gives them as the model made them. */
  paste?: boolean | undefined;
}

/** The names of {@link ClipInputs}. */
export const INPUTS = [
  'image',
  'lastImage',
  'keyframes',
  'clips',
  'mask',
  'control',
  'controlScale',
  'references',
  'source',
  'strength',
  'fit',
  'seam',
  'paste',
] as const satisfies readonly (keyof ClipInputs)[];

/** Where a given picture or clip stands. */
export interface GivenPlace {
  /** The frame of the clip that its first one is, counted from 0. */
  readonly at: number;
  /** How many there are; 1 for a picture. */
  readonly frames: number;
}

/** What a clip was given, in numbers: the pictures themselves are not kept. */
export interface GivenParts {
  /** A picture for the first frame. */
  readonly image: boolean;
  /** A picture for the last frame. */
  readonly lastImage: boolean;
  /** How many keyframes. */
  readonly keyframes: number;
  /** How many clips on the timeline. */
  readonly clips: number;
  /** A mask. */
  readonly mask: boolean;
  /** A sketch or another control clip. */
  readonly control: boolean;
  /** How many reference pictures. */
  readonly references: number;
  /** A source clip. */
  readonly source: boolean;
  /** How pictures and clips of another shape came to the clip's; undefined where nothing was said. */
  readonly fit?: 'cover' | 'contain' | undefined;
  /** Where pictures and clips stand, in the order of their names above; undefined where none do, and in older recipes. */
  readonly places?: readonly GivenPlace[] | undefined;
  /** As it was given; undefined where nothing was said. */
  readonly controlScale?: number | undefined;
  /** As it was given; undefined where nothing was said. */
  readonly strength?: number | undefined;
  /** As it was given, px; undefined where nothing was said. */
  readonly seam?: number | undefined;
  /** As it was given; undefined where nothing was said. */
  readonly paste?: boolean | undefined;
}

/** How much of a source clip is made anew where nothing is said. */
export const DEFAULT_STRENGTH = 0.6;

/** `places` as {@link placesOf} tells them. */
export function givenParts(given: ClipInputs, places: readonly GivenPlace[] = []): GivenParts {
  const { fit, controlScale, strength, seam, paste } = given;
  const said = Object.entries({ fit, controlScale, strength, seam, paste }).filter(([, value]) => value !== undefined);
  return {
    image: given.image !== undefined,
    lastImage: given.lastImage !== undefined,
    keyframes: given.keyframes?.length ?? 0,
    clips: given.clips?.length ?? 0,
    mask: given.mask !== undefined,
    control: given.control !== undefined,
    references: given.references?.length ?? 0,
    source: given.source !== undefined,
    ...Object.fromEntries(said),
    ...(places.length > 0 ? { places } : {}),
  };
}

/** Where pictures and clips of a condition stand in a clip of so many frames. */
export const placesOf = (condition: EngineCondition | undefined, numFrames: number): GivenPlace[] =>
  (condition?.pieces ?? []).flatMap((piece) => {
    if (piece.kind === 'clip') return [{ at: piece.at, frames: piece.frames.length }];
    return piece.kind === 'frame' ? [{ at: piece.at < 0 ? numFrames + piece.at : piece.at, frames: 1 }] : [];
  });

/**
 * Refuses what is of the wrong kind, lies outside the clip, or is nothing for this model, before anything is decoded.
 *
 * @throws TabreelError `invalid-options`
 */
export function checkInputs(
  given: ClipInputs,
  { numFrames, numSteps }: Pick<ClipRecipe, 'numFrames' | 'numSteps'>,
  can: Capabilities,
): void {
  checkKinds(given);
  range('controlScale', given.controlScale, 0, 10, '');
  range('strength', given.strength, 0, 1, '');
  range('seam', given.seam, 0, 64, ' px');
  if (given.seam !== undefined && !Number.isInteger(given.seam)) throw invalid(`seam must be a whole number of px, got ${given.seam} px`);
  if (given.fit !== undefined && !['cover', 'contain'].includes(given.fit)) {
    throw invalid(`fit must be cover or contain, got ${show(given.fit)}`);
  }
  if (given.paste !== undefined && typeof given.paste !== 'boolean') throw invalid(`paste must be true or false, got ${show(given.paste)}`);
  const { source, strength = DEFAULT_STRENGTH } = given;
  // As the engine counts, which sees it only once the prompt is encoded.
  if (source !== undefined && Math.floor(numSteps * strength) < 1) {
    throw invalid(`strength must keep at least one of ${numSteps} steps, got ${strength}`);
  }
  if (source !== undefined && (given.references?.length ?? 0) > 0) {
    throw invalid('a source clip and reference pictures do not go together');
  }
  if (can.pictureOnly && numFrames !== 1) throw invalid(`this model makes single pictures: numFrames must be 1, got ${numFrames} frames`);
  checkPlaces(given, numFrames);
  checkModel(given, can);
}

function checkKinds(given: ClipInputs): void {
  for (const name of ['image', 'lastImage'] as const) {
    if (given[name] !== undefined && !isPicture(given[name])) throw notPicture(name, given[name]);
  }
  for (const name of ['keyframes', 'clips', 'references'] as const) {
    if (given[name] !== undefined && !Array.isArray(given[name])) throw invalid(`${name} must be an array, got ${show(given[name])}`);
  }
  given.keyframes?.forEach((key, i) => {
    if (!isPicture(key?.image)) throw notPicture(`keyframes[${i}].image`, key?.image);
  });
  given.clips?.forEach((placed, i) => {
    if (!isClip(placed?.clip)) throw notClip(`clips[${i}].clip`, placed?.clip);
  });
  given.references?.forEach((picture, i) => {
    if (!isPicture(picture)) throw notPicture(`references[${i}]`, picture);
  });
  if (given.source !== undefined && !isClip(given.source)) throw notClip('source', given.source);
  for (const name of ['mask', 'control'] as const) {
    const value = given[name];
    if (value !== undefined && !isPicture(value) && !isClip(value)) throw notPicture(name, value);
  }
}

/** Each frame can be given once, and only those that there are. */
function checkPlaces({ image, lastImage, keyframes = [], clips = [] }: ClipInputs, numFrames: number): void {
  const owners = new Map<number, string>();
  const take = (name: string, at: number): void => {
    const frame = at < 0 ? numFrames + at : at;
    if (!Number.isInteger(at) || frame < 0 || frame >= numFrames) {
      throw invalid(`${name} must be a frame from 0 to ${numFrames - 1} (or −1 for the last), got ${show(at)}`);
    }
    const other = owners.get(frame);
    if (other !== undefined) throw invalid(`each frame can be given once; ${other} and ${name} both give frame ${frame}`);
    owners.set(frame, name);
  };
  if (image !== undefined) take('image', 0);
  if (lastImage !== undefined) take('lastImage', -1);
  keyframes.forEach(({ frame }, i) => take(`keyframes[${i}].frame`, frame));
  clips.forEach(({ at }, i) => {
    if (!Number.isInteger(at) || at < 0 || at >= numFrames) {
      throw invalid(`clips[${i}].at must be a frame from 0 to ${numFrames - 1}, got ${show(at)}`);
    }
  });
}

function checkModel(given: ClipInputs, can: Capabilities): void {
  const refuse = (what: string): never => {
    throw invalid(`this model takes no ${what}: ${can.why}`);
  };
  const keys = given.keyframes ?? [];
  if (given.image !== undefined && !can.image && !can.keyframes) refuse('first frame');
  if (given.lastImage !== undefined && !can.lastImage && !can.keyframes) refuse('last frame');
  if (keys.length > 0 && !can.keyframes) refuse('keyframes');
  if ((given.clips?.length ?? 0) > 0 && !can.keyframes) refuse('given clips');
  if (given.mask !== undefined && !can.mask) refuse('mask');
  if (given.fit === 'contain' && !can.mask) refuse('picture with room around it');
  if (given.control !== undefined && !can.control) refuse('sketch or other control clip');
  if ((given.references?.length ?? 0) > 0 && !can.reference) refuse('reference picture');
  if (given.source !== undefined && !can.source) refuse('source clip');
  if (given.lastImage !== undefined && given.image === undefined && !can.keyframes) {
    throw invalid('this model takes a last frame only beside a first one, got the last alone');
  }
  const hasFirst = given.image !== undefined || keys.some(({ frame }) => frame === 0) || given.clips?.some(({ at }) => at === 0);
  if (!can.text && can.classes === 0 && !hasFirst) throw invalid(`this model needs a picture for the first frame: ${can.why}`);
  if (can.needsLastImage && given.lastImage === undefined) throw invalid(`this model needs a picture for the last frame: ${can.why}`);
  const known = given.image ?? given.lastImage ?? keys[0] ?? given.clips?.[0];
  if (given.mask !== undefined && known === undefined) throw invalid('a mask needs given frames to lie on, got none');
  if (given.strength !== undefined && given.source === undefined) throw invalid('strength is for a source clip, got none');
}

/**
 * What was given, decoded, as the engine takes it; undefined where nothing is.
 *
 * @throws TabreelError `invalid-options` when something does not decode or does not fit, `unsupported-device`, `aborted`
 */
export async function readInputs(
  given: ClipInputs,
  { width, height, numFrames, fps }: Pick<ClipRecipe, 'width' | 'height' | 'numFrames' | 'fps'>,
  signal?: AbortSignal,
): Promise<{ condition: EngineCondition | undefined; warnings: string[] }> {
  const pieces: EnginePiece[] = [];
  const warnings: string[] = [];
  const fit = given.fit === undefined ? {} : { fit: given.fit };
  const clipOf = async (source: ClipSource, name: string, maxFrames: number): Promise<Frame[]> => {
    const read = await readClip(source, { fps, maxFrames, cover: { width, height }, name, signal });
    warnings.push(...read.warnings);
    return read.frames;
  };
  const either = async (source: PictureSource | ClipSource, name: string): Promise<Frame[]> =>
    isClip(source) ? clipOf(source, name, numFrames) : [await readPicture(source, name)];
  const frame = async (at: number, image: PictureSource, name: string): Promise<void> => {
    pieces.push({ kind: 'frame', at, picture: pictureOf(await readPicture(image, name)), ...fit });
  };

  if (given.image !== undefined) await frame(0, given.image, 'image');
  if (given.lastImage !== undefined) await frame(-1, given.lastImage, 'lastImage');
  for (const [i, { frame: at, image }] of (given.keyframes ?? []).entries()) await frame(at, image, `keyframes[${i}]`);
  for (const [i, { at, clip }] of (given.clips ?? []).entries()) {
    pieces.push({ kind: 'clip', at, frames: (await clipOf(clip, `clips[${i}]`, numFrames - at)).map(pictureOf), ...fit });
  }
  if (given.mask !== undefined)
    pieces.push({ kind: 'mask', frames: checkMask(await either(given.mask, 'mask'), numFrames).map(pictureOf) });
  if (given.control !== undefined) pieces.push({ kind: 'control', frames: (await either(given.control, 'control')).map(pictureOf) });
  for (const [i, picture] of (given.references ?? []).entries()) {
    pieces.push({ kind: 'reference', picture: pictureOf(await readPicture(picture, `references[${i}]`)) });
  }
  if (given.source !== undefined) {
    const frames = await clipOf(given.source, 'source', numFrames);
    if (frames.length < numFrames) {
      throw invalid(`source must have as many frames as the clip, ${numFrames} at ${fps} per second, got ${frames.length}`);
    }
    pieces.push({ kind: 'source', frames: frames.map(pictureOf), strength: given.strength ?? DEFAULT_STRENGTH });
  }
  if (pieces.length === 0) return { condition: undefined, warnings };
  const { controlScale, seam, paste } = given;
  const said = Object.entries({ controlScale, seam, paste }).filter(([, value]) => value !== undefined);
  return { condition: { pieces, ...Object.fromEntries(said) }, warnings };
}

/** A mask that says nothing is a mistake, and one that leaves nothing another. */
function checkMask(frames: Frame[], numFrames: number): Frame[] {
  if (frames.length !== 1 && frames.length !== numFrames) {
    throw invalid(`a mask must have one frame or as many as the clip, ${numFrames}, got ${frames.length}`);
  }
  let white = 0;
  let all = 0;
  for (const { data } of frames) {
    all += data.length / 4;
    // Transparent counts as black, as in the engine.
    for (let i = 0; i < data.length; i += 4) {
      if (((data[i]! + data[i + 1]! + data[i + 2]!) * data[i + 3]!) / 255 > 382) white++;
    }
  }
  if (white === 0) throw invalid('a mask must be white where something is to be made, got one that is black everywhere');
  if (white === all) throw invalid('a mask must be black where something is kept, got one that is white everywhere');
  return frames;
}

const pictureOf = ({ width, height, data }: Frame): EnginePicture => {
  // Frames of a clip of ours belong to it, and one frame may be given several times: each is handed over as a copy.
  return { width, height, rgba: new Uint8Array(data) };
};

/** The memory of a condition's pictures, to be handed over to the worker. */
export const buffersOf = ({ pieces }: EngineCondition): ArrayBuffer[] => [
  ...new Set(pieces.flatMap((piece) => ('frames' in piece ? piece.frames : [piece.picture])).map(({ rgba }) => rgba.buffer)),
];

function range(name: string, value: unknown, min: number, max: number, unit: string): void {
  if (value === undefined) return;
  if (typeof value !== 'number' || !(value >= min && value <= max)) {
    throw invalid(`${name} must be ${min} to ${max}${unit}, got ${typeof value === 'number' ? `${value}${unit}` : show(value)}`);
  }
}
