/** `Tabreel`: loads a model into a worker and turns prompts into clips. */
import { adapterName, type AdapterFacts } from './adapter.js';
import { Batch, resolveBatch, type BatchOptions, type Sent } from './batch.js';
import { cardBytes, type ModelCard } from './card.js';
import { Clip } from './clip.js';
import { TabreelError, throwIfAborted, toTabreelError, type TabreelErrorCode } from './errors.js';
import { frameOf, type Frame } from './frame.js';
import type { Inspection } from './contract.js';
import { buffersOf, checkInputs, givenParts, placesOf, readInputs, type ClipInputs, type GivenParts } from './inputs.js';
import { LISTENER_FAILED, WorkerLink, type WorkerLike } from './link.js';
import type { Backend, EngineEvent, EngineInfo, EngineModel, GenerateResult, Stage } from './messages.js';
import {
  checkObject,
  resolveOptions,
  type ClipOptions,
  type ClipRecipe,
  type ModelDefaults,
  type ModelRules,
  type Preset,
} from './options.js';
import { PolicyWatch } from './policy.js';
import type { ClipSource } from './read-clip.js';
import type { PictureSource } from './read-picture.js';
import { modelHash } from './recipe.js';
import { findSet, type ModelFolder, type ModelSet } from './source/index.js';
import type { FileSource } from './source/loose.js';
import { askToStay } from './source/persist.js';
import { spawnWorker } from './spawn.js';
import { probe, type Support } from './support.js';
import * as tasks from './tasks.js';
import { unknownWords } from './vocabulary.js';

/** What {@link Tabreel.load} takes: a model folder, loose files, or both; then the files replace the folder's parts. */
export interface LoadOptions extends ModelSet {
  /** 'auto' (default) takes the GPU if there is a real one, else the CPU. */
  device?: 'auto' | Backend;
  /** Called while files arrive and the model is built. */
  onProgress?: (progress: LoadProgress) => void;
  /** E.g. why the model is not kept on this device. */
  onWarning?: (message: string) => void;
  /** Stops downloading and building. What has arrived stays on this device for the next try. */
  signal?: AbortSignal;
  /** False leaves no copy of the weights on this device. Default true. */
  keep?: boolean;
  /**
   * Bytes that the weights may take on the device at once, on a GPU beside a clip of the size that the model suggests; layers that do
   * not fit are read again when their turn comes, and a picture that does not fit beside them is decoded by tiles. By default what the
   * GPU's limits suggest. `Tabreel.model.plan`
   * says what was decided, and what a clip of the default size takes at most. Weights that the device cannot hold even so are refused
   * with `out-of-memory` before any is read; on a GPU, whose memory no browser tells, only where this is left open.
   */
  memory?: number;
  /** Presets beside those of the model's card, such as a catalogue's; of two with one name, these. */
  presets?: Readonly<Record<string, Preset>> | undefined;
  /** Where `tabreel_bg.wasm` lies, if your bundler does not find it by itself. */
  wasmUrl?: string | URL;
  /** Makes the worker, if your bundler does not find `tabreel/worker` by itself. */
  createWorker?: () => WorkerLike;
}

/** What {@link Tabreel.inspect} takes. */
export interface InspectOptions extends Omit<LoadOptions, 'keep' | 'onWarning'> {
  /** Files whose part in a model is to be told. */
  files?: readonly FileSource[];
}

/** How far the loading of a model has come. */
export interface LoadProgress {
  /** 'engine': fetching the wasm; 'download': the weights; 'build': onto the device. The last two take turns. */
  phase: 'engine' | 'download' | 'build';
  /** Bytes in the first two phases; parts in the last. */
  loaded: number;
  /** 0 when the server does not say. */
  total: number;
  /** The part or file at hand. */
  what: string;
  /** True while weights come from this device and not from the network. */
  fromDevice?: boolean;
  /** While weights are fetched: bytes of the file at hand that have come. */
  fileLoaded?: number;
  /** While weights are fetched: bytes of the file at hand. */
  fileTotal?: number;
  /** From the network, over the last ten seconds; undefined until it is known. */
  bytesPerSecond?: number | undefined;
  /** Of the download, at that rate; undefined until it is known. */
  secondsLeft?: number | undefined;
  /** Why nothing comes just now, in words: a server that failed and is tried again, another tab that fetches the same. */
  waiting?: string | undefined;
}

