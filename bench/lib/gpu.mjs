// The adapter, its device, and the few things the bench itself does with them. `navigator.gpu` must be there: in a
// browser it is, in Node lib/dawn.mjs provides it.

/** The adapter, a device with all it offers, and the account of GPU memory. */
export async function openGpu() {
  const memory = countMemory();
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new Error('there is no WebGPU adapter');
  const device = await adapter.requestDevice({
    // the dual-source, texture and depth features are of no use here, and some exclude each other on some drivers
    requiredFeatures: [...adapter.features].filter((name) => /^(shader-f16|subgroups|timestamp-query|subgroup-size-control)$/.test(name)),
    requiredLimits: limitsOf(adapter),
  });
  const errors = [];
  device.addEventListener('uncapturederror', ({ error }) => errors.push(error.message));
  const { vendor, architecture, device: chip, description } = adapter.info;
  const software = /llvmpipe|swiftshader|software|lavapipe/i.test(`${vendor} ${architecture} ${description}`);
  return { adapter, device, memory, errors, software, hasF16: device.features.has('shader-f16'), info: { vendor, architecture, device: chip, description } };
}

/** The adapter's limits that kernels feel; the others stay at their defaults. */
function limitsOf({ limits }) {
  const names = ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxComputeWorkgroupStorageSize', 'maxComputeInvocationsPerWorkgroup',
    'maxComputeWorkgroupSizeX', 'maxComputeWorkgroupSizeY', 'maxComputeWorkgroupSizeZ', 'maxComputeWorkgroupsPerDimension',
    'maxStorageBuffersPerShaderStage', 'maxBindGroups', 'maxBindingsPerBindGroup', 'maxUniformBufferBindingSize'];
  return Object.fromEntries(names.filter((name) => limits[name] !== undefined).map((name) => [name, limits[name]]));
}

/**
 * Counts the bytes of GPU buffers that exist, of every engine in the process: they all end up in these two calls.
 * A buffer that is only dropped goes on counting, since the garbage collector frees it when it pleases: what a row
 * adds is told from what was there before it.
 */
function countMemory() {
  const memory = { now: 0, peak: 0, mark: () => ((memory.peak = memory.now), memory.now) };
  const sizes = new WeakMap();
  const { createBuffer } = globalThis.GPUDevice.prototype;
  const { destroy } = globalThis.GPUBuffer.prototype;
  globalThis.GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    sizes.set(buffer, descriptor.size);
    memory.now += descriptor.size;
    memory.peak = Math.max(memory.peak, memory.now);
    return buffer;
  };
  globalThis.GPUBuffer.prototype.destroy = function () {
    memory.now -= sizes.get(this) ?? 0;
    sizes.delete(this);
    return destroy.call(this);
  };
  return memory;
}

const padded = (bytes) => Math.max(16, Math.ceil(bytes / 16) * 16);

/** A storage buffer with the bytes of `data` (any typed array), or an empty one of a size. */
export function storage(device, data) {
  const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
  const size = padded(typeof data === 'number' ? data : data.byteLength);
  const buffer = device.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST });
  if (typeof data !== 'number') {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const whole = bytes.length & ~3; // writeBuffer takes multiples of four
    if (whole > 0) device.queue.writeBuffer(buffer, 0, bytes.subarray(0, whole));
    if (whole < bytes.length) device.queue.writeBuffer(buffer, whole, Uint8Array.from({ length: 4 }, (_, i) => bytes[whole + i] ?? 0));
  }
  return buffer;
}

/** The first `bytes` of a buffer as an ArrayBuffer. */
export async function readBack(device, buffer, bytes) {
  const copy = device.createBuffer({ size: padded(bytes), usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, copy, 0, Math.ceil(bytes / 4) * 4);
  device.queue.submit([encoder.finish()]);
  await copy.mapAsync(GPUMapMode.READ);
  const result = copy.getMappedRange().slice(0, bytes);
  copy.destroy();
  return result;
}

/** A compute pipeline of WGSL; throws the compiler's words. */
export async function pipeline(device, code) {
  const module = device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  const wrong = messages.find(({ type }) => type === 'error');
  if (wrong) throw new Error(`WGSL line ${wrong.lineNum}: ${wrong.message}`);
  return device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
}

/** Records and submits one dispatch. */
export function dispatch(device, program, buffers, groups, times = 1) {
  const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const bindGroup = device.createBindGroup({ layout: program.getBindGroupLayout(0), entries });
  const encoder = device.createCommandEncoder();
  for (let i = 0; i < times; i++) {
    const pass = encoder.beginComputePass();
    pass.setPipeline(program);
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(...groups);
    pass.end();
  }
  device.queue.submit([encoder.finish()]);
}
