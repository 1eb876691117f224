// Every mode of the page that tasks.test.mjs leaves out, as a visitor uses it: files are given, Generate is pressed, and what came
// out is looked at. With the default model and few steps.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import {
  LONG,
  PROMPT,
  SOON,
  canvasPixels,
  configure,
  deviation,
  drawPng,
  finished,
  give,
  launchProfile,
  movingClip,
  openSite,
  probeVideo,
  save,
  temporaryFolder,
} from './browser.mjs';
import { QUICK, at, difference, frames, generate, visits, wrongWith } from './visit.mjs';

let site;
before(async () => void (site = await openSite()));
after(() => site?.close());
const onPage = visits(() => site);

/** A clip of a moving square as `give` takes it. */
function clip(name, look) {
  return { base64: readFileSync(movingClip(site.folder.path, name, look), 'base64'), name, type: 'video/mp4' };
}

const far = (pixel, colour) => Math.max(...pixel.map((value, i) => Math.abs(value - colour[i])));
const SKY = [150, 190, 235];
const GROUND = [62, 138, 50];
const BALL = [215, 40, 35];

/** Presses Generate and waits for an error with such words. */
async function refused(page, words) {
  await page.click('#generate');
  await page.locator('#error').filter({ visible: true, hasText: words }).waitFor({ timeout: SOON });
}

/** Goes on with Tab until an element has the focus, as one does without a mouse. */
async function tabTo(page, selector) {
  for (let presses = 0; presses < 120; presses++) {
    if (await page.evaluate((selector) => document.activeElement?.matches(selector), selector)) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`Tab does not reach ${selector}`);
}

/** How far to the right the red of a frame lies, in shares of its width. */
function redness(frame) {
  let [sum, weight] = [0, 0];
  for (let i = 0; i < 32 * 32; i++) {
    const [r, g, b] = frame.slice(i * 4, i * 4 + 3);
    const red = Math.max(0, r - Math.max(g, b) - 40);
    sum += red * ((i % 32) / 31);
    weight += red;
  }
  return sum / weight;
}

