// Dawn, Chrome's WebGPU, in Node: for the bench and for the tests of the engine.

/** Makes Node look like a browser's worker with WebGPU, as far as wgpu and onnxruntime-web ask. */
export async function provideWebGpu() {
  const { create, globals } = await import('webgpu');
  Object.assign(globalThis, globals);
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: create([]) }, configurable: true });
  // wgpu looks for a Window or a WorkerGlobalScope
  globalThis.window = globalThis.self = globalThis;
  globalThis.Window = class Window {
    static [Symbol.hasInstance] = () => true;
  };
}
