// npm run soak: clips in one tab of Chromium, sizes and devices changing, a new engine every so often; memory must stay flat.
//   npm run soak                  1,000 clips, each other engine on the GPU (Chromium's SwiftShader)
//   npm run soak -- --count 50 --devices cpu
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from './build.mjs';
import { root } from './common.mjs';
import { dice, number, openTab } from './tab.mjs';

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const words = ({ wasmBytes, gpuBytes, heapBytes }) =>
  `wasm ${megabytes(wasmBytes)}, GPU ${megabytes(gpuBytes)}, JavaScript ${megabytes(heapBytes)}`;

/** The largest comes first: what an engine's memory grows to, it grows to then. */
const SIZES = [
  { width: 64, height: 64, numFrames: 17 },
  { width: 48, height: 32, numFrames: 9 },
  { width: 32, height: 64, numFrames: 1 },
  { width: 64, height: 32, numFrames: 5 },
];
const EACH_ENGINE = 25;

/**
 * Makes `count` clips; for each device the memory after its first round of sizes and at the end, bytes. `gpuBytes` is what the
 * engine holds on the GPU between clips.
 */
export async function runSoak(browser, { count, devices = ['cpu'], seed = 1, log = () => undefined }) {
  const tab = await openTab(browser, join(root, 'tools/soak-steps.mjs'));
  const roll = dice(seed);
  const cdp = await tab.page.context().newCDPSession(tab.page);
  await cdp.send('Performance.enable');
  const heap = async () => {
    await cdp.send('HeapProfiler.collectGarbage');
    const { metrics } = await cdp.send('Performance.getMetrics');
    return metrics.find(({ name }) => name === 'JSHeapUsedSize').value;
  };
  try {
    const found = {};
    for (let i = 0; i < count; i++) {
      const inEngine = i % EACH_ENGINE;
      const device = devices[Math.floor(i / EACH_ENGINE) % devices.length];
      const size = inEngine < SIZES.length ? SIZES[inEngine] : SIZES[roll(SIZES.length)];
      const step = { ...size, device, anew: inEngine === 0 };
      const { wasmBytes, gpuBytes } = await tab.page.evaluate((step) => window.steps.clip(step), step);
      if (inEngine < SIZES.length - 1 || (inEngine > SIZES.length - 1 && inEngine < EACH_ENGINE - 1 && i < count - 1)) continue;
      const last = { wasmBytes, gpuBytes, heapBytes: await heap() };
      found[device] ??= { first: last };
      found[device].last = last;
      log(`${i + 1} of ${count}, ${device}: ${words(last)}`);
    }
    return found;
  } finally {
    await tab.close();
  }
}

/** Bytes that JavaScript may hold more of at the end: the browser's own caches. */
const HEAP_ROOM = 4e6;

/** What of a device's memory grew, in words; none where it stayed flat. */
export function grown({ first, last }) {
  const more = ['wasmBytes', 'gpuBytes'].filter((name) => last[name] > first[name]);
  if (last.heapBytes - first.heapBytes >= HEAP_ROOM) more.push('heapBytes');
  return more.map((name) => `${name} grew from ${first[name]} to ${last[name]}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await build('release');
  const { launch } = await import('../tests/browser/browser.mjs');
  const at = process.argv.indexOf('--devices');
  const devices = at < 0 ? ['cpu', 'gpu'] : process.argv[at + 1].split(',');
  const browser = await launch({ webgpu: devices.includes('gpu') });
  try {
    const began = performance.now();
    const count = number('count', 1000);
    const found = await runSoak(browser, { count, devices, log: console.log });
    console.log(`${count} clips in ${((performance.now() - began) / 1000).toFixed(0)} s`);
    for (const [device, { first, last }] of Object.entries(found)) {
      console.log(`${device}: first ${words(first)}; last ${words(last)}`);
      for (const what of grown({ first, last })) {
        console.error(`${device}: ${what}`);
        process.exitCode = 1;
      }
    }
  } finally {
    await browser.close();
  }
}
