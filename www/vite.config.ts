import { existsSync, readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { models } from './plugins/models.ts';
import { offline } from './plugins/offline.ts';
import { strictPage } from './plugins/strict-page.ts';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** What `sample.json` says about the shipped clip; null as long as there is none. */
function sample(): unknown {
  const ready = existsSync(here('./sample.json')) && existsSync(here('./public/sample.mp4'));
  return ready ? JSON.parse(readFileSync(here('./sample.json'), 'utf8')) : null;
}

const wasm = here('../pkg/wasm/tabreel_bg.wasm');

export default defineConfig({
  // Every address is relative, so that the built page works in any folder of any server.
  base: './',
  plugins: [models({ from: here('../models'), names: ['small-world'] }), strictPage(), offline()],
  define: {
    SAMPLE: JSON.stringify(sample()),
    ENGINE_BYTES: existsSync(wasm) ? statSync(wasm).size : 0,
  },
  server: { fs: { allow: [here('..')] } },
  worker: { format: 'es' },
  build: { target: 'es2022', chunkSizeWarningLimit: 700 },
});
