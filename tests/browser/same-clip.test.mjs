// One recipe, three ways: the command line, the engine in Node and the package in Chromium make the same clip on the CPU,
// from text and from a picture; compared pixel by pixel, before any encoding.
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { buildCommand } from '../../tools/build.mjs';
import { serve } from '../../tools/serve.mjs';
import { startEngine } from '../node/engine.mjs';
import { framesOf, largestDifference } from '../node/fixtures.mjs';
import { command, launch, openPage, root, temporaryFolder } from './browser.mjs';

// Everything else is left to the model's card: the three must settle it alike.
const recipe = { prompt: 'a small blue cube moves left over sand', seed: 11, numFrames: 5, numSteps: 4 };
const folder = temporaryFolder();
const at = (name) => join(folder.path, name);
const model = join(root, 'models/small-world');

// The package as it is published, without a bundler.
const PAGE = `<!doctype html><title>same clip</title><link rel="icon" href="data:,">
<script type="importmap">{ "imports": { "mediabunny": "./mediabunny.js" } }</script>
<script type="module">
import { Tabreel } from './pkg/dist/index.js';
let model;
const load = async () =>
  (model ??= await Tabreel.load({ model: new URL('models/small-world/', location.href), device: 'cpu', keep: false }));
const file = async (url) => (await fetch(url)).blob();
const rgbOf = (frames) => frames.flatMap(({ data }) => [...data.filter((_, i) => i % 4 !== 3)]);
window.make = async (recipe, picture) => {
  const tabreel = await load();
  const clip = await tabreel.generate({ ...recipe, ...(picture && { image: await file(picture) }) });
  return { width: clip.width, height: clip.height, rgb: rgbOf(clip.frames), model: clip.model };
};
window.loop = async (options) => {
  const { frames, task } = await (await load()).loop(undefined, options);
  return { rgb: rgbOf(frames), task };
};
window.extend = async (clip, options) => {
  const tabreel = await load();
  const shown = [];
  const { frames, task } = await tabreel.extend(await file(clip), { ...options, onFrame: ({ index, ...frame }) => (shown[index] = frame) });
  return { rgb: rgbOf(frames), shown: rgbOf(Object.values(shown)), task };
};
</script>`;

let engine;
let server;
let browser;
let page;
let tabreel;
before(async () => {
  tabreel = buildCommand();
  writeFileSync(at('index.html'), PAGE);
  for (const [name, target] of Object.entries({ pkg: 'pkg', models: 'models' })) {
    symlinkSync(join(root, target), at(name));
  }
  copyFileSync(join(root, 'node_modules/mediabunny/dist/bundles/mediabunny.mjs'), at('mediabunny.js'));
  server = await serve(folder.path);
  browser = await launch();
  page = await openPage(browser, server.url);
  await page.waitForFunction(() => 'make' in window);
  engine = await startEngine({ device: 'cpu' });
  await engine.load(model);
});
after(async () => {
  await browser?.close();
  await server?.close();
  engine?.stop();
  folder.remove();
});

/** The frames of a `.safetensors` file as bytes [F, H, W, 3]. */
function bytesOf(file) {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const { dtype, data_offsets } = JSON.parse(bytes.subarray(8, 8 + length).toString()).frames;
  assert.equal(dtype, 'U8');
  const [start, end] = data_offsets.map((offset) => offset + 8 + length);
  return new Uint8Array(bytes.subarray(start, end));
}

/** The clip by the command line. */
function natively(more = [], numFrames = recipe.numFrames) {
  const options = ['--prompt', recipe.prompt, '--seed', recipe.seed, '--frames', numFrames, '--steps', recipe.numSteps];
  command(tabreel, ['generate', '--model', model, '--device', 'cpu', ...options.map(String), ...more, '--out', at('clip.safetensors')]);
  return bytesOf(at('clip.safetensors'));
}

function same({ native, node, chromium }) {
  assert.equal(chromium.length, native.length);
  assert.equal(largestDifference(Uint8Array.from(chromium), node), 0, 'Node and Chromium run the same wasm');
  // Another compiler's sums differ in the last bits; a rounding that falls the other way is one step of 255.
  const most = largestDifference(native, node);
  assert.ok(most <= 2, `the command line is up to ${most} of 255 away`);
}

test('from text', async () => {
  const { events } = await engine.generate(recipe);
  const { rgb, model } = await page.evaluate((recipe) => window.make(recipe), recipe);
  same({ native: natively(), node: framesOf(events), chromium: rgb });
  // Both name the model alike.
  const { recipe: written } = JSON.parse(command(tabreel, ['inspect', '--json', at('clip.safetensors')]).toString());
  assert.deepEqual(model, written.model);
});

