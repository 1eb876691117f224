// What `npm pack` makes of pkg, installed into an empty Vite project: it builds, its types hold, and in Chromium it
// probes, generates, encodes true colours, cancels and refuses.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { serve } from '../../tools/serve.mjs';
import { folderCase, largestDifference } from '../node/fixtures.mjs';
import { command, launch, middlePixels, openPage, probeVideo, root, temporaryFolder } from './browser.mjs';

const wan21 = folderCase('folder_t2v');
const folder = temporaryFolder();
const at = (...parts) => join(folder.path, ...parts);
const version = (name) => JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')).version;

/** What a user of the package would write; `window.tabreel` is for this test. */
const MAIN = `
import 'tabreel/element';
import { Tabreel, encodeVideo, probe, readPicture, TabreelError, type Clip, type ClipOptions, type ClipInputs, type Inspection, type Support } from 'tabreel';

let model: Tabreel | undefined;
const load = async (device: 'cpu' | 'gpu'): Promise<Tabreel> => (model ??= await Tabreel.load({ model: './model', device }));

async function generate(options: ClipOptions & ClipInputs, cancelAfterStep = 0): Promise<object> {
  const cancel = new AbortController();
  const [steps, previews]: number[][] = [[], []];
  try {
    const clip: Clip = await (await load('cpu')).generate({
      ...options,
      signal: cancel.signal,
      onStep: ({ step }) => { steps!.push(step); if (step === cancelAfterStep) cancel.abort(); },
      onPreview: ({ step }) => { previews!.push(step); },
    });
    const canvas = document.querySelector('canvas')!;
    clip.drawFrame(canvas, clip.frames.length - 1);
    return {
      steps, previews, seed: clip.seed, timings: clip.timings, tokens: clip.tokens,
      rgba: clip.frames.flatMap((frame) => [...frame.data]),
      drawn: canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height).data.some((value, i) => i % 4 < 3 && value > 0),
      mp4: await base64(await clip.toBlob({ format: 'mp4' })),
    };
  } catch (error) {
    if (error instanceof TabreelError) return { steps, code: error.code, message: error.message };
    throw error;
  }
}

async function solid(colour: [number, number, number], format: 'mp4' | 'webm'): Promise<{ file: string; shown: number[] }> {
  const [width, height] = [64, 48];
  const data = new Uint8ClampedArray(width * height * 4).map((_, i) => (i % 4 === 3 ? 255 : colour[i % 4]!));
  const frames = Array.from({ length: 6 }, () => ({ width, height, data }));
  const { blob } = await encodeVideo(frames, { format, fps: 12 });
  const video = Object.assign(document.createElement('video'), { muted: true, src: URL.createObjectURL(blob) });
  await new Promise((done, fail) => { video.requestVideoFrameCallback(done); video.onerror = fail; void video.play(); });
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d')!;
  context.drawImage(video, 0, 0);
  return { file: await base64(blob), shown: [...context.getImageData(width / 2, height / 2, 1, 1).data].slice(0, 3) };
}

/** Red, with the left half transparent, in every form that generate() takes: the size and two pixels of each. */
async function pictures(): Promise<Record<string, number[]>> {
  const [width, height] = [20, 10];
  const paint = <C extends HTMLCanvasElement | OffscreenCanvas>(canvas: C, from = 0): C => {
    const context = canvas.getContext('2d') as OffscreenCanvasRenderingContext2D;
    context.fillStyle = 'rgb(200 100 50)';
    context.fillRect(from, 0, canvas.width, canvas.height);
    return canvas;
  };
  const halved = paint(new OffscreenCanvas(width, height), width / 2);
  const png = await halved.convertToBlob({ type: 'image/png' });
  const image = Object.assign(new Image(), { src: URL.createObjectURL(png) });
  const full = paint(new OffscreenCanvas(width, height));
  const jpeg = new Uint8Array(await (await full.convertToBlob({ type: 'image/jpeg', quality: 1 })).arrayBuffer());
  // An EXIF segment that says: turned by a quarter (orientation 6).
  const exif = [255, 225, 0, 34, 69, 120, 105, 102, 0, 0, 73, 73, 42, 0, 8, 0, 0, 0, 1, 0, 18, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
  const forms = {
    png,
    image,
    bitmap: await createImageBitmap(halved),
    pixels: halved.getContext('2d')!.getImageData(0, 0, width, height),
    offscreen: halved,
    canvas: paint(Object.assign(document.createElement('canvas'), { width, height }), width / 2),
    video: new VideoFrame(full, { timestamp: 0 }),
    turned: new Blob([jpeg.slice(0, 2), new Uint8Array(exif), jpeg.slice(2)], { type: 'image/jpeg' }),
    wide: paint(new OffscreenCanvas(4096, 16)),
  };
  const found: Record<string, number[]> = {};
  for (const [name, form] of Object.entries(forms)) {
    const { width, height, data } = await readPicture(form);
    found[name] = [width, height, data[3]!, ...data.slice(-4)];
  }
  forms.video.close();
  return found;
}

/** generate() with pictures that a message cannot carry to this page. */
async function given(options: ClipOptions, what: 'text' | 'picture' | 'empty'): Promise<object> {
  const image = { text: new Blob(['words'], { type: 'text/plain' }), picture: new ImageData(2, 2), empty: new OffscreenCanvas(0, 0) }[what];
  try {
    await readPicture(image);
  } catch (error) {
    return { message: (error as TabreelError).message, code: (error as TabreelError).code };
  }
  return generate({ ...options, image });
}

/** A short clip of the default model: of its folder, or of one that lacks the text encoder and that encoder by its own address. */
async function parts(sha256?: string): Promise<object> {
  const textEncoder = { url: new URL('./parts/any-name.bin', location.href), sha256 };
  const generator = await Tabreel.load(sha256 ? { model: './lacking', textEncoder, device: 'cpu' } : { model: './whole', device: 'cpu' });
  const { frames } = await generator.generate({ prompt: 'a large red ball bounces over grass', width: 64, height: 64, numFrames: 5, numSteps: 2, seed: 7 });
  generator.dispose();
  return { rgba: frames.flatMap((frame) => [...frame.data]) };
}

/** What the encoder's file alone is said to be. */
const inspectEncoder = (): Promise<Inspection> => Tabreel.inspect({ files: [new URL('./parts/any-name.bin', location.href)], device: 'cpu' });

async function base64(blob: Blob): Promise<string> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}

/** Never called: its types are what is tested. */
export function listen(): HTMLElement {
  const element = document.createElement('tabreel-clip');
  Object.assign(element, { model: './model' });
  element.numFrames = 5;
  // @ts-expect-error a number
  element.seed = '7';
  element.addEventListener('clip', ({ detail }) => detail.drawFrame(new OffscreenCanvas(1, 1), 0));
  element.addEventListener('error', ({ detail }) => console.log(detail.code));
  element.addEventListener('click', ({ clientX }) => console.log(clientX, element.clip?.numFrames));
  return element;
}

const look = (): Promise<Support> => probe();
Object.assign(window, { tabreel: { look, generate, solid, pictures, given, parts, inspect: inspectEncoder } });
`;

