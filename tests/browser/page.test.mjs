// The built page in a real Chromium, as a visitor meets it, with the default model.
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  LONG,
  SOON,
  PROMPT,
  SHORT,
  canvasPixels,
  command,
  configure,
  deviation,
  drawPng,
  finished,
  give,
  launch,
  openPage,
  openSite,
  probeVideo,
  root,
  save,
} from './browser.mjs';

/** A PNG of 1 × 1 px. */
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

let browser;
let server;
let folder;
let close;
before(async () => void ({ browser, server, folder, close } = await openSite()));
after(() => close?.());

/** Runs a test on a fresh page and demands that nothing went wrong in it. */
async function onPage(options, steps) {
  const page = await openPage(options.browser ?? browser, server.url, options);
  try {
    await steps(page);
    assert.deepEqual(page.problems, []);
  } finally {
    await page.context().close();
  }
}

test("a fresh page has the model's own settings, and remembers none of them", () =>
  onPage({}, async (page) => {
    const { default: own } = JSON.parse(readFileSync(join(root, 'models/small-world/tabreel.json'), 'utf8'));
    assert.equal(await page.locator('#guidance').inputValue(), String(own.guidance_scale));
    assert.equal(await page.locator('#steps').inputValue(), String(own.num_steps));
    assert.equal(await page.locator('#steps-note').textContent(), 'Good');
    assert.deepEqual(JSON.parse((await page.evaluate(() => localStorage.getItem('tabreel.settings'))) ?? '{}'), {});
  }));

describe('a prompt becomes a clip on the CPU', () => {
  let page;
  let sawPreview = false;
  const statuses = new Set();
  let responsive = Infinity;
  before(async () => {
    page = await openPage(browser, server.url);
    await configure(page, { ...SHORT, frames: 9, steps: 40 }); // long enough to watch
    await page.fill('#prompt', PROMPT);
    await page.click('#generate');
    const deadline = Date.now() + 240_000;
    for (;;) {
      const [working, status] = await Promise.all([
        page.locator('#working').isVisible(),
        page
          .locator('#status')
          .innerText()
          .catch(() => ''),
      ]);
      if (working) {
        statuses.add(status);
        if (/^Painting/.test(status)) {
          const badge = await page
            .locator('#stage-badge')
            .innerText({ timeout: 1000 })
            .catch(() => '');
          if (/preview/i.test(badge)) sawPreview ||= deviation(await canvasPixels(page)) > 2;
          responsive = Math.min(responsive, await longestPause(page));
        }
      }
      if (await page.locator('#save-mp4').isVisible()) break;
      if (await page.locator('#error').isVisible()) throw new Error(await page.locator('#error').innerText());
      if (Date.now() > deadline) throw new Error(`no clip after 240 s; status: ${status}`);
    }
  });
  after(() => page?.context().close());

  /** The longest time between two animation frames within half a second, ms. */
  const longestPause = (page) =>
    page.evaluate(
      () =>
        new Promise((done) => {
          let [last, longest, start] = [performance.now(), 0, performance.now()];
          requestAnimationFrame(function next() {
            const now = performance.now();
            [last, longest] = [now, Math.max(longest, now - last)];
            if (now - start > 500) done(longest);
            else requestAnimationFrame(next);
          });
        }),
    );

  test('progress counts the steps', () => {
    const counted = new Set([...statuses].map((status) => /^Painting: step (\d+) of 40\b/.exec(status)?.[1]).filter(Boolean));
    assert.ok(counted.size >= 2, [...statuses].join(' | '));
    assert.ok(
      [...statuses].some((status) => /left|so far/.test(status)),
      'the time is told',
    );
  });
  test('a preview is painted before the clip is done', () => assert.ok(sawPreview));
  test('the page stays responsive meanwhile', () => assert.ok(responsive < 250, `no frame for ${responsive} ms`));
  test('the clip plays on the canvas', async () => {
    const pictures = new Set();
    for (let i = 0; i < 20; i++) {
      const pixels = await canvasPixels(page);
      assert.ok(deviation(pixels) > 2, 'the canvas is not blank');
      pictures.add(Buffer.from(pixels).toString('base64'));
      await page.waitForTimeout(90);
    }
    assert.ok(pictures.size > 2, `${pictures.size} different pictures in 2 s`);
  });
  test('which backend made it, and the seed, stand beside it', async () => {
    const made = await page.locator('#made').innerText();
    assert.match(made, /CPU/);
    assert.match(made, /\b7\b/);
  });
  test('the MP4 has the codec, size, frames and rate it should', async () => {
    const video = probeVideo(await save(page, '#save-mp4', folder.path));
    assert.match(video.container, /mp4/);
    assert.equal(video.codec, 'h264');
    assert.equal(video.numFrames, 9);
    assert.equal(video.fps, 8);
    assert.ok(Math.abs(video.seconds - 9 / 8) < 0.01, `${video.seconds} s`);
    const [, width, height] = /(\d+) × (\d+) px/.exec(await page.locator('#made').innerText());
    assert.deepEqual([video.width, video.height], [Number(width), Number(height)]);
    assert.ok(video.width % 2 === 0 && video.height % 2 === 0);
    assert.ok(video.startsWithKeyFrame);
    assert.deepEqual(video.colours, ['bt709', 'bt709', 'bt709']);
  });
  test('the WebM too', async () => {
    const video = probeVideo(await save(page, '#save-webm', folder.path));
    assert.match(video.container, /webm/);
    assert.ok(['vp9', 'av1', 'vp8'].includes(video.codec), video.codec);
    assert.deepEqual([video.numFrames, video.fps, video.startsWithKeyFrame], [9, 8, true]);
  });
  test('the PNG is a picture', async () => {
    const path = await save(page, '#save-png', folder.path);
    assert.deepEqual([...readFileSync(path).subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10]);
    assert.ok(statSync(path).size > 500);
  });
  test('nothing went wrong on the page', () => assert.deepEqual(page.problems, []));
});

