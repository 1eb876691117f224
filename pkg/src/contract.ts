/** What the engine and its callers agree on. Written from the Rust types by `npm run contract`: do not edit. */

/**
 * Which kind of device to compute on.
 */
export type Backend = "cpu" | "gpu";

/**
 * What is known of a GPU adapter.
 */
export type AdapterInfo = { 
/**
 * The adapter's name as the driver gives it (often empty in browsers).
 */
name: string, 
/**
 * The driver's own description.
 */
driver: string, 
/**
 * The graphics interface used: `vulkan`, `metal`, `dx12`, `webgpu`.
 */
backend: string, 
/**
 * True for an adapter that runs on the CPU (lavapipe, SwiftShader, WARP).
 */
software: boolean, 
/**
 * True if shaders may use 16-bit floats.
 */
f16: boolean, 
/**
 * Largest storage buffer that one binding may span and that can be made, bytes.
 */
maxStorageBufferBindingBytes: number, 
/**
 * Storage buffers one shader stage may use.
 */
maxStorageBuffersPerStage: number, 
/**
 * Threads in one workgroup.
 */
maxWorkgroupThreads: number, };

/**
 * What the engine knows about the device it runs on.
 */
export type EngineInfo = { 
/**
 * Where the arithmetic runs.
 */
device: Backend, 
/**
 * The GPU's adapter.
 */
adapter?: AdapterInfo, 
/**
 * How large the module's memory has grown, bytes; it never shrinks.
 */
wasmMemoryBytes: number, };

/**
 * What a model asks of a clip's size: how its video codec and its patches divide it.
 */
export type SizeRules = { 
/**
 * Width must be a multiple of this, px.
 */
widthMultiple: number, 
/**
 * Height must be a multiple of this, px.
 */
heightMultiple: number, 
/**
 * The number of frames must be a multiple of this, and one.
 */
frameMultiple: number, };

/**
 * Which pieces of a `Condition` a model takes. Names are camelCase in JavaScript.
 */
export type Capabilities = { 
/**
 * Text alone suffices.
 */
text: boolean, 
/**
 * How many classes it shows, one of which is chosen in place of a prompt; 0 for a model of text.
 */
classes: number, 
/**
 * It makes single pictures, not clips.
 */
pictureOnly: boolean, 
/**
 * A picture for the first frame.
 */
image: boolean, 
/**
 * A picture for the last frame, beside the first.
 */
lastImage: boolean, 
/**
 * Nothing is made without a picture for the last frame, beside the first.
 */
needsLastImage: boolean, 
/**
 * Pictures and clips anywhere on the timeline.
 */
keyframes: boolean, 
/**
 * A mask over what is given.
 */
mask: boolean, 
/**
 * A control clip.
 */
control: boolean, 
/**
 * Reference pictures.
 */
reference: boolean, 
/**
 * A source clip with a strength.
 */
source: boolean, 
/**
 * Why the others are not there, in words; empty when all are.
 */
why: string, };

/**
 * What a component takes.
 */
export type PlannedPart = { 
/**
 * Bytes of its weights on the device, were they all kept.
 */
bytes: number, 
/**
 * True if its layers are read from their file when their turn comes.
 */
streamed: boolean, 
/**
 * Bytes that are on the device all the time: its weights, or, streamed, what is in no layer and the upload's buffer.
 */
keptBytes: number, 
/**
 * Bytes of the layer whose turn it is; 0 where all are kept.
 */
passingBytes: number, };

/**
 * What a model takes on its device.
 */
export type Plan = { 
/**
 * Bytes that the model may take.
 */
budget: number, 
/**
 * The text encoder.
 */
textEncoder: PlannedPart, 
/**
 * The transformer.
 */
transformer: PlannedPart, 
/**
 * The video codec; it always stays.
 */
vae: PlannedPart, 
/**
 * The image encoder of models that look at given pictures.
 */
imageEncoder?: PlannedPart, 
/**
 * Bytes of weights that are on the device at once, at least: what stays, and the largest layer that passes.
 */
residentBytes: number, 
/**
 * Bytes that the device holds at most while the model is loaded: its weights, and what one of them takes beside them on
 * its way there.
 */
loadBytes: number, 
/**
 * Bytes that the device holds while a clip of the default size is made from the longest prompt, the weights among them:
 * on a GPU at most, on the CPU at least.
 */
peakBytes?: number, };

