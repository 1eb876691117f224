// Runs in the tab (tab.mjs): one fault at a time, and after each the clip that was asked for first.
import { deleteKept, Tabreel, TabreelError } from 'tabreel';

const RECIPE = { prompt: 'A red circle moves left.', width: 48, height: 32, numFrames: 9, fps: 8, numSteps: 3, guidanceScale: 4, seed: 1 };
const MODEL = new URL('model/', location.href).href;
/** Nothing here takes longer; what does is a promise that was left open. */
const PATIENCE_MS = 60_000;

let engine;
let reference;

const settled = (promise, what) =>
  Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error(`${what} has not settled after ${PATIENCE_MS / 1000} s`)), PATIENCE_MS)),
  ]);

const load = (options = {}) => settled(Tabreel.load({ model: MODEL, device: 'cpu', ...options }), 'load()');

async function hash(clip) {
  const bytes = new Uint8Array(await new Blob(clip.frames.map(({ data }) => data)).arrayBuffer());
  return [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The clip as it must be, from whatever engine is left; a new one if none is. */
async function check() {
  if (!engine?.alive) engine = await load();
  const found = await hash(await settled(engine.generate(RECIPE), 'generate()'));
  reference ??= found;
  if (found !== reference) throw new Error('the next clip is another one');
}

/** What was loaded through a fault makes the clip too, or nothing was loaded. */
async function same(loaded) {
  if (loaded === undefined) return;
  try {
    const found = await hash(await settled(loaded.generate(RECIPE), 'generate() of what was loaded'));
    if (found !== reference) throw new Error('what was loaded makes another clip');
  } finally {
    loaded.dispose();
  }
}

/** What must end in one of these codes, or well. */
async function expect(codes, promise, what) {
  try {
    return await settled(promise, what);
  } catch (thrown) {
    if (thrown instanceof TabreelError && codes.includes(thrown.code)) return undefined;
    throw new Error(`${what} ended with ${thrown.code}: ${thrown.message}`, { cause: thrown });
  }
}

/** Makes the worker, and lets it be killed. */
function mortal(kill) {
  return () => {
    const worker = new Worker(new URL('pkg/dist/worker.js', location.href), { type: 'module' });
    kill(() => {
      worker.terminate();
      worker.dispatchEvent(new ErrorEvent('error', { message: 'killed' }));
    });
    return worker;
  };
}

/** Makes a worker in which `script` ran before its own. */
const brokenBy = (script) => () => {
  const module = (text) => URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  const worker = new URL('pkg/dist/worker.js', location.href).href;
  // In this order: the one is over before the other begins.
  return new Worker(module(`import '${module(script)}'; import '${worker}';`), { type: 'module' });
};

/** A worker in which nothing can be kept. */
const withoutStorage = brokenBy(
  "StorageManager.prototype.getDirectory = () => Promise.reject(new DOMException('broken', 'UnknownError'));",
);

/** A worker whose storage is full after so many bytes. */
const fullAfter = (bytes) =>
  brokenBy(`
    let left = ${bytes};
    const { write } = FileSystemSyncAccessHandle.prototype;
    FileSystemSyncAccessHandle.prototype.write = function (part, ...more) {
      left -= part.byteLength;
      if (left < 0) throw new DOMException('full', 'QuotaExceededError');
      return write.call(this, part, ...more);
    };`);

/** A worker whose GPU is lost when `lose` is told on a channel: the device is destroyed, and says that nobody wanted it. */
const losingGpu = brokenBy(`
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...given) {
    const device = await requestDevice.apply(this, given);
    const lost = new Promise((resolve) => {
      new BroadcastChannel('lose').onmessage = () => {
        device.destroy();
        resolve({ reason: 'unknown', message: 'the driver crashed' });
      };
    });
    Object.defineProperty(device, 'lost', { value: lost });
    return device;
  };`);

const FAULTS = {
  /** Stopped after so many ms. */
  async abort(at) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), at);
    await expect(['aborted'], engine.generate({ ...RECIPE, signal: controller.signal }), 'generate(), aborted');
  },
  /** Stopped at the n-th word. */
  async 'abort at an event'(at) {
    const controller = new AbortController();
    let count = 0;
    const tell = () => ++count === (at % 24) + 1 && controller.abort();
    const listeners = { onStage: tell, onStep: tell, onPreview: tell, onFrame: tell };
    await expect(['aborted'], engine.generate({ ...RECIPE, ...listeners, signal: controller.signal }), 'generate(), aborted');
  },
  async 'listener throws'(at) {
    let count = 0;
    const tell = () => {
      if (++count === (at % 24) + 1) throw new Error('my bug');
    };
    const listeners = { onStage: tell, onStep: tell, onPreview: tell, onFrame: tell };
    await expect(['internal'], engine.generate({ ...RECIPE, ...listeners }), 'generate() with a listener that throws');
  },
  async 'bad options'(at) {
    const bad = [{ width: 47 }, { numFrames: 0 }, { seed: -1 }, { fps: NaN }, { prompt: '' }, { numSteps: 1e9 }][at % 6];
    await expect(['invalid-options'], engine.generate({ ...RECIPE, ...bad }), 'generate() with bad options');
  },
  async 'two at once'() {
    const first = engine.generate(RECIPE);
    await expect(['invalid-options'], engine.generate(RECIPE), 'a second generate()');
    await expect([], first, 'the first generate()');
  },
  async 'load aborted'(at) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), at * 4);
    const loaded = await expect(['aborted'], Tabreel.load({ model: MODEL, device: 'cpu', signal: controller.signal }), 'load(), aborted');
    loaded?.dispose();
  },
  async 'worker killed while it loads'(at) {
    const createWorker = mortal((kill) => setTimeout(kill, at * 4));
    const loaded = await expect(['internal'], Tabreel.load({ model: MODEL, device: 'cpu', createWorker }), 'load(), killed');
    loaded?.dispose();
  },
  async 'worker killed while it works'(at) {
    let kill;
    const own = await load({ createWorker: mortal((it) => (kill = it)) });
    setTimeout(kill, at);
    await expect(['internal'], own.generate(RECIPE), 'generate(), killed');
    own.dispose();
  },
  async 'disposed while it works'(at) {
    const own = engine;
    setTimeout(() => own.dispose(), at);
    await expect(['aborted'], own.generate(RECIPE), 'generate(), disposed');
    own.dispose(); // it may have been quicker
  },
  /** The worker's storage says no. */
  async 'storage rejects'() {
    const loaded = await expect([], load({ createWorker: withoutStorage }), 'load() without storage');
    await same(loaded);
  },
  /** The worker's storage is full after some bytes: the model is used, and not kept. */
  async 'storage full'(at) {
    await deleteKept(MODEL);
    const loaded = await expect([], load({ createWorker: fullAfter(at * 6000) }), 'load() with little storage');
    await same(loaded);
  },
  /** The network is what `window.network` (faults.mjs) makes of it. */
  async 'network fails'(at) {
    await deleteKept(MODEL);
    await window.network(at);
    try {
      const load = Tabreel.load({ model: MODEL, device: 'cpu', keep: at % 2 === 0 });
      const loaded = await expect(['fetch', 'weights'], load, 'load() on a bad network');
      await same(loaded);
    } finally {
      await window.network(-1);
    }
  },
};

/** Those that need a GPU, a software one will do; a load takes seconds on it. */
const GPU_FAULTS = {
  async 'GPU lost while it works'(at) {
    const own = await load({ device: 'gpu', createWorker: losingGpu });
    setTimeout(() => new BroadcastChannel('lose').postMessage(0), at * 4);
    await expect(['device-lost'], own.generate(RECIPE), 'generate() on a GPU that is lost');
    own.dispose();
  },
  async 'GPU lost while it loads'(at) {
    setTimeout(() => new BroadcastChannel('lose').postMessage(0), at * 16);
    const loading = Tabreel.load({ model: MODEL, device: 'gpu', createWorker: losingGpu });
    const loaded = await expect(['device-lost'], loading, 'load() on a GPU that is lost');
    loaded?.dispose();
  },
};

const all = { ...FAULTS, ...GPU_FAULTS };
export const names = Object.keys(FAULTS);
export const gpuNames = Object.keys(GPU_FAULTS);

/** Injects one fault; rejects when its end is not what it should be, or the next clip is not. */
export async function inject(name, at) {
  if (reference === undefined) await check();
  await all[name](at);
  await check();
}
