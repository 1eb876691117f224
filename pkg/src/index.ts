export {
  GUIDED_ABOVE,
  OPTIONS,
  type Capabilities,
  type InspectedPart,
  type Inspection,
  type Plan,
  type PlannedPart,
  type TokenCount,
  type KernelFinding,
  type OptionSpec,
} from './contract.js';
export { adapterName, type AdapterFacts } from './adapter.js';
export type { BatchOptions } from './batch.js';
export { cardBytes, type ModelCard, type ModelFile } from './card.js';
export {
  ENTRY_PARTS,
  KINDS,
  MODES,
  addressIn,
  entryBytes,
  filesOf,
  formatCatalogue,
  parseCatalogue,
  type Catalogue,
  type CatalogueEntry,
  type CatalogueFile,
  type EntryMemory,
  type EntryPart,
  type License,
} from './catalogue.js';
export { judgeEntry, judgePlan, memoryBudget, type Verdict } from './catalogue-judge.js';
export {
  ModelCatalogue,
  catalogue,
  type CatalogueOptions,
  type EntryChoice,
  type EntryModel,
  type EntryStorage,
} from './catalogue-store.js';
export { Clip, drawSmooth, type SaveOptions } from './clip.js';
export { edges } from './edges.js';
export { TabreelError, type TabreelErrorCode } from './errors.js';
export type { Frame } from './frame.js';
export { Tabreel, type GenerateOptions, type InspectOptions, type LoadOptions, type LoadProgress, type ModelInfo } from './generator.js';
export { type ClipInputs, type GivenParts, type GivenPlace, type Keyframe, type PlacedClip } from './inputs.js';
export { deleteKernelReports, kernelPassed } from './kernel-report.js';
export type { Backend, MemoryUse, Stage } from './messages.js';
export {
  randomSeed,
  resolveOptions,
  withPreset,
  type ClipOptions,
  type ClipRecipe,
  type ModelDefaults,
  type ModelRules,
  type Preset,
} from './options.js';
export { readClip, type ClipFrames, type ClipSource, type ReadClip, type ReadClipOptions } from './read-clip.js';
export { readPicture, type PictureSource } from './read-picture.js';
export { modelHash, parseRecipe, readRecipe, type FullRecipe, type ListedModel, type TaskName, type TaskRecipe } from './recipe.js';
export { recoverGiven, type Recovered, type RecoveredStretch } from './recover.js';
export { describeModel, type ModelSet, type ModelSource } from './source/index.js';
export { PARTS as MODEL_PARTS, type FileSource, type LooseParts, type LoraSource, type PartSource } from './source/loose.js';
export { modelAddress } from './source/remote.js';
export { deleteKept, keptModels, verifyKept, type KeptModel, type VerifiedModel } from './source/kept-models.js';
export { probe, type Support } from './support.js';
export { sizeFor as taskSize, type SizedModel } from './task-size.js';
export type {
  BridgeOptions,
  EditOptions,
  ExtendOptions,
  InpaintOptions,
  LoopOptions,
  OutpaintOptions,
  TaskOptions,
  UpscaleOptions,
} from './tasks.js';
export { CAPTION_ROLES, suggestPrompt, unknownWords, unknownWordsNote, type Vocabulary } from './vocabulary.js';
export { encodableCodecs, encodeVideo, type EncodedVideo, type VideoCodec, type VideoOptions } from './video.js';
