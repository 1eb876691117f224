/** Clips given by a caller, decoded to frames at the rate of the clip to be made. */
import { BlobSource, Input, VideoSampleSink, type InputVideoTrack } from 'mediabunny';
import { MOST_CLIP_BYTES } from './contract.js';
import { TabreelError, throwIfAborted, toTabreelError } from './errors.js';
import type { Frame } from './frame.js';
import { WORK_MS, inTime, isLate } from './patience.js';
import {
  MAX_SIDE_PX,
  bytesOf,
  invalid,
  isFrame,
  isPicture,
  isUnreadable,
  readPicture,
  show,
  tagOf,
  unreadable,
  within,
  type PictureSource,
} from './read-picture.js';
import { SNIFFED_BYTES, VIDEO_FORMATS, sniff } from './sniff.js';

/** Frames with a rate: a `Clip` is one. */
export interface ClipFrames {
  /** In order. */
  readonly frames: readonly Frame[];
  /** Frames a second. */
  readonly fps: number;
}

/** A clip: a file (MP4, WebM, GIF, animated PNG or WebP, …), a `Clip`, or pictures, one a frame. */
export type ClipSource = Blob | ClipFrames | readonly PictureSource[];

/** How {@link readClip} reads. */
export interface ReadClipOptions {
  /** Frames a second to resample to; the clip's own where it is left out. */
  fps?: number | undefined;
  /** No more frames than these are read. Default 1025. */
  maxFrames?: number | undefined;
  /** Frames are scaled down while they arrive, as far as they still cover this size; else to 2048 px. */
  cover?:
    | {
        /** Px. */
        width: number;
        /** Px. */
        height: number;
      }
    | undefined;
  /** What an error calls it. Default "clip". */
  name?: string | undefined;
  /** Stops reading. */
  signal?: AbortSignal | undefined;
}

/** What {@link readClip} found. */
export interface ReadClip {
  /** In order; one at least. */
  frames: Frame[];
  /** Frames a second; undefined for pictures, which have no rate of their own. */
  fps: number | undefined;
  /** What was changed on the way, in sentences. */
  warnings: string[];
}

/** The longest clip that can be made, frames. */
const MAX_FRAMES = 1025;

/** True for what {@link readClip} takes; whether it decodes is another question. */
export const isClip = (value: unknown): value is ClipSource =>
  ['Blob', 'File'].includes(tagOf(value)) || isFrames(value) || (Array.isArray(value) && value.length > 0 && value.every(isPicture));

const isFrames = (value: unknown): value is ClipFrames => {
  const { frames, fps } = (value ?? {}) as Partial<ClipFrames>;
  return Array.isArray(frames) && frames.length > 0 && frames.every(isFrame) && typeof fps === 'number' && fps > 0;
};

/** "source must be a Blob, a Clip or an array of pictures, got …" */
export const notClip = (name: string, value: unknown): TabreelError =>
  invalid(
    `${name} must be a Blob, a Clip or an array of pictures, got ${Array.isArray(value) ? `an array of ${value.length}` : show(value)}`,
  );

/**
 * Decodes a clip to RGBA frames, upright, as `generate()` and the tasks do.
 *
 * @throws TabreelError `invalid-options` when it is no clip, cannot be read, does not decode or has more than 4 GiB of pixels,
 *   `unsupported-device` when this browser has no decoder for it, `out-of-memory`, `aborted`
 */
export async function readClip(source: ClipSource, options: ReadClipOptions = {}): Promise<ReadClip> {
  const { fps, maxFrames = MAX_FRAMES, name = 'clip', signal } = options;
  if (!isClip(source)) throw notClip(name, source);
  if (isFrames(source)) return resampled(source, fps, maxFrames, name);
  if (Array.isArray(source)) {
    const frames: Frame[] = [];
    for (const [index, picture] of (source as readonly PictureSource[]).slice(0, maxFrames).entries()) {
      throwIfAborted(signal, 'reading a clip');
      frames.push(await readPicture(picture, `${name}[${index}]`));
    }
    return { frames, fps: undefined, warnings: cutShort(name, source.length, maxFrames) };
  }
  const file = source as Blob;
  const { kind, type } = sniff(await bytesOf(file, name, SNIFFED_BYTES), file.type);
  try {
    if (kind === 'still') return { frames: [await readPicture(file, name)], fps: undefined, warnings: [] };
    const reading = { ...options, maxFrames, name };
    return await (kind === 'animation' ? readAnimation(file, type, reading) : readVideo(file, reading));
  } catch (thrown) {
    throwIfAborted(signal, 'reading a clip');
    if (thrown instanceof TabreelError) throw thrown;
    if (isLate(thrown)) throw new TabreelError('unsupported-device', `${name} could not be decoded: ${(thrown as Error).message}`);
    if (isUnreadable(thrown)) throw unreadable(file, name, thrown);
    const { code, message } = toTabreelError(thrown);
    if (code === 'out-of-memory') throw new TabreelError(code, `no room for the frames of ${name}: ${message}`, { cause: thrown });
    throw invalid(`${name} must be a clip that this browser can decode, got ${show(file)} (${message})`, thrown);
  }
}

