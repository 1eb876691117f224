// The tasks on the built page, as a visitor does them, with the default model and few steps.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  LONG,
  PROMPT,
  SHORT,
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
import { QUICK, difference, frames, generate, visits, wrongWith } from './visit.mjs';

let site;
before(async () => void (site = await openSite()));
after(() => site?.close());
const onPage = visits(() => site);

/** Draws a line on a canvas, in shares of its width. */
async function draw(page, id, points) {
  const canvas = page.locator(id);
  await canvas.scrollIntoViewIfNeeded();
  const { x, y, width } = await canvas.boundingBox();
  const [first, ...rest] = points.map(([u, v]) => [x + u * width, y + v * width]);
  await page.mouse.move(...first);
  await page.mouse.down();
  for (const point of rest) await page.mouse.move(...point, { steps: 6 });
  await page.mouse.up();
}

/** A clip on the stage; the tasks below go on from it. */
const first = async (page) => generate(page);

describe('tasks', () => {
  test('a dropped picture becomes the first frame, unchanged, and begins to move', () =>
    onPage(async (page) => {
      await give(page, 'drop', '#stage', { base64: await drawPng(page, { width: 128, height: 128 }) });
      await page.locator('#first-thumb').waitFor();
      assert.ok(await page.locator('#mode-image').isChecked(), 'the mode for it was chosen');
      assert.match(await generate(page), /from a first frame/);
      const [shown] = await frames(page);
      const at = (x, y) => shown.slice((y * 32 + x) * 4, (y * 32 + x) * 4 + 3);
      const off = (pixel, colour) => Math.max(...pixel.map((value, i) => Math.abs(value - colour[i])));
      assert.ok(off(at(3, 3), [150, 190, 235]) <= 2, `sky ${at(3, 3)}`);
      assert.ok(off(at(3, 29), [62, 138, 50]) <= 2, `ground ${at(3, 29)}`);
      assert.ok(off(at(16, 16), [215, 40, 35]) <= 2, `ball ${at(16, 16)}`);
    }));

  test('a clip is extended both ways and made to loop, and what was there stays', () =>
    onPage(async (page) => {
      await first(page);
      const before = await frames(page);
      await page.click('#quick-extend');
      await page.fill('#added', '4');
      assert.match(await generate(page), /extended forward.*9 frames/);
      const after = await frames(page);
      before.forEach((frame, i) => assert.ok(difference(frame, after[i]) < 0.5, `frame ${i} changed`));
      await page.click('#clip-remove');
      await page.click('#clip-shown');
      await page.selectOption('#direction', 'backward');
      assert.match(await generate(page), /extended backward.*13 frames/);
      const earlier = await frames(page);
      after.forEach((frame, i) => assert.ok(difference(frame, earlier[i + 4]) < 0.5, `frame ${i} changed`));
      await page.click('#quick-loop');
      await page.fill('#between', '4');
      assert.match(await generate(page), /made to loop.*17 frames/);
    }));

  test('without a clip a loop is made of the prompt, shown while it is made, and opens again', () =>
    onPage(async (page) => {
      await page.check('#mode-loop');
      await page.fill('#between', '4');
      // The clip of the settings' 5 frames, and the way back.
      assert.match(await generate(page), /made to loop.*9 frames/);
      const all = await frames(page);
      for (const frame of all) assert.ok(deviation(frame) > 10, 'no blank frame');
      const png = readFileSync(await save(page, '#save-png', site.folder.path), 'base64');
      await page.fill('#between', '9');
      await page.check('#mode-text');
      await configure(page, { frames: 9 });
      await give(page, 'drop', '#stage', { base64: png, name: 'loop.png' });
      await page
        .locator('#reopened-words')
        .filter({ visible: true, hasText: /^Opened the recipe of loop\.png\.$/ })
        .waitFor({ timeout: SOON });
      assert.ok(await page.locator('#mode-loop').isChecked());
      assert.equal(await page.locator('#between').inputValue(), '4');
      assert.equal(await page.locator('#frames').inputValue(), '5');
    }));

  test('a region that was painted over is made anew, and nothing else', () =>
    onPage(async (page) => {
      await first(page);
      const before = await frames(page);
      await page.click('#quick-paint');
      await draw(page, '#mask-canvas', [
        [0.1, 0.2],
        [0.35, 0.2],
      ]);
      await draw(page, '#mask-canvas', [
        [0.6, 0.9],
        [0.9, 0.9],
      ]);
      await page.click('#mask-undo');
      assert.ok(await page.locator('#mask-redo').isEnabled());
      await page.fill('#prompt', 'a small blue cube moves left over sand by day');
      assert.match(await generate(page), /painted over/);
      const after = await frames(page);
      const region = (frame, [x, y]) => frame.slice((y * 32 + x) * 4, (y * 32 + x + 6) * 4);
      const changed = (at, made = after) => Math.max(...made.map((frame, i) => difference(region(frame, at), region(before[i], at))));
      assert.ok(changed([4, 6]) > 3, `painted ${changed([4, 6])}`);
      assert.ok(changed([20, 28]) < 0.5, `taken back ${changed([20, 28])}`);
      // A tenth of it starts from what stood there.
      await configure(page, { steps: 10 });
      await page.locator('#region').focus();
      await page.keyboard.press('Home');
      assert.match(await page.locator('#region-note').innerText(), /^10 %: details/);
      assert.match(await generate(page), /painted over/);
      const near = await frames(page);
      assert.ok(changed([4, 6], near) < changed([4, 6]), `${changed([4, 6], near)} and ${changed([4, 6])}`);
      assert.ok(changed([20, 28], near) < 0.5);
    }));

  test('a region of a picture is painted over, and the picture stays one', () =>
    onPage(async (page) => {
      await page.check('#mode-paint');
      await page.click('#generate');
      await page
        .locator('#error')
        .filter({ visible: true, hasText: /Paint needs a clip or picture/ })
        .waitFor();
      await give(page, 'drop', '#clip-add', { base64: await drawPng(page, { width: 128, height: 128 }) });
      await page.locator('#mask-canvas').waitFor({ timeout: SOON });
      await draw(page, '#mask-canvas', [
        [0.2, 0.2],
        [0.8, 0.2],
      ]);
      assert.match(await generate(page), /painted over.* · 1 frame · /);
      const shown = await canvasPixels(page);
      const at = (x, y) => shown.slice((y * 32 + x) * 4, (y * 32 + x) * 4 + 3);
      const off = (pixel, colour) => Math.max(...pixel.map((value, i) => Math.abs(value - colour[i])));
      // The stage has another size while something is painted over: resampled, an edge differs a little.
      assert.ok(off(at(3, 29), [62, 138, 50]) <= 5, `ground ${at(3, 29)}`);
      assert.ok(off(at(16, 18), [215, 40, 35]) <= 5, `ball ${at(16, 18)}`);
      const sky = [8, 12, 16, 20, 24].map((x) => at(x, 6));
      assert.ok(
        sky.some((pixel) => off(pixel, [150, 190, 235]) > 2),
        `what was painted over is made anew, not the sky that was there: ${sky.join(' ')}`,
      );
    }));

  test('a clip has any size that the model’s step allows, and another is refused', () =>
    onPage(async (page) => {
      await configure(page, { size: 'other', width: 100, height: 160, frames: 9 });
      await page.click('#generate');
      await page
        .locator('#error')
        .filter({ visible: true, hasText: /Width must be a multiple of 16.*100/ })
        .waitFor({ timeout: SOON });
      await configure(page, { width: 96 });
      assert.match(await generate(page), /384 × 640 px, enlarged from 96 × 160 · 9 frames/);
      assert.ok(deviation(await canvasPixels(page)) > 10);
    }));

  test('a sketch for all frames holds the thing in its place', () =>
    onPage(async (page) => {
      await page.check('#mode-sketch');
      await configure(page, { steps: 8, guidance: 3 });
      const circle = Array.from({ length: 25 }, (_, i) => [
        0.5 + 0.22 * Math.cos((i * Math.PI) / 12),
        0.5 + 0.22 * Math.sin((i * Math.PI) / 12),
      ]);
      await draw(page, '#sketch-canvas', circle);
      await page.selectOption('#hold', 'all');
      await page.fill('#prompt', 'a large red ball over grass by day');
      assert.match(await generate(page), /from a sketch.*5 frames/);
      for (const [index, frame] of (await frames(page)).entries()) {
        const [r, g, b] = frame.slice((16 * 32 + 16) * 4);
        assert.ok(r > g + 40 && r > b + 40, `the middle of the circle is ${[r, g, b]} in frame ${index}`);
      }
    }));

  test('a sketch, drawn with the keyboard too, becomes a picture that follows it', () =>
    onPage(async (page) => {
      await page.check('#mode-sketch');
      await page.click('#generate');
      await page
        .locator('#error')
        .filter({ visible: true, hasText: /Sketch needs a few lines/ })
        .waitFor();
      await configure(page, { frames: 1, steps: 8, guidance: 3 });
      const circle = Array.from({ length: 25 }, (_, i) => [
        0.5 + 0.22 * Math.cos((i * Math.PI) / 12),
        0.5 + 0.22 * Math.sin((i * Math.PI) / 12),
      ]);
      await draw(page, '#sketch-canvas', circle);
      await page.locator('#sketch-canvas').focus();
      for (const key of ['Home', ' ', ...Array(6).fill('ArrowRight'), ' ']) await page.keyboard.press(key);
      await page.keyboard.press('Control+z');
      assert.ok(await page.locator('#sketch-redo').isEnabled());
      const lines = () =>
        page.locator('#sketch-canvas').evaluate((canvas) => {
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return data.filter((value, i) => i % 4 === 0 && value > 128).length;
        });
      await page.locator('#prompt').focus(); // the keyboard's pen is white, too
      const drawn = await lines();
      const picture = { name: 'ball.png', mimeType: 'image/png', buffer: Buffer.from(await drawPng(page), 'base64') };
      await page.setInputFiles('#sketch-file', picture);
      await page.waitForTimeout(500);
      assert.ok((await lines()) > drawn * 1.5, 'the lines of a picture were added');
      await page.click('#sketch-undo');
      assert.equal(await lines(), drawn);
      await page.fill('#prompt', 'a large red ball over grass by day');
      assert.match(await generate(page), /from a sketch/);
      const shown = await canvasPixels(page);
      const [r, g, b] = shown.slice((16 * 32 + 16) * 4);
      assert.ok(r > g + 40 && r > b + 40, `the middle of the circle is ${[r, g, b]}`);
    }));

  test('keyframes lie on a strip, move by keyboard, and two on one frame are refused', () =>
    onPage(async (page) => {
      const base64 = await drawPng(page);
      await page.check('#mode-keyframes');
      await give(page, 'drop', '#timeline-track', { base64 });
      await give(page, 'paste', '#key-add', { base64: await drawPng(page, { sky: 'rgb(60 70 110)' }) });
      const keys = page.locator('.key');
      await keys.nth(1).waitFor();
      assert.deepEqual(await keys.evaluateAll((all) => all.map((key) => key.ariaValueNow)), ['0', '4']);
      await keys.nth(1).focus();
      await page.keyboard.press('Home');
      await page.click('#generate');
      await page
        .locator('#error')
        .filter({ visible: true, hasText: /both give frame 0/ })
        .waitFor();
      await keys.nth(1).focus();
      await page.keyboard.press('ArrowRight');
      await page.keyboard.press('ArrowRight');
      assert.match(await generate(page), /from keyframes/);
    }));
});

