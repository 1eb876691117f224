/** The dedicated worker in which the wasm engine lives. One engine per worker; a dead one is replaced whole. */
import init, { Engine } from '../wasm/tabreel.js';
import type { AdapterFacts } from './adapter.js';
import { CARD } from './card.js';
import { guessCode, toPlainError, toTabreelError, type PlainError } from './errors.js';
import { GpuLedger } from './gpu-ledger.js';
import { patchWebGpu, type Trial } from './gpu-patch.js';
import { deleteKernelReports, keepKernelReport, keptKernelReport, type KernelReport } from './kernel-report.js';
import type { Inspection } from './contract.js';
import type { EngineEvent, EngineFile, EngineHost, EngineModel, EngineResult, FromWorker, GenerateResult, ToWorker } from './messages.js';
import { Pause } from './pause.js';
import { PolicyWatch } from './policy.js';
import { blobSource } from './source/memory.js';
import { openFolder, type OpenFolder } from './source/open.js';

interface WorkerScope {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  __tabreelPanic?: (message: string) => void;
  __tabreelNoMemory?: (bytes: number) => void;
  addEventListener(type: 'error', listener: (event: ErrorEvent) => void): void;
}
const scope = globalThis as unknown as WorkerScope;

let engine: Engine | undefined;
let panic: string | undefined;
/** The jobs that run. */
const jobs = new Map<number, AbortController>();
/** What the model was loaded from. */
let folder: OpenFolder | undefined;
const pause = new Pause(() => scope.postMessage({ type: 'beat' }));
const ledger = new GpuLedger();
const policy = new PolicyWatch();

scope.__tabreelPanic = (message) => {
  panic ??= message;
  die({ code: guessCode(message), message: `the engine stopped: ${message}` });
};

/** Bytes that the engine could not have; the trap that follows has no words of its own. */
let missing: number | undefined;
scope.__tabreelNoMemory = (bytes) => (missing = bytes);

const trial: Trial = {
  // What was found of this driver's kernels is no longer believed: the next engine tries them anew.
  broken: (message) =>
    void deleteKernelReports().finally(() =>
      die({ code: 'unsupported-device', message: `the GPU's driver refused a command: ${message}` }),
    ),
};
patchWebGpu((message) => die({ code: 'device-lost', message }), ledger, trial);

// What traps in a microtask of its own rejects no promise of ours.
scope.addEventListener('error', (event) => {
  if (isTrap(event.error)) dieOfTrap(event.error);
});

scope.onmessage = ({ data }) => {
  if (data.type === 'pause') return pause.set(data.paused);
  if (data.type === 'abort') {
    jobs.get(data.id)?.abort();
    return;
  }
  const controller = new AbortController();
  jobs.set(data.id, controller);
  void handle(data, controller.signal)
    .then((result) => scope.postMessage({ type: 'done', id: data.id, result }))
    .catch((thrown: unknown) => {
      // A trap leaves the instance in an unknown state; a rejection of Rust's own does not.
      if (isTrap(thrown) || panic !== undefined) {
        dieOfTrap(thrown);
      } else {
        return policy.explain(toTabreelError(thrown)).then((error) => {
          scope.postMessage({ type: 'failed', id: data.id, error: toPlainError(error) });
        });
      }
      return undefined;
    })
    .finally(() => jobs.delete(data.id));
};

/**
 * What stops the engine in the middle: a trap, or what no browser counts among them, a full stack (Firefox has no class for it) and an
 * array that could not be had.
 */
const isTrap = (thrown: unknown): boolean =>
  thrown instanceof WebAssembly.RuntimeError ||
  thrown instanceof RangeError ||
  (thrown instanceof Error && /too much recursion/i.test(thrown.message));

function dieOfTrap(thrown: unknown): void {
  const memory = missing && `out of memory: ${(missing / 1e6).toFixed(1)} MB more could not be had`;
  const message = panic ?? (memory || toPlainError(thrown).message);
  die({ code: guessCode(message), message: `the engine stopped: ${message}` });
}