/**
 * What is told of one part.
 */
export type InspectedPart = { 
/**
 * `tokenizer`, `text_encoder`, `transformer`, `vae`, `image_encoder`, `lora` or `unknown`.
 */
part: string, 
/**
 * Its files, by their paths in the model.
 */
files: Array<string>, 
/**
 * What it is, in words; empty where nothing here knows it.
 */
name: string, 
/**
 * Bytes of its files.
 */
bytes: number, 
/**
 * Number of tensors.
 */
tensors: number, 
/**
 * Number of values in them.
 */
parameters: number, 
/**
 * Bytes of the tensors of each stored type, also of those that nothing here decodes.
 */
types: { [key in string]: number }, 
/**
 * Bytes of its weights on this device, were they all kept.
 */
memory: number, 
/**
 * Tensors that the model has no use for, sorted.
 */
leftOver: Array<string>, 
/**
 * What is missing or does not fit, in words; none where it can be loaded.
 */
problem?: string, };

/**
 * What a set of files is.
 */
export type Inspection = { 
/**
 * The parts that are there, in loading order; LoRAs and what nothing here knows at the end.
 */
parts: Array<InspectedPart>, 
/**
 * Parts that a model needs and these files lack.
 */
missing: Array<string>, 
/**
 * What it would take on the device; only of a whole model.
 */
plan?: Plan, 
/**
 * The same on the CPU, where the device is a GPU.
 */
cpuPlan?: Plan, 
/**
 * True if the files are a whole model and its weights have room on this device.
 */
runs: boolean, 
/**
 * Why it runs, or why not, in words.
 */
reason: string, 
/**
 * Of one that runs: why a clip of the size that it suggests may not, in words; missing where nothing speaks against it.
 */
caution?: string, 
/**
 * What the model can be given besides text; only of a whole model.
 */
capabilities?: Capabilities, };

/**
 * What the engine read from the model folder.
 */
export type EngineModel = { 
/**
 * The name on its card; empty without one.
 */
name: string, 
/**
 * Width must be a multiple of this, px.
 */
widthMultiple: number, 
/**
 * Height must be a multiple of this, px.
 */
heightMultiple: number, 
/**
 * The number of frames must be a multiple of this, and one.
 */
frameMultiple: number, 
/**
 * Prompts longer than this are cut, with a warning; tokens.
 */
maxTokens: number, 
/**
 * What it can be given besides text.
 */
capabilities: Capabilities, 
/**
 * The names of its classes, by number, with commas between; empty ones where its folder names none, and no entries for a
 * model of text.
 */
labels: Array<string>, 
/**
 * What of it stays on the device.
 */
plan?: Plan, 
/**
 * What its card suggests.
 */
defaults: ModelDefaults, };

/**
 * How a picture of another shape comes to the clip's.
 */
export type Fit = "cover" | "contain";

/**
 * A picture, rows top to bottom.
 */
export type EnginePicture = { 
/**
 * Pixels.
 */
width: number, 
/**
 * Pixels.
 */
height: number, 
/**
 * Red, green, blue and opacity of each pixel: `width × height × 4` bytes.
 */
rgba: Uint8Array<ArrayBuffer>, };

/**
 * One thing that is known of a clip.
 */
export type EnginePiece = { "kind": "frame", 
/**
 * Counted from 0; below 0 from the end, −1 is the last frame.
 */
at: number, 
/**
 * What is not opaque in it is to be made, by models that take masks.
 */
picture: EnginePicture, 
/**
 * `cover` where it is left out.
 */
fit?: Fit, } | { "kind": "clip", 
/**
 * Counted from 0.
 */
at: number, 
/**
 * What is not opaque in them is to be made.
 */
frames: Array<EnginePicture>, 
/**
 * `cover` where it is left out.
 */
fit?: Fit, } | { "kind": "mask", 
/**
 * White where they are; one for all frames, or one each.
 */
frames: Array<EnginePicture>, } | { "kind": "control", 
/**
 * Edges, a sketch, depth or a pose, from frame 0 on.
 */
frames: Array<EnginePicture>, } | { "kind": "reference", 
/**
 * It.
 */
picture: EnginePicture, } | { "kind": "source", 
/**
 * As many as the clip has.
 */
frames: Array<EnginePicture>, 
/**
 * Which part of the steps is run, 0 to 1: 1 keeps nothing of it.
 */
strength: number, };

