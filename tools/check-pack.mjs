// Before `npm pack`: a tarball without the worker or the wasm installs well and then does nothing.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const needed = [
  'dist/index.js',
  'dist/index.d.ts',
  'dist/worker.js',
  'dist/element.js',
  'dist/tabreel.bundle.js',
  'dist/models.json',
  'wasm/tabreel.js',
  'wasm/tabreel_bg.wasm',
  'LICENSE-MIT',
  'LICENSE-APACHE',
];
const missing = needed.filter((path) => !existsSync(fileURLToPath(new URL(`../pkg/${path}`, import.meta.url))));
if (missing.length > 0) {
  console.error(`cannot pack: ${missing.join(', ')} missing; run \`npm run build\` in the repository's root first`);
  process.exit(1);
}
