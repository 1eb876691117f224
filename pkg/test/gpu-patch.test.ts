import { afterEach, expect, test, vi } from 'vitest';
import { patchWebGpu, type Trial } from '../src/gpu-patch.js';

interface Descriptor {
  label?: string;
  requiredFeatures?: string[];
  requiredLimits?: object;
}

/** A browser's GPUAdapter with these features; remembers what it was asked for. */
function browserWith(features: string[]) {
  const asked: Descriptor[] = [];
  const devices: EventTarget[] = [];
  let lose!: (info: { reason: string; message: string }) => void;
  class GPUAdapter {
    get features(): ReadonlySet<string> {
      return new Set(features);
    }
    async requestDevice(descriptor: Descriptor = {}) {
      // as WebIDL reads a dictionary: each member once, wherever it is found
      const { label, requiredFeatures, requiredLimits } = descriptor;
      asked.push({ label, requiredFeatures, requiredLimits } as Descriptor);
      const device = Object.assign(new EventTarget(), { lost: new Promise((resolve) => (lose = resolve)) });
      devices.push(device);
      return device;
    }
  }
  vi.stubGlobal('GPUAdapter', GPUAdapter);
  return { adapter: new GPUAdapter(), asked, devices, lose: (reason: string, message: string) => lose({ reason, message }) };
}

const ledger = { watch: vi.fn() };

afterEach(() => vi.unstubAllGlobals());

test('an adapter without timestamps claims them, but is not asked for them', async () => {
  const { adapter, asked } = browserWith(['shader-f16']);
  patchWebGpu(() => undefined, ledger);
  expect([...adapter.features]).toEqual(['shader-f16', 'timestamp-query']);
  const requiredLimits = { maxBufferSize: 5 };
  await adapter.requestDevice({ label: 'burn', requiredFeatures: ['shader-f16', 'timestamp-query'], requiredLimits });
  expect(asked).toEqual([{ label: 'burn', requiredFeatures: ['shader-f16'], requiredLimits }]);
});

test('an adapter that has timestamps is asked for them', async () => {
  const { adapter, asked } = browserWith(['timestamp-query']);
  patchWebGpu(() => undefined, ledger);
  await adapter.requestDevice({ requiredFeatures: ['timestamp-query'] });
  expect(asked[0]!.requiredFeatures).toEqual(['timestamp-query']);
});

test('asking for a device with nothing special still works', async () => {
  const { adapter, asked } = browserWith([]);
  patchWebGpu(() => undefined, ledger);
  await adapter.requestDevice();
  expect(asked[0]!.requiredFeatures).toEqual([]);
});

test('a lost device is reported; one that was destroyed on purpose is not', async () => {
  const { adapter, lose } = browserWith([]);
  const onLost = vi.fn();
  patchWebGpu(onLost, ledger);
  await adapter.requestDevice();
  lose('destroyed', '');
  await adapter.requestDevice();
  lose('unknown', 'the driver crashed');
  await new Promise((resolve) => setTimeout(resolve));
  expect(onLost.mock.calls).toEqual([['the GPU was lost: the driver crashed']]);
});

test('while kernels are on trial, errors are kept from the engine; before and after it hears of them', async () => {
  const { adapter, devices } = browserWith([]);
  const trial: Trial = {};
  patchWebGpu(() => undefined, ledger, trial);
  await adapter.requestDevice();
  const engine = vi.fn();
  devices[0]!.addEventListener('uncapturederror', engine);
  const refuse = (): Event => {
    const event = Object.assign(new Event('uncapturederror', { cancelable: true }), { error: { message: 'no such function' } });
    devices[0]!.dispatchEvent(event);
    return event;
  };
  expect(refuse().defaultPrevented).toBe(false);
  const refused = vi.fn();
  trial.refused = refused;
  expect(refuse().defaultPrevented).toBe(true);
  expect(refused.mock.calls).toEqual([['no such function']]);
  expect(engine).toHaveBeenCalledTimes(1);
  trial.refused = undefined;
  refuse();
  expect(engine).toHaveBeenCalledTimes(2);
});

test('what a driver refuses later is told as such, before the engine panics; memory that runs out is left to the engine', async () => {
  class GPUValidationError {
    constructor(readonly message: string) {}
  }
  vi.stubGlobal('GPUValidationError', GPUValidationError);
  const { adapter, devices } = browserWith([]);
  const broken = vi.fn();
  patchWebGpu(() => undefined, ledger, { broken });
  await adapter.requestDevice();
  const engine = vi.fn();
  devices[0]!.addEventListener('uncapturederror', engine);
  const tell = (error: object): boolean =>
    devices[0]!.dispatchEvent(Object.assign(new Event('uncapturederror', { cancelable: true }), { error }));
  tell({ message: 'out of memory' });
  expect([broken.mock.calls.length, engine.mock.calls.length]).toEqual([0, 1]);
  tell(new GPUValidationError('no such function'));
  expect(broken.mock.calls).toEqual([['no such function']]);
  expect(engine).toHaveBeenCalledTimes(1);
});

test('a browser without WebGPU is left alone', () => {
  vi.stubGlobal('GPUAdapter', undefined);
  expect(() => patchWebGpu(() => undefined, ledger)).not.toThrow();
});
