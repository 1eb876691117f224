/** Encoding with WebCodecs and muxing with mediabunny, with colours and frame times that survive. */
import {
  BufferTarget,
  Mp4OutputFormat,
  Output,
  Quality,
  VideoSample,
  VideoSampleSource,
  WebMOutputFormat,
  canEncodeVideo,
} from 'mediabunny';
import { enlarge } from './enlarge.js';
import { TabreelError, throwIfAborted, toTabreelError } from './errors.js';
import type { Frame } from './frame.js';
import { inTime } from './patience.js';

/** How a video is encoded. */
export interface VideoOptions {
  /** Which container. */
  format: 'mp4' | 'webm';
  /** Frames per second. */
  fps: number;
  /** Whole factor by which frames are enlarged first. Default 1. */
  scale?: number | undefined;
  /** Text for the file's comment tag. */
  comment?: string | undefined;
  /** Stops the encoding. */
  signal?: AbortSignal | undefined;
}

/** Spelled out, so that this package's types stand without mediabunny's. */
export type VideoCodec = 'avc' | 'av1' | 'vp9' | 'vp8';

/** An encoded video and what the browser made it with. */
export interface EncodedVideo {
  /** The file. */
  blob: Blob;
  /** Which codec was used. */
  codec: VideoCodec;
  /** Px. */
  width: number;
  /** Px. */
  height: number;
}

/** In order of preference: what plays in most places comes first. */
const CODECS: Record<VideoOptions['format'], readonly VideoCodec[]> = {
  mp4: ['avc', 'av1', 'vp9'],
  webm: ['vp9', 'av1', 'vp8'],
};

/** The fastest that a file is asked for. */
const MAX_FPS = 1000;
/** An encoder that says nothing for this long is given up. */
const STALL_MS = 20_000;

/** What players assume of video without a tag, and what the tag then says. */
const BT709 = { primaries: 'bt709', transfer: 'bt709', matrix: 'bt709', fullRange: false } as const;

/** Which codecs of a format this browser says it can encode at this size. */
export async function encodableCodecs(format: VideoOptions['format'], width: number, height: number): Promise<VideoCodec[]> {
  const found: VideoCodec[] = [];
  for (const codec of CODECS[format]) {
    // Some browsers throw where they should say no, or say nothing.
    const asked = inTime(canEncodeVideo(codec, { width, height, quality: quality() }), 'VideoEncoder');
    if (await asked.catch(() => false)) found.push(codec);
  }
  return found;
}

/**
 * Encodes every frame once, the first as a key frame, each lasting exactly 1/fps s.
 *
 * Video codecs with halved colour planes need even sizes: an odd width or height grows by one px, which
 * repeats the last column or row. (Sizes that models produce are multiples of 16, so this is for others.)
 */
export async function encodeVideo(frames: readonly Frame[], options: VideoOptions): Promise<EncodedVideo> {
  const { format, fps, scale = 1, comment, signal } = options;
  const first = frames[0];
  if (first === undefined) throw new TabreelError('invalid-options', 'a clip must have at least 1 frame, got 0 frames');
  checkVideo(frames, first, fps, scale);
  if (typeof VideoEncoder === 'undefined') {
    throw new TabreelError('unsupported-device', 'this browser cannot encode video (no WebCodecs); PNG still works');
  }
  const width = even(first.width * scale);
  const height = even(first.height * scale);
  const failures: string[] = [];
  // A codec may be announced and fail all the same (Firefox, odd hardware): then the next one is tried.
  for (const codec of await encodableCodecs(format, width, height)) {
    throwIfAborted(signal, 'saving');
    try {
      const blob = await encodeWith(codec, frames, { format, fps, scale, comment, signal, width, height });
      return { blob, codec, width, height };
    } catch (error) {
      throwIfAborted(signal, 'saving');
      // Another codec would need as much.
      const { code, message } = toTabreelError(error);
      if (code === 'out-of-memory') throw new TabreelError(code, `no room to encode the clip: ${message}`, { cause: error });
      failures.push(`${codec}: ${message}`);
    }
  }
  const why = failures.length > 0 ? ` (${failures.join('; ')})` : '';
  throw new TabreelError('unsupported-device', `this browser cannot encode ${format.toUpperCase()} at ${width} × ${height} px${why}`);
}