type LoadJob = Extract<ToWorker, { type: 'load' | 'inspect' }>;

async function handle(job: Exclude<ToWorker, { type: 'abort' | 'pause' }>, signal: AbortSignal): Promise<unknown> {
  switch (job.type) {
    case 'start': {
      await startEngine(job.wasmUrl);
      engine = await Engine.create({ device: job.device });
      if (job.adapter !== undefined) await checkKernels(engine, job.adapter, hostFor(job.id, signal));
      return engine.info();
    }
    case 'load':
      return load(job, signal);
    case 'inspect':
      return reading(job, signal, async (_, files) => (await alive().inspect(files, job.budget)) as Inspection);
    case 'generate': {
      ledger.startPeak();
      return withMemory(await alive().generate(job.options, job.condition, hostFor(job.id, signal)));
    }
    case 'batch': {
      ledger.startPeak();
      const made = (clip: number, result: EngineResult): void => send(job.id, { type: 'made', clip, result: withMemory(result) });
      return alive().generateBatch(job.clips, made, hostFor(job.id, signal));
    }
  }
}

/** What was made, with the memory that it has taken. */
function withMemory(result: EngineResult): GenerateResult {
  const { wasmMemoryBytes } = alive().info();
  const memory = {
    wasmBytes: wasmMemoryBytes,
    gpuBytes: ledger.bytes,
    gpuPeakBytes: ledger.peakBytes,
    gpuPlannedBytes: result.plannedBytes ?? 0,
  };
  return { ...result, memory };
}

async function load(job: LoadJob, signal: AbortSignal): Promise<EngineModel> {
  folder?.close();
  folder = undefined;
  return reading(job, signal, async (opened, files, patient) => {
    const model = (await alive().load(files, hostFor(job.id, signal), job.budget)) as EngineModel;
    await patient(opened.finish());
    folder = opened;
    return model;
  });
}

type Patient = <T>(promise: Promise<T>) => Promise<T>;

/** Opens what a job is about and has `use` read it; lets go of it unless that has taken it over as `folder`. */
async function reading<T>(
  { folder: description, id, type }: LoadJob,
  signal: AbortSignal,
  use: (opened: OpenFolder, files: EngineFile[], patient: Patient) => Promise<T>,
): Promise<T> {
  let opened: OpenFolder | undefined;
  // A download may be slow, and another tab's slower: as long as this runs, the worker is not dead.
  let fetching = 0;
  const beats = setInterval(() => fetching > 0 && scope.postMessage({ type: 'beat' }), 5000);
  const patient: Patient = async (promise) => {
    fetching++;
    return promise.finally(() => fetching--);
  };
  try {
    opened = await patient(
      openFolder(description, {
        signal,
        onProgress: (progress) => scope.postMessage({ type: 'fetching', id, progress }),
        onWarning: (message) => send(id, { type: 'warning', message }),
        headersOnly: type === 'inspect',
      }),
    );
    const files: EngineFile[] = opened.files.map((file) => ({
      path: file.label,
      size: file.size,
      read: (start: number, end: number) => patient(file.read(start, end)),
      ...(file.strength === undefined ? {} : { strength: file.strength }),
    }));
    const base = description.kind === 'set' ? description.base : description;
    if (base?.kind === 'remote' && !files.some(({ path }) => path === CARD)) {
      const card = blobSource(CARD, new Blob([base.card]));
      files.push({ path: CARD, size: card.size, read: (start, end) => card.read(start, end) });
    }
    return await use(opened, files, patient);
  } finally {
    if (opened !== folder) opened?.close();
    clearInterval(beats);
  }
}

/** Once for an adapter: what was found is kept for the next visit. */
async function checkKernels(engine: Engine, adapter: AdapterFacts, host: EngineHost): Promise<void> {
  const kept = await keptKernelReport(adapter);
  trial.refused = (message) => console.warn(`a kernel was refused: ${message}`);
  const report = (await engine.checkKernels(kept, host)) as KernelReport;
  // Errors come with a task of their own.
  await nextTask();
  trial.refused = undefined;
  if (JSON.stringify(report) !== JSON.stringify(kept)) await keepKernelReport(adapter, report);
}

