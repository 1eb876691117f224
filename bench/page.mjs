// What a visitor waits for on the built page (`npm start` or `npm run build` first), in Chromium on its SwiftShader:
//   node bench/page.mjs [--repeats 3] [--gpu]        (--gpu: on SwiftShader's WebGPU too, minutes a clip)
// A first visit with an empty cache, then the same browser again; the clip is the page's own default. Times are from
// the page's status line: ms from opening to a button that can be pressed, from the press to the first stage, and on.
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { serve } from '../tools/serve.mjs';
import { configure, finished, launch, openPage, root } from '../tests/browser/browser.mjs';

const { values } = parseArgs({ options: { repeats: { type: 'string', default: '3' }, gpu: { type: 'boolean', default: false } } });
const repeats = Number(values.repeats);
if (!Number.isInteger(repeats) || repeats < 1) throw new Error(`--repeats must be a whole number from 1, got ${values.repeats}`);

const server = await serve(join(root, 'www/dist'));
const browser = await launch();
try {
  for (const backend of values.gpu ? ['cpu', 'gpu'] : ['cpu']) {
    const visits = { first: [], again: [] };
    for (let i = 0; i < repeats; i++) {
      const page = await openPage(browser, server.url);
      visits.first.push(await visit(page, backend));
      await page.goto('about:blank');
      await page.goto(server.url);
      visits.again.push(await visit(page, backend));
      await page.context().close();
    }
    for (const [name, all] of Object.entries(visits)) {
      const median = (key) => Math.round(all.map((one) => one[key]).sort((a, b) => a - b)[all.length >> 1]);
      const parts = Object.keys(all[0]).map((key) => `${key} ${median(key)} ms`);
      console.log(`${backend}, ${name === 'first' ? 'first visit' : 'next visit '}: ${parts.join(', ')}`);
    }
  }
} finally {
  await browser.close();
  await server.close();
}

async function visit(page, backend) {
  await page.locator('#generate').waitFor();
  await page.waitForFunction(() => !document.querySelector('#generate').disabled);
  const usable = await page.evaluate(() => performance.now());
  await configure(page, { backend, seed: 3 });
  await page.fill('#prompt', 'a large red ball bounces over grass at sunset');
  await page.evaluate(() => {
    const line = document.querySelector('#status');
    globalThis.marks = {};
    const note = () => (globalThis.marks[line.textContent.split(/[:·]/)[0].trim()] ??= performance.now());
    new MutationObserver(note).observe(line, { childList: true, characterData: true, subtree: true });
    document.querySelector('#generate').addEventListener('click', () => (globalThis.pressed = performance.now()), { capture: true });
  });
  await page.click('#generate');
  const error = await finished(page, 600);
  if (error) throw new Error(error);
  const { marks, pressed, now } = await page.evaluate(() => ({ marks: globalThis.marks, pressed: globalThis.pressed, now: performance.now() }));
  const at = (name) => marks[name] ?? now;
  return { usable, loaded: at('Reading the prompt') - pressed, painting: at('Painting') - pressed, whole: now - pressed, ...engine(marks, pressed) };
}

/** The parts of loading that the page tells. */
function engine(marks, pressed) {
  const parts = { engine: 'Starting the engine', model: 'Reading the model from this device', build: 'Building the model' };
  return Object.fromEntries(Object.entries(parts).filter(([, words]) => marks[words]).map(([name, words]) => [`from ${name}`, marks[words] - pressed]));
}
