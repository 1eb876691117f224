// npm run faults: faults injected into the package in a tab of Chromium, one after the other, from a printed seed. Each must
// end as it should (the right code, no promise left open), and the next clip must be right, byte for byte.
//   npm run faults                          1,000 faults from a seed of the day
//   npm run faults -- --count 50 --seed 7   fewer, and the same ones again
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
    switch (fault % 5) {
      case 0:
        return route.abort('connectionreset');
      case 1:
        return route.fulfill({ status: 503, body: 'busy' });
      case 2:
        return route.fulfill({ status: 200, contentType: 'text/html', body: '<!doctype html>Sign in' });
      case 3:
        return route.fulfill({ status: answer.status(), headers: answer.headers(), body: half });
      default:
        return route.fulfill({ status: answer.status(), headers: answer.headers(), body: Buffer.from(body).fill(0, body.length >> 1) });
    }
  });
}

/** Injects `count` faults; the numbers of each kind, and what went wrong in words. */
export async function runFaults(browser, { count, seed, log = () => undefined }) {
  const tab = await openTab(browser, join(root, 'tools/faults-steps.mjs'));
  const roll = dice(seed);
  const done = {};
  const wrong = [];
  try {
    await badNetwork(tab.page);
    const names = await tab.page.evaluate(() => window.steps.names);
    for (let i = 0; i < count; i++) {
      const [name, at] = [names[roll(names.length)], roll(SPREAD_MS)];
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
      else if (i % 50 === 49) log(`${i + 1} of ${count}`);
    }
  } finally {
    await tab.close();
  }
  return { done, wrong };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  build();
  const { launch } = await import('../tests/browser/browser.mjs');
  const [count, seed] = [number('count', 1000), number('seed', Math.floor(Date.now() / 86_400_000))];
  console.log(`${count} faults from seed ${seed}`);
  const browser = await launch({ webgpu: false });
  try {
    const began = performance.now();
    const { done, wrong } = await runFaults(browser, { count, seed, log: console.log });
    for (const [name, times] of Object.entries(done)) console.log(`${String(times).padStart(6)} ${name}`);
    console.log(`${count} faults in ${((performance.now() - began) / 1000).toFixed(0)} s, ${wrong.length} ended wrong`);
    process.exitCode = wrong.length > 0 ? 1 : 0;
  } finally {
    await browser.close();
  }
}