test('from a picture of another size, scaled and cut', async () => {
  // A sky over sand with a ball, 200 × 120 px, written by ffmpeg without loss.
  const [width, height] = [200, 120];
  const rgba = new Uint8Array(width * height * 4).map((_, i) => {
    const [x, y] = [((i >> 2) % width) - 90, Math.floor((i >> 2) / width) - 60];
    const colour = x * x + y * y < 900 ? [40, 80, 220] : y < 25 ? [120 + y, 170, 240] : [210, 190, 130];
    return [...colour, 255][i & 3];
  });
  const size = ['-f', 'rawvideo', '-pix_fmt', 'rgba', '-s', `${width}x${height}`];
  writeFileSync(at('raw'), rgba);
  command('ffmpeg', ['-v', 'error', ...size, '-i', at('raw'), '-frames:v', '1', at('given.png')]);
  const condition = { pieces: [{ kind: 'frame', at: 0, picture: { width, height, rgba } }] };
  const { events } = await engine.generate(recipe, { condition });
  const { rgb } = await page.evaluate(([recipe, url]) => window.make(recipe, url), [recipe, './given.png']);
  same({ native: natively(['--image', at('given.png')]), node: framesOf(events), chromium: rgb });
});

test('a loop of the prompt alone: the clip, and its way back', async () => {
  const native = natively(['--loop'], 9);
  const { rgb, task } = await page.evaluate((options) => window.loop(options), { ...recipe, numFrames: 9 });
  assert.deepEqual(task, { name: 'loop', frames: 4, numFrames: 9 });
  assert.equal(rgb.length, native.length);
  const most = largestDifference(Uint8Array.from(rgb), native);
  assert.ok(most <= 2, `up to ${most} of 255 away`);
});

for (const direction of ['forward', 'backward']) {
  test(`a clip that is extended ${direction}, in two windows`, async () => {
    // A ball that falls, 8 frames of 128 × 128 px at 10 a second: times and colours that a GIF keeps.
    const [side, count, added] = [128, 8, 5];
    const bytes = side * side * 4;
    const rgba = new Uint8Array(count * bytes).map((_, i) => {
      const [frame, pixel] = [Math.floor(i / bytes), (i % bytes) >> 2];
      const [x, y] = [(pixel % side) - 64, Math.floor(pixel / side) - 30 - 6 * frame];
      const colour = x * x + y * y < 400 ? [40, 80, 220] : pixel < 60 * side ? [120, 170, 240] : [210, 190, 130];
      return [...colour, 255][i & 3];
    });
    writeFileSync(at('raw'), rgba);
    const read = ['-f', 'rawvideo', '-pix_fmt', 'rgba', '-s', `${side}x${side}`, '-r', '10', '-i', at('raw')];
    const palette = 'split[a][b];[a]palettegen=reserve_transparent=0[p];[b][p]paletteuse=dither=none';
    command('ffmpeg', ['-v', 'error', '-y', ...read, '-filter_complex', palette, at('given.gif')]);

    const way = direction === 'backward' ? ['--backward'] : [];
    const native = natively(['--extend', at('given.gif'), '--by', String(added), '--fps', '10', ...way], 9);
    const { numFrames: _, ...rest } = recipe;
    const options = { ...rest, fps: 10, window: 9, frames: added, direction };
    const { rgb, shown, task } = await page.evaluate(([clip, options]) => window.extend(clip, options), ['./given.gif', options]);

    assert.equal(task.overlap, direction === 'forward' ? 5 : 4);
    assert.equal(rgb.length, native.length);
    const frame = side * side * 3;
    const known = direction === 'forward' ? [0, count * frame] : [added * frame, rgb.length];
    const fresh = direction === 'forward' ? [count * frame, rgb.length] : [0, added * frame];
    const given = rgba.filter((_, i) => (i & 3) !== 3);
    const chromium = Uint8Array.from(rgb);
    for (const made of [chromium, native]) assert.equal(largestDifference(given, made.slice(...known)), 0, 'known frames stay');
    assert.equal(largestDifference(chromium.slice(...fresh), Uint8Array.from(shown)), 0, 'what was shown is what the clip has');
    const most = largestDifference(chromium.slice(...fresh), native.slice(...fresh));
    assert.ok(most <= 2, `new frames are up to ${most} of 255 away`);
  });
}