type Reading = ReadClipOptions & { maxFrames: number; name: string };

/** Which frame of a clip is shown at the times of another rate: the one that began last. */
function resampled({ frames, fps: own }: ClipFrames, fps: number | undefined, maxFrames: number, name: string): ReadClip {
  const count = fps === undefined ? frames.length : Math.max(1, Math.round((frames.length * fps) / own));
  const at = (index: number): number => Math.min(frames.length - 1, Math.floor((index * own) / (fps ?? own) + 1e-6));
  const taken = Array.from({ length: Math.min(count, maxFrames) }, (_, index) => frames[at(index)]!);
  return { frames: taken, fps: fps ?? own, warnings: [...otherRate(name, own, fps), ...cutShort(name, count, maxFrames)] };
}

/** MP4, QuickTime, WebM and Matroska, as far as the browser decodes what is in them. */
async function readVideo(file: Blob, { fps: wanted, maxFrames, cover, name, signal }: Reading): Promise<ReadClip> {
  if (typeof VideoDecoder === 'undefined') {
    throw new TabreelError('unsupported-device', 'this browser cannot decode video (no WebCodecs)');
  }
  const input = new Input({ source: new BlobSource(file), formats: VIDEO_FORMATS });
  try {
    if (!(await input.canRead())) throw invalid(`${name} must be a clip (MP4, WebM, GIF, …) or a picture, got ${show(file)}`);
    const track = await input.getPrimaryVideoTrack();
    if (track === null) throw invalid(`${name} must have a picture track, got ${show(file)} without one`);
    if (!(await inTime(track.canDecode(), 'VideoDecoder').catch(() => false))) {
      throw new TabreelError(
        'unsupported-device',
        `this browser cannot decode the ${(await track.getCodec()) ?? 'unknown'} video of ${show(file)}`,
      );
    }
    const { averagePacketRate } = await track.computePacketStats();
    const own = Math.round(averagePacketRate * 1000) / 1000 || 1;
    const fps = wanted ?? own;
    const start = await track.getFirstTimestamp();
    const count = Math.max(1, Math.round(((await track.computeDuration()) - start) * fps));
    // Half a frame in: a time on the border of two frames may fall to either.
    const half = 0.5 / Math.max(fps, own);
    const times = Array.from({ length: Math.min(count, maxFrames) }, (_, index) => start + index / fps + half);
    const frames: Frame[] = [];
    for await (const frame of framesAt(track, times, name, cover, signal)) frames.push(frame);
    if (frames.length === 0) throw invalid(`${name} must have one frame at least, got ${show(file)} without any`);
    return { frames, fps, warnings: [...otherRate(name, own, wanted), ...cutShort(name, count, maxFrames)] };
  } finally {
    input.dispose();
  }
}

async function* framesAt(
  track: InputVideoTrack,
  times: number[],
  name: string,
  cover: ReadClipOptions['cover'],
  signal: AbortSignal | undefined,
): AsyncGenerator<Frame> {
  let context: OffscreenCanvasRenderingContext2D | undefined;
  const samples = new VideoSampleSink(track).samplesAtTimestamps(times);
  try {
    for (;;) {
      // A hardware decoder may stop without a word.
      const { done, value: sample } = await inTime(samples.next(), 'VideoDecoder', WORK_MS, (unused) => unused.value?.close());
      if (done) return;
      if (sample === null) continue;
      try {
        throwIfAborted(signal, 'reading a clip');
        context ??= canvasFor({ width: sample.displayWidth, height: sample.displayHeight }, times.length, name, cover);
        const { width, height } = context.canvas;
        context.clearRect(0, 0, width, height);
        sample.draw(context, 0, 0, width, height);
        yield pixels(context);
      } finally {
        sample.close();
      }
    }
  } finally {
    // Not waited for: a decoder that stalls may stall here too.
    void samples.return(undefined).catch(() => undefined);
  }
}

/**
 * Which pictures of an animation are seen in the middle of each tick of a rate; `ends` are the times at which they go, s. At its own
 * rate each is seen once: times in a GIF are whole hundredths of a second. The command line has the same rule (`crate/src/cli/clips.rs`).
 */
