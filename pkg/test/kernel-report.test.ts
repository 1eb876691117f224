import { afterEach, expect, test, vi } from 'vitest';
import { deleteKernelReports, keepKernelReport, kernelPassed, keptKernelReport, type KernelReport } from '../src/kernel-report.js';

const adapter = { vendor: 'acme', architecture: 'one', description: '', isFallback: false };
const report: KernelReport = {
  revision: '00',
  findings: [
    { kernel: 'gemm', error: 2e-7, passed: true },
    { kernel: 'conv3d', error: null, passed: false },
  ],
};

/** The Cache API, as far as it is used. */
function cacheStorage() {
  const kept = new Map<string, Map<string, Response>>();
  return {
    async open(name: string) {
      const cache = kept.get(name) ?? new Map<string, Response>();
      kept.set(name, cache);
      return {
        match: async (key: string) => cache.get(key)?.clone(),
        put: async (key: string, response: Response) => void cache.set(key, response),
      };
    },
    delete: async (name: string) => kept.delete(name),
  };
}

afterEach(() => vi.unstubAllGlobals());

test('a report is found again for the same adapter only, until everything is deleted', async () => {
  vi.stubGlobal('caches', cacheStorage());
  await keepKernelReport(adapter, report);
  expect(await keptKernelReport(adapter)).toEqual(report);
  expect(await keptKernelReport({ ...adapter, architecture: 'two' })).toBeUndefined();
  await deleteKernelReports();
  expect(await keptKernelReport(adapter)).toBeUndefined();
});

test('without storage nothing is kept and nothing fails', async () => {
  vi.stubGlobal('caches', { open: () => Promise.reject(new Error('refused')) });
  await keepKernelReport(adapter, report);
  expect(await keptKernelReport(adapter)).toBeUndefined();
  vi.stubGlobal('caches', undefined);
  await keepKernelReport(adapter, report);
  expect(await keptKernelReport(adapter)).toBeUndefined();
});

test('whether a kernel passed is what the engine says', () => {
  expect(report.findings.map(kernelPassed)).toEqual([true, false]);
});
