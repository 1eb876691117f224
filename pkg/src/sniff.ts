/** What a file is, by its first bytes: names and types that come with files are often wrong or missing. */
import { MATROSKA, MP4, QTFF, WEBM } from 'mediabunny';

/** What is read of video; mediabunny's others are for sound and television. */
export const VIDEO_FORMATS = [MP4, QTFF, WEBM, MATROSKA];

/** 'video' is also what nothing else was recognised as: mediabunny says whether it is one. */
export interface FileKind {
  kind: 'still' | 'animation' | 'video';
  /** The media type of an animation. */
  type: string;
}

/** So many bytes of a file are looked at. */
export const SNIFFED_BYTES = 4096;

const STILL: FileKind = { kind: 'still', type: '' };
const VIDEO: FileKind = { kind: 'video', type: '' };
const animation = (type: string): FileKind => ({ kind: 'animation', type });

/** What a file of this type is that starts so; an animation may turn out to have one picture. */
export function sniff(bytes: Uint8Array, mediaType: string): FileKind {
  const text = (from: number, to: number): string => String.fromCharCode(...bytes.subarray(from, to));
  if (text(0, 4) === 'GIF8') return animation('image/gif');
  if (text(1, 4) === 'PNG') return includes(bytes, 'acTL') ? animation('image/png') : STILL;
  if (text(0, 4) === 'RIFF' && text(8, 12) === 'WEBP') return includes(bytes.subarray(0, 64), 'ANIM') ? animation('image/webp') : STILL;
  if (text(4, 12) === 'ftypavis') return animation('image/avif');
  if (text(4, 12) === 'ftypavif' || (bytes[0] === 0xff && bytes[1] === 0xd8) || text(0, 2) === 'BM') return STILL;
  return mediaType.startsWith('image/') ? STILL : VIDEO;
}

function includes(bytes: Uint8Array, word: string): boolean {
  const codes = [...word].map((char) => char.charCodeAt(0));
  return bytes.some((_, at) => codes.every((code, i) => bytes[at + i] === code));
}