function checkVideo(frames: readonly Frame[], first: Frame, fps: number, scale: number): void {
  const refuse = (rule: string, found: unknown): never => {
    throw new TabreelError('invalid-options', `${rule}, got ${String(found)}`);
  };
  if (!(fps > 0 && fps <= MAX_FPS)) refuse(`fps must be above 0 up to ${MAX_FPS} frames per second`, fps);
  if (!(Number.isInteger(scale) && scale >= 1)) refuse('scale must be a whole number from 1', scale);
  for (const [index, { width, height, data }] of frames.entries()) {
    if (width !== first.width || height !== first.height) {
      refuse(`all frames must be ${first.width} × ${first.height} px as the first`, `${width} × ${height} px at frame ${index}`);
    }
    if (data.length !== width * height * 4) refuse(`frame ${index} must have ${width * height * 4} bytes`, `${data.length} bytes`);
  }
}

/**
 * Runs `work`, which says `alive()` whenever something happened; rejects when nothing did for too long, or `signal` fires.
 * A hardware encoder may stop without a word.
 */
async function unlessStalled(work: (alive: () => void) => Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stop: (() => void) | undefined;
  const whole = new Promise<void>((resolve, reject) => {
    const alive = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => reject(new Error(`the encoder said nothing for ${STALL_MS / 1000} s`)), STALL_MS);
    };
    stop = () => reject(new TabreelError('aborted', 'saving was stopped'));
    signal?.addEventListener('abort', stop, { once: true });
    alive();
    work(alive).then(resolve, reject);
  });
  try {
    await whole;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop!);
  }
}

async function encodeWith(
  codec: VideoCodec,
  frames: readonly Frame[],
  {
    format,
    fps,
    scale,
    comment,
    signal,
    width,
    height,
  }: Pick<VideoOptions, 'format' | 'fps'> & {
    scale: number;
    comment: string | undefined;
    width: number;
    height: number;
    signal: AbortSignal | undefined;
  },
): Promise<Blob> {
  const target = new BufferTarget();
  const output = new Output({
    format: format === 'mp4' ? new Mp4OutputFormat({ fastStart: 'in-memory' }) : new WebMOutputFormat(),
    target,
  });
  let alive = (): void => undefined;
  const source = new VideoSampleSource({ codec, quality: quality(), latencyMode: 'quality', onEncodedPacket: () => alive() });
  output.addVideoTrack(source, { frameRate: fps });
  if (comment !== undefined) output.setMetadataTags({ comment });
  const encode = async (): Promise<void> => {
    await output.start();
    for (const [index, frame] of frames.entries()) {
      throwIfAborted(signal, 'saving');
      const sample = new VideoSample(toI420(enlarge(frame, scale)), {
        format: 'I420',
        codedWidth: width,
        codedHeight: height,
        timestamp: index / fps,
        duration: 1 / fps,
        colorSpace: BT709,
      });
      try {
        await source.add(sample, { keyFrame: index === 0 });
        alive();
      } finally {
        sample.close();
      }
    }
    await output.finalize();
  };
  try {
    await unlessStalled((heard) => ((alive = heard), encode()), signal);
  } catch (error) {
    // Not waited for: an encoder that stalls may stall here too.
    void output.cancel().catch(() => undefined);
    throw error;
  }
  return new Blob([target.buffer!], { type: format === 'mp4' ? 'video/mp4' : 'video/webm' });
}

/** Small synthetic clips: being stingy saves a few kB and costs visible blocks. */
const quality = (): Quality => new Quality('very-high');

const even = (px: number): number => px + (px % 2);

/**
 * RGB to planar Y'CbCr 4:2:0, BT.709, limited range.
 *
 * Done here because browsers convert canvases with BT.601 numbers, which players then read as BT.709:
 * pure red comes out orange. Colour planes hold the mean of each 2 × 2 block; alpha is ignored.
 */
export function toI420({ data, width, height }: Frame): Uint8Array<ArrayBuffer> {
  const w = even(width);
  const h = even(height);
  const planes = new Uint8Array((w * h * 3) / 2);
  const cb0 = w * h;
  const cr0 = cb0 + cb0 / 4;
  for (let y = 0; y < h; y += 2) {
    for (let x = 0; x < w; x += 2) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let corner = 0; corner < 4; corner++) {
        const px = x + (corner & 1);
        const py = y + (corner >> 1);
        const at = (Math.min(py, height - 1) * width + Math.min(px, width - 1)) * 4;
        const r = data[at]!;
        const g = data[at + 1]!;
        const b = data[at + 2]!;
        red += r;
        green += g;
        blue += b;
        planes[py * w + px] = Math.round(16 + (219 / 255) * (0.2126 * r + 0.7152 * g + 0.0722 * b));
      }
      red /= 4;
      green /= 4;
      blue /= 4;
      const luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
      const at = (y / 2) * (w / 2) + x / 2;
      planes[cb0 + at] = Math.round(128 + ((224 / 255) * (blue - luma)) / 1.8556);
      planes[cr0 + at] = Math.round(128 + ((224 / 255) * (red - luma)) / 1.5748);
    }
  }
  return planes;
}