/**
 * What is known of a clip besides the text, as the engine takes it.
 */
export type EngineCondition = { 
/**
 * In any order.
 */
pieces: Array<EnginePiece>, 
/**
 * How strongly the model's control branch acts, 0 to 10; 1, as trained, where it is left out.
 */
controlScale?: number, 
/**
 * Made pixels nearer than this to known ones in their frame are evened out towards their colours, 0 to 64 px; 0 is a hard
 * edge.
 */
seam?: number, 
/**
 * Whether known pixels come back unchanged; true where it is left out.
 */
paste?: boolean, };

/**
 * How much of a prompt the model read.
 */
export type TokenCount = { 
/**
 * Tokens that were used.
 */
kept: number, 
/**
 * Tokens that the prompt has.
 */
total: number, };

/**
 * What is known of a finished clip besides its frames, which were events.
 */
export type EngineResult = { 
/**
 * The noise's seed.
 */
seed: number, 
/**
 * Number of frames.
 */
numFrames: number, 
/**
 * Frame width, px.
 */
width: number, 
/**
 * Frame height, px.
 */
height: number, 
/**
 * Frames a second.
 */
fps: number, 
/**
 * The prompt's tokens.
 */
tokens: TokenCount, 
/**
 * Seconds, by stage, and their `total`.
 */
timings: Record<string, number>, 
/**
 * Bytes that the GPU was planned to hold at most; missing on the CPU.
 */
plannedBytes?: number, 
/**
 * The device in words.
 */
device: string, };

/**
 * The named stages of a generation, in the order of the walk.
 */
export type Stage = "tokenize" | "encode-text" | "condition" | "denoise" | "decode";

/**
 * One thing that happened during a load or a generation. Pixels are not serialized: they cross borders beside the event.
 */
export type EngineEvent = { "type": "loading", 
/**
 * Components built so far.
 */
loaded: number, 
/**
 * Components in all.
 */
total: number, 
/**
 * The component's folder name.
 */
what: string, } | { "type": "clips", 
/**
 * The first of them, counted from 0.
 */
first: number, 
/**
 * How many.
 */
count: number, } | { "type": "stage", 
/**
 * Which.
 */
stage: Stage, } | { "type": "step", 
/**
 * 1 for the first step.
 */
step: number, 
/**
 * Steps in all.
 */
numSteps: number, 
/**
 * Wall time of this step, seconds.
 */
seconds: number, } | { "type": "preview", 
/**
 * The step it was made after.
 */
step: number, 
/**
 * Picture width, pixels.
 */
width: number, 
/**
 * Picture height, pixels.
 */
height: number, } | { "type": "warning", 
/**
 * A sentence.
 */
message: string, } | { "type": "frame", 
/**
 * 0 for the first frame.
 */
index: number, 
/**
 * Frame width, pixels.
 */
width: number, 
/**
 * Frame height, pixels.
 */
height: number, };

/**
 * What went wrong, by what the caller can do about it. The names are stable.
 */
export type TabreelErrorCode = "unsupported-device" | "out-of-memory" | "device-lost" | "fetch" | "weights" | "tokenizer" | "invalid-options" | "aborted" | "internal";

/**
 * An error as it crosses a border: what to do about it, and what happened in words.
 */
export type PlainError = { 
/**
 * What the caller can do about it.
 */
code: TabreelErrorCode, 
/**
 * Rule, value found and unit.
 */
message: string, };

/** All error codes. */
export const ERROR_CODES = ['unsupported-device', 'out-of-memory', 'device-lost', 'fetch', 'weights', 'tokenizer', 'invalid-options', 'aborted', 'internal'] as const satisfies readonly TabreelErrorCode[];

