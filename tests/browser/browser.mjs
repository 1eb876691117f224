// Starting Chromium, driving the page as a visitor does, and reading saved files back.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { serve } from '../../tools/serve.mjs';
import { ensureChromium } from '../../tools/system.mjs';

export const root = join(import.meta.dirname, '../..');

/** How long a busy machine may take, milliseconds: for an answer, and for a clip or a model. Only a failure waits so long. */
export const SOON = 120_000;
export const LONG = 600_000;

const QUIET = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const SWIFTSHADER = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** A headless Chromium; `webgpu: false` leaves WebGPU without an adapter. */
export const launch = ({ webgpu = true } = {}) =>
  chromium.launch({
    executablePath: ensureChromium(),
    headless: true,
    args: webgpu ? [...QUIET, ...SWIFTSHADER] : [...QUIET, '--disable-gpu'],
  });

/** A headless Chromium with a profile in `folder`: what sites keep outlives the browser, as it does for a visitor. */
export const launchProfile = (folder) =>
  chromium.launchPersistentContext(folder, { executablePath: ensureChromium(), headless: true, args: [...QUIET, '--disable-gpu'] });

/**
 * A page that collects what goes wrong in it: `page.problems` must stay empty.
 * No service worker, unless `serviceWorkers: 'allow'`: what it answers, `page.route` does not see.
 * `noWebGpu` hides `navigator.gpu`, as in a browser that lacks it.
 */
export async function openPage(browser, url, { noWebGpu = false, ...options } = {}) {
  const common = { acceptDownloads: true, viewport: { width: 1280, height: 900 }, serviceWorkers: 'block' };
  const context = await browser.newContext({ ...common, ...options });
  if (noWebGpu) await context.addInitScript(() => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined }));
  context.setDefaultTimeout(SOON);
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(`error: ${error.message}`));
  page.on('console', (message) => message.type() === 'error' && page.problems.push(`console: ${message.text()}`));
  page.on('requestfailed', (request) => {
    if (request.failure()?.errorText !== 'net::ERR_ABORTED') page.problems.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  return page;
}

/** The built page, served, with a Chromium for it and a folder for what it saves; `close` ends all three. */
export async function openSite() {
  const folder = temporaryFolder();
  const server = await serve(join(root, 'www/dist'));
  const browser = await launch().catch(async (error) => {
    await server.close();
    throw error;
  });
  const close = async () => {
    await browser.close();
    await server.close();
    folder.remove();
  };
  return { browser, server, folder, close };
}

/** As the value of `size`: the one with the fewest pixels. */
const SMALLEST = 'smallest';
/** The cheapest settings that still make a moving clip, for `configure`. */
export const SHORT = { size: SMALLEST, frames: 5, fps: 8, steps: 3, guidance: 3, seed: 7, backend: 'cpu' };
export const PROMPT = 'a large red ball bounces over grass at sunset';

/** Sets fields of the settings drawer by id, opening it if need be and closing it again. */
export async function configure(page, settings) {
  if (!(await page.locator('#drawer').isVisible())) await page.click('#open-settings');
  for (const [id, value] of Object.entries(settings)) {
    const field = page.locator(`#${id}`);
    const kind = await field.evaluate((element) => element.tagName);
    if (value === SMALLEST) {
      const all = await field.evaluate((select) => [...select.options].map((option) => option.value));
      const sizes = all.filter((value) => /^\d+x\d+$/.test(value));
      const pixels = (size) => size.split('x').reduce((w, h) => w * h);
      await field.selectOption(sizes.sort((a, b) => pixels(a) - pixels(b))[0]);
    } else if (kind === 'SELECT') await field.selectOption(String(value));
    else await field.fill(String(value));
  }
  await page.click('#close-settings');
}

/** Waits until the clip is there (its save button shows) or an error is; returns the error's words, if any. */
export async function finished(page) {
  await page.locator('#save-mp4, #error').locator('visible=true').first().waitFor({ timeout: LONG });
  return (await page.locator('#error').isVisible()) ? page.locator('#error').innerText() : undefined;
}

/**
 * The stage's canvas as RGBA bytes, shrunk to 32 × 32 px (the whole would take seconds to hand over); `from` and `to` are shares of its
 * width, where only a part is asked for.
 */
export const canvasPixels = (page, { from, to } = { from: 0, to: 1 }) =>
  page.evaluate(
    ({ from, to }) => {
      const canvas = document.querySelector('#stage canvas');
      const small = new OffscreenCanvas(32, 32).getContext('2d');
      const { width, height } = canvas;
      small.drawImage(canvas, from * width, 0, (to - from) * width, height, 0, 0, 32, 32);
      return [...small.getImageData(0, 0, 32, 32).data];
    },
    { from, to },
  );

/** Standard deviation of some bytes: 0 for a blank picture. */
export function deviation(bytes) {
  const mean = bytes.reduce((sum, value) => sum + value, 0) / bytes.length;
  return Math.sqrt(bytes.reduce((sum, value) => sum + (value - mean) ** 2, 0) / bytes.length);
}

/** Sky over grass with a red ball, as a PNG; drawn by the browser, and dropped, pasted or chosen. */
export const drawPng = (page, look = {}) =>
  page.evaluate(
    async ({ width, height, sky, ground }) => {
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext('2d');
      for (const [colour, top] of [
        [sky, 0],
        [ground, height / 2],
      ]) {
        context.fillStyle = colour;
        context.fillRect(0, top, width, height / 2);
      }
      context.fillStyle = 'rgb(215 40 35)';
      context.arc(width / 2, height / 2, height / 6, 0, 2 * Math.PI);
      context.fill();
      const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
    },
    { width: 96, height: 64, sky: 'rgb(150 190 235)', ground: 'rgb(62 138 50)', ...look },
  );
/** Lets go of a file over an element, or pastes it there. */
export async function give(page, how, target, { base64, name = 'ball.png', type = 'image/png' }) {
  await page.locator(target).evaluate(
    (element, { how, base64, name, type }) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))], name, { type }));
      const more = { bubbles: true, cancelable: true };
      const event =
        how === 'paste'
          ? new ClipboardEvent('paste', { ...more, clipboardData: data })
          : new DragEvent('drop', { ...more, dataTransfer: data });
      element.dispatchEvent(event);
      if (!event.defaultPrevented) throw new Error(`the page left the ${how} to the browser`);
    },
    { how, base64, name, type },
  );
}

