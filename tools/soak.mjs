// npm run soak: clips in one tab of Chromium, sizes changing, a new engine every so often; memory must stay flat.
//   npm run soak                  1,000 clips
//   npm run soak -- --count 50
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from './build.mjs';
import { root } from './common.mjs';
import { dice, number, openTab } from './tab.mjs';

/** The largest comes first: what an engine's memory grows to, it grows to then. */
const SIZES = [
  { width: 64, height: 64, numFrames: 17 },
  { width: 48, height: 32, numFrames: 9 },
  { width: 32, height: 64, numFrames: 1 },
  { width: 64, height: 32, numFrames: 5 },
];
const EACH_ENGINE = 25;

/** Makes `count` clips; the memory after the first round of sizes and at the end, bytes. */
export async function runSoak(browser, { count, seed = 1, log = () => undefined }) {
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
    let first;
    let last;
    for (let i = 0; i < count; i++) {
      const inEngine = i % EACH_ENGINE;
      const size = inEngine < SIZES.length ? SIZES[inEngine] : SIZES[roll(SIZES.length)];
      const { wasmBytes } = await tab.page.evaluate((step) => window.steps.clip(step), { ...size, anew: inEngine === 0 });
      if (i === SIZES.length - 1) first = { wasmBytes, heapBytes: await heap() };
      if (inEngine >= SIZES.length && (i % 50 === 49 || i === count - 1)) {
        last = { wasmBytes, heapBytes: await heap() };
        log(`${i + 1} of ${count}: wasm ${(wasmBytes / 1e6).toFixed(1)} MB, JavaScript ${(last.heapBytes / 1e6).toFixed(1)} MB`);
      }
    }
    return { first, last };
  } finally {
    await tab.close();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  build();
  const { launch } = await import('../tests/browser/browser.mjs');
  const browser = await launch({ webgpu: false });
  try {
    const began = performance.now();
    const count = number('count', 1000);
    const { first, last } = await runSoak(browser, { count, log: console.log });
    const megabytes = ({ wasmBytes, heapBytes }) =>
      `wasm ${(wasmBytes / 1e6).toFixed(1)} MB, JavaScript ${(heapBytes / 1e6).toFixed(1)} MB`;
    console.log(
      `${count} clips in ${((performance.now() - began) / 1000).toFixed(0)} s; first ${megabytes(first)}; last ${megabytes(last)}`,
    );
  } finally {
    await browser.close();
  }
}