/** What {@link Tabreel.generate} takes. */
export interface GenerateOptions extends ClipOptions, ClipInputs {
  /** Called when a stage begins. */
  onStage?: (stage: Stage) => void;
  /** After every denoising step; `step` counts from 1, `seconds` is how long it took. */
  onStep?: (step: { step: number; numSteps: number; seconds: number }) => void;
  /** The first frame as far as it is known after this step. */
  onPreview?: (preview: Frame & { step: number }) => void;
  /** Each finished frame, in order, while later ones are still being decoded. */
  onFrame?: (frame: Frame & { index: number }) => void;
  /** E.g. that the prompt was cut, and to how many tokens. */
  onWarning?: (message: string) => void;
  /** Stops within one block of the model; the promise rejects with code 'aborted'. */
  signal?: AbortSignal;
}

/** What is known about the loaded model. */
export interface ModelInfo extends ModelRules, EngineModel {
  /** What the card and the engine suggest. */
  defaults: ModelDefaults;
  /** What `generate({ preset })` takes. */
  presets: Readonly<Record<string, Preset>>;
  /** How many LoRAs lie over it. */
  loras: number;
  /** The folder's `tabreel.json`. */
  card: ModelCard;
  /** What the folder weighs. */
  bytes: number;
  /** SHA-256 over the folder's list of files; undefined where it cannot be computed (plain http). */
  hash: string | undefined;
}

const SECOND = 1000;

/** What the CPU would answer too: the caller's own fault, its abort, and the network's. */
const isEverywhere = ({ code, message }: TabreelError): boolean =>
  code === 'aborted' || code === 'fetch' || message.startsWith(LISTENER_FAILED);

/** What a GPU may fail of and a CPU not. */
const CPU_MAY_HELP: ReadonlySet<TabreelErrorCode> = new Set(['unsupported-device', 'device-lost', 'out-of-memory', 'internal']);

/** True for what a GPU failed of and the CPU may do. */
export const cpuMayHelp = (error: TabreelError): boolean => error.device === 'gpu' && CPU_MAY_HELP.has(error.code) && !isEverywhere(error);

/** A loaded model in a worker of its own: generates one clip at a time, until it is closed. */
export class Tabreel {
  /** What is known about the loaded model. */
  readonly model: ModelInfo;
  /** Which backend runs. */
  readonly device: Backend;
  /** The GPU's name, as far as the browser tells it. */
  readonly adapter: string | undefined;
  /** Why this backend, in words. */
  readonly deviceReason: string;

  readonly #link: WorkerLink;
  #busy = false;
  #paused = false;

  private constructor(link: WorkerLink, model: ModelInfo, device: Backend, adapter: string | undefined, reason: string) {
    this.#link = link;
    this.model = model;
    this.device = device;
    this.adapter = adapter;
    this.deviceReason = reason;
  }

  /** False after a crash, a lost GPU or `dispose()`: load again. */
  get alive(): boolean {
    return this.#link.dead === undefined;
  }