describe('modes', () => {
  test('two clips are connected, and both stay as they were', () =>
    onPage(async (page) => {
      await generate(page);
      const one = await frames(page);
      await page.check('#mode-connect');
      await page.click('#clip-shown');
      await page.check('#mode-text');
      await page.fill('#prompt', 'a small blue cube moves left over sand by day');
      await configure(page, { seed: 8 });
      await generate(page);
      const two = await frames(page);
      await page.check('#mode-connect');
      await page.click('#second-shown');
      await page.fill('#between', '4');
      const made = await generate(page);
      assert.match(made, /from two clips/);
      const all = await frames(page);
      assert.ok(all.length >= 5 + 4 + 5, `${all.length} frames`);
      one.forEach((frame, i) => assert.ok(difference(frame, all[i]) < 0.5, `frame ${i} of the first changed`));
      two.forEach((frame, i) => assert.ok(difference(frame, all.at(i - 5)) < 0.5, `frame ${i} of the second changed`));
      for (const frame of all.slice(5, -5)) assert.ok(deviation(frame) > 10, 'what lies between is no blank frame');
    }));

  test('an edited clip stays near its source with a small strength, and not with a large one', () =>
    onPage(async (page) => {
      await generate(page);
      const source = await frames(page);
      await page.click('#quick-edit');
      const strength = page.locator('#strength');
      await page.fill('#prompt', 'a small blue cube moves left over sand by day');
      // With 3 steps a third is the least: nothing on the slider ends in an error.
      assert.equal(await strength.getAttribute('min'), '0.35');
      await strength.focus();
      await page.keyboard.press('Home');
      assert.match(await page.locator('#strength-note').innerText(), /^35 %: .*3 steps allow no less$/);
      await configure(page, { steps: 20 });
      assert.equal(await strength.getAttribute('min'), '0.05');
      await strength.focus();
      for (const key of ['Home', 'ArrowRight']) await page.keyboard.press(key);
      assert.match(await page.locator('#strength-note').innerText(), /^10 %: details$/);
      assert.match(await generate(page), /from a clip.*5 frames/);
      const near = await frames(page);
      await strength.focus();
      await page.keyboard.press('End');
      await generate(page);
      const anew = await frames(page);
      const from = (made) => made.reduce((sum, frame, i) => sum + difference(frame, source[i]), 0) / made.length;
      assert.ok(from(near) < 8 && from(near) * 3 < from(anew), `${from(near)} and ${from(anew)}`);
    }));

  test('the thing in a picture appears in a clip', () =>
    onPage(async (page) => {
      await generate(page);
      const without = await frames(page);
      await page.check('#mode-subject');
      await refused(page, /Subject needs a picture of the subject/);
      await give(page, 'drop', '#subject-add', { base64: await drawPng(page) });
      await page.locator('#subject-thumb').waitFor();
      assert.equal(await page.locator('#fit').count(), 0, 'a subject is seen whole');
      assert.match(await generate(page), /with a subject.*5 frames/);
      const made = await frames(page);
      assert.ok(difference(made[2], without[2]) > 1, 'the picture acts');
      assert.ok(made.every((frame) => deviation(frame) > 10));
    }));

  test('a picture is a single frame', () =>
    onPage(async (page) => {
      await page.check('#mode-picture');
      assert.match(await generate(page), / · 1 frame · /);
      assert.equal(await page.locator('#transport').isVisible(), false);
      assert.ok(deviation(await canvasPixels(page)) > 10);
      const png = readFileSync(await save(page, '#save-png', site.folder.path));
      assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [384, 384], 'one picture, three times as large');
    }));

  test('a clip grows to another shape, and its middle stays', () =>
    onPage(async (page) => {
      await generate(page);
      const before = await frames(page);
      await page.check('#mode-grow');
      await page.click('#clip-shown');
      await page.selectOption('#grow-to', '192x128');
      assert.match(await generate(page), /in another shape.*192 × 128.*5 frames/);
      // The canvas is scaled to the screen, once square and once wide: seams and half pixels are left out.
      const inner = { from: 1 / 6, to: 5 / 6 };
      const within = (frame) => frame.filter((_, i) => Math.floor(i / 4) % 32 > 2 && Math.floor(i / 4) % 32 < 29);
      const after = await frames(page, inner);
      before.forEach((frame, i) => assert.ok(difference(within(frame), within(after[i])) < 2.5, `frame ${i} changed in its middle`));
      for (const side of [
        { from: 0, to: 1 / 6 },
        { from: 5 / 6, to: 1 },
      ]) {
        const made = await frames(page, side);
        assert.ok(
          made.every((frame) => deviation(frame) > 10),
          'what lies beside it is no bar',
        );
      }
    }));

  test('an enlarged clip has twice the size and shows the same', () =>
    onPage(async (page) => {
      await generate(page);
      const before = await frames(page);
      await page.check('#mode-enlarge');
      await page.click('#clip-shown');
      assert.equal(await page.locator('#detail').inputValue(), '0.35');
      assert.match(await generate(page), /enlarged with new details.*256 × 256.*5 frames/);
      const path = await save(page, '#save-mp4', site.folder.path);
      const { width, height, numFrames } = probeVideo(path);
      assert.deepEqual([width % 256, height % 256, numFrames], [0, 0, 5]);
      const after = await frames(page);
      before.forEach((frame, i) => assert.ok(difference(frame, after[i]) < 16, `frame ${i}: ${difference(frame, after[i])}`));
    }));
});

