/** Text in PNG files: an `iTXt` chunk with the keyword that the command line uses, too. */

const KEYWORD = 'tabreel';
const SIGNATURE = 8;

/** The file with a comment, put in front of its pixels. */
export async function withPngText(png: Blob, text: string): Promise<Blob> {
  const header = SIGNATURE + 25; // the signature, and IHDR, which is always first and of this length
  const words = new TextEncoder().encode(text);
  // Keyword, no compression, no language and no translation: each ends in a zero.
  const body = new Uint8Array([...new TextEncoder().encode(`iTXt${KEYWORD}`), 0, 0, 0, 0, 0, ...words]);
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(4 + body.length, crc(body));
  return new Blob([png.slice(0, header), chunk, png.slice(header)], { type: 'image/png' });
}

/** The comment of a PNG; undefined without one. */
export function pngText(bytes: Uint8Array): string | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = SIGNATURE; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    const head = new TextEncoder().encode(`${KEYWORD}\0\0\0\0\0`);
    if (type === 'iTXt' && head.every((byte, i) => data[i] === byte)) return new TextDecoder().decode(data.subarray(head.length));
    if (type === 'IEND') return undefined;
    at += 12 + length;
  }
  return undefined;
}

/** CRC-32 as PNG has it (ISO 3309). */
function crc(bytes: Uint8Array): number {
  let rest = ~0;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  }
  return ~rest >>> 0;
}