describe('clips from files', () => {
  for (const [name, type] of [
    ['moving.mp4', 'video/mp4'],
    ['moving.webm', 'video/webm'],
    ['moving.gif', 'image/gif'],
    ['moving.apng', 'image/png'],
  ]) {
    test(`${name} is read, resampled with a word about it, and goes on`, () =>
      onPage(async (page) => {
        await give(page, 'drop', '#stage', { base64: readFileSync(movingClip(site.folder.path, name), 'base64'), name, type });
        if (type === 'image/png') {
          // It could be a picture: the visitor says what for.
          await page.locator('#first-thumb').waitFor();
          await page.check('#mode-extend');
          await page.setInputFiles('#clip-file', join(site.folder.path, name));
        }
        await page.locator('#clip-thumb').waitFor();
        assert.ok(await page.locator('#mode-extend').isChecked());
        assert.match(await page.locator('#clip-thumb').getAttribute('aria-label'), /12 frames, 128 × 96 px/);
        await page.fill('#added', '4');
        const made = await generate(page);
        assert.match(made, /extended forward.*from 128 × 96 · 8 frames/, 'half a second at 8 a second, and 4 new ones');
        assert.match(await page.locator('#warning').innerText(), /clip has 2[34](\.\d)? frames per second and was resampled to 8/);
        const found = await frames(page);
        const white = (frame) =>
          [...Array(32).keys()].filter((x) => frame.slice((16 * 32 + x) * 4, (16 * 32 + x) * 4 + 3).every((value) => value > 200));
        assert.ok(white(found[0])[0] < 4, `the square begins at the left: ${white(found[0])}`);
        assert.ok(white(found[3])[0] > white(found[0])[0] + 8, `and moves: ${white(found[3])}`);
      }));
  }

  test('a file that is no clip is answered in words, and nothing is lost', () =>
    onPage(async (page) => {
      await page.check('#mode-extend');
      await give(page, 'drop', '#clip-add', { base64: btoa('no clip at all'), name: 'notes.mp4', type: 'video/mp4' });
      const words = /clip must be a clip \(MP4, WebM, GIF, …\) or a picture, got notes\.mp4 \(video\/mp4, 14 bytes\)/i;
      await page.locator('#error').filter({ visible: true, hasText: words }).waitFor({ timeout: SOON });
      assert.equal(await page.locator('#prompt').inputValue(), PROMPT);
    }));
});