describe('control clips and masks', () => {
  test('the edges of a clip are followed, frame by frame', () =>
    onPage(async (page) => {
      await page.check('#mode-sketch');
      const given = clip('followed.mp4', { size: '128x128', side: 48, speed: 100 });
      await give(page, 'drop', '#sketch-canvas', given);
      await page.locator('#control-preview').waitFor({ timeout: SOON });
      assert.equal(await page.locator('#lines').inputValue(), 'edges');
      assert.equal(await page.locator('#fit').count(), 0, 'it has the shape of the clip: there is nothing to choose');
      // Half a second at 24 a second: 12 frames, of which 9 are wanted.
      await configure(page, { frames: 9, fps: 24, steps: 10, guidance: 3 });
      assert.match(await page.locator('#control-preview').getAttribute('aria-label'), /9 frames of edges/);
      const white = await page.locator('#control-preview').evaluate((canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, i) => i % 4 === 0 && value > 128).length / (data.length / 4);
      });
      assert.ok(white > 0.01 && white < 0.1, `lines on black, ${white} of it white`);
      await page.fill('#prompt', 'a large red cube moves right over grass by day');
      assert.match(await generate(page), /from a sketch.*9 frames/);
      const made = await frames(page);
      // The square's middle goes from 24 to 24 + 8 / 24 × 100 px of 128.
      for (const [index, middle] of [
        [0, 24 / 128],
        [8, (24 + (8 / 24) * 100) / 128],
      ]) {
        assert.ok(Math.abs(redness(made[index]) - middle) < 0.1, `frame ${index}: red at ${redness(made[index])}, lines at ${middle}`);
      }
    }));

  test('a control clip is used as it is; one that is short, black or of another shape is told of', () =>
    onPage(async (page) => {
      await page.check('#mode-sketch');
      await page.selectOption('#lines', 'ready');
      await refused(page, /Sketch needs a clip or picture to follow/);
      await give(page, 'drop', '#control-add', clip('black.mp4', { ground: 'black', square: 'black', size: '192x128' }));
      await page.locator('#control-preview').waitFor({ timeout: SOON });
      await refused(page, /must have lines, got frames that are all black/);
      assert.match(
        await page.locator('#control-preview-note').innerText(),
        /24 frames per second and was resampled to 8\. It is shorter than the clip to be made: at the end 1 of 5 frames follows nothing\./,
      );
      await page.click('#control-remove');
      await give(page, 'drop', '#control-add', clip('lines.mp4', { ground: 'black', size: '192x128', speed: 100 }));
      await page.locator('label[for=fit]').filter({ hasText: 'The given clip is wider than the clip to be made' }).waitFor();
      const rows = () =>
        page.locator('#control-preview').evaluate(async (canvas) => {
          await new Promise((done) => setTimeout(done, 500));
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return [...Array(canvas.height).keys()].filter((y) =>
            [...Array(canvas.width).keys()].some((x) => data[(y * canvas.width + x) * 4] > 128),
          ).length;
        });
      const becomes = async (wanted, what) => {
        let found;
        for (let tries = 0; tries < 20; tries++) if (Math.abs((found = await rows()) - wanted) <= 2) return;
        assert.fail(`${what}: ${found} rows of ${wanted}`);
      };
      await becomes(32, 'cropped, the square keeps its size');
      await page.selectOption('#fit', 'contain');
      await becomes(21, 'padded, it is two thirds as large');
      assert.match(await generate(page), /from a sketch/);
    }));

  test('a mask clip marks what is made anew; one of another shape is refused', () =>
    onPage(async (page) => {
      await generate(page);
      const before = await frames(page);
      await page.click('#quick-paint');
      await page.fill('#prompt', 'a small blue cube moves left over sand by day');
      const look = { ground: 'black', side: 64, speed: 0 };
      await give(page, 'drop', '#mask-canvas', clip('wide-mask.mp4', { ...look, size: '192x128' }));
      await page.locator('#mask-preview').waitFor({ timeout: SOON });
      await refused(page, /The mask must have the shape of what it lies on, 128 × 128 px, got 192 × 128 px/);
      await page.click('#mask-clip-remove');
      await page.locator('#mask-canvas').waitFor();
      const short = clip('short.mp4', { ...look, size: '128x128' });
      await give(page, 'drop', '#mask-clip-add', short);
      await page.locator('#mask-preview-note').filter({ hasText: 'The mask has 4 frames and the clip 5' }).waitFor({ timeout: SOON });
      await refused(page, /mask must have one frame or as many as the clip, 5, got 4/);
      // At 9 a second it has as many frames as the clip.
      const path = movingClip(site.folder.path, 'long.mp4', { ...look, size: '128x128', frames: 15 });
      await page.click('#mask-clip-remove');
      await page.setInputFiles('#mask-clip-file', path);
      await page.locator('#mask-preview-note').filter({ hasNotText: 'The mask has 4 frames' }).waitFor({ timeout: SOON });
      assert.match(await generate(page), /painted over.*5 frames/);
      const after = await frames(page);
      const changed = (x, y) => Math.max(...after.map((frame, i) => far(at(frame, x, y), at(before[i], x, y))));
      // White is the square of 64 px from (0, 32): 16 of these 32 px from row 8.
      assert.ok(Math.max(changed(4, 12), changed(8, 16), changed(12, 20)) > 20, 'white is made anew');
      // The stage has another size while something is painted over: resampled, a horizon differs by up to 4.
      for (const [x, y] of [
        [26, 4],
        [26, 16],
        [26, 28],
        [8, 30],
      ]) {
        assert.ok(changed(x, y) <= 5, `(${x}, ${y}) changed by ${changed(x, y)}`);
      }
    }));
});

