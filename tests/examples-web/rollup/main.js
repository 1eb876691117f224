// Rollup follows neither `new Worker(new URL(…))` nor `new URL('….wasm')`: rollup.config.js puts both beside this file.
import { TabreelClip } from 'tabreel/element';

TabreelClip.loadOptions = {
  wasmUrl: new URL('tabreel_bg.wasm', import.meta.url),
  createWorker: () => new Worker(new URL('worker.js', import.meta.url), { type: 'module' }),
};
