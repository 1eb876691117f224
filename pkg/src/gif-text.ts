/** Text in GIF files: the comment before the first frame, where the command line keeps the recipe. */

const EXTENSION = 0x21;
const COMMENT = 0xfe;
/** Signature, size, flags, background, aspect. */
const HEADER = 13;

/** The comment of a GIF, of which only the beginning is needed; undefined without one. */
export function gifText(bytes: Uint8Array): string | undefined {
  const flags = bytes[10] ?? 0;
  const palette = flags & 0x80 ? 3 << ((flags & 7) + 1) : 0;
  let at = HEADER + palette;
  while (bytes[at] === EXTENSION) {
    const label = bytes[at + 1];
    const text: number[] = [];
    // Blocks of up to 255 bytes, each after its length; an empty one ends them.
    for (at += 2; bytes[at] !== 0; at += 1 + bytes[at]!) {
      if (at + 1 + (bytes[at] ?? Infinity) > bytes.length) return undefined;
      text.push(...bytes.subarray(at + 1, at + 1 + bytes[at]!));
    }
    if (label === COMMENT) return new TextDecoder().decode(Uint8Array.from(text));
    at++;
  }
  return undefined;
}
