// The default model from prompt to pixels: the engine that ships (pkg/wasm), as the package's worker drives it.

/** A module of its own for each use: wasm memory never shrinks, so that only so its peak is that of one column. */
async function open(host, device, use) {
  const wasm = await import(`../pkg/wasm/tabreel.js?${use}`);
  await wasm.default({ module_or_path: await host.bytes('pkg/wasm/tabreel_bg.wasm') });
  return wasm.Engine.create({ device });
}

async function load(host, engine, folder, gpu) {
  const files = [];
  for (const path of await host.files(folder)) {
    const bytes = await host.bytes(`${folder}/${path}`);
    files.push({ path, size: bytes.length, read: async (start, end) => bytes.subarray(start, end) });
  }
  await engine.load(files, listener(host, gpu, () => {}));
}

/** `yields.longestMs`: the longest time from one turn of the event loop that the engine asked for to the next. */
function listener(host, gpu, event, yields = {}) {
  let since = performance.now();
  const note = () => (yields.longestMs = Math.max(yields.longestMs ?? 0, performance.now() - since));
  const tick = async () => {
    note();
    await host.nextTask();
    since = performance.now();
  };
  return { event, gpu, aborted: () => false, tick };
}

/** An engine on the GPU with the package's account of its buffers, by which they are freed where stages end. */
async function openOnGpu(host) {
  const { GpuLedger } = await import('../pkg/dist/gpu-ledger.js');
  const ledger = new GpuLedger();
  const { prototype } = globalThis.GPUAdapter;
  const { requestDevice } = prototype;
  prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    ledger.watch(device);
    return device;
  };
  const engine = await open(host, 'gpu', 'gpu');
  prototype.requestDevice = requestDevice;
  return { engine, ledger };
}

/** A clip's frames as one array of RGB values, and what the engine tells of the run. */
async function generate(host, engine, request, gpu) {
  const frames = [];
  const yields = {};
  const told = await engine.generate(request, undefined, listener(host, gpu, (event, rgba) => {
    // a view of wasm memory may change with the next call
    if (event.type === 'frame') frames.push(Uint8Array.from(rgba).filter((_, i) => i % 4 !== 3));
    if (event.type === 'warning') throw new Error(event.message);
  }, yields));
  const rgb = new Float32Array(frames.reduce((sum, { length }) => sum + length, 0));
  frames.reduce((at, frame) => (rgb.set(frame, at), at + frame.length), 0);
  return { rgb, told, yields };
}

let known;
/** The clip as the engine's CPU path makes it, once that has made the frames that diffusers makes of a fixture. */
export function clipReference(host, { p: { folder, request } }) {
  return (known ??= (async () => {
    const engine = await open(host, 'cpu', 'reference');
    await agreeWithDiffusers(host, engine);
    await load(host, engine, folder);
    const { rgb } = await generate(host, engine, request);
    engine.dispose();
    return { indices: Int32Array.from(rgb.keys()), values: Float64Array.from(rgb) };
  })());
}

const FIXTURE = 'tests/fixtures/folder_t2v';

async function agreeWithDiffusers(host, engine) {
  const { args } = JSON.parse(new TextDecoder().decode(await host.bytes(`${FIXTURE}/config.json`)));
  const request = {
    prompt: args.prompt, negativePrompt: args.negative_prompt, width: args.width, height: args.height, numFrames: args.num_frames,
    fps: 8, numSteps: args.num_steps, guidanceScale: args.guidance_scale, seed: args.seed,
  };
  const { shape: [, , frames, height, width], data } = tensor(await host.bytes(`${FIXTURE}/io.safetensors`), 'out.video');
  await load(host, engine, `${FIXTURE}/model`);
  const { rgb } = await generate(host, engine, request);
  const volume = frames * height * width;
  if (rgb.length !== 3 * volume) throw new Error(`${rgb.length} values of pixels, diffusers made ${3 * volume}`);
  const byte = (value) => Math.round(255 * Math.min(1, Math.max(0, (value + 1) / 2)));
  const worst = rgb.reduce((most, value, i) => Math.max(most, Math.abs(value - byte(data[(i % 3) * volume + Math.floor(i / 3)]))), 0);
  if (worst > 1) throw new Error(`the CPU path differs from diffusers by ${worst} of 255 in ${FIXTURE}`);
}

/** A tensor of a safetensors file in f32. */
function tensor(bytes, name) {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const { shape, data_offsets: [from, to] } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)))[name];
  return { shape, data: new Float32Array(bytes.slice(8 + length + from, 8 + length + to).buffer) };
}

/** The row's column on a device, 'gpu' or 'cpu'. */
export async function prepareClip(host, device, { folder, request }) {
  const { engine, ledger } = device === 'gpu' ? await openOnGpu(host) : { engine: await open(host, 'cpu', 'cpu') };
  const started = performance.now();
  await load(host, engine, folder, ledger);
  const loadSeconds = (performance.now() - started) / 1000;
  ledger?.startPeak();
  let last;
  return {
    note: `loaded in ${loadSeconds.toFixed(1)} s`,
    async run() {
      last = await generate(host, engine, request, ledger);
    },
    read: async () => last.rgb,
    facts: () => ({ loadSeconds, stages: last.told.timings, longestMs: last.yields.longestMs, wasmMegabytes: engine.info().wasmMemoryBytes / 1e6, ...(ledger && { gpuMegabytes: ledger.peakBytes / 1e6 }) }),
    async dispose() {
      engine.dispose();
      engine.free();
    },
  };
}