/** A download that breaks off or brings something else is no fault of the GPU, and the CPU would fare no better. */
async function startEngine(wasmUrl: string | undefined): Promise<void> {
  const response = await fetchEngine(wasmUrl);
  try {
    await init({ module_or_path: response });
  } catch (thrown) {
    const { message } = toPlainError(thrown);
    // A page's policy is another matter: the bytes are good.
    const damaged = thrown instanceof WebAssembly.CompileError && !/content security policy|unsafe-eval/i.test(message);
    if (damaged) throw { code: 'fetch', message: `what came as the engine is damaged or something else: ${message}` };
    if (thrown instanceof TypeError) throw { code: 'fetch', message: `the engine's download broke off: ${message}` };
    throw thrown;
  }
}

function alive(): Engine {
  if (engine === undefined) throw { code: 'internal', message: 'the engine has not been started' };
  return engine;
}

/** Passes the wasm on to the compiler while it arrives, and counts the bytes on the way. */
async function fetchEngine(wasmUrl: string | undefined): Promise<Response> {
  const url = wasmUrl ?? new URL('../wasm/tabreel_bg.wasm', import.meta.url).href;
  let response: Response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw { code: 'fetch', message: `could not reach the engine at ${url}: ${(error as Error).message}` };
  }
  if (!response.ok) throw { code: 'fetch', message: `the engine could not be fetched: ${url} answered ${response.status}` };
  if (response.headers.get('content-type')?.startsWith('text/html')) {
    const hint = 'copy tabreel_bg.wasm beside your page and pass its address as wasmUrl';
    throw { code: 'fetch', message: `the engine could not be fetched: ${url} answered with a web page; ${hint}` };
  }
  if (response.body === null) return response;
  // The length is of the compressed stream, if it was compressed: then there is no total.
  const total = response.headers.has('content-encoding') ? 0 : Number(response.headers.get('content-length') ?? 0);
  let loaded = 0;
  const counted = response.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        loaded += chunk.length;
        scope.postMessage({ type: 'engine-bytes', loaded, total });
        controller.enqueue(chunk);
      },
      // The last word of the download: what is silent from now on is not the network.
      flush() {
        scope.postMessage({ type: 'engine-bytes', loaded, total: loaded });
      },
    }),
  );
  // Servers that do not know .wasm would otherwise stop the compiler.
  return new Response(counted, { headers: { 'content-type': 'application/wasm' } });
}

function hostFor(id: number, signal: AbortSignal): EngineHost {
  let lastBeat = 0;
  return {
    event(event, rgba) {
      // Previews and frames are those that come with pixels.
      send(id, (rgba === undefined ? event : { ...event, rgba }) as EngineEvent);
    },
    gpu: ledger,
    aborted: () => signal.aborted,
    tick() {
      const now = performance.now();
      if (now - lastBeat > 1000) {
        lastBeat = now;
        scope.postMessage({ type: 'beat' });
      }
      return nextTask().then(() => pause.over(signal));
    },
  };
}

function send(id: number, event: EngineEvent): void {
  if (!('rgba' in event)) {
    scope.postMessage({ type: 'event', id, event });
    return;
  }
  // A view into wasm memory cannot be transferred, and would change under the page's eyes.
  const whole = event.rgba.byteLength === event.rgba.buffer.byteLength;
  const rgba = whole ? event.rgba : event.rgba.slice();
  scope.postMessage({ type: 'event', id, event: { ...event, rgba } }, [rgba.buffer]);
}

const channel = new MessageChannel();
const waiting: (() => void)[] = [];
channel.port1.onmessage = () => waiting.shift()?.();

/** setTimeout would wait 4 ms once nested; a message to oneself does not. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    channel.port2.postMessage(null);
  });
}

function die(error: PlainError): void {
  scope.postMessage({ type: 'dead', error });
}

scope.postMessage({ type: 'alive' });
