// One clip from a model of true shapes (write.py) through the wasm engine on WebGPU, every byte fetched by HTTP Range from a
// server of this process's own. Prints what it took, as JSON:
//   node tests/true-shape/run.mjs FOLDER [--budget MB] [--width 64] [--height 64] [--frames 1] [--steps 1] [--turns N] [--out frames.rgba]
import { createReadStream, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { GpuLedger } from '../../pkg/dist/gpu-ledger.js';
import { provideWebGpu } from '../../bench/lib/dawn.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    budget: { type: 'string' },
    width: { type: 'string', default: '64' },
    height: { type: 'string', default: '64' },
    frames: { type: 'string', default: '1' },
    steps: { type: 'string', default: '1' },
    // Ends the denoising after so many turns of the event loop (one a block, and some more): peaks are those of the first.
    turns: { type: 'string' },
    out: { type: 'string' },
  },
});
const folder = positionals[0];
const paths = readdirSync(folder).flatMap((name) =>
  statSync(join(folder, name)).isDirectory() ? readdirSync(join(folder, name)).map((inside) => `${name}/${inside}`) : [name],
);

/** Answers ranges, as every host of models does. */
function serve() {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname).slice(1);
    if (!paths.includes(path)) return response.writeHead(404).end();
    const { size } = statSync(join(folder, path));
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (start === undefined) return response.writeHead(416).end();
    response.writeHead(206, { 'content-range': `bytes ${start}-${end}/${size}`, 'content-length': Number(end) - Number(start) + 1 });
    createReadStream(join(folder, path), { start: Number(start), end: Number(end) }).pipe(response);
  });
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done(`http://127.0.0.1:${server.address().port}/`)));
}

const fetched = { bytes: 0, requests: 0, largest: 0 };
function source(base, path) {
  return {
    path,
    size: statSync(join(folder, path)).size,
    async read(start, end) {
      if (start === end) return new Uint8Array(0);
      const response = await fetch(new URL(path, base), { headers: { range: `bytes=${start}-${end - 1}` } });
      if (response.status !== 206) throw new Error(`${path}: ${response.status}`);
      fetched.requests += 1;
      fetched.bytes += end - start;
      fetched.largest = Math.max(fetched.largest, end - start);
      return new Uint8Array(await response.arrayBuffer());
    },
  };
}

const ledger = new GpuLedger();
await provideWebGpu();
const { prototype } = globalThis.GPUAdapter;
const { requestDevice } = prototype;
prototype.requestDevice = async function (descriptor) {
  const device = await requestDevice.call(this, descriptor);
  ledger.watch(device);
  return device;
};
const wasm = await import('../../pkg/wasm/tabreel.js');
await wasm.default({ module_or_path: readFileSync(new URL('../../pkg/wasm/tabreel_bg.wasm', import.meta.url)) });
const engine = await wasm.Engine.create({ device: 'gpu' });
await engine.checkKernels(undefined);

const mb = (bytes) => Math.round(bytes / 1e5) / 10;
const memory = () => ({ wasmMB: mb(engine.info().wasmMemoryBytes), gpuMB: mb(ledger.bytes), gpuPeakMB: mb(ledger.peakBytes) });
const frames = [];
const warnings = [];
const phases = {};
let since = performance.now();
let peakBytes = 0;
const phase = (name) => {
  if (name !== 'load') peakBytes = Math.max(peakBytes, ledger.peakBytes);
  phases[name] = { seconds: Math.round((performance.now() - since) / 100) / 10, ...memory(), fetchedMB: mb(fetched.bytes) };
  since = performance.now();
  ledger.startPeak();
  console.error(name, JSON.stringify(phases[name]));
};
let turns = -Infinity; // of the denoising
const host = {
  event(event, rgba) {
    if (event.type === 'frame') frames.push(Uint8Array.from(rgba));
    if (event.type === 'warning') warnings.push(event.message);
    if (event.type === 'stage') phase(`before ${event.stage}`);
    if (event.type === 'stage' && event.stage === 'denoise') turns = 0;
  },
  aborted: () => turns >= Number(values.turns ?? Infinity),
  gpu: ledger,
  tick: () => ((turns += 1), new Promise((done) => setImmediate(done))),
};

ledger.startPeak();
const base = await serve();
const budget = values.budget === undefined ? undefined : Number(values.budget) * 2 ** 20;
const model = await engine.load(
  paths.map((path) => source(base, path)),
  host,
  budget,
);
phase('load');
const options = {
  prompt: 'a large red ball',
  width: Number(values.width),
  height: Number(values.height),
  numFrames: Number(values.frames),
  numSteps: Number(values.steps),
  guidanceScale: 1,
  seed: 1,
};
const made = await engine.generate(options, undefined, host).catch((error) => {
  if (turns < Number(values.turns ?? Infinity)) throw error;
  return { plannedBytes: NaN, stopped: `after ${turns} turns of the denoising` };
});
phase(made.stopped ?? 'decode');
const { plannedBytes } = made;
// Of the clip: what the load left and has not been collected yet counts too.
const peak = { plannedMB: mb(plannedBytes), actualMB: mb(peakBytes), ratio: Math.round((peakBytes / plannedBytes) * 1000) / 1000 };
if (values.out) writeFileSync(values.out, Buffer.concat(frames));
console.log(
  JSON.stringify({ folder, plan: model.plan, options, peak, phases, fetched, warnings, adapter: engine.info().adapter.name }, null, 1),
);
process.exit(0);
