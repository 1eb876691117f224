/**
 * What the engine's start-up check of its GPU kernels found, kept on this device: the check costs a few shader
 * compilations. A driver may change without its description changing, so findings are believed for a while only.
 */
import type { AdapterFacts } from './adapter.js';
import type { KernelFinding, KernelReport } from './contract.js';
import { inTime } from './patience.js';

export type { KernelFinding, KernelReport };

/** Whether a kernel came close enough to its plain twin to be used. */
export const kernelPassed = ({ passed }: KernelFinding): boolean => passed;

const CACHE = 'tabreel-kernels';
/** How long findings are believed. */
const MAX_AGE_MS = 14 * 24 * 3600 * 1000;

interface Kept {
  report: KernelReport;
  /** When it was made, ms since 1970. */
  at: number;
}

export async function keptKernelReport(adapter: AdapterFacts): Promise<KernelReport | undefined> {
  const read = async (): Promise<Partial<Kept>> => {
    const kept = await (await globalThis.caches?.open(CACHE))?.match(key(adapter));
    return ((await kept?.json()) ?? {}) as Partial<Kept>;
  };
  try {
    const { report, at } = await inTime(read(), 'the cache');
    const age = Date.now() - (at ?? NaN);
    // A clock that was set back makes an age below 0: then nobody knows.
    return age >= 0 && age < MAX_AGE_MS ? report : undefined;
  } catch {
    return undefined; // private windows, plain http, a damaged entry, no answer: the check is made again
  }
}

export async function keepKernelReport(adapter: AdapterFacts, report: KernelReport): Promise<void> {
  const write = async (): Promise<void> => {
    const cache = await globalThis.caches?.open(CACHE);
    await cache?.put(key(adapter), new Response(JSON.stringify({ report, at: Date.now() } satisfies Kept)));
  };
  try {
    await inTime(write(), 'the cache');
  } catch {
    // see above
  }
}

/** Forgets what was found, for all adapters: the next start checks anew. */
export async function deleteKernelReports(): Promise<void> {
  try {
    await inTime(Promise.resolve(globalThis.caches?.delete(CACHE)), 'the cache');
  } catch {
    // see above
  }
}

/** The Cache API wants addresses; this one is never fetched. */
function key({ vendor, architecture, description }: AdapterFacts): string {
  return `https://tabreel.invalid/kernels?${new URLSearchParams({ vendor, architecture, description, agent: globalThis.navigator?.userAgent ?? '' })}`;
}
