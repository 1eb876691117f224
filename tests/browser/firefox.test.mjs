// The built page in Firefox, over WebDriver BiDi: it opens, says what is missing, makes a clip on the CPU, and saves it.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import puppeteer from 'puppeteer-core';
import { serve } from '../../tools/serve.mjs';
import { ensureFirefox } from '../../tools/system.mjs';
import { measure } from './abilities.mjs';
import { LONG, command, probeVideo, root, temporaryFolder } from './browser.mjs';
import { serveFromElsewhere, startHere } from './examples.mjs';

const folder = temporaryFolder();
const downloads = join(folder.path, 'downloads');
let browser;
let server;
let page;
const problems = [];
before(async () => {
  mkdirSync(downloads);
  server = await serve(join(root, 'www/dist'));
  browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: ensureFirefox(),
    headless: true,
    // Without WebGPU, which some builds have: what the words are about.
    extraPrefsFirefox: { 'dom.webgpu.enabled': false, 'browser.download.folderList': 2, 'browser.download.dir': downloads },
  });
  page = await browser.newPage();
  await page.setViewport({ width: 1280, height: 900 });
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  await page.goto(server.url);
});
after(async () => {
  await browser?.close();
  await server?.close();
  folder.remove();
});

const text = (selector) => page.$eval(selector, (element) => element.innerText);
const visible = (selector) => page.waitForSelector(selector, { visible: true, timeout: LONG });

test('the page opens and says that there is no WebGPU, and that the CPU does it', async () => {
  assert.match(await page.title(), /tabreel/);
  await page.waitForFunction(() => /WebGPU/.test(document.querySelector('#needs').textContent));
  assert.match(await page.$eval('#needs', (box) => box.textContent), /This browser has no WebGPU, so clips are made on the CPU/);
});

test('it makes a clip on the CPU', async () => {
  await page.$eval('#prompt', (field) => (field.value = ''));
  await page.type('#prompt', 'a large red ball bounces over grass at sunset');
  await page.click('#open-settings');
  await visible('#frames');
  await page.evaluate(() => {
    const set = (id, value) => {
      const field = document.getElementById(id);
      field.value = value;
      for (const type of ['input', 'change']) field.dispatchEvent(new Event(type, { bubbles: true }));
    };
    for (const [id, value] of Object.entries({ frames: '9', steps: '2', seed: '7' })) set(id, value);
  });
  await page.click('#close-settings');
  await page.click('#generate');
  await visible('#save-mp4, #error');
  assert.equal(await page.$eval('#error', (box) => (box.checkVisibility() ? box.innerText : '')), '');
  const colours = await page.evaluate(() => {
    const canvas = document.querySelector('#stage canvas');
    const small = new OffscreenCanvas(32, 32).getContext('2d');
    small.drawImage(canvas, 0, 0, 32, 32);
    return new Set(small.getImageData(0, 0, 32, 32).data).size;
  });
  assert.ok(colours > 16, `the picture has ${colours} values only`);
});

/** The file that a click on a save button brings. */
async function saved(button, extension) {
  await page.click(button);
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((done) => setTimeout(done, 200))) {
    const name = readdirSync(downloads).find((name) => name.endsWith(extension));
    const path = name && join(downloads, name);
    if (path && existsSync(path) && statSync(path).size > 0 && !existsSync(`${path}.part`)) return path;
  }
  throw new Error(`no ${extension} within 60 s: ${readdirSync(downloads)}; the page says ${await text('body')}`);
}

for (const [extension, codecs] of [
  ['mp4', ['h264', 'av1', 'vp9']],
  ['webm', ['vp9', 'av1', 'vp8']],
]) {
  test(`it saves ${extension}, with the codecs that this build has`, async (t) => {
    const video = probeVideo(await saved(`#save-${extension}`, `.${extension}`));
    t.diagnostic(`${extension}: ${video.codec}`);
    assert.ok(codecs.includes(video.codec), video.codec);
    assert.equal(video.numFrames, 9);
    assert.equal(video.startsWithKeyFrame, true);
  });
}

test('it saves a PNG', async () => {
  const path = await saved('#save-png', '.png');
  assert.match(command('ffprobe', ['-v', 'error', '-show_entries', 'stream=codec_name', path]).toString(), /png/);
});

test('the element, from one file of another origin', async () => {
  const { url, close } = await serveFromElsewhere(folder.path);
  try {
    await page.goto(url);
    assert.deepEqual(await page.evaluate(startHere), { state: 'done', words: 'The clip is ready', frames: 5 });
  } finally {
    await close();
  }
});

test('it reads a GIF, keeps a model, and opens and makes clips without a server', async () => {
  let tab;
  const open = async (url) => {
    await tab?.close();
    tab = await browser.newPage();
    await tab.goto(url);
  };
  const { gif, worker, kept, opened, offline } = await measure(
    { open, run: (action, ...args) => tab.evaluate(action, ...args) },
    folder.path,
  );
  await tab.close();
  assert.match(gif, /moving\.gif, 12 frames, 128 × 96 px/);
  assert.deepEqual([worker, kept, offline], [true, undefined, undefined]);
  assert.match(opened, /tabreel/);
});

test('nothing went wrong on the page', () => assert.deepEqual(problems, []));