/** A kernel's name in reports. */
export type KernelName = 'gemm' | 'attention' | 'conv3d' | 'norm_modulate' | 'rms_rope' | 'channel_norm';

/**
 * One kernel beside its plain twin.
 */
export type KernelFinding = { 
/**
 * Which kernel.
 */
kernel: KernelName, 
/**
 * Relative L2 distance of the two results; null where the kernel gave no numbers.
 */
error: number | null, 
/**
 * True if the kernel is used.
 */
passed: boolean, };

/**
 * What a check of the GPU kernels found.
 */
export type KernelReport = { 
/**
 * Of the kernels' texts, hexadecimal: findings of another revision say nothing.
 */
revision: string, 
/**
 * One for each kernel; none on the CPU.
 */
findings: Array<KernelFinding>, };

/** One row of the table of options. */
export interface OptionSpec {
  /** What kind of value it takes. */
  readonly kind: 'text' | 'label' | 'whole' | 'number' | 'choice' | 'list' | 'flag';
  /** What a 'choice' chooses among. */
  readonly choices?: readonly string[];
  /** What it does. */
  readonly doc: string;
  /** What the number counts; empty without a unit. */
  readonly unit: string;
  /** The command line's flag, and the name in a shared link. */
  readonly flag?: string;
  /** The least. */
  readonly min?: number;
  /** The most. */
  readonly max?: number;
  /** True if `min` itself is not allowed. */
  readonly aboveMin?: boolean;
  /** Which of the model's multiples a size keeps to. */
  readonly multiple?: keyof SizeRules;
  /** What stands in for a missing value; missing itself where that is no constant. */
  readonly default?: string | number | boolean;
}

/** Guidance up to here is none: a step takes one pass of the model instead of two. */
export const GUIDED_ABOVE = 1;

/** The most numbers of an option that is a list. */
export const MOST_NUMBERS = 200;

/** What a clip is made from. Everything but the prompt (by a model of classes: the class) has a default, which the model suggests. */
export interface ClipOptions {
  /** What to show. Must not be empty, unless the model shows classes; what is longer than the model reads is cut, with a warning. [default: none] */
  prompt?: string;
  /** What to show by a model of classes, in place of a prompt: a class's number, or a name of it. [default: none] */
  classLabel?: string | number;
  /** Seed of the noise, as in `torch.Generator("cpu").manual_seed(seed)`: the same seed gives the same clip. [0 to 9007199254740991; default: random] */
  seed?: number;
  /** A preset of the model, by its name: settings that stand in for what is not given. [default: none] */
  preset?: string;
  /** What to steer away from. Only used with guidance. [default: none] */
  negativePrompt?: string;
  /** Width of a frame; a multiple of what the model asks for. [1 to 2048 px; default: 832] */
  width?: number;
  /** Height of a frame; a multiple of what the model asks for. [1 to 2048 px; default: 480] */
  height?: number;
  /** Number of frames; a multiple of what the model asks for (4 in most), and one. One frame is a picture. [1 to 1025 frames; default: 81] */
  numFrames?: number;
  /** Frames a second of the finished clip. Does not change what is generated. [1 to 120 frames per second; default: 16] */
  fps?: number;
  /** Denoising steps. [1 to 200 steps; default: 50] */
  numSteps?: number;
  /** How strongly the prompt steers (classifier-free guidance). At 1 and below there is no guidance, and a step takes half the time. [0 to 50; default: 5] */
  guidanceScale?: number;
  /** How far the schedule is bent towards noise. [above 0 up to 100; default: the scheduler's own] */
  flowShift?: number;
  /** How the noise is taken away. `stochastic` goes to the clean estimate and back to the next level with fresh noise: for models distilled to few steps (rCM, DMD, LCM). [unipc, euler, stochastic; default: the model's own] */
  sampler?: 'unipc' | 'euler' | 'stochastic';
  /** The noise levels of the steps, falling, as a few-step model was trained on them; taken as they are, in place of steps and shift. A 0 at the end is left away. [above 0 up to 1; default: the sampler's own] */
  sigmas?: number[];
}

