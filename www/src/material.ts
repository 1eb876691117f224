/** What a visitor hands over: a picture or a clip, read once. */
import { TabreelError, readClip, readPicture, type Clip, type Frame } from 'tabreel';

export interface Material {
  /** "ball.png" */
  name: string;
  frames: readonly Frame[];
  /** Undefined for a picture. */
  fps: number | undefined;
  /** What was changed while it was read. */
  warnings: readonly string[];
}

/** More pixels than this are not kept of a clip: a model of this page makes no larger ones. */
const CLIP_PX = 768;
/** Clips that are handed over are cut to so many frames, half a minute at 16 a second. */
const MAX_FRAMES = 513;

/** Reads a file as what a place takes. */
export async function readMaterial(file: File, kind: 'image' | 'clip', place: string): Promise<Material> {
  if (kind === 'image' && !isVideo(file)) {
    return { name: file.name, frames: [await readPicture(file, place)], fps: undefined, warnings: [] };
  }
  const cover = { width: CLIP_PX, height: CLIP_PX };
  const { frames, fps, warnings } = await readClip(file, { cover, maxFrames: kind === 'image' ? 1 : MAX_FRAMES, name: place });
  return { name: file.name, frames, fps: frames.length > 1 ? fps : undefined, warnings: kind === 'image' ? [] : warnings };
}

export const isVideo = (file: File): boolean => file.type.startsWith('video/') || /\.(mp4|webm|mov|mkv|m4v|gif)$/i.test(file.name);

export const ofClip = (clip: Clip, name = 'the last clip'): Material => ({ name, frames: clip.frames, fps: clip.fps, warnings: [] });

/** "ball.png, 96 × 64 px", "clip.mp4, 17 frames, 128 × 128 px" */
export function describeMaterial({ name, frames }: Material): string {
  const { width, height } = frames[0]!;
  return `${name}, ${frames.length > 1 ? `${frames.length} frames, ` : ''}${width} × ${height} px`;
}

/** As `generate()` and the tasks take a clip. */
export const clipOf = ({ frames, fps }: Material): { frames: readonly Frame[]; fps: number } | Frame[] =>
  fps === undefined ? [...frames] : { frames, fps };

/** Draws a frame small: `height` px high, or less. */
export async function drawSmall(canvas: HTMLCanvasElement, { data, width, height }: Frame, tall: number): Promise<void> {
  const bitmap = await createImageBitmap(new ImageData(data, width, height));
  const scale = Math.min(1, tall / Math.min(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext('2d');
  if (context) {
    context.imageSmoothingQuality = 'high';
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  }
  bitmap.close();
}

export const asError = (thrown: unknown): TabreelError =>
  thrown instanceof TabreelError ? thrown : new TabreelError('internal', String(thrown));