describe('shapes and places', () => {
  test('a picture of another shape is cropped or padded, as the visitor says', () =>
    onPage(async (page) => {
      await give(page, 'drop', '#stage', { base64: await drawPng(page, { width: 128, height: 128 }) });
      await page.locator('#first-thumb').waitFor();
      assert.equal(await page.locator('#fit').count(), 0, 'nothing to choose where the shapes are the same');
      await page.click('#first-remove');
      await give(page, 'drop', '#first-add', { base64: await drawPng(page, { width: 192, height: 96 }) });
      await page.locator('label[for=fit]').filter({ hasText: 'The picture is wider than the clip to be made' }).waitFor();
      await page.selectOption('#fit', { label: 'Pad it: the rest is made' });
      await generate(page);
      // Half as high as the frame: rows 8 to 23 of 32, the horizon in the middle.
      const [shown] = await frames(page);
      for (const [x, y, colour] of [
        [3, 11, SKY],
        [3, 20, GROUND],
        [16, 16, BALL],
      ]) {
        assert.ok(far(at(shown, x, y), colour) <= 3, `(${x}, ${y}) is ${at(shown, x, y)}`);
      }
      assert.ok(deviation(shown.slice(0, 32 * 4 * 5)) > 5, 'what lies above it is no bar');
      await page.selectOption('#fit', { label: 'Crop it: its sides go' });
      await generate(page);
      const [cropped] = await frames(page);
      assert.ok(far(at(cropped, 3, 3), SKY) <= 3, `the picture's top is ${at(cropped, 3, 3)}`);
    }));

  test('a saved clip tells whether what it was given was cropped or padded, in modes of pictures and of clips', () =>
    onPage(async (page) => {
      // Wider than any size of the model, and of no size that it takes.
      const wide = { base64: await drawPng(page, { width: 300, height: 100 }) };
      let seed = 20;
      for (const [mode, place] of [
        ['image', 'first'],
        ['extend', 'clip'],
      ]) {
        for (const [chosen, before] of [
          ['contain', 'cover'],
          ['cover', 'contain'],
        ]) {
          // So that each clip is told from the one before.
          await configure(page, { seed: seed++ });
          await page.check(`#mode-${mode}`);
          await give(page, 'drop', `#${place}-add`, wide);
          await page.locator(`#${place}-thumb`).waitFor();
          if (mode === 'extend') await page.fill('#added', '4');
          await page.selectOption('#fit', chosen);
          await generate(page);
          const saved = readFileSync(await save(page, '#save-png', site.folder.path));
          await page.selectOption('#fit', before);
          await page.click(`#${place}-remove`);
          await give(page, 'drop', '#stage', { base64: saved.toString('base64') });
          await page.locator('#reopened-words').filter({ visible: true, hasText: 'must be given again' }).waitFor({ timeout: SOON });
          await page.click('#reopened-close');
          await give(page, 'drop', `#${place}-add`, wide);
          await page.locator(`#${place}-thumb`).waitFor();
          assert.equal(await page.locator('#fit').inputValue(), chosen, `${mode}, ${chosen}`);
          await page.click(`#${place}-remove`);
        }
      }
    }));

  test('a keyframe outside a shorter clip stays, is said to lie outside, and is refused', () =>
    onPage(async (page) => {
      await configure(page, { frames: 17 });
      await page.check('#mode-keyframes');
      const square = { width: 128, height: 128 };
      await give(page, 'drop', '#timeline-track', { base64: await drawPng(page, square) });
      await give(page, 'paste', '#key-add', { base64: await drawPng(page, { ...square, sky: 'rgb(60 70 110)' }) });
      const last = page.locator('.key').nth(1);
      await last.waitFor();
      const outside = page.locator('#timeline-outside');
      assert.equal(await outside.isVisible(), false);
      await configure(page, { frames: 5 });
      assert.equal(await last.getAttribute('aria-valuenow'), '16', 'it was not moved');
      const words = /Ball\.png at frame 16 lies outside frames 0 to 4: move it, remove it, or make the clip longer/;
      assert.match(await outside.innerText(), words);
      await refused(page, words);
      await configure(page, { frames: 17 });
      assert.equal(await outside.isVisible(), false);
      await configure(page, { frames: 5 });
      await last.focus();
      await page.keyboard.press('ArrowLeft');
      assert.equal(await last.getAttribute('aria-valuenow'), '4');
      assert.match(await generate(page), /from keyframes/);
    }));
});

