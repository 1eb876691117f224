// The wasm's budget: what a visitor downloads before the first clip, beside the model.
//   node tools/size.mjs    after a build; fails when it is over
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';
import { root } from './common.mjs';
import { SMALLEST, keptBrotliOf } from './compress.mjs';

const MB = 1_000_000;
/**
 * At most, in bytes. The aim is 3 MB in brotli of quality 11, as servers send it; that takes a minute or two, quality 5
 * a second; so it is looked at where a build has left it in the cache (npm run build).
 * Measured on a build of 26.64 MB: 3.46 MB at quality 5, 2.81 MB at quality 11; on one of 27.72 MB: 3.70 and 2.966. On
 * one of 27.30 MB whose crate is one piece (build.mjs): 3.707 and 2.976; with CLIP's encoder and AnyFlow 3.73 and 3.00;
 * with DiT, and what is not hot made small (build.mjs), one of 25.29 MB 3.63 and 2.93. So 3.75 stands for 3.
 */
export const LIMITS = { 'as it is': 28 * MB, 'in brotli, quality 5': 3.75 * MB, 'in brotli, quality 11': 3 * MB };

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const bytes = readFileSync(join(root, 'pkg/wasm/tabreel_bg.wasm'));
  const params = { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_LGWIN]: 24 };
  const sizes = { 'as it is': bytes.length, 'in brotli, quality 5': brotliCompressSync(bytes, { params }).length };
  const kept = keptBrotliOf(bytes, SMALLEST);
  if (kept) sizes['in brotli, quality 11'] = statSync(kept).size;
  for (const [what, size] of Object.entries(sizes)) {
    const over = size > LIMITS[what];
    console.log(`the wasm ${what}: ${(size / MB).toFixed(2)} MB of at most ${LIMITS[what] / MB} MB${over ? ': OVER ITS BUDGET' : ''}`);
    if (over) process.exitCode = 1;
  }
}
