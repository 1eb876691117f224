import { readFileSync } from 'node:fs';
import resolve from '@rollup/plugin-node-resolve';

const wasm = {
  name: 'tabreel-wasm',
  generateBundle() {
    const source = readFileSync('node_modules/tabreel/wasm/tabreel_bg.wasm');
    this.emitFile({ type: 'asset', fileName: 'tabreel_bg.wasm', source });
  },
};

export default {
  input: { main: 'main.js', worker: 'tabreel/worker' },
  output: { dir: 'dist' },
  plugins: [resolve({ browser: true }), wasm],
};