describe('recipes, history, queue', () => {
  test('a saved MP4 and a PNG open again with all that made them', () =>
    onPage(async (page) => {
      await give(page, 'drop', '#stage', { base64: await drawPng(page, { width: 128, height: 128 }) });
      await page.locator('#first-thumb').waitFor();
      await generate(page);
      const files = [await save(page, '#save-mp4', site.folder.path), await save(page, '#save-png', site.folder.path)];
      for (const [file, type, words] of [
        [files[0], 'video/mp4', /Opened the recipe of .*\.mp4\.$/],
        [files[1], 'image/png', /Opened the recipe of .*; its pictures must be given again/],
      ]) {
        await page.reload();
        await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
        await page.fill('#prompt', 'something else');
        await configure(page, { seed: 1, steps: 9 });
        await page.check('#mode-text');
        await give(page, 'drop', '#stage', { base64: readFileSync(file, 'base64'), name: `saved.${type.split('/')[1]}`, type });
        await page.locator('#reopened-words').filter({ visible: true, hasText: words }).waitFor({ timeout: SOON });
        assert.equal(await page.locator('#prompt').inputValue(), PROMPT);
        assert.equal(await page.locator('#seed').inputValue(), '7');
        assert.equal(await page.locator('#steps').inputValue(), '3');
        assert.ok(await page.locator('#mode-image').isChecked());
        assert.equal(await page.locator('#first-thumb').isVisible(), type === 'video/mp4', 'the video shows its first frame');
      }
      await page.reload();
    }));

  test('the history survives a reload, shows its clips, saves and deletes them', async () => {
    const profile = temporaryFolder();
    const context = await launchProfile(profile.path);
    try {
      const page = await context.newPage();
      await page.goto(site.server.url);
      await configure(page, QUICK);
      await page.fill('#prompt', PROMPT);
      await page.click('#generate');
      assert.equal(await finished(page), undefined);
      await page
        .locator('#history-size')
        .filter({ hasText: /MB on this device/ })
        .waitFor({ timeout: SOON });
      const made = await page.locator('#made').innerText();
      await page.reload();
      await page.locator('#history-strip .thumb').first().click();
      await page.locator('#made').filter({ visible: true, hasText: made }).waitFor({ timeout: SOON });
      const [download] = await Promise.all([page.waitForEvent('download'), page.click('#history-strip button[aria-label^="Save"]')]);
      const path = join(site.folder.path, 'history.mp4');
      await download.saveAs(path);
      assert.equal(probeVideo(path).numFrames, 5);
      await page.click('#history-strip button[aria-label^="Delete"]');
      await page.locator('#history').waitFor({ state: 'hidden' });
      await page.reload();
      await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
      assert.equal(await page.locator('#history').isVisible(), false);
    } finally {
      await context.close();
      profile.remove();
    }
  });

  test('what a crash left of the history is deleted, and Clear leaves nothing; a clip whose video is gone says so', async () => {
    const profile = temporaryFolder();
    const context = await launchProfile(profile.path);
    try {
      const page = await context.newPage();
      const onDevice = () =>
        page.evaluate(async () => {
          const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabreel-history');
          const names = [];
          for await (const name of folder.keys()) names.push(name);
          return names.sort();
        });
      await page.goto(site.server.url);
      await configure(page, QUICK);
      await page.fill('#prompt', PROMPT);
      await page.click('#generate');
      assert.equal(await finished(page), undefined);
      await page
        .locator('#history-size')
        .filter({ hasText: /MB on this device/ })
        .waitFor({ timeout: SOON });
      const own = await onDevice();
      assert.equal(own.length, 2);
      // A disk that is full when the entry is written keeps no video of it either.
      await page.evaluate(() => {
        const { createWritable } = FileSystemFileHandle.prototype;
        window.mend = () => (FileSystemFileHandle.prototype.createWritable = createWritable);
        FileSystemFileHandle.prototype.createWritable = function (...given) {
          if (!this.name.endsWith('.json')) return createWritable.apply(this, given);
          window.refused = true;
          return Promise.reject(new DOMException('full', 'QuotaExceededError'));
        };
      });
      await page.click('#generate');
      await page.locator('#working').waitFor({ timeout: SOON });
      assert.equal(await finished(page), undefined);
      await page.waitForFunction(() => window.refused, null, { timeout: SOON });
      for (let tries = 0; tries < 50 && (await onDevice()).length > own.length; tries++) await page.waitForTimeout(100);
      assert.deepEqual(await onDevice(), own);
      // A video whose entry was never written, an entry cut short, one of another version of the page, and a video of this moment.
      const now = `${String(Date.now()).padStart(15, '0')}.mp4`;
      const left = {
        '000000000000001.mp4': 'x',
        '000000000000002.json': '{',
        '000000000000002.mp4': 'x',
        '000000000000003.json': '{}',
        [now]: 'x',
      };
      await page.evaluate(async (left) => {
        window.mend();
        const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabreel-history');
        for (const [name, text] of Object.entries(left)) {
          const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
          await stream.write(text);
          await stream.close();
        }
      }, left);
      await page.reload();
      await page.locator('#history-strip li').waitFor({ timeout: SOON });
      assert.deepEqual(await onDevice(), [...own, '000000000000003.json', now].sort());
      await page.evaluate(
        async (name) => {
          const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabreel-history');
          await folder.removeEntry(name);
        },
        own.find((name) => !name.endsWith('.json')),
      );
      await page.click('#history-strip button[aria-label^="Save"]');
      await page.locator('#error').filter({ visible: true, hasText: 'no longer on this device' }).waitFor({ timeout: SOON });
      await page.click('#history-clear');
      await page.locator('#history').waitFor({ state: 'hidden' });
      await page.reload();
      await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
      assert.deepEqual(await onDevice(), []);
    } finally {
      await context.close();
      profile.remove();
    }
  });

  test('a job that is pressed for while another runs waits, can be moved and dropped, and is then made', () =>
    onPage(async (page) => {
      await configure(page, { steps: 30 });
      await page.click('#generate');
      await page.locator('#working').waitFor({ timeout: SOON });
      await configure(page, { steps: 2 });
      for (const prompt of ['a small blue cube', 'a green star', 'a white ring']) {
        await page.fill('#prompt', prompt);
        await page.click('#generate');
      }
      const waiting = () => page.locator('#queue-list li > span').allInnerTexts();
      assert.deepEqual(await waiting(), ['Text: a small blue cube', 'Text: a green star', 'Text: a white ring']);
      await page.click('#queue-list li:nth-child(3) button[aria-label^="Earlier"]');
      await page.click('#queue-list li:nth-child(1) button[aria-label^="Drop"]');
      assert.deepEqual(await waiting(), ['Text: a white ring', 'Text: a green star']);
      await page.click('#cancel');
      await page.waitForFunction(() => document.querySelectorAll('#history-strip li').length === 2, undefined, { timeout: LONG });
      const prompts = await page.locator('#history-strip img').evaluateAll((all) => all.map(({ alt }) => alt));
      assert.deepEqual(prompts, ['a green star', 'a white ring']);
    }));

  test('a paused clip waits, goes on, and is the same as one made in one go; a paused one can be cancelled', () =>
    onPage(async (page) => {
      await configure(page, { steps: 16 });
      await generate(page);
      const once = await frames(page);
      const pauseUnderWay = async () => {
        await page.click('#generate');
        // Any of the 16 but the last: a short step may pass unseen.
        await page
          .locator('#status')
          .filter({ hasText: /step ([2-9]|1[0-4]) / })
          .waitFor({ timeout: SOON });
        await page.click('#pause');
        await page.locator('#status').filter({ hasText: 'paused' }).waitFor();
        // What was on its way arrives; then nothing moves.
        await page.waitForTimeout(1500);
        const before = await page.locator('#progress').getAttribute('value');
        await page.waitForTimeout(2500);
        assert.equal(await page.locator('#progress').getAttribute('value'), before);
        assert.equal(await page.locator('#pause').innerText(), 'Resume');
      };
      await pauseUnderWay();
      await page.click('#pause');
      await page.locator('#working').waitFor({ state: 'hidden', timeout: SOON });
      assert.equal(await finished(page), undefined);
      assert.deepEqual(await frames(page), once);

      await pauseUnderWay();
      await page.click('#cancel');
      await page.locator('#working').waitFor({ state: 'hidden', timeout: SOON });
      assert.equal(await page.locator('#pause').isVisible(), false);
      // The engine is not left held.
      await configure(page, SHORT);
      await generate(page);
    }));

  test('step counts are made one after the other and stand side by side', () =>
    onPage(async (page) => {
      await generate(page);
      await page.click('#quick-compare');
      // 3 steps: 1, 2 and 6 beside them.
      await page.locator('#compare-row li').nth(3).waitFor({ timeout: LONG });
      const words = await page.locator('#compare-row span').allInnerTexts();
      assert.deepEqual(
        words.map((text) => text.split(' · ')[0]),
        ['1 step', '2 steps', '3 steps', '6 steps'],
      );
      await page.locator('#working').waitFor({ state: 'hidden', timeout: SOON });
      await page.locator('#compare-row button').first().click();
      assert.match(await page.locator('#made').innerText(), /seed 7/);
      await page.click('#compare-close');
      assert.equal(await page.locator('#compare').isVisible(), false);
    }));
});

describe('for everyone', () => {
  for (const [words, look] of [
    ['light, desktop', { colorScheme: 'light' }],
    ['dark, phone', { colorScheme: 'dark', viewport: { width: 390, height: 844 } }],
  ]) {
    test(`axe finds nothing wrong in any mode, and nothing is wider than the window (${words})`, () =>
      onPage(
        async (page) => {
          await generate(page);
          const found = [];
          const modes = await page.locator('#modes input:enabled').evaluateAll((all) => all.map(({ value }) => value));
          assert.equal(modes.length, 13); // without Class, which this model has not
          for (const mode of modes) {
            await page.check(`#mode-${mode}`);
            const use = page.locator('#clip-shown:visible, #key-shown:visible').first();
            if (await use.isVisible()) await use.click();
            found.push(...(await wrongWith(page)).map((words) => `${mode}: ${words}`));
          }
          assert.deepEqual(found, []);
        },
        { ...look, reducedMotion: 'reduce' },
      ));
  }
});