  /**
   * Fetches what is not yet on this device, starts a worker and builds the model in it.
   *
   * @throws TabreelError `unsupported-device`, `fetch`, `weights`, `tokenizer`, `out-of-memory`, `aborted`, …
   */
  static async load(options: LoadOptions): Promise<Tabreel> {
    const { device = 'auto', signal } = checkLoad(options);
    const folder = findSet(options);
    const policy = new PolicyWatch();
    try {
      const card = await folder.card(signal);
      const started = await startOn(device, options);
      try {
        return await Tabreel.#build(started, folder, card, options);
      } catch (thrown) {
        const error = toTabreelError(thrown, started.info.device);
        if (device !== 'auto' || !cpuMayHelp(error)) throw error;
        const why = `The GPU could not take the model (${error.message}), so clips are made on the CPU.`;
        const cpu = await start('cpu', undefined, why, options);
        return await Tabreel.#build(cpu, folder, card, options).catch((thrown: unknown) => {
          throw withoutRoom(toTabreelError(thrown, 'cpu'), error);
        });
      }
    } catch (thrown) {
      throw await policy.explain(toTabreelError(thrown));
    } finally {
      policy.end();
    }
  }

  /**
   * Tells what a model, or a set of loose files, is: its parts, what is missing or left over, whether this machine can run
   * it, and what memory it takes: `plan` on the device, `cpuPlan` on the CPU where that is a GPU, in bytes; `judgePlan` puts
   * them into words. Only headers are read, in a worker that ends then; nothing is kept.
   *
   * @throws TabreelError `fetch`, `weights` (no weight file), `unsupported-device`, `aborted`
   */
  static async inspect(options: InspectOptions): Promise<Inspection> {
    const { device = 'auto', signal, memory, onProgress, files } = checkLoad(options);
    const folder = findSet(options, files);
    const policy = new PolicyWatch();
    try {
      const card = await folder.card(signal);
      const { link, info } = await startOn(device, options);
      try {
        const job = { type: 'inspect', folder: folder.describe(card, false), budget: memory } as const;
        return (await link.run(job, {
          what: 'inspecting the model',
          silenceMs: 180 * SECOND,
          signal,
          onFetching: (progress) => onProgress?.({ phase: 'download', ...progress }),
        })) as Inspection;
      } catch (thrown) {
        throw toTabreelError(thrown, info.device);
      } finally {
        link.end(new TabreelError('aborted', 'the inspection is over'));
      }
    } catch (thrown) {
      throw await policy.explain(toTabreelError(thrown));
    } finally {
      policy.end();
    }
  }

  /** Reads the folder and builds the model in a worker that has started; ends the worker when that fails. */
  static async #build(
    { link, info, reason, adapter }: Started,
    folder: ModelFolder,
    card: ModelCard,
    options: LoadOptions,
  ): Promise<Tabreel> {
    const { onProgress, onWarning, signal, keep = true } = options;
    try {
      const described = folder.describe(card, keep);
      askToStay(described, cardBytes(card));
      const built = (await link.run(
        { type: 'load', folder: described, budget: options.memory },
        {
          what: 'loading the model',
          silenceMs: 180 * SECOND,
          signal,
          onFetching: (progress) => onProgress?.({ phase: 'download', ...progress }),
          onEvent: (event) => {
            if (event.type === 'warning') onWarning?.(event.message);
            if (event.type !== 'loading') return;
            onProgress?.({ phase: 'build', loaded: event.loaded, total: event.total, what: event.what });
          },
        },
      )) as EngineModel;
      const hash = await modelHash(card);
      const known = { card, bytes: cardBytes(card), hash, loras: options.loras?.length ?? 0 };
      const presets = { ...card.presets, ...options.presets };
      const model = { ...built, ...known, presets, defaults: { ...card.defaults, ...built.defaults } };
      return new Tabreel(link, model, info.device, info.device === 'gpu' ? info.adapter?.name || adapter : undefined, reason);
    } catch (thrown) {
      const error = toTabreelError(thrown, info.device);
      link.end(error);
      throw error;
    }
  }

  /**
   * Makes one clip. Only one at a time: a second call while one runs rejects.
   *
   * @throws TabreelError `invalid-options`, `aborted`, `device-lost`, `out-of-memory`, `internal`
   */
  async generate(options: GenerateOptions): Promise<Clip> {
    const settings = resolveOptions(options, this.model);
    checkInputs(options, settings, this.model.capabilities);
    const { signal } = options;
    const [frames, warnings]: [Frame[], string[]] = [[], []];
    const onEvent = (event: EngineEvent): void => {
      switch (event.type) {
        case 'stage':
          return options.onStage?.(event.stage);
        case 'step':
          return options.onStep?.({ step: event.step, numSteps: event.numSteps, seconds: event.seconds });
        case 'preview':
          return options.onPreview?.({ step: event.step, ...frameOf(event) });
        case 'warning':
          warnings.push(event.message);
          return options.onWarning?.(event.message);
        case 'frame':
          frames[event.index] = frameOf(event);
          return options.onFrame?.({ index: event.index, ...frames[event.index]! });
        case 'loading':
        case 'clips':
        case 'made':
          return undefined; // comes only otherwise
      }
    };
    return this.#alone(signal, async () => {
      const { condition, warnings: said } = await readInputs(options, settings, signal);
      said.forEach((message) => onEvent({ type: 'warning', message }));
      const job = { type: 'generate', options: { ...settings, preview: options.onPreview !== undefined }, condition } as const;
      const transfer = condition === undefined ? [] : buffersOf(condition);
      const result = await this.#link.run(job, { ...this.#generating, signal, onEvent, transfer });
      const given = givenParts(options, placesOf(condition, settings.numFrames));
      return this.#clip(result as GenerateResult, settings, { frames, warnings }, given);
    });
  }

  /**
   * Makes clips of text, of any sizes, lengths and settings, in the order given; each is what `generate` makes of it. As many as
   * the device has room for are denoised together, which takes less time than one after another; a model that takes one at a
   * time makes them so. All are checked before any is made. An error of one names its place, `clips[1]: …`, and ends the
   * batch; clips that `onClip` has got are whole.
   *
   * @throws TabreelError as `generate`
   */
  async generateBatch(clips: readonly ClipOptions[], options: BatchOptions = {}): Promise<Clip[]> {
    const settings = resolveBatch(clips, options, this.model);
    const { signal } = options;
    const batch = new Batch(settings.length, options, (result, clip, sent) => this.#clip(result, settings[clip]!, sent, givenParts({})));
    return this.#alone(signal, async () => {
      const onEvent = (event: EngineEvent): void => batch.hear(event);
      await this.#link.run({ type: 'batch', clips: settings }, { ...this.#generating, signal, onEvent }).catch((thrown: unknown) => {
        throw batch.blame(thrown);
      });
      return batch.clips();
    });
  }

  /** How the worker is asked for clips. */
  get #generating(): { what: string; silenceMs: number } {
    // One block on the CPU can be long, and nothing can be heard during it.
    return { what: 'generating', silenceMs: (this.device === 'gpu' ? 180 : 600) * SECOND };
  }

  /** Makes something while nothing else is made. */
  async #alone<T>(signal: AbortSignal | undefined, make: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new TabreelError('invalid-options', 'already generating: wait for the clip, or stop it first');
    throwIfAborted(signal, 'generating');
    const { dead } = this.#link;
    if (dead) throw new TabreelError(dead.code, `the engine is gone (${dead.message}); load the model again`);
    this.#busy = true;
    try {
      return await make();
    } catch (thrown) {
      throw toTabreelError(thrown, this.device);
    } finally {
      this.#busy = false;
    }
  }

  /** A clip of what the engine has sent. */
  #clip(result: GenerateResult, options: ClipRecipe, { frames, warnings }: Sent, given: GivenParts): Clip {
    const got = Object.keys(frames).length;
    if (got !== result.numFrames) {
      throw new TabreelError('internal', `the engine announced ${result.numFrames} frames but sent ${got}`);
    }
    const { width, height, fps, seed, timings, tokens, memory } = result;
    const { name, hash } = this.model;
    const by = { backend: this.device, adapter: this.adapter, model: { name: name || this.model.card.name, hash } };
    const from = { options, given, task: { name: 'generate' as const } };
    return new Clip({ frames, width, height, fps, seed, timings, tokens, memory, warnings, ...by, ...from });
  }

  /**
   * Makes a clip longer, forward or backward, by any number of frames: in passes that each see the end of what is there.
   * `onFrame` gets the new frames of a pass, by their index in the whole clip, when it is done and its colours are held to those
   * of the known frames; later passes are still to come then. A model that takes no clips (`model.capabilities.keyframes`) goes
   * on from the last frame alone, and only forward.
   *
   * @throws TabreelError as `generate`
   */
  extend(clip: ClipSource, options: tasks.ExtendOptions): Promise<Clip> {
    return task(options, () => tasks.extend(this, clip, options));
  }

  /**
   * Adds frames that lead from a clip's end back to its beginning, so that it repeats without a jump; without a clip (undefined)
   * the prompt makes it first. `onFrame` gets the added frames when all are made, since their colours are held to both ends. A
   * model that takes no clips sees the last frame and the first (`model.capabilities.lastImage`).
   *
   * @throws TabreelError as `generate`
   */
  loop(clip: ClipSource | undefined, options: tasks.LoopOptions): Promise<Clip> {
    return task(options, () => tasks.loop(this, clip, options));
  }

  /**
   * One clip after the other, with frames between that lead from the first to the second; they are made as those of `loop`.
   *
   * @throws TabreelError as `generate`
   */
  connect(from: ClipSource, to: ClipSource, options: tasks.BridgeOptions): Promise<Clip> {
    return task(options, () => tasks.connect(this, from, to, options));
  }

  /**
   * Makes a clip anew as the prompt says, starting from it and not from noise.
   *
   * @throws TabreelError as `generate`
   */
  edit(clip: ClipSource, options: tasks.EditOptions): Promise<Clip> {
    return task(options, () => tasks.edit(this, clip, options));
  }

  /**
   * Makes a region of a clip or picture anew; the rest comes back unchanged.
   *
   * @throws TabreelError as `generate`
   */
  inpaint(clip: PictureSource | ClipSource, options: tasks.InpaintOptions): Promise<Clip> {
    return task(options, () => tasks.inpaint(this, clip, options));
  }

  /**
   * Puts a clip or picture whole into a frame of another shape, `width` × `height`, and makes what lies beside it.
   *
   * @throws TabreelError as `generate`
   */
  outpaint(clip: PictureSource | ClipSource, options: tasks.OutpaintOptions): Promise<Clip> {
    return task(options, () => tasks.outpaint(this, clip, options));
  }

  /**
   * Enlarges a clip and makes its details anew.
   *
   * @throws TabreelError as `generate`
   */
  upscale(clip: ClipSource, options: tasks.UpscaleOptions): Promise<Clip> {
    return task(options, () => tasks.upscale(this, clip, options));
  }

  /** Words of a prompt that the model was not trained on; none where its card has no vocabulary. */
  unknownWords(prompt: string): string[] {
    return unknownWords(prompt, this.model.card.vocabulary);
  }

  /** True between `pause()` and `resume()`. */
  get paused(): boolean {
    return this.#paused;
  }

  /**
   * Holds a running `generate` or `generateBatch` within one block of the model; all that it has made stays in memory, and
   * `signal` still stops it. A later one waits too. The clips' timings count the pause.
   */
  pause(): void {
    this.#pause(true);
  }

  /** Goes on. */
  resume(): void {
    this.#pause(false);
  }

  #pause(paused: boolean): void {
    this.#paused = paused;
    this.#link.pause(paused);
  }

  /** Ends the worker and frees everything it held. A running `generate` rejects with code 'aborted'. */
  dispose(): void {
    this.#link.end(new TabreelError('aborted', 'the generator was disposed'));
  }
}

