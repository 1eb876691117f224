/**
 * What the engine's start-up check of its GPU kernels found, kept on this device: the check costs a few shader
 * compilations, and a driver does not change between two visits without changing its description.
 */
import type { AdapterFacts } from './adapter.js';
import type { KernelFinding, KernelReport } from './contract.js';

export type { KernelFinding, KernelReport };

/** Whether a kernel came close enough to its plain twin to be used. */
export const kernelPassed = ({ passed }: KernelFinding): boolean => passed;

const CACHE = 'tabreel-kernels';

export async function keptKernelReport(adapter: AdapterFacts): Promise<KernelReport | undefined> {
  try {
    const kept = await (await globalThis.caches?.open(CACHE))?.match(key(adapter));
    return (await kept?.json()) as KernelReport | undefined;
  } catch {
    return undefined; // private windows, plain http, a damaged entry: the check is made again
  }
}

export async function keepKernelReport(adapter: AdapterFacts, report: KernelReport): Promise<void> {
  try {
    await (await globalThis.caches?.open(CACHE))?.put(key(adapter), new Response(JSON.stringify(report)));
  } catch {
    // see above
  }
}

export async function deleteKernelReports(): Promise<void> {
  await globalThis.caches?.delete(CACHE);
}

/** The Cache API wants addresses; this one is never fetched. */
function key({ vendor, architecture, description }: AdapterFacts): string {
  return `https://tabreel.invalid/kernels?${new URLSearchParams({ vendor, architecture, description, agent: globalThis.navigator?.userAgent ?? '' })}`;
}