/** Clicks a save button and returns the path of the file. */
export async function save(page, id, folder) {
  const [download] = await Promise.all([page.waitForEvent('download', { timeout: SOON }), page.click(id)]);
  const path = join(folder, download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

/** A folder that is gone after the tests. */
export function temporaryFolder() {
  const path = mkdtempSync(join(tmpdir(), 'tabreel-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export function command(name, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(name, args, { maxBuffer: 2 ** 28, ...options });
  if (error || status !== 0) throw new Error(`${name} ${args.join(' ')}: ${error?.message ?? stderr}`);
  return stdout;
}

/** Makes a clip of 24 frames a second: a square that moves to the right, in px a second; returns its path. */
export function movingClip(
  folder,
  name,
  { size = '128x96', ground = '0x3c8a32', square = 'white', side = 32, speed = 160, frames = 12 } = {},
) {
  const path = join(folder, name);
  const [back, front] = [`color=c=${ground}:s=${size}:r=24:d=1[g]`, `color=c=${square}:s=${side}x${side}:r=24:d=1[w]`];
  const scene = `${back};${front};[g][w]overlay=x=t*${speed}:y=32`;
  command('ffmpeg', ['-v', 'error', '-y', '-filter_complex', scene, '-frames:v', String(frames), path]);
  return path;
}

/** What ffprobe reads of a video: codec, size, frames counted by decoding, rate, whether the first is a key frame. */
export function probeVideo(path) {
  const json = command('ffprobe', [
    '-v',
    'error',
    '-of',
    'json',
    '-count_frames',
    '-select_streams',
    'v',
    '-show_streams',
    '-show_frames',
    '-show_format',
    path,
  ]);
  const {
    streams: [stream],
    frames,
    format,
  } = JSON.parse(json);
  const [over, under] = stream.r_frame_rate.split('/').map(Number);
  return {
    codec: stream.codec_name,
    width: stream.width,
    height: stream.height,
    numFrames: Number(stream.nb_read_frames),
    fps: over / under,
    seconds: Number(format.duration),
    startsWithKeyFrame: frames[0].key_frame === 1,
    colours: [stream.color_space, stream.color_primaries, stream.color_transfer],
    container: format.format_name,
  };
}

/** Every frame of a video as [R, G, B] of its middle pixel, decoded by ffmpeg. */
export function middlePixels(path) {
  const { width, height, numFrames } = probeVideo(path);
  const raw = command('ffmpeg', ['-v', 'error', '-i', path, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-']);
  return Array.from({ length: numFrames }, (_, i) => {
    const at = ((i * height + Math.floor(height / 2)) * width + Math.floor(width / 2)) * 3;
    return [...raw.subarray(at, at + 3)];
  });
}