/** A task whose promise rejects as every one does, also where a listener throws between two passes. */
async function task(options: unknown, make: () => Promise<Clip>): Promise<Clip> {
  try {
    checkObject(options);
    return await make();
  } catch (thrown) {
    throw toTabreelError(thrown);
  }
}

/** Of a model that has room on neither device, both are told. */
function withoutRoom(cpu: TabreelError, gpu: TabreelError): TabreelError {
  if (cpu.code !== 'out-of-memory' || gpu.code !== 'out-of-memory') return cpu;
  return new TabreelError(cpu.code, `${cpu.message}; before that, ${gpu.message}`, { cause: cpu, device: 'cpu' });
}

/** @throws TabreelError `invalid-options` */
function checkLoad<T extends Pick<LoadOptions, 'device' | 'memory'>>(options: T): T {
  const { device = 'auto', memory } = (options ??= {} as T);
  if (!['auto', 'gpu', 'cpu'].includes(device)) {
    throw new TabreelError('invalid-options', `device must be auto, gpu or cpu, got ${String(device)}`);
  }
  if (memory !== undefined && !(Number.isSafeInteger(memory) && memory > 0)) {
    throw new TabreelError('invalid-options', `memory must be a whole number of bytes, 1 or more, got ${String(memory)}`);
  }
  return options;
}

