// Leaves compressed siblings (FILE.br, FILE.gz) beside what is served: serve.mjs hands them out, and so do most servers.
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import { cache } from './common.mjs';

/** Brotli's qualities: for tests and until a better one is there (a second or two), and for visitors (minutes, once). */
export const QUICK = 5;
export const SMALLEST = 11;

/** What shrinks; pictures, videos and weights do not. */
const TEXT_LIKE = new Set(['.html', '.js', '.css', '.json', '.wasm', '.svg', '.webmanifest']);
/** A smaller file fits into one packet as it is, bytes. */
const WORTHWHILE = 1400;
/** What no build has asked for in this time leaves the store, ms. */
const KEPT_FOR = 30 * 24 * 3600 * 1000;

/** Results under the hash of their source, for all checkouts: a build that leaves the wasm alone does not wait for it again. */
const store = join(cache, 'compressed');
const keptPath = (hash, kind) => join(store, `${hash}.${kind}`);
const hashOf = (bytes) => createHash('sha256').update(bytes).digest('hex');
const exists = (path) => statSync(path, { throwIfNoEntry: false }) !== undefined;

const { BROTLI_PARAM_QUALITY, BROTLI_PARAM_LGWIN, BROTLI_PARAM_SIZE_HINT } = constants;
const encoders = {
  br: (bytes, quality) =>
    promisify(brotliCompress)(bytes, {
      params: { [BROTLI_PARAM_QUALITY]: quality, [BROTLI_PARAM_LGWIN]: 24, [BROTLI_PARAM_SIZE_HINT]: bytes.length },
    }),
  gz: (bytes) => promisify(gzip)(bytes, { level: 9 }),
};

/**
 * Compresses the files of a folder that shrink. `quality` is brotli's, at least: a better result that was kept is taken.
 * A sibling is replaced whole, so that the folder may be served meanwhile. Resolves to how many siblings were written.
 */
export async function compressFolder(folder, quality) {
  mkdirSync(store, { recursive: true });
  let written = 0;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || !TEXT_LIKE.has(extname(path)) || statSync(path).size < WORTHWHILE) continue;
    const bytes = readFileSync(path);
    const hash = hashOf(bytes);
    for (const [coding, encode] of Object.entries(encoders)) {
      const best = coding === 'br' ? keptBrotli(hash, quality) : keptPath(hash, coding);
      const kept = best ?? keptPath(hash, `br${quality}`);
      if (!exists(kept)) writeWhole(kept, await encode(bytes, quality));
      const now = new Date();
      utimesSync(kept, now, now);
      const sibling = `${path}.${coding}`;
      // Two qualities of one file have two lengths.
      if (isFresh(sibling, path) && statSync(sibling).size === statSync(kept).size) continue;
      copyFileSync(kept, `${sibling}.part`);
      renameSync(`${sibling}.part`, sibling);
      written++;
    }
  }
  for (const name of readdirSync(store)) {
    const path = join(store, name);
    if (Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity) > KEPT_FOR) rmSync(path, { force: true });
  }
  return written;
}

/** The path of the best result kept for some bytes, of this quality or above; undefined where there is none. */
export const keptBrotliOf = (bytes, quality) => keptBrotli(hashOf(bytes), quality);

const keptBrotli = (hash, quality) =>
  [SMALLEST, QUICK]
    .filter((each) => each >= quality)
    .map((each) => keptPath(hash, `br${each}`))
    .find(exists);

/** Whether a compressed sibling is there and no older than its file. */
export function isFresh(sibling, path) {
  const stat = statSync(sibling, { throwIfNoEntry: false });
  return stat !== undefined && stat.mtimeMs >= statSync(path).mtimeMs;
}

/** A build that is stopped here must not leave half a file under a whole one's name, nor meet another checkout's half. */
function writeWhole(path, bytes) {
  const part = `${path}.${process.pid}.part`;
  writeFileSync(part, bytes);
  renameSync(part, path);
}