/** Everything that makes the same clip again, with nothing left open. */
export interface ClipRecipe {
  /** What to show. Must not be empty, unless the model shows classes; what is longer than the model reads is cut, with a warning. [default: none] */
  prompt: string;
  /** What to show by a model of classes, in place of a prompt: a class's number, or a name of it. [default: none] */
  classLabel?: string | number;
  /** Seed of the noise, as in `torch.Generator("cpu").manual_seed(seed)`: the same seed gives the same clip. [0 to 9007199254740991; default: random] */
  seed: number;
  /** What to steer away from. Only used with guidance. [default: none] */
  negativePrompt: string;
  /** Width of a frame; a multiple of what the model asks for. [1 to 2048 px; default: 832] */
  width: number;
  /** Height of a frame; a multiple of what the model asks for. [1 to 2048 px; default: 480] */
  height: number;
  /** Number of frames; a multiple of what the model asks for (4 in most), and one. One frame is a picture. [1 to 1025 frames; default: 81] */
  numFrames: number;
  /** Frames a second of the finished clip. Does not change what is generated. [1 to 120 frames per second; default: 16] */
  fps: number;
  /** Denoising steps. [1 to 200 steps; default: 50] */
  numSteps: number;
  /** How strongly the prompt steers (classifier-free guidance). At 1 and below there is no guidance, and a step takes half the time. [0 to 50; default: 5] */
  guidanceScale: number;
  /** How far the schedule is bent towards noise. [above 0 up to 100; default: the scheduler's own] */
  flowShift?: number;
  /** How the noise is taken away. `stochastic` goes to the clean estimate and back to the next level with fresh noise: for models distilled to few steps (rCM, DMD, LCM). [unipc, euler, stochastic; default: the model's own] */
  sampler?: 'unipc' | 'euler' | 'stochastic';
  /** The noise levels of the steps, falling, as a few-step model was trained on them; taken as they are, in place of steps and shift. A 0 at the end is left away. [above 0 up to 1; default: the sampler's own] */
  sigmas?: number[];
}

/** What a model suggests. */
export interface ModelDefaults {
  /** What to steer away from. Only used with guidance. [default: none] */
  negativePrompt?: string | undefined;
  /** Width of a frame; a multiple of what the model asks for. [1 to 2048 px; default: 832] */
  width?: number | undefined;
  /** Height of a frame; a multiple of what the model asks for. [1 to 2048 px; default: 480] */
  height?: number | undefined;
  /** Number of frames; a multiple of what the model asks for (4 in most), and one. One frame is a picture. [1 to 1025 frames; default: 81] */
  numFrames?: number | undefined;
  /** Frames a second of the finished clip. Does not change what is generated. [1 to 120 frames per second; default: 16] */
  fps?: number | undefined;
  /** Denoising steps. [1 to 200 steps; default: 50] */
  numSteps?: number | undefined;
  /** How strongly the prompt steers (classifier-free guidance). At 1 and below there is no guidance, and a step takes half the time. [0 to 50; default: 5] */
  guidanceScale?: number | undefined;
  /** How far the schedule is bent towards noise. [above 0 up to 100; default: the scheduler's own] */
  flowShift?: number | undefined;
  /** How the noise is taken away. `stochastic` goes to the clean estimate and back to the next level with fresh noise: for models distilled to few steps (rCM, DMD, LCM). [unipc, euler, stochastic; default: the model's own] */
  sampler?: 'unipc' | 'euler' | 'stochastic' | undefined;
  /** The noise levels of the steps, falling, as a few-step model was trained on them; taken as they are, in place of steps and shift. A 0 at the end is left away. [above 0 up to 1; default: the sampler's own] */
  sigmas?: number[] | undefined;
}

/**
 * Settings that go together, under a name.
 */
export type Preset = ModelDefaults & { 
/**
 * What it is for, in words.
 */
about?: string, 
/**
 * The LoRA that it needs beside the model, by its name.
 */
lora?: string, 
/**
 * Widths and heights that it was made for, px, best first: the first is the default.
 */
sizes?: Array<[number, number]>, };

/** Bytes of weights that the engine keeps on a device where nobody says how many: of a GPU's largest binding so many times, within bounds; `tab` is all the memory that the engine can have on the CPU. */
export const MEMORY_BUDGET = { least: 1073741824, most: 6442450944, bindings: 2, cpu: 2147483648, tab: 4294967296 } as const;