export function seenAt(ends: readonly number[], fps: number): number[] {
  const total = ends.at(-1) ?? 0;
  if (isSameRate(ends.length / total, fps)) return ends.map((_, index) => index);
  return Array.from({ length: Math.max(1, Math.round(total * fps)) }, (_, tick) => {
    const index = ends.findIndex((end) => end >= (tick + 0.5) / fps);
    return index < 0 ? ends.length - 1 : index;
  });
}

/** GIF, animated PNG, WebP and AVIF. */
async function readAnimation(file: Blob, type: string, { fps: wanted, maxFrames, cover, name, signal }: Reading): Promise<ReadClip> {
  if (typeof ImageDecoder === 'undefined') {
    const warning = `${name}: this browser decodes only the first picture of an animation (no ImageDecoder)`;
    return { frames: [await readPicture(file, name)], fps: undefined, warnings: [warning] };
  }
  const decoder = new ImageDecoder({ data: await bytesOf(file, name), type });
  try {
    await inTime(Promise.all([decoder.tracks.ready, decoder.completed]), 'ImageDecoder', WORK_MS);
    const total = decoder.tracks.selectedTrack?.frameCount ?? 0;
    // A single frame is the first picture; else the times of all say which is shown when.
    const decoded = maxFrames === 1 ? Math.min(total, 1) : Math.min(total, MAX_FRAMES);
    const pictures: Frame[] = [];
    const ends: number[] = [];
    let context: OffscreenCanvasRenderingContext2D | undefined;
    for (let frameIndex = 0; frameIndex < decoded; frameIndex++) {
      throwIfAborted(signal, 'reading a clip');
      const { image } = await inTime(decoder.decode({ frameIndex }), 'ImageDecoder', WORK_MS, (unused) => unused.image.close());
      try {
        context ??= canvasFor({ width: image.displayWidth, height: image.displayHeight }, decoded, name, cover);
        const { width, height } = context.canvas;
        context.clearRect(0, 0, width, height);
        context.drawImage(image, 0, 0, width, height);
        pictures.push(pixels(context));
        // Players show a picture without a time for a tenth of a second.
        ends.push((ends.at(-1) ?? 0) + (image.duration || 100_000) / 1e6);
      } finally {
        image.close();
      }
    }
    if (pictures.length === 0) throw invalid(`${name} must have one picture at least, got ${show(file)} without any`);
    const own = pictures.length / ends.at(-1)!;
    if (pictures.length === 1) return { frames: pictures, fps: undefined, warnings: cutShort(name, total, maxFrames) };
    const fps = wanted ?? Math.round(own * 1000) / 1000;
    const seen = seenAt(ends, fps);
    const count = seen.length;
    const frames = seen.slice(0, maxFrames).map((index) => pictures[index]!);
    return { frames, fps, warnings: [...otherRate(name, own, wanted), ...cutShort(name, count, maxFrames)] };
  } finally {
    decoder.close();
  }
}

/** What `count` frames of a clip are drawn on, one after the other; refused before more of them are held than there is room for. */
function canvasFor(
  size: { width: number; height: number },
  count: number,
  name: string,
  cover: ReadClipOptions['cover'],
): OffscreenCanvasRenderingContext2D {
  const largest = MAX_SIDE_PX / Math.max(size.width, size.height);
  const covering = cover ? Math.max(cover.width / size.width, cover.height / size.height) : 1;
  const { width, height } = within(size, Math.min(largest, covering));
  const bytes = count * width * height * 4;
  if (bytes > MOST_CLIP_BYTES) {
    const found = `${count} frames of ${width} × ${height} px make them ${bytes}`;
    throw invalid(`${name} must have at most ${MOST_CLIP_BYTES} bytes of pixels, its ${found}: cut it or make it smaller`);
  }
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (context === null) throw new TabreelError('out-of-memory', `no canvas of ${width} × ${height} px for a clip`);
  context.imageSmoothingQuality = 'high';
  return context;
}

function pixels(context: OffscreenCanvasRenderingContext2D): Frame {
  const { width, height } = context.canvas;
  return { width, height, data: context.getImageData(0, 0, width, height).data as Uint8ClampedArray<ArrayBuffer> };
}

/** As `SAME_RATE` of the command line. */
const isSameRate = (own: number, wanted: number): boolean => Math.abs(own / wanted - 1) < 0.02;

const otherRate = (name: string, own: number, wanted: number | undefined): string[] =>
  wanted === undefined || isSameRate(own, wanted)
    ? []
    : [`${name} has ${round(own)} frames per second and was resampled to ${round(wanted)}`];

const cutShort = (name: string, found: number, used: number): string[] =>
  found > used ? [`${name} has ${found} frames; the first ${used} are used`] : [];

const round = (value: number): number => Math.round(value * 10) / 10;