describe('pictures', () => {
  const visible = (page, id) => page.locator(id).waitFor({ timeout: SOON });

  test('a picture dropped on the page is shown, and can be removed', () =>
    onPage({}, async (page) => {
      const base64 = await drawPng(page);
      await give(page, 'drop', '#stage', { base64 });
      await visible(page, '#first-thumb');
      assert.match(await page.locator('#first-thumb').getAttribute('aria-label'), /First frame: ball\.png, 96 × 64 px/);
      const shown = await page.locator('#first-thumb').evaluate((canvas) => [...canvas.getContext('2d').getImageData(2, 2, 1, 1).data]);
      assert.deepEqual(shown, [150, 190, 235, 255]);
      await visible(page, '#last-add');
      await page.click('#first-remove');
      await visible(page, '#first-add');
      assert.equal(await page.locator('#first-thumb').isVisible(), false);
      assert.equal(await page.locator('#last-add').isVisible(), false);
      assert.equal(await page.evaluate(() => document.activeElement.id), 'first-add', 'the focus is not lost');
    }));

  test('a pasted picture too, a chosen one as the last frame, and both make a clip', () =>
    onPage({}, async (page) => {
      await give(page, 'paste', '#prompt', { base64: await drawPng(page) });
      await visible(page, '#first-thumb');
      const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.click('#last-add')]);
      const night = await drawPng(page, { sky: 'rgb(60 70 110)', ground: 'rgb(225 232 242)' });
      await chooser.setFiles({ name: 'night.png', mimeType: 'image/png', buffer: Buffer.from(night, 'base64') });
      await visible(page, '#last-thumb');
      assert.equal(await page.evaluate(() => document.activeElement.id), 'last-remove', 'the focus is not lost');
      await configure(page, SHORT);
      await page.fill('#prompt', PROMPT);
      await page.click('#generate');
      assert.equal(await finished(page), undefined);
      assert.match(await page.locator('#made').innerText(), /from a first and a last frame/);
      assert.match(await page.locator('#history-strip button').first().innerText(), /from a first and a last frame/);
    }));

  test('what is no picture is answered in words, and nothing is lost', () =>
    onPage({}, async (page) => {
      await page.fill('#prompt', PROMPT);
      await give(page, 'drop', 'body', { base64: await drawPng(page) });
      await visible(page, '#first-thumb');
      await give(page, 'drop', 'body', { base64: btoa('no picture'), name: 'notes.txt', type: 'text/plain' });
      const words = /first frame must be a picture.*notes\.txt \(text\/plain, 10 bytes\)/;
      await page.locator('#error').filter({ visible: true, hasText: words }).waitFor({ timeout: SOON });
      assert.match(await page.locator('#first-thumb').getAttribute('aria-label'), /ball\.png/);
      assert.equal(await page.locator('#prompt').inputValue(), PROMPT);
      await give(page, 'drop', 'body', { base64: await drawPng(page), name: 'next.png' });
      await page.locator('#error').waitFor({ state: 'hidden', timeout: SOON });
      assert.match(await page.locator('#first-thumb').getAttribute('aria-label'), /next\.png/);
    }));
});

