// Leaves compressed siblings (FILE.br, FILE.gz) beside what is served: serve.mjs hands them out, and so do most servers.
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

/** What shrinks; pictures, videos and weights do not. */
const TEXT_LIKE = new Set(['.html', '.js', '.css', '.json', '.wasm', '.svg', '.webmanifest']);
/** A smaller file fits into one packet as it is, bytes. */
const WORTHWHILE = 1400;

const { BROTLI_PARAM_QUALITY, BROTLI_PARAM_LGWIN, BROTLI_PARAM_SIZE_HINT } = constants;
const encoders = {
  // Of the 26.7 MB wasm: quality 5 leaves 3.49 MB in 1.6 s, quality 9 with the largest window 3.27 MB in 12 s.
  br: (bytes) =>
    brotliCompressSync(bytes, {
      params: { [BROTLI_PARAM_QUALITY]: 9, [BROTLI_PARAM_LGWIN]: 24, [BROTLI_PARAM_SIZE_HINT]: bytes.length },
    }),
  gz: (bytes) => gzipSync(bytes, { level: 9 }),
};

/**
 * Compresses the files of a folder that shrink, where the sibling is missing or older than its file.
 * `store` keeps each result under the hash of its source: a build that leaves the wasm alone does not wait for it again.
 * Returns how many siblings it wrote.
 */
export function compressFolder(folder, store) {
  mkdirSync(store, { recursive: true });
  const used = new Set();
  let written = 0;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || !TEXT_LIKE.has(extname(path)) || statSync(path).size < WORTHWHILE) continue;
    const bytes = readFileSync(path);
    const hash = createHash('sha256').update(bytes).digest('hex');
    for (const [name, encode] of Object.entries(encoders)) {
      used.add(`${hash}.${name}`);
      if (isFresh(`${path}.${name}`, path)) continue;
      const kept = join(store, `${hash}.${name}`);
      if (!statSync(kept, { throwIfNoEntry: false })) writeWhole(kept, encode(bytes));
      copyFileSync(kept, `${path}.${name}`);
      written++;
    }
  }
  for (const name of readdirSync(store)) if (!used.has(name)) rmSync(join(store, name));
  return written;
}

/** Whether a compressed sibling is there and no older than its file. */
export function isFresh(sibling, path) {
  const stat = statSync(sibling, { throwIfNoEntry: false });
  return stat !== undefined && stat.mtimeMs >= statSync(path).mtimeMs;
}

/** A build that is stopped here must not leave half a file under a whole one's name. */
function writeWhole(path, bytes) {
  writeFileSync(`${path}.part`, bytes);
  renameSync(`${path}.part`, path);
}
