// The built page in WebKit (WebKitGTK): it opens, says what is missing, makes a clip on the CPU, and saves it.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { serve } from '../../tools/serve.mjs';
import { measure } from './abilities.mjs';
import { probeVideo, root, temporaryFolder } from './browser.mjs';
import { serveFromElsewhere, startHere } from './examples.mjs';
import { launchWebKit } from './webdriver.mjs';

const folder = temporaryFolder();
let webkit;
let server;
before(async () => {
  server = await serve(join(root, 'www/dist'));
  webkit = await launchWebKit();
  await webkit.open(server.url);
});
after(async () => {
  await webkit?.close();
  await server?.close();
  folder.remove();
});

test('the page opens and says that there is no WebGPU, and that the CPU does it', async () => {
  const words = await webkit.run(async () => {
    const needs = document.querySelector('#needs');
    for (let i = 0; i < 100 && !/WebGPU/.test(needs.textContent); i++) await new Promise((done) => setTimeout(done, 100));
    return needs.textContent;
  });
  assert.match(words, /This browser has no WebGPU, so clips are made on the CPU/);
});

test('it makes a clip on the CPU', async () => {
  const made = await webkit.run(async () => {
    const values = { prompt: 'a large red ball bounces over grass at sunset', frames: '9', steps: '2', seed: '7' };
    for (const [id, value] of Object.entries(values)) {
      const field = document.getElementById(id);
      field.value = value;
      for (const type of ['input', 'change']) field.dispatchEvent(new Event(type, { bubbles: true }));
    }
    document.querySelector('#generate').click();
    const [error, save] = [document.querySelector('#error'), document.querySelector('#save-mp4')];
    for (let i = 0; i < 500 && !error.checkVisibility() && !save.checkVisibility(); i++) await new Promise((done) => setTimeout(done, 200));
    return error.checkVisibility() ? error.innerText : document.querySelector('#made').innerText;
  });
  assert.match(made, /Made on the CPU.*9 frames.*seed 7/);
});

for (const [extension, codecs] of [
  ['mp4', ['h264', 'av1', 'vp9']],
  ['webm', ['vp9', 'av1', 'vp8']],
]) {
  test(`it saves ${extension}, with the codecs that this build has`, async (t) => {
    const base64 = await webkit.run(async (extension) => {
      const own = URL.createObjectURL;
      const saved = new Promise((done) => (URL.createObjectURL = (blob) => (done(blob), own.call(URL, blob))));
      document.querySelector(`#save-${extension}`).click();
      const bytes = new Uint8Array(await (await saved).arrayBuffer());
      URL.createObjectURL = own;
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
    }, extension);
    const path = join(folder.path, `clip.${extension}`);
    writeFileSync(path, Buffer.from(base64, 'base64'));
    const video = probeVideo(path);
    t.diagnostic(`${extension}: ${video.codec}`);
    assert.ok(codecs.includes(video.codec), video.codec);
    assert.deepEqual([video.numFrames, video.startsWithKeyFrame], [9, true]);
  });
}

test('the element, from one file of another origin', async () => {
  const { url, close } = await serveFromElsewhere(folder.path);
  try {
    await webkit.open(url);
    assert.deepEqual(await webkit.run(startHere), { state: 'done', words: 'The clip is ready', frames: 5 });
  } finally {
    await close();
  }
});

test('it reads the first picture of a GIF, keeps no model, and opens without a server', async () => {
  const { gif, worker, kept, opened, offline } = await measure(webkit, folder.path);
  assert.match(gif, /moving\.gif, 128 × 96 px; Clip: this browser decodes only the first picture of an animation/);
  // This build has no navigator.storage: what was fetched is fetched again.
  assert.match(kept, /model could not be fetched.*\.safetensors answered 404/is);
  assert.equal(worker, true);
  assert.match(opened, /tabreel/);
  assert.match(offline, /model could not be fetched.*could not reach/is);
});