describe('WebGPU', () => {
  test('a software adapter is named, and the CPU is used instead unless the visitor insists', () =>
    onPage({}, async (page) => {
      await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
      await page.click('#needs-line');
      assert.match(await page.locator('#needs').innerText(), /software/i);
      await configure(page, { ...SHORT, frames: 1, steps: 1, backend: 'auto' });
      await page.fill('#prompt', PROMPT);
      await page.click('#generate');
      assert.equal(await finished(page), undefined);
      assert.match(await page.locator('#made').innerText(), /CPU/);
    }));

  test('makes the picture that the CPU makes', () =>
    onPage({}, async (page) => {
      const pictures = [];
      for (const backend of ['cpu', 'gpu']) {
        await configure(page, { ...SHORT, frames: 1, steps: 2, backend });
        await page.fill('#prompt', PROMPT);
        await page.click('#generate');
        assert.equal(await finished(page), undefined);
        const made = await page.locator('#made').innerText();
        assert.match(made, backend === 'cpu' ? /CPU/ : /GPU|WebGPU|swiftshader/i);
        const png = await save(page, '#save-png', folder.path);
        pictures.push(command('ffmpeg', ['-v', 'error', '-i', png, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-']));
        await page.reload(); // so that `finished` cannot see the first clip
      }
      const [cpu, gpu] = pictures;
      assert.equal(cpu.length, gpu.length);
      assert.ok(deviation([...cpu]) > 2);
      const largest = cpu.reduce((most, value, i) => Math.max(most, Math.abs(value - gpu[i])), 0);
      assert.ok(largest <= 3, `largest difference ${largest} of 255`);
    }));

  for (const [words, options, args] of [
    ['a browser without WebGPU', { noWebGpu: true }, {}],
    ['a browser that finds no GPU', {}, { webgpu: false }],
  ]) {
    test(`${words} says so in words and makes the clip on the CPU`, async () => {
      const own = args.webgpu === false ? await launch(args) : undefined;
      try {
        await onPage({ ...options, browser: own }, async (page) => {
          await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
          await page.click('#needs-line');
          assert.match(await page.locator('#needs').innerText(), /no WebGPU|without a usable GPU/i);
          await configure(page, { ...SHORT, backend: 'auto' });
          await page.fill('#prompt', PROMPT);
          await page.click('#generate');
          assert.equal(await finished(page), undefined);
          assert.match(await page.locator('#made').innerText(), /CPU/);
          assert.equal(probeVideo(await save(page, '#save-mp4', folder.path)).numFrames, 5);
        });
      } finally {
        await own?.close();
      }
    });
  }
});

describe('the visitor changes their mind or errs', () => {
  test('Cancel stops the run, and the next one works', () =>
    onPage({}, async (page) => {
      await configure(page, { ...SHORT, steps: 50, frames: 25 });
      await page.fill('#prompt', PROMPT);
      await page.click('#generate');
      await page
        .locator('#status')
        .filter({ hasText: /step ([2-9]|\d\d) of 50/ })
        .waitFor({ timeout: LONG });
      const start = Date.now();
      await page.click('#cancel');
      await page.locator('#generate').waitFor({ timeout: SOON });
      assert.ok(Date.now() - start < 10_000, `cancelling took ${Date.now() - start} ms`);
      assert.equal(await page.locator('#save-mp4').isVisible(), false);
      assert.equal(await page.locator('#error').isVisible(), false, 'cancelling is no error');
      await configure(page, SHORT);
      await page.click('#generate');
      assert.equal(await finished(page), undefined);
    }));

  test('bad options are answered in words, before anything runs, and the page stays usable', () =>
    onPage({}, async (page) => {
      for (const [change, words] of [
        [{ steps: 0 }, /steps.*1 to 200.*0/i],
        [{ steps: '' }, /steps/i],
        [{ frames: 8 }, /frames.*4n \+ 1.*8/i],
        [{ guidance: 99 }, /guidance.*50.*99/i],
        [{ seed: -1 }, /seed.*-1/i],
        [{ fps: 0 }, /frames per second.*0/i],
      ]) {
        await configure(page, { ...SHORT, ...change });
        await page.fill('#prompt', PROMPT);
        await page.click('#generate');
        await page.locator('#error').filter({ visible: true, hasText: words }).waitFor({ timeout: SOON });
        assert.equal(await page.locator('#working').isVisible(), false, 'nothing was started');
      }
      await configure(page, SHORT);
      await page.fill('#prompt', '   ');
      await page.click('#generate');
      await page
        .locator('#error')
        .filter({ visible: true, hasText: /prompt/i })
        .waitFor({ timeout: SOON });
      await page.fill('#prompt', PROMPT);
      await page.click('#generate');
      assert.equal(await finishedAfterError(page), undefined);
    }));

  /** As `finished`, but the error of before may still show for a moment. */
  async function finishedAfterError(page) {
    await page.locator('#error').waitFor({ state: 'hidden', timeout: SOON });
    return finished(page);
  }

  test('a prompt that is too long says how many tokens were read', () =>
    onPage({}, async (page) => {
      await configure(page, { ...SHORT, frames: 1, steps: 1 });
      await page.fill('#prompt', 'a red ball and a blue cube '.repeat(120));
      await page.click('#generate');
      assert.equal(await finished(page), undefined);
      assert.match(await page.locator('#warning').innerText(), /\b32 of (its )?\d+ tokens/, 'as many as the model was trained with');
    }));

  test('the levels of a card are taken until a number of steps is chosen', async () => {
    const page = await openPage(browser, 'about:blank');
    try {
      await page.route('**/small-world/tabreel.json', async (route) => {
        const card = await (await route.fetch()).json();
        // As published, with the 0 at its end.
        card.default = { ...card.default, sampler: 'euler', sigmas: [1, 0.8, 0.4, 0] };
        await route.fulfill({ json: card });
      });
      await page.goto(server.url);
      await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
      const recipe = async () => {
        await page.fill('#prompt', PROMPT);
        await page.click('#generate');
        assert.equal(await finished(page), undefined);
        await page.click('#share');
        await page.waitForURL(/#prompt/);
        return new URLSearchParams(new URL(page.url()).hash.slice(1));
      };
      await configure(page, { size: SHORT.size, frames: 5, backend: 'cpu' });
      let made = await recipe();
      assert.deepEqual([made.get('sigmas'), made.get('steps'), made.get('sampler')], ['1,0.8,0.4', '3', 'euler']);
      await configure(page, { steps: 2 });
      made = await recipe();
      assert.deepEqual([made.get('sigmas'), made.get('steps')], [null, '2']);
    } finally {
      await page.context().close();
    }
  });

  test('a model that cannot be fetched is an error in words', async () => {
    const page = await openPage(browser, 'about:blank');
    try {
      await page.route('**/models/**', (route) => route.fulfill({ status: 503, body: 'gone' }));
      await page.goto(server.url);
      await configure(page, SHORT);
      await page.fill('#prompt', PROMPT);
      await page.click('#generate');
      const words = await finished(page);
      assert.match(words ?? '', /could not be fetched/);
      assert.match(words, /503/);
    } finally {
      await page.context().close();
    }
  });
});

describe('for everyone', () => {
  test('works with the keyboard alone, and remembers its settings', () =>
    onPage({}, async (page) => {
      await configure(page, SHORT);
      await page.reload();
      const press = (key) => page.keyboard.press(key);
      const focused = () => page.evaluate(() => document.activeElement?.id ?? '');
      /** Tabs until the element with this id has the focus. */
      const tabTo = async (id) => {
        for (let i = 0; i < 60 && (await focused()) !== id; i++) await press('Tab');
        assert.equal(await focused(), id);
      };
      await tabTo('prompt');
      await page.keyboard.type(PROMPT);
      await tabTo('generate');
      await press('Enter');
      assert.equal(await finished(page), undefined);
      await tabTo('save-mp4');
      const [download] = await Promise.all([page.waitForEvent('download', { timeout: SOON }), press('Enter')]);
      const path = join(folder.path, 'keyboard.mp4');
      await download.saveAs(path);
      assert.deepEqual([probeVideo(path).numFrames, probeVideo(path).fps], [5, 8]);
    }));

  const axe = readFileSync(join(root, 'node_modules/axe-core/axe.min.js'), 'utf8');
  /** What axe finds wrong, as lines. */
  async function violations(page) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run({ resultTypes: ['violations'] }));
    return violations.map(({ id, help, nodes }) => `${id}: ${help} (${nodes.map(({ target }) => target).join(', ')})`);
  }
  for (const [words, look] of [
    ['light, desktop', { colorScheme: 'light' }],
    ['dark, phone', { colorScheme: 'dark', viewport: { width: 390, height: 844 } }],
  ]) {
    test(`axe finds nothing wrong (${words}): empty, settings, picture, error, clip`, () =>
      onPage({ ...look, reducedMotion: 'reduce' }, async (page) => {
        const found = [];
        const look = async (state) => found.push(...(await violations(page)).map((line) => `${state}: ${line}`));
        await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
        await look('empty');
        await page.click('#open-settings');
        await look('settings');
        await page.click('#close-settings');
        const picture = Buffer.from(PIXEL, 'base64');
        await page.check('#mode-image');
        await page.setInputFiles('#first-file', { name: 'dot.png', mimeType: 'image/png', buffer: picture });
        await page.locator('#first-thumb').waitFor();
        await look('picture');
        await page.click('#first-remove');
        await page.check('#mode-text');
        await configure(page, SHORT);
        await page.click('#generate');
        await page.locator('#error').filter({ visible: true }).waitFor();
        await look('error');
        await page.fill('#prompt', PROMPT);
        await page.click('#generate');
        await finishedClip(page);
        await look('clip');
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(wide <= 0, `the page is ${wide} px wider than the window`);
        assert.deepEqual(found, []);
      }));
  }
  const finishedClip = (page) => page.locator('#save-mp4').waitFor({ timeout: LONG });
});