let browser;
let server;
let page;
before(async () => {
  command('npm', ['pack', '--workspace', 'pkg', '--pack-destination', folder.path], { cwd: root });
  const tarball = readdirSync(folder.path).find((name) => name.endsWith('.tgz'));
  writeFileSync(at('package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }));
  writeFileSync(
    at('index.html'),
    '<!doctype html><title>empty</title><link rel="icon" href="data:,"><canvas width="48" height="32"></canvas><script type="module" src="/main.ts"></script>',
  );
  writeFileSync(at('main.ts'), MAIN);
  writeFileSync(at('vite.config.js'), "export default { base: './', worker: { format: 'es' } };");
  const compilerOptions = {
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    target: 'es2022',
    module: 'esnext',
    moduleResolution: 'bundler',
    lib: ['es2023', 'dom', 'dom.iterable'],
    types: [],
  };
  writeFileSync(at('tsconfig.json'), JSON.stringify({ compilerOptions, files: ['main.ts'] }));
  const tools = ['vite', 'typescript'].map((name) => `${name}@${version(name)}`);
  command('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', `./${tarball}`, ...tools], { cwd: folder.path });
  command('npx', ['vite', 'build'], { cwd: folder.path });

  // the model is served beside the page, with the card that names its files
  cpSync(wan21.folder, at('dist/model'), { recursive: true });
  const files = readdirSync(at('dist/model'), { recursive: true })
    .filter((path) => statSync(at('dist/model', path)).isFile())
    .map((path) => ({ path, bytes: statSync(at('dist/model', path)).size }));
  writeFileSync(at('dist/model/tabreel.json'), JSON.stringify({ name: 'tiny', files }));
  for (const name of ['whole', 'lacking']) cpSync(join(root, 'models/small-world'), at('dist', name), { recursive: true });
  mkdirSync(at('dist/parts'));
  renameSync(at('dist/lacking/text_encoder/model.safetensors'), at('dist/parts/any-name.bin'));
  mkdirSync(at('out'));
  server = await serve(at('dist'));
  browser = await launch();
  page = await openPage(browser, server.url);
  await page.waitForFunction(() => 'tabreel' in window);
});
after(async () => {
  await browser?.close();
  await server?.close();
  folder.remove();
});

test('its types hold in a strict project', () => {
  command('npx', ['tsc', '-p', 'tsconfig.json'], { cwd: folder.path });
});

test('it carries the licences, the types and the wasm, and no sources of ours', () => {
  const inside = readdirSync(at('node_modules/tabreel'), { recursive: true });
  for (const path of [
    'LICENSE-MIT',
    'LICENSE-APACHE',
    'README.md',
    'dist/index.js',
    'dist/index.d.ts',
    'dist/worker.js',
    'wasm/tabreel_bg.wasm',
  ]) {
    assert.ok(inside.includes(path), `${path} is missing`);
  }
  assert.deepEqual(
    inside.filter((path) => /^(src|test|scripts)\//.test(path)),
    [],
  );
});

test('probe() says what the machine has and why the CPU is recommended', async () => {
  const support = await page.evaluate(() => tabreel.look());
  assert.deepEqual([support.ok, support.webgpu, support.recommended], [true, true, 'cpu']);
  assert.equal(support.adapter.isFallback, true);
  assert.match(support.reason, /software/);
});

test('a part by its own address makes the same clip as its folder, is kept, and is told by its tensors', async () => {
  const sha256 = createHash('sha256')
    .update(readFileSync(at('dist/parts/any-name.bin')))
    .digest('hex');
  const asked = [];
  const listen = (request) => asked.push(new URL(request.url()).pathname);
  page.context().on('request', listen);
  const whole = await page.evaluate(() => tabreel.parts());
  asked.length = 0;
  const loose = await page.evaluate((sha256) => tabreel.parts(sha256), sha256);
  assert.ok(asked.includes('/parts/any-name.bin'), asked.join(' '));
  assert.ok(!asked.includes('/lacking/text_encoder/model.safetensors'), 'what is replaced is not fetched');
  assert.ok(whole.rgba.length === 64 * 64 * 4 * 5 && largestDifference(Uint8Array.from(loose.rgba), Uint8Array.from(whole.rgba)) === 0);
  page.context().off('request', listen);
  // The second time it comes from this device, whether its server answers or not.
  await page.context().route('**/parts/**', (route) => route.abort());
  const again = await page.evaluate((sha256) => tabreel.parts(sha256), sha256);
  await page.context().unroute('**/parts/**');
  // What the test itself broke off is no fault of the page's.
  page.problems = page.problems.filter((words) => !/any-name|ERR_FAILED/.test(words));
  assert.deepEqual(again.rgba, loose.rgba);

  const { parts, missing, runs, reason } = await page.evaluate(() => tabreel.inspect());
  assert.deepEqual(
    parts.map(({ part }) => part),
    ['text_encoder'],
  );
  assert.deepEqual([missing, runs], [['tokenizer', 'transformer', 'vae'], false]);
  assert.match(reason, /missing/);
});

test('generate() gives the frames that diffusers gives, with steps and previews, and an MP4', async () => {
  const clip = await page.evaluate((options) => tabreel.generate(options), wan21.options);
  assert.equal(clip.message, undefined);
  const rgb = clip.rgba.filter((_, i) => i % 4 !== 3);
  assert.ok(largestDifference(Uint8Array.from(rgb), wan21.rgb) <= 1);
  assert.deepEqual(clip.steps, [1, 2, 3, 4]);
  assert.ok(clip.previews.length >= 2, `${clip.previews.length} previews`);
  assert.equal(clip.seed, wan21.options.seed);
  assert.ok(clip.drawn, 'drawFrame draws');
  writeFileSync(at('out/clip.mp4'), Buffer.from(clip.mp4, 'base64'));
  const video = probeVideo(at('out/clip.mp4'));
  const { width, height, numFrames, fps } = wan21.options;
  assert.deepEqual(
    [video.codec, video.width, video.height, video.numFrames, video.fps, video.startsWithKeyFrame],
    ['h264', width, height, numFrames, fps, true],
  );
});

test('an AbortSignal stops it after the step, and the next clip works', async () => {
  const stopped = await page.evaluate((options) => tabreel.generate({ ...options, numSteps: 100 }, 2), wan21.options);
  assert.equal(stopped.code, 'aborted');
  assert.ok(stopped.steps.length <= 3, `${stopped.steps.length} steps ran`);
  const next = await page.evaluate((options) => tabreel.generate({ ...options, numFrames: 1, numSteps: 1 }), wan21.options);
  assert.equal(next.rgba.length, 48 * 32 * 4);
});

test('bad options reject with their code and words', async () => {
  const refused = await page.evaluate((options) => tabreel.generate({ ...options, numFrames: 80 }), wan21.options);
  assert.equal(refused.code, 'invalid-options');
  assert.match(refused.message, /numFrames must be 4n \+ 1.*got 80 frames/);
});

test('readPicture() reads every form that generate() takes, upright, with its opacity, and not too large', async () => {
  const found = await page.evaluate(() => tabreel.pictures());
  const size = { turned: [10, 20], wide: [2048, 8] };
  for (const [name, [width, height, opacity, ...last]] of Object.entries(found)) {
    assert.deepEqual([width, height], size[name] ?? [20, 10], name);
    assert.equal(opacity, ['video', 'turned', 'wide'].includes(name) ? 255 : 0, `opacity of ${name}`);
    // a VideoFrame and a JPEG may go through YCbCr
    assert.ok(Math.max(...[200, 100, 50, 255].map((value, i) => Math.abs(value - last[i]))) <= 3, `${name}: ${last}`);
  }
  assert.equal(Object.keys(found).length, 9);
});

test('pictures that are none, and those that the model has no use for, are refused in words', async () => {
  const refused = (what) => page.evaluate(([options, what]) => tabreel.given(options, what), [wan21.options, what]);
  const [text, empty, picture] = [await refused('text'), await refused('empty'), await refused('picture')];
  for (const { code } of [text, empty, picture]) assert.equal(code, 'invalid-options');
  assert.match(text.message, /image must be a picture.*got a file \(text\/plain, 5 bytes\)/);
  assert.match(empty.message, /OffscreenCanvas of 0 × 0 px/);
  assert.match(picture.message, /this model takes no first frame: it was trained on text alone/);
});

for (const [name, colour] of [
  ['red', [255, 0, 0]],
  ['green', [0, 255, 0]],
  ['blue', [0, 0, 255]],
  ['grey', [128, 128, 128]],
]) {
  for (const format of ['mp4', 'webm']) {
    test(`pure ${name} survives ${format}`, async () => {
      const { file, shown } = await page.evaluate(([colour, format]) => tabreel.solid(colour, format), [colour, format]);
      const path = at(`out/${name}.${format}`);
      writeFileSync(path, Buffer.from(file, 'base64'));
      const off = (pixel) => Math.max(...pixel.map((value, i) => Math.abs(value - colour[i])));
      const decoded = middlePixels(path);
      assert.equal(decoded.length, 6);
      assert.ok(
        decoded.every((pixel) => off(pixel) <= 3),
        `ffmpeg sees ${JSON.stringify(decoded)}, not ${colour}`,
      );
      // Chromium's software path rounds the blue coefficient of BT.709 down; a wrong matrix is off by more than 30
      assert.ok(off(shown) <= 16, `the browser shows ${shown}, not ${colour}`);
    });
  }
}

test('nothing went wrong on the page', () => assert.deepEqual(page.problems, []));
