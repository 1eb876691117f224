// Several clips in one call of the package, as it is published, in Chromium on the CPU with the default model.
import assert from 'node:assert/strict';
import { copyFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { serve } from '../../tools/serve.mjs';
import { largestDifference } from '../node/fixtures.mjs';
import { launch, openPage, root, temporaryFolder } from './browser.mjs';

const CLIPS = [
  { prompt: 'a small blue cube moves left over sand', seed: 11, width: 64, height: 64, numFrames: 5, numSteps: 3 },
  { prompt: 'a large green star', seed: 12, width: 96, height: 64, numFrames: 1, numSteps: 2, guidanceScale: 1 },
];

const PAGE = `<!doctype html><title>batch</title><link rel="icon" href="data:,">
<script type="importmap">{ "imports": { "mediabunny": "./mediabunny.js" } }</script>
<script type="module">
import { Tabreel } from './pkg/dist/index.js';
let model;
const load = async () =>
  (model ??= await Tabreel.load({ model: new URL('models/small-world/', location.href), device: 'cpu', keep: false }));
const plain = ({ frames, width, height, seed, recipe }) =>
  ({ width, height, seed, recipe, rgb: frames.flatMap(({ data }) => [...data.filter((_, i) => i % 4 !== 3)]) });
window.alone = async (options) => plain(await (await load()).generate(options));
// stopAt: 'step' or 'clip', the first of which ends it.
window.batch = async (clips, stopAt) => {
  const tabreel = await load();
  const stop = new AbortController();
  const heard = { steps: [], frames: [], made: [] };
  const end = (at) => stopAt === at && stop.abort();
  const open = new Promise((_, fail) => setTimeout(() => fail(new Error('the promise is still open')), 300_000));
  try {
    const made = await Promise.race([open, tabreel.generateBatch(clips, {
      signal: stop.signal,
      onStep: ({ step, numSteps }, clips) => { heard.steps.push([step, numSteps, ...clips]); end('step'); },
      onFrame: ({ index }, clip) => heard.frames.push([clip, index]),
      onClip: ({ numFrames }, clip) => { heard.made.push([clip, numFrames]); end('clip'); },
    })]);
    return { heard, clips: made.map(plain) };
  } catch ({ code, message }) {
    return { heard, code, message, alive: tabreel.alive };
  }
};
</script>`;

const folder = temporaryFolder();
let server;
let browser;
let page;
before(async () => {
  writeFileSync(join(folder.path, 'index.html'), PAGE);
  for (const name of ['pkg', 'models']) symlinkSync(join(root, name), join(folder.path, name));
  copyFileSync(join(root, 'node_modules/mediabunny/dist/bundles/mediabunny.mjs'), join(folder.path, 'mediabunny.js'));
  server = await serve(folder.path);
  browser = await launch();
  page = await openPage(browser, server.url);
  await page.waitForFunction(() => 'batch' in window);
});
after(async () => {
  await browser?.close();
  await server?.close();
  folder.remove();
});

const batch = (clips, stopAt) => page.evaluate(([clips, stopAt]) => window.batch(clips, stopAt), [clips, stopAt]);

test('two clips of different sizes, made together, are what they are alone', async () => {
  const { heard, clips, message } = await batch(CLIPS);
  assert.equal(message, undefined);
  assert.deepEqual(heard.steps, [
    [1, 3, 0, 1],
    [2, 3, 0, 1],
    [3, 3, 0, 1],
  ]);
  assert.deepEqual(heard.frames, [...[0, 1, 2, 3, 4].map((index) => [0, index]), [1, 0]]);
  assert.deepEqual(heard.made, [
    [0, 5],
    [1, 1],
  ]);
  for (const [place, asked] of CLIPS.entries()) {
    const alone = await page.evaluate((options) => window.alone(options), asked);
    const { rgb, ...rest } = clips[place];
    const { rgb: wanted, ...restWanted } = alone;
    assert.deepEqual(rest, restWanted);
    assert.equal(rgb.length, asked.width * asked.height * asked.numFrames * 3);
    const most = largestDifference(Uint8Array.from(rgb), Uint8Array.from(wanted));
    assert.ok(most <= 1, `clip ${place}: up to ${most} of 255 away`);
  }
});

test('a bad second clip is named, by the package and by the engine, before anything is made', async () => {
  const refused = async (change) => {
    const { heard, code, message } = await batch([CLIPS[0], { ...CLIPS[1], ...change }]);
    assert.deepEqual(heard, { steps: [], frames: [], made: [] });
    return `${code} ${message}`;
  };
  assert.match(await refused({ numFrames: 80 }), /^invalid-options clips\[1\]: numFrames must be 4n \+ 1.*80 frames/);
  assert.match(await refused({ image: {} }), /^invalid-options clips\[1\]: a clip of a batch is made of text alone, got image/);
  const huge = { width: 2048, height: 2048, numFrames: 1025 };
  assert.match(await refused(huge), /^out-of-memory clips\[1\]: 1025 frames of 2048 × 2048 px take at least/);
});

// Long enough that a busy page is still heard in the middle.
const SLOW = CLIPS.map((clip) => ({ ...clip, numSteps: 50 }));
const LONG_LAST = [CLIPS[1], { ...CLIPS[0], width: 128, height: 128, numFrames: 33, numSteps: 1 }];

for (const [at, clips, steps, made] of [
  ['step', SLOW, { from: 1, to: 49 }, []],
  ['clip', LONG_LAST, { from: 2, to: 2 }, [[0, 1]]],
]) {
  test(`an abort after a ${at} settles the promise, and the next batch is made`, async () => {
    const { heard, code, message, alive } = await batch(clips, at);
    assert.equal(code, 'aborted', message);
    assert.ok(alive);
    assert.ok(heard.steps.length >= steps.from && heard.steps.length <= steps.to, `${heard.steps.length} steps`);
    assert.deepEqual(heard.made, made);
    assert.equal((await batch(CLIPS)).clips?.length, 2);
  });
}

test('nothing went wrong on the page', () => assert.deepEqual(page.problems, []));