describe('live, kept, opened again', () => {
  test('a longer extension plays what is there while the rest is made', () =>
    onPage(async (page) => {
      await generate(page);
      await page.click('#quick-extend');
      await page.fill('#added', '36');
      await configure(page, { steps: 6 });
      await page.click('#generate');
      await page.locator('#working').waitFor({ timeout: SOON });
      // A look every 50 ms, in the page, until it is done: words of the badge, and whether the picture moved.
      const seen = await page.evaluate(async () => {
        const found = [];
        const canvas = document.querySelector('#stage canvas');
        const look = new OffscreenCanvas(16, 16).getContext('2d', { willReadFrequently: true });
        while (!document.getElementById('working').hidden) {
          look.drawImage(canvas, 0, 0, 16, 16);
          const pixels = look.getImageData(0, 0, 16, 16).data.join();
          const [words, status] = ['stage-badge', 'status'].map((id) => document.getElementById(id).textContent);
          found.push({ words, status, pixels });
          await new Promise((done) => setTimeout(done, 50));
        }
        return found;
      });
      assert.equal(await finished(page), undefined);
      assert.match(await page.locator('#made').innerText(), /extended forward.*41 frames/);
      const counts = [...new Set(seen.map(({ words }) => Number(/^(\d+) frames so far/.exec(words)?.[1] ?? 0)))].filter(Boolean);
      assert.ok(counts.length >= 2 && counts.every((count, i) => i === 0 || count > counts[i - 1]), `more and more: ${counts}`);
      assert.ok(
        counts.some((count) => count < 36),
        'before the end',
      );
      // While a later part is painted, what is there plays on.
      const painting = seen.filter(({ words, status }) => /frames so far/.test(words) && /^Part [2-9].*step/.test(status));
      assert.ok(new Set(painting.map(({ pixels }) => pixels)).size > 2, `${painting.length} looks while a later part was painted`);
    }));

  test('beyond its limit the history lets the oldest clips go, and says so', async () => {
    const profile = temporaryFolder();
    const context = await launchProfile(profile.path);
    try {
      const page = await context.newPage();
      const make = async () => {
        await page.click('#generate');
        await page.locator('#working').waitFor({ timeout: SOON });
        assert.equal(await finished(page), undefined);
      };
      await page.goto(site.server.url);
      await configure(page, QUICK);
      await page.fill('#prompt', PROMPT);
      await make();
      await page
        .locator('#history-size')
        .filter({ hasText: /on this device/ })
        .waitFor({ timeout: SOON });
      // As a clip of 250 MB and another of 20 MB were kept before it: their entries and, shorter, their videos.
      await page.evaluate(async () => {
        const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabreel-history');
        const names = [];
        for await (const name of folder.keys()) names.push(name);
        const read = async (end) => (await folder.getFileHandle(names.find((name) => name.endsWith(end)))).getFile();
        const kept = JSON.parse(await (await read('.json')).text());
        const video = await read(`.${kept.format}`);
        for (const [name, bytes, prompt] of [
          ['000000000000001', 250e6, 'the oldest'],
          ['000000000000002', 20e6, 'the second'],
        ]) {
          const parts = { ...kept.parts, options: { ...kept.parts.options, prompt } };
          for (const [file, content] of [
            [`${name}.json`, JSON.stringify({ ...kept, name, bytes, parts })],
            [`${name}.${kept.format}`, video],
          ]) {
            const stream = await (await folder.getFileHandle(file, { create: true })).createWritable();
            await stream.write(content);
            await stream.close();
          }
        }
      });
      await page.reload();
      const prompts = () => page.locator('#history-strip img').evaluateAll((all) => all.map(({ alt }) => alt));
      await page.locator('#history-strip li').nth(2).waitFor({ timeout: SOON });
      assert.deepEqual(await prompts(), [PROMPT, 'the second', 'the oldest']);
      assert.equal(await page.locator('#history-gone').isVisible(), false);
      await configure(page, QUICK);
      await page.fill('#prompt', PROMPT);
      await make();
      await page
        .locator('#history-gone')
        .filter({ hasText: 'The oldest clip was deleted: more than 256 MB are not kept.' })
        .waitFor({ timeout: SOON });
      assert.deepEqual(await prompts(), [PROMPT, PROMPT, 'the second']);
      await page.reload();
      await page.locator('#history-strip li').nth(2).waitFor({ timeout: SOON });
      assert.deepEqual(await prompts(), [PROMPT, PROMPT, 'the second'], 'it is gone from the device');
    } finally {
      await context.close();
      profile.remove();
    }
  });

  test('a file of another model says so, and a GIF of the command line opens too', () =>
    onPage(async (page) => {
      await generate(page);
      const png = readFileSync(await save(page, '#save-png', site.folder.path));
      const words = page.locator('#reopened-words');
      const open = async (bytes, name, type) => {
        await page.reload();
        await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
        await give(page, 'drop', '#stage', { base64: bytes.toString('base64'), name, type });
        await words.filter({ visible: true }).waitFor({ timeout: SOON });
        return words.innerText();
      };
      assert.equal(await open(png, 'own.png', 'image/png'), 'Opened the recipe of own.png.');
      // The same file, had a model with other files made it.
      const text = png.toString('latin1');
      const hash = /"hash":"([0-9a-f]{64})"/.exec(text)[1];
      const other = Buffer.from(text.replace(hash, hash.split('').reverse().join('')), 'latin1');
      assert.match(
        await open(other, 'other.png', 'image/png'),
        /^Opened the recipe of other\.png\. It was made with another version of .+: with .+ the result will differ\.$/,
      );
      assert.equal(await page.locator('#prompt').inputValue(), PROMPT);
      // A GIF with the comment that `tabreel generate` writes, put before its first frame.
      const gif = readFileSync(movingClip(site.folder.path, 'made.gif'));
      const recipe = {
        tabreel: '0.1.0',
        model: 'of-a-friend',
        task: 'text-to-video',
        options: { prompt: 'a green star', seed: 3 },
        given: {},
      };
      const comment = Buffer.from(JSON.stringify(recipe));
      const start = 13 + (gif[10] & 0x80 ? 3 * 2 ** ((gif[10] & 7) + 1) : 0);
      const block = Buffer.concat([Buffer.from([0x21, 0xfe, comment.length]), comment, Buffer.from([0])]);
      assert.ok(comment.length < 256);
      assert.match(
        await open(Buffer.concat([gif.subarray(0, start), block, gif.subarray(start)]), 'made.gif', 'image/gif'),
        /^Opened the recipe of made\.gif\. It was made with another model, of-a-friend: with .+ the result will differ\.$/,
      );
      assert.equal(await page.locator('#prompt').inputValue(), 'a green star');
      await page.reload();
    }));
});

