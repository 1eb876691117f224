import { afterEach, expect, test, vi } from 'vitest';
import { adapterName, looksLikeSoftware } from '../src/adapter.js';
import { NEEDED_LIMITS, judge, probe, type MachineFacts } from '../src/support.js';

const real: MachineFacts = {
  webgpu: true,
  secureContext: true,
  wasmSimd: true,
  adapter: { vendor: 'nvidia', architecture: 'ada', description: '', isFallback: false },
  features: { 'shader-f16': true, 'timestamp-query': false, subgroups: true },
  limits: { ...NEEDED_LIMITS },
  memory: {},
};

afterEach(() => vi.unstubAllGlobals());

test('a real GPU is recommended, named, and need not offer timestamps', () => {
  const verdict = judge(real);
  expect(verdict).toMatchObject({ ok: true, recommended: 'gpu' });
  expect(verdict.reason).toBe('Clips are made on the GPU: nvidia ada, with 16-bit floats.');
});

test('a GPU without 16-bit floats will do, and the reason says so', () => {
  const verdict = judge({ ...real, features: { ...real.features, 'shader-f16': false } });
  expect(verdict.recommended).toBe('gpu');
  expect(verdict.reason).toContain('without 16-bit floats');
});

test('no WebGPU means the CPU, in words', () => {
  const { adapter: _, ...without } = real;
  expect(judge({ ...without, webgpu: false }).reason).toMatch(/^This browser has no WebGPU, so clips are made on the CPU/);
  expect(judge({ ...without, webgpu: false, secureContext: false }).reason).toContain('not opened over https');
  expect(judge(without)).toMatchObject({ ok: true, recommended: 'cpu' });
  expect(judge({ ...without, adapterError: 'blocklisted' }).reason).toContain('(blocklisted)');
});

test('a software adapter is named and passed over', () => {
  const adapter = { vendor: 'google', architecture: 'swiftshader', description: '', isFallback: true };
  const verdict = judge({ ...real, adapter });
  expect(verdict.recommended).toBe('cpu');
  expect(verdict.reason).toContain('software (google swiftshader)');
});

test('a limit that is too low is named with both numbers', () => {
  const verdict = judge({ ...real, limits: { ...real.limits, maxStorageBuffersPerShaderStage: 4 } });
  expect(verdict.recommended).toBe('cpu');
  expect(verdict.reason).toContain('maxStorageBuffersPerShaderStage = 4, but 8 is needed');
});

test('without SIMD nothing runs', () => {
  expect(judge({ ...real, wasmSimd: false })).toMatchObject({ ok: false, recommended: 'none' });
});

test('software renderers are known by name', () => {
  const named = (description: string) => looksLikeSoftware({ vendor: '', architecture: '', description });
  for (const name of ['llvmpipe (LLVM 15)', 'Google SwiftShader', 'Microsoft Basic Render Driver']) expect(named(name)).toBe(true);
  for (const name of ['NVIDIA GeForce RTX 4090', 'Apple M2', 'AMD Radeon RX 7900']) expect(named(name)).toBe(false);
});

test('an adapter without any name still has one', () => {
  const bare = { vendor: '', architecture: '', description: '', isFallback: false };
  expect(adapterName(bare)).toBe('unnamed adapter');
  expect(adapterName({ ...bare, vendor: 'apple' })).toBe('apple');
});

test('probe reads the adapter and reports it', async () => {
  const adapter = {
    features: new Set(['shader-f16']),
    limits: { ...NEEDED_LIMITS, maxBufferSize: 1 },
    info: { vendor: 'apple', architecture: 'metal-3', description: '' },
  };
  vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => adapter }, deviceMemory: 8 });
  const support = await probe();
  expect(support).toMatchObject({
    webgpu: true,
    wasmSimd: true,
    recommended: 'gpu',
    adapter: { vendor: 'apple', architecture: 'metal-3', isFallback: false },
    features: { 'shader-f16': true, 'timestamp-query': false },
    limits: { maxBufferSize: 1 },
    memory: { deviceGiB: 8 },
  });
});

test('probe survives a browser whose WebGPU throws or never answers', async () => {
  vi.stubGlobal('navigator', { gpu: { requestAdapter: async () => Promise.reject(new Error('driver crashed')) } });
  expect((await probe()).reason).toContain('driver crashed');
  vi.useFakeTimers();
  vi.stubGlobal('navigator', { gpu: { requestAdapter: () => new Promise(() => undefined) } });
  const answer = probe();
  await vi.advanceTimersByTimeAsync(10_001);
  expect((await answer).reason).toContain('no answer from WebGPU within 10 s');
  vi.useRealTimers();
});
