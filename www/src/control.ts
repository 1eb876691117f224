/** What the model follows and which part it makes anew, taken from clips: shown before it is used. */
import { edges, readClip, type Frame } from 'tabreel';
import { fitted, inside, type Fit } from './fit';
import { clipOf, type Material } from './material';
import type { Size } from './size';

/** Frames that are worked out when they are asked for. */
export interface Moving {
  count: number;
  /** Frames a second. */
  fps: number;
  frame(index: number): Frame;
}

export interface Length {
  numFrames: number;
  fps: number;
}

const moving = (frames: readonly Frame[], fps: number, work: (frame: Frame, index: number) => Frame): Moving => {
  const done: Frame[] = [];
  return { count: frames.length, fps, frame: (index) => (done[index] ??= work(frames[index]!, index)) };
};

/** A picture is one frame; a clip comes to the rate and at most the length of what is to be made. */
async function paced(
  material: Material,
  { numFrames, fps }: Length,
  name: string,
): Promise<{ frames: readonly Frame[]; warnings: string[] }> {
  if (material.frames.length === 1) return { frames: material.frames, warnings: [] };
  return readClip(clipOf(material), { fps, maxFrames: numFrames, name });
}

/** The control clip that is made of a clip or picture: its edges at the clip's size, or itself. */
export async function controlOf(
  material: Material,
  kind: 'edges' | 'ready',
  to: Size & Length,
  fit: Fit,
): Promise<{ control: Moving; note: string }> {
  const { frames, warnings } = await paced(material, to, 'the given clip');
  const control = moving(frames, to.fps, (frame) => {
    if (kind === 'ready') return fitted(frame, to, fit, '#000');
    // Where a picture ends is no edge of what it shows.
    const own = fit === 'cover' ? to : inside(frame, to);
    return fitted(edges(fitted(frame, own, 'cover', '#000')), to, 'contain', '#000');
  });
  const rest = to.numFrames - frames.length;
  const shorter = `it is shorter than the clip to be made: at the end ${rest} of ${to.numFrames} frames ${rest === 1 ? 'follows' : 'follow'} nothing`;
  const free = material.frames.length > 1 && rest > 0 ? [shorter] : [];
  const blank = kind === 'edges' && isBlank(control.frame(0)) ? ['its first frame has no edges'] : [];
  return { control, note: sentences([...warnings, ...free, ...blank]) };
}

/** Every frame. */
export const framesOf = ({ count, frame }: Moving): Frame[] => Array.from({ length: count }, (_, index) => frame(index));

/** True where nothing is drawn in any frame; looks no further than it must. */
export const isEmpty = ({ count, frame }: Moving): boolean => !Array.from({ length: count }).some((_, index) => !isBlank(frame(index)));

const isBlank = ({ data }: Frame): boolean => data.every((value, i) => i % 4 === 3 || value < 16);

/** How a mask's white looks over what it lies on: the ink of the brush, opaque by so much. */
const INK = [255, 110, 50];
const OPACITY = 0.72;

/** A clip with its mask's white in colour. */
export async function maskedOf(clip: Material, mask: Material, fps: number): Promise<{ shown: Moving; note: string }> {
  const { frames } = await paced(clip, { numFrames: Infinity, fps }, 'the clip');
  const masks = await paced(mask, { numFrames: frames.length, fps }, 'the mask');
  const single = masks.frames.length === 1;
  const shown = moving(frames, fps, (frame, index) => tinted(frame, masks.frames[single ? 0 : index]));
  const short = !single && masks.frames.length < frames.length;
  const lacking = short ? [`the mask has ${masks.frames.length} frames and the clip ${frames.length}`] : [];
  return { shown, note: sentences([...masks.warnings, ...lacking]) };
}

function tinted(frame: Frame, mask: Frame | undefined): Frame {
  if (mask === undefined) return frame;
  const { data: marks } = fitted(mask, frame, 'cover');
  const data = new Uint8ClampedArray(frame.data);
  for (let i = 0; i < data.length; i += 4) {
    // As the package counts: transparent is black.
    if (((marks[i]! + marks[i + 1]! + marks[i + 2]!) * marks[i + 3]!) / 255 <= 382) continue;
    for (let channel = 0; channel < 3; channel++) data[i + channel] = data[i + channel]! * (1 - OPACITY) + INK[channel]! * OPACITY;
  }
  return { width: frame.width, height: frame.height, data };
}

const sentences = (all: readonly string[]): string => all.map((words) => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`).join(' ');
