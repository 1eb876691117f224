/** Whether this machine can run a model, and why: by what a catalogue states, or by the plan that headers gave. */
import type { CatalogueEntry } from './catalogue.js';
import { entryBytes } from './catalogue.js';
import { MEMORY_BUDGET, type Backend, type Plan } from './contract.js';
import type { MachineFacts, Support } from './support.js';

/** What {@link judgeEntry} and {@link judgePlan} found. */
export interface Verdict {
  /** `fits`: all weights stay on the device. `streams`: layers are read again in each step. `unknown`: nobody knows what it needs. */
  verdict: 'fits' | 'streams' | 'too-large' | 'unknown' | 'unsupported';
  /** False only where it cannot run. */
  runs: boolean;
  /** A sentence without its full stop: "needs 2.6 GB, the adapter allows 2.0 GB". */
  reason: string;
  /** What speaks against a clip of the model's own size though it runs; a sentence without its full stop. Only of a plan. */
  caution?: string | undefined;
}

/**
 * Bytes of a model that the engine puts on this device unless `load({ memory })` says otherwise. No browser tells how much memory a
 * GPU has: the largest buffer that shaders may see is what drivers scale with it.
 */
export function memoryBudget({ limits }: Pick<MachineFacts, 'limits'>, device: Backend): number {
  const { least, most, bindings, cpu } = MEMORY_BUDGET;
  if (device === 'cpu') return cpu;
  const { maxStorageBufferBindingSize = 0, maxBufferSize = Infinity } = limits;
  return Math.min(most, Math.max(least, bindings * Math.min(maxStorageBufferBindingSize, maxBufferSize)));
}

/** Judges an entry by what `probe()` found; the numbers are the catalogue's, and `Tabreel.inspect` tells more once files are at hand. */
export function judgeEntry(entry: CatalogueEntry, support: Support, device: 'auto' | Backend = 'auto'): Verdict {
  const where = device === 'auto' ? support.recommended : device;
  if (where === 'none') return { verdict: 'unsupported', runs: false, reason: without(support.reason) };
  const { memory } = entry;
  if (memory === undefined) return { verdict: 'unknown', runs: true, reason: 'how much memory it needs is not stated; its files tell' };
  const allowed = memoryBudget(support, where);
  const { keptBytes, streamedBytes, cpuBytes, at } = memory;
  if (where === 'cpu') return onCpu(cpuBytes, allowed, entry, support);
  const offers = `the adapter allows ${gigabytes(allowed)}`;
  if (streamedBytes > allowed) return { verdict: 'too-large', runs: false, reason: `needs ${gigabytes(streamedBytes)}, ${offers}` };
  const room = `${at ? ` (a clip of ${at.join('×')})` : ''}${storageWords(entry, support)}`;
  if (keptBytes <= allowed) return { verdict: 'fits', runs: true, reason: `needs ${gigabytes(keptBytes)}, ${offers}${room}` };
  const slower = `needs ${gigabytes(keptBytes)} to stay whole, ${offers}: layers are read again in each step, with ${gigabytes(streamedBytes)} at once`;
  return { verdict: 'streams', runs: true, reason: `${slower}${room}` };
}

/**
 * Judges what `Tabreel.inspect` read from a model's headers (`plan` on the device that was asked for, `cpuPlan`), or what a load
 * planned (`Tabreel.model.plan`).
 */
export function judgePlan(plan: Plan, device: Backend, { memory: { deviceGiB } }: Pick<MachineFacts, 'memory'>): Verdict {
  const { budget, residentBytes, loadBytes, peakBytes, transformer } = plan;
  const where = device === 'gpu' ? 'on the GPU' : 'on the CPU';
  const clip =
    peakBytes === undefined ? '' : `, ${device === 'gpu' ? 'up to' : 'at least'} ${gigabytes(peakBytes)} for a clip of its own size`;
  const needs = `${where} it needs ${gigabytes(residentBytes)} for its weights, ${gigabytes(loadBytes)} while it loads${clip}`;
  const reason = `${needs}; ${gigabytes(budget)} are allowed for weights`;
  if (residentBytes > budget) return { verdict: 'too-large', runs: false, reason };
  const verdict = transformer.streamed ? 'streams' : 'fits';
  const slower = transformer.streamed ? ', so that layers are read again in each step' : '';
  const most = Math.max(loadBytes, peakBytes ?? 0);
  return { verdict, runs: true, reason: `${reason}${slower}`, caution: device === 'cpu' ? tooMuch(most, deviceGiB) : undefined };
}

/** Browsers tell 8 GiB where there are more. */
const MOST_TOLD = 8;

/** Why so many bytes of main memory may not be had. */
function tooMuch(bytes: number, deviceGiB: number | undefined): string | undefined {
  const needed = `a clip of its own size needs ${gigabytes(bytes)} or more`;
  if (bytes > MEMORY_BUDGET.tab) return `${needed}, a tab can have ${gigabytes(MEMORY_BUDGET.tab)}: choose a smaller size or fewer frames`;
  if (deviceGiB === undefined || deviceGiB >= MOST_TOLD || bytes <= deviceGiB * 2 ** 30) return undefined;
  return `${needed}, and this device has ${gigabytes(deviceGiB * 2 ** 30)} by what the browser says: choose a smaller size or fewer frames`;
}

function onCpu(needed: number | undefined, allowed: number, entry: CatalogueEntry, support: Support): Verdict {
  if (needed === undefined) {
    return { verdict: 'unsupported', runs: false, reason: 'needs a GPU, and clips are made on the CPU here' };
  }
  const words = `needs ${gigabytes(needed)} on the CPU, where ${gigabytes(allowed)} are allowed`;
  if (needed > allowed) return { verdict: 'too-large', runs: false, reason: words };
  // Weights are expanded there: what is large is read again in each step.
  const large = entry.memory!.keptBytes > allowed / 4;
  const slow = large ? ', layer by layer: a clip takes hours, a GPU is advised' : '';
  return { verdict: large ? 'streams' : 'fits', runs: true, reason: `${words}${slow}${storageWords(entry, support)}` };
}

/** Where a download would not stay on the device. */
function storageWords(entry: CatalogueEntry, { memory: { storageFreeBytes } }: Support): string {
  const bytes = entryBytes(entry);
  if (storageFreeBytes === undefined || bytes <= storageFreeBytes) return '';
  return `; its ${gigabytes(bytes)} of files cannot be kept on this device, where ${gigabytes(storageFreeBytes)} are free`;
}

/** As the engine words it: MB below 0.1 GB. */
function gigabytes(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

const without = (sentence: string): string => `${sentence.charAt(0).toLowerCase()}${sentence.slice(1)}`.replace(/\.$/, '');