interface Started {
  link: WorkerLink;
  info: EngineInfo;
  reason: string;
  /** What the browser calls the GPU; the engine often gets no name. */
  adapter?: string | undefined;
}

/** Chooses the backend. With 'auto', a GPU that does not come up is reported and the CPU takes over. */
async function startOn(device: 'auto' | Backend, options: LoadOptions): Promise<Started> {
  const support = await probe();
  const adapter = support.adapter && adapterName(support.adapter);
  if (support.recommended === 'none') throw new TabreelError('unsupported-device', support.reason);
  if (device === 'cpu') return start('cpu', undefined, 'The CPU was chosen in the settings.', options);
  if (device === 'gpu') {
    if (!support.adapter) throw new TabreelError('unsupported-device', noGpu(support));
    return { ...(await start('gpu', support.adapter, `The GPU was chosen in the settings: ${adapter}.`, options)), adapter };
  }
  if (support.recommended === 'cpu') return start('cpu', undefined, support.reason, options);
  try {
    return { ...(await start('gpu', support.adapter, support.reason, options)), adapter };
  } catch (thrown) {
    const error = toTabreelError(thrown);
    if (isEverywhere(error)) throw thrown;
    return start('cpu', undefined, `The GPU did not start (${error.message}), so clips are made on the CPU.`, options);
  }
}