describe('without a mouse, and for everyone', () => {
  test('a prompt is suggested and step counts are compared by keyboard alone', () =>
    onPage(async (page) => {
      await page.fill('#prompt', 'a crimson ball');
      await page.locator('#prompt').focus();
      await tabTo(page, '#suggest');
      await page.keyboard.press('Enter');
      const suggested = await page.locator('#prompt').inputValue();
      assert.match(suggested, /red ball/);
      assert.ok(suggested.split(' ').length > 4, `what was left open is filled in: ${suggested}`);
      await page.keyboard.press('Enter');
      await page.locator('#working').waitFor({ timeout: SOON });
      assert.equal(await finished(page), undefined);
      await tabTo(page, '#quick-compare');
      await page.keyboard.press('Enter');
      await page.locator('#compare-row li').nth(3).waitFor({ timeout: LONG });
      await page.locator('#working').waitFor({ state: 'hidden', timeout: SOON });
      await tabTo(page, '#compare-row button');
      await page.keyboard.press('Enter');
      await page.locator('#made').filter({ visible: true }).waitFor();
      await page.locator('#compare-close').focus();
      await page.keyboard.press('Enter');
      assert.equal(await page.locator('#compare').isVisible(), false);
      assert.equal(await page.evaluate(() => document.activeElement.id), 'stage');
    }));

  for (const [words, look] of [
    ['light, desktop', { colorScheme: 'light' }],
    ['dark, phone', { colorScheme: 'dark', viewport: { width: 390, height: 844 } }],
  ]) {
    test(`axe finds nothing wrong where clips are followed, masked, padded and placed (${words})`, () =>
      onPage(
        async (page) => {
          const found = [];
          const look = async (state) => found.push(...(await wrongWith(page)).map((problem) => `${state}: ${problem}`));
          const wide = clip('wide.mp4', { size: '192x96' });
          await page.check('#mode-sketch');
          await give(page, 'drop', '#sketch-canvas', wide);
          await page.locator('#control-preview').waitFor({ timeout: SOON });
          await look('edges');
          await page.selectOption('#lines', 'ready');
          await page.selectOption('#fit', 'contain');
          await look('control clip');
          await page.check('#mode-paint');
          await give(page, 'drop', '#clip-add', wide);
          await page.locator('#mask-canvas').waitFor({ timeout: SOON });
          await look('paint');
          await give(page, 'drop', '#mask-canvas', clip('mask.mp4', { size: '192x96', ground: 'black' }));
          await page.locator('#mask-preview').waitFor({ timeout: SOON });
          await look('mask clip');
          await page.check('#mode-keyframes');
          await configure(page, { frames: 17 });
          for (let i = 0; i < 2; i++) await give(page, 'drop', '#key-add', { base64: await drawPng(page) });
          await page.locator('.key').nth(1).waitFor();
          await configure(page, { frames: 5 });
          await look('keyframes');
          assert.deepEqual(found, []);
        },
        { ...look, reducedMotion: 'reduce' },
      ));
  }
});
