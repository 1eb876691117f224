import type { DeviceLike, GpuLedger } from './gpu-ledger.js';

/**
 * Four things that the GPU library under Burn (cubecl 0.11) does not do on the web, done from outside,
 * before it starts. Only ever called inside our own worker.
 */

interface Adapter {
  requestDevice(descriptor?: DeviceDescriptor): Promise<Device>;
}
interface DeviceDescriptor {
  requiredFeatures?: Iterable<string>;
}
interface Device extends DeviceLike {
  lost: Promise<{ reason?: string; message: string }>;
  addEventListener(type: 'uncapturederror', listener: (event: Event & { error: { message: string } }) => void): void;
}

/** Told of what a driver refuses. */
export interface Trial {
  /** While kernels are tried; undefined while they are not. */
  refused?: ((message: string) => void) | undefined;
  /** At any other time: the engine cannot go on. */
  broken?: ((message: string) => void) | undefined;
}

/**
 * 1. An adapter without `timestamp-query` (Firefox, Safari, privacy modes) makes cubecl abort at the
 *    first operation, although it only reads timestamps while autotuning, which is off. So the feature
 *    is claimed, and dropped again from the request for a device.
 * 2. Nobody listens to `device.lost`: pending reads would wait for ever. `onLost` is told instead.
 * 3. Nobody destroys a buffer: the ledger knows them all.
 * 4. Pipelines are made unchecked, and an error that nobody captured is a panic: a shader that a driver refuses takes the
 *    engine with it. While the kernels are on trial such errors are kept back: the kernel's result is then not what its
 *    twin's is, and it is not used. Later `broken` is told before the panic, which would have no code of its own.
 */
export function patchWebGpu(onLost: (message: string) => void, ledger: Pick<GpuLedger, 'watch'>, trial: Trial = {}): void {
  const prototype = (globalThis as { GPUAdapter?: { prototype: Adapter } }).GPUAdapter?.prototype;
  if (prototype === undefined) return;
  const features = Object.getOwnPropertyDescriptor(prototype, 'features')?.get as ((this: Adapter) => ReadonlySet<string>) | undefined;
  if (features === undefined) return;
  const requestDevice = prototype.requestDevice;

  Object.defineProperty(prototype, 'features', {
    configurable: true,
    get(this: Adapter) {
      return new Set(features.call(this)).add('timestamp-query');
    },
  });
  prototype.requestDevice = async function (descriptor = {}) {
    const has = features.call(this);
    const requiredFeatures = [...(descriptor.requiredFeatures ?? [])].filter(
      (feature) => feature !== 'timestamp-query' || has.has(feature),
    );
    // Dictionary members may live on the prototype of what wasm-bindgen passes: keep it, override one.
    const device = await requestDevice.call(this, Object.assign(Object.create(descriptor), { requiredFeatures }));
    ledger.watch(device);
    // The first listener: those that the library adds later are passed over.
    device.addEventListener('uncapturederror', (event) => {
      const { message } = event.error;
      const tell = trial.refused ?? (isRefusal(event.error) ? trial.broken : undefined);
      if (tell === undefined) return;
      event.stopImmediatePropagation();
      event.preventDefault();
      tell(message);
    });
    void device.lost.then(({ reason, message }) => {
      if (reason !== 'destroyed') onLost(`the GPU was lost${message ? `: ${message}` : ''}`);
    });
    return device;
  };
}

/** Memory that runs out is no refusal: the library's own words for it are understood (`guessCode`). */
function isRefusal(error: object): boolean {
  const { GPUValidationError: Refusal } = globalThis as { GPUValidationError?: new (message: string) => object };
  return Refusal !== undefined && error instanceof Refusal;
}
