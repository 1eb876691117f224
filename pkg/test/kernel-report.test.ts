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

test('findings are believed for two weeks, and not when the clock is wrong', async () => {
  vi.stubGlobal('caches', cacheStorage());
  vi.useFakeTimers({ now: new Date('2026-01-01') });
  await keepKernelReport(adapter, report);
  for (const [day, found] of [
    ['2026-01-14', report],
    ['2026-01-16', undefined],
    ['2025-12-31', undefined],
  ] as const) {
    vi.setSystemTime(new Date(day));
    expect(await keptKernelReport(adapter), day).toEqual(found);
  }
  vi.useRealTimers();
});

test('an entry of an older version, or of nobody, is none', async () => {
  const caches = cacheStorage();
  vi.stubGlobal('caches', caches);
  await keepKernelReport(adapter, report);
  const cache = await caches.open('tabreel-kernels');
  for (const text of [JSON.stringify(report), '[]', 'null', '{', '{"at":"x"}']) {
    vi.spyOn(cache, 'match').mockImplementation(async () => new Response(text));
    vi.stubGlobal('caches', { open: async () => cache });
    expect(await keptKernelReport(adapter), text).toBeUndefined();
  }
});

test('without storage nothing is kept and nothing fails', async () => {
  vi.stubGlobal('caches', { open: () => Promise.reject(new Error('refused')) });
  await keepKernelReport(adapter, report);
  expect(await keptKernelReport(adapter)).toBeUndefined();
  vi.stubGlobal('caches', { delete: () => Promise.reject(new Error('refused')) });
  await deleteKernelReports();
  vi.stubGlobal('caches', undefined);
  await keepKernelReport(adapter, report);
  expect(await keptKernelReport(adapter)).toBeUndefined();
});

test('whether a kernel passed is what the engine says', () => {
  expect(report.findings.map(kernelPassed)).toEqual([true, false]);
});
