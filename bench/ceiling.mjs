// What the adapter can do at most, measured: multiply-adds in registers, and a copy between two buffers.
import { dispatch, pipeline, storage } from './lib/gpu.mjs';
import { median } from './lib/time.mjs';

/**
 * Eight independent vec4 chains, so that the latency of one multiply-add hides behind the others; nothing is read or
 * written but one vector a thread, and the result depends on all of it, so that no compiler drops the loop.
 */
const fmaKernel = (type, rounds) => `${type === 'f16' ? 'enable f16;' : ''}
@group(0) @binding(0) var<storage, read_write> data: array<vec4<${type}>>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let m = data[id.x & 255u];
  ${range(8).map((i) => `var a${i} = m * ${type}(${i + 1}) * ${type}(0.125);`).join(' ')}
  for (var i = 0u; i < ${rounds}u; i++) {
    ${range(4).map(() => range(8).map((i) => `a${i} = fma(a${i}, m, m);`).join(' ')).join('\n    ')}
  }
  data[256u + (id.x & 255u)] = ${range(8).map((i) => `a${i}`).join(' + ')};
}`;
const range = (length) => Array.from({ length }, (_, i) => i);

/** Submits work that grows until one wait takes long enough to measure; returns units per second, the best of some. */
async function rate(device, submit, unitsOfOne, atLeastMs) {
  const time = async (times) => {
    const start = performance.now();
    submit(times);
    await device.queue.onSubmittedWorkDone();
    return performance.now() - start;
  };
  await time(1);
  let times = 1;
  let ms = await time(times);
  while (ms < atLeastMs && times < 4096) ms = await time((times = Math.min(4096, Math.ceil(times * Math.min(8, (1.5 * atLeastMs) / ms)))));
  const all = [ms];
  for (let i = 0; i < 4; i++) all.push(await time(times));
  // a ceiling is what was reached at best: other load can only lower it
  return (times * unitsOfOne) / (Math.min(...all) / 1000);
}

/** @returns {{f32, f16?, copy, roundTripMs}} FLOP/s, FLOP/s, bytes moved per second, the cost of an empty wait */
export async function ceiling({ device, hasF16, software }) {
  // a software adapter needs few threads and little work to be measured; a real one must be filled
  const [groups, rounds, megabytes, atLeastMs] = software ? [16, 256, 16, 60] : [8192, 256, 256, 20];
  const found = {};
  for (const type of hasF16 ? ['f32', 'f16'] : ['f32']) {
    const program = await pipeline(device, fmaKernel(type, rounds));
    // one half everywhere: the chains a = a·m + m then stay near 1, without infinities or subnormals
    const buffer = storage(device, type === 'f16' ? new Uint16Array(512 * 4).fill(0x3800) : new Float32Array(512 * 4).fill(0.5));
    const flops = groups * 64 * rounds * 4 * 8 * 4 * 2;
    found[type] = await rate(device, (times) => dispatch(device, program, [buffer], [groups], times), flops, atLeastMs);
    buffer.destroy();
  }
  const size = megabytes * 2 ** 20;
  const [from, to] = [storage(device, size), storage(device, size)];
  const copy = (times) => {
    const encoder = device.createCommandEncoder();
    for (let i = 0; i < times; i++) encoder.copyBufferToBuffer(from, 0, to, 0, size);
    device.queue.submit([encoder.finish()]);
  };
  found.copy = await rate(device, copy, 2 * size, atLeastMs); // read and written
  from.destroy();
  to.destroy();
  const waits = [];
  for (let i = 0; i < 9; i++) {
    const start = performance.now();
    device.queue.submit([device.createCommandEncoder().finish()]);
    await device.queue.onSubmittedWorkDone();
    waits.push(performance.now() - start);
  }
  found.roundTripMs = median(waits);
  return found;
}

/**
 * Which share of the peak a time is: of whichever bound is nearer, arithmetic or memory. The memory bound is of a copy
 * between large buffers: work that fits the caches can exceed it.
 */
export function shareOfPeak({ flops, bytes }, ms, type, peaks) {
  const unit = type === 'f16' ? 2 : 4;
  const byArithmetic = flops / (peaks[type] ?? peaks.f32);
  const byMemory = peaks.copy ? bytes(unit) / peaks.copy : 0;
  const bound = byArithmetic >= byMemory ? 'flops' : 'bytes';
  return { share: Math.max(byArithmetic, byMemory) / (ms / 1000), bound };
}