/** The most frames that a task may add to a clip. */
export const MOST_ADDED = 100000;

/** The most bytes of pixels (RGBA) that a given clip may have. */
export const MOST_CLIP_BYTES = 4294967296;

/** The longest configuration, card or tokenizer that is read, bytes. */
export const MOST_TEXT_BYTES = 67108864;

/** Names of weights without an ending, as diffusers and transformers write them. */
export const WEIGHT_STEMS: readonly string[] = ['diffusion_pytorch_model', 'model'];

/** Endings of weights, the first that is there is taken. */
export const WEIGHT_ENDINGS: readonly string[] = ['.safetensors', '.gguf', '.pt', '.pth'];

/** The table of options, by name. */
export const OPTIONS: Readonly<Record<keyof ClipOptions, OptionSpec>> = {
  prompt: {
    kind: 'text',
    doc: "What to show. Must not be empty, unless the model shows classes; what is longer than the model reads is cut, with a warning.",
    unit: "",
    flag: "prompt",
    default: "",
  },
  classLabel: {
    kind: 'label',
    doc: "What to show by a model of classes, in place of a prompt: a class's number, or a name of it.",
    unit: "",
    flag: "class",
  },
  seed: {
    kind: 'whole',
    doc: "Seed of the noise, as in `torch.Generator(\"cpu\").manual_seed(seed)`: the same seed gives the same clip.",
    unit: "",
    flag: "seed",
    min: 0,
    max: 9007199254740991,
  },
  preset: {
    kind: 'text',
    doc: "A preset of the model, by its name: settings that stand in for what is not given.",
    unit: "",
    flag: "preset",
  },
  negativePrompt: {
    kind: 'text',
    doc: "What to steer away from. Only used with guidance.",
    unit: "",
    flag: "negative",
    default: "",
  },
  width: {
    kind: 'whole',
    doc: "Width of a frame; a multiple of what the model asks for.",
    unit: "px",
    flag: "width",
    min: 1,
    max: 2048,
    multiple: 'widthMultiple',
    default: 832,
  },
  height: {
    kind: 'whole',
    doc: "Height of a frame; a multiple of what the model asks for.",
    unit: "px",
    flag: "height",
    min: 1,
    max: 2048,
    multiple: 'heightMultiple',
    default: 480,
  },
  numFrames: {
    kind: 'whole',
    doc: "Number of frames; a multiple of what the model asks for (4 in most), and one. One frame is a picture.",
    unit: "frames",
    flag: "frames",
    min: 1,
    max: 1025,
    multiple: 'frameMultiple',
    default: 81,
  },
  fps: {
    kind: 'number',
    doc: "Frames a second of the finished clip. Does not change what is generated.",
    unit: "frames per second",
    flag: "fps",
    min: 1,
    max: 120,
    default: 16,
  },
  numSteps: {
    kind: 'whole',
    doc: "Denoising steps.",
    unit: "steps",
    flag: "steps",
    min: 1,
    max: 200,
    default: 50,
  },
  guidanceScale: {
    kind: 'number',
    doc: "How strongly the prompt steers (classifier-free guidance). At 1 and below there is no guidance, and a step takes half the time.",
    unit: "",
    flag: "guidance",
    min: 0,
    max: 50,
    default: 5,
  },
  flowShift: {
    kind: 'number',
    doc: "How far the schedule is bent towards noise.",
    unit: "",
    flag: "shift",
    min: 0,
    max: 100,
    aboveMin: true,
  },
  sampler: {
    kind: 'choice',
    doc: "How the noise is taken away. `stochastic` goes to the clean estimate and back to the next level with fresh noise: for models distilled to few steps (rCM, DMD, LCM).",
    unit: "",
    choices: ['unipc', 'euler', 'stochastic'],
    flag: "sampler",
  },
  sigmas: {
    kind: 'list',
    doc: "The noise levels of the steps, falling, as a few-step model was trained on them; taken as they are, in place of steps and shift. A 0 at the end is left away.",
    unit: "",
    flag: "sigmas",
    min: 0,
    max: 1,
    aboveMin: true,
  },
};
