// npm run faults: faults injected into the package in a tab of Chromium, one after the other, from a printed seed. Each must
// end as it should (the right code, no promise left open), and the next clip must be right, byte for byte.
//   npm run faults                          10,000 faults from a seed of the day
//   npm run faults -- --count 50 --seed 7   fewer, and the same ones again
//   npm run faults -- --gpu 20              as many more on a GPU (SwiftShader) that is lost
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from './build.mjs';
import { root } from './common.mjs';
import { dice, number, openTab } from './tab.mjs';

/** Longest that a fault waits before it strikes, ms: a clip of the tiny model takes about as long. */
const SPREAD_MS = 250;

/** Answers for the model's files, drawn by the same dice: what a server, or nobody, may say. */
async function badNetwork(page) {
  let fault = -1;
  let requests = 0;
  await page.exposeFunction('network', (at) => {
    [fault, requests] = [at, 0];
  });
  await page.route('**/model/**', async (route) => {
    // One request of the load fails, whichever.
    if (fault < 0 || requests++ !== fault % 7) return route.continue();
    const answer = await route.fetch();
    const body = await answer.body();
    const half = body.subarray(0, Math.floor((body.length * (fault % 97)) / 97));
    switch (fault % 6) {
      case 0:
        return route.abort('connectionreset');
      case 1:
        return route.fulfill({ status: 503, body: 'busy' });
      case 2:
        return route.fulfill({ status: 200, contentType: 'text/html', body: '<!doctype html>Sign in' });
      case 3:
        return route.fulfill({ status: answer.status(), headers: answer.headers(), body: half });
      case 4: {
        // A range, but not the one that was asked for.
        const headers = { ...answer.headers(), 'content-range': `bytes 1-${half.length}/${body.length}` };
        return route.fulfill({ status: 206, headers, body: half });
      }
      default:
        return route.fulfill({ status: answer.status(), headers: answer.headers(), body: Buffer.from(body).fill(0, body.length >> 1) });
    }
  });
}

/** Injects `count` faults and `gpu` of a GPU's; the numbers of each kind, and what went wrong in words. */
export async function runFaults(browser, { count, seed, gpu = 0, log = () => undefined }) {
  const tab = await openTab(browser, join(root, 'tools/faults-steps.mjs'));
  const roll = dice(seed);
  const done = {};
  const wrong = [];
  try {
    await badNetwork(tab.page);
    const { names, gpuNames } = await tab.page.evaluate(() => ({ ...window.steps }));
    for (let i = 0; i < count + gpu; i++) {
      const from = i < count ? names : gpuNames;
      const [name, at] = [from[roll(from.length)], roll(SPREAD_MS)];
      done[name] = (done[name] ?? 0) + 1;
      const told = await tab.page.evaluate(
        ([name, at]) =>
          window.steps.inject(name, at).then(
            () => '',
            (error) => String(error.stack),
          ),
        [name, at],
      );
      if (told) wrong.push(`fault ${i}, ${name} (${at}): ${told}`);
      if (told) log(wrong.at(-1));
      else if (i % 50 === 49) log(`${i + 1} of ${count + gpu}`);
    }
  } finally {
    await tab.close();
  }
  return { done, wrong };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await build('release');
  const { launch } = await import('../tests/browser/browser.mjs');
  const [count, gpu, seed] = [number('count', 10_000), number('gpu', 0), number('seed', Math.floor(Date.now() / 86_400_000))];
  console.log(`${count + gpu} faults from seed ${seed}`);
  const browser = await launch({ webgpu: gpu > 0 });
  try {
    const began = performance.now();
    const { done, wrong } = await runFaults(browser, { count, seed, gpu, log: console.log });
    for (const [name, times] of Object.entries(done)) console.log(`${String(times).padStart(6)} ${name}`);
    console.log(`${count + gpu} faults in ${((performance.now() - began) / 1000).toFixed(0)} s, ${wrong.length} ended wrong`);
    process.exitCode = wrong.length > 0 ? 1 : 0;
  } finally {
    await browser.close();
  }
}
