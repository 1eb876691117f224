// esbuild does not follow `new Worker(new URL(…))`: the worker is an entry point of its own (see package.json).
import wasmUrl from 'tabreel/tabreel_bg.wasm';
import { TabreelClip } from 'tabreel/element';

TabreelClip.loadOptions = {
  wasmUrl: new URL(wasmUrl, import.meta.url),
  createWorker: () => new Worker(new URL('worker.js', import.meta.url), { type: 'module' }),
};