const noGpu = (support: Support): string =>
  support.webgpu
    ? `WebGPU found no GPU${support.adapterError ? ` (${support.adapterError})` : ''}`
    : 'this browser has no WebGPU, so the GPU cannot be used';

async function start(device: Backend, adapter: AdapterFacts | undefined, reason: string, options: LoadOptions): Promise<Started> {
  const { onProgress, signal, wasmUrl, createWorker } = options;
  throwIfAborted(signal, 'loading');
  const href = wasmUrl === undefined ? undefined : absolute(wasmUrl);
  const { worker, where } = createWorker ? { worker: createWorker() } : spawnWorker();
  const link = new WorkerLink(worker, where);
  let arriving = false; // the engine, from its first byte to its last
  const stalled = "the engine's download stalled: nothing of it came for 90 s";
  try {
    const info = await link.run(
      { type: 'start', device, adapter, wasmUrl: href },
      {
        what: 'starting the engine',
        silenceMs: 90 * SECOND,
        onSilence: () =>
          arriving
            ? new TabreelError('fetch', stalled)
            : device === 'gpu'
              ? new TabreelError('unsupported-device', 'the GPU did not answer within 90 s')
              : new TabreelError('internal', 'the engine did not start within 90 s'),
        signal,
        abortGraceMs: 0,
        onEngineBytes: (loaded, total) => {
          arriving = loaded !== total;
          onProgress?.({ phase: 'engine', loaded, total, what: 'engine' });
        },
      },
    );
    return { link, info: info as EngineInfo, reason };
  } catch (thrown) {
    const error = toTabreelError(thrown, device);
    link.end(error);
    throw error;
  }
}

/** Beside the page; a worker has no page, but its own script. */
function absolute(url: string | URL): string {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  try {
    return new URL(url, base).href;
  } catch {
    throw new TabreelError('invalid-options', `wasmUrl must be a URL, absolute in a worker made from a Blob, got "${String(url)}"`);
  }
}
