// <tabreel-clip> in Chromium, from the built package as it lies: several on a page, attributes, events, keyboard, ends.
import assert from 'node:assert/strict';
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { serve } from '../../tools/serve.mjs';
import { SOON, launch, openPage, root, temporaryFolder } from './browser.mjs';
import { addModels } from './examples.mjs';

const folder = temporaryFolder();
let browser;
let server;
before(async () => {
  const example = readFileSync(join(root, 'tests/examples-web/static/index.html'), 'utf8');
  const head = example.slice(0, example.indexOf('<body>'));
  writeFileSync(join(folder.path, 'index.html'), `${head}<body></body></html>`);
  symlinkSync(join(root, 'pkg'), join(folder.path, 'tabreel'));
  symlinkSync(join(root, 'node_modules/mediabunny'), join(folder.path, 'mediabunny'));
  cpSync(join(root, 'node_modules/axe-core/axe.min.js'), join(folder.path, 'axe.js'));
  addModels(folder.path);
  server = await serve(folder.path);
  browser = await launch({ webgpu: false });
});
after(async () => {
  await browser?.close();
  await server?.close();
  folder.remove();
});

const TINY = 'num-frames="5" num-steps="1" width="64" height="64" seed="7"';
const clip = (more = '') => `<tabreel-clip model="/models/small-world/" prompt="a large red ball" ${TINY} ${more}></tabreel-clip>`;

/** A page with this in its body; `page.workers()` are its engines. */
async function show(html, options) {
  const page = await openPage(browser, server.url, options);
  await page.waitForFunction(() => customElements.get('tabreel-clip') !== undefined);
  await page.evaluate((html) => {
    window.heard = [];
    const listen = (clip) => {
      for (const type of ['progress', 'preview', 'frame', 'clip', 'error', 'unknown-words']) {
        clip.addEventListener(type, ({ detail }) => window.heard.push([type, detail.phase ?? detail.code ?? detail.index ?? detail]));
      }
    };
    document.body.innerHTML = html;
    document.querySelectorAll('tabreel-clip').forEach(listen);
  }, html);
  return page;
}

const state = (page, wanted, index = 0) =>
  page.waitForFunction(([wanted, index]) => document.querySelectorAll('tabreel-clip')[index].state === wanted, [wanted, index], {
    timeout: SOON,
  });
const words = (page) => page.locator('tabreel-clip [part=status]').first().innerText();
const start = (page) => page.getByRole('button', { name: 'Make the clip' });

test('nothing is fetched before the start button is pressed; then come progress, frames and the clip', async () => {
  const page = await show(clip('controls'));
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  await page.waitForTimeout(300);
  assert.deepEqual([asked, page.workers().length], [[], 0]);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter'); // by keyboard alone
  await state(page, 'done');
  assert.equal(await words(page), 'The clip is ready');
  const heard = await page.evaluate(() => window.heard);
  const phases = [...new Set(heard.filter(([type]) => type === 'progress').map(([, phase]) => phase))];
  assert.deepEqual([...phases].sort(), ['build', 'download', 'engine', 'generate']);
  assert.deepEqual(
    heard.filter(([type]) => type === 'frame').map(([, index]) => index),
    [0, 1, 2, 3, 4],
  );
  assert.deepEqual(heard.at(-1)[0], 'clip');
  // the focus went from the start button over Stop to what came in its place
  assert.match(await page.evaluate(() => document.activeElement.shadowRoot.activeElement.textContent), /Pause|Play/);
  await page.keyboard.press('Enter');
  assert.equal(await page.getByRole('button', { name: 'Play' }).isVisible(), true);
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save' }).click()]);
  assert.equal(download.suggestedFilename(), 'tabreel-7.mp4');
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('it plays by itself, but not for those who want less motion', async () => {
  for (const [reducedMotion, name] of [
    ['no-preference', 'Pause'],
    ['reduce', 'Play'],
  ]) {
    const page = await show(clip(), { reducedMotion });
    await start(page).click();
    await state(page, 'done');
    assert.equal(await page.getByRole('button', { name }).isVisible(), true);
    await page.context().close();
  }
});

test('several share one engine, wait for each other, and the last one closes it', async () => {
  const page = await show(clip() + clip('autoplay') + clip('device="cpu" hidden'));
  await start(page).first().click();
  await state(page, 'done', 0);
  await state(page, 'done', 1);
  assert.equal(page.workers().length, 1);
  await page.evaluate(() => document.querySelector('tabreel-clip').remove());
  await page.waitForTimeout(100);
  assert.equal(page.workers().length, 1);
  // moved in the page, it stays as it is
  await page.evaluate(() => document.body.append(document.querySelector('tabreel-clip')));
  await page.waitForTimeout(100);
  assert.equal(page.workers().length, 1);
  await page.evaluate(() => (document.body.innerHTML = ''));
  await page.waitForFunction(() => true);
  await page.waitForTimeout(300);
  assert.equal(page.workers().length, 0);
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('removed or stopped while it works, it ends cleanly and works again', async () => {
  const page = await show(clip().replace('num-steps="1"', 'num-steps="200"'));
  await start(page).click();
  await page.getByRole('button', { name: 'Stop' }).click();
  await state(page, 'idle');
  assert.equal(await words(page), 'Stopped');
  const ended = await page.evaluate(async () => {
    const clip = document.querySelector('tabreel-clip');
    const made = clip.generate().then(
      () => 'made',
      (error) => error.code,
    );
    await new Promise((done) => clip.addEventListener('preview', done, { once: true }));
    clip.remove();
    return made;
  });
  assert.equal(ended, 'aborted');
  await page.waitForTimeout(300);
  assert.equal(page.workers().length, 0);
  const frames = await page.evaluate(async () => {
    const clip = document.createElement('tabreel-clip');
    // properties mirror attributes
    Object.assign(clip, { model: '/models/small-world/', prompt: 'a ball', numFrames: 1, numSteps: 1, width: 64, height: 64, seed: 1 });
    document.body.append(clip);
    return [(await clip.generate()).numFrames, clip.getAttribute('num-frames'), clip.seed, clip.fps];
  });
  assert.deepEqual(frames, [1, '1', 1, undefined]);
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('words that the model does not know are named, until the prompt has none', async () => {
  const page = await show(clip('controls').replace('a large red ball', 'a large red submarine and a zeppelin'));
  const note = page.locator('tabreel-clip [part=unknown]');
  const told = () => page.evaluate(() => window.heard.filter(([type]) => type === 'unknown-words').map(([, words]) => words));
  assert.equal(await note.innerText(), ''); // nobody knows before the card is there
  await start(page).click();
  await state(page, 'done');
  assert.deepEqual(await told(), [['submarine', 'zeppelin']]);
  assert.match(await note.innerText(), /^This small model knows no “submarine” and no “zeppelin”: it draws .*balls/);
  assert.equal(await note.getAttribute('role'), 'status');
  await page.evaluate(() => (document.querySelector('tabreel-clip').prompt = 'a large red zeppelin'));
  await page.evaluate(() => (document.querySelector('tabreel-clip').prompt = 'a large red ball'));
  assert.deepEqual(await told(), [['submarine', 'zeppelin'], ['zeppelin'], []]);
  assert.equal(await note.innerText(), '');
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('what is wrong is said in words, as an event, and can be mended', async () => {
  const page = await show(clip());
  const fails = async (name, value) => {
    const element = page.locator('tabreel-clip');
    const before = await element.evaluate((clip, name) => clip.getAttribute(name), name);
    await element.evaluate((clip, [name, value]) => clip.setAttribute(name, value), [name, value]);
    await page.evaluate(() =>
      document
        .querySelector('tabreel-clip')
        .generate()
        .catch(() => undefined),
    );
    const text = await words(page);
    await element.evaluate(
      (clip, [name, value]) => (value === null ? clip.removeAttribute(name) : clip.setAttribute(name, value)),
      [name, before],
    );
    return text;
  };
  assert.match(await fails('num-frames', 'many'), /num-frames must be a number, got "many"/);
  assert.match(await fails('model', ''), /model must be the URL of a model folder, got none/);
  assert.match(await fails('model', '/nowhere/'), /answered 404/);
  assert.match(await fails('device', 'tpu'), /device must be auto, gpu or cpu, got tpu/);
  assert.match(await fails('num-frames', '80'), /numFrames must be 4n \+ 1.*got 80 frames/);
  assert.deepEqual(await page.evaluate(() => window.heard.filter(([type]) => type === 'error').map(([, code]) => code)), [
    'invalid-options',
    'invalid-options',
    'fetch',
    'invalid-options',
    'invalid-options',
  ]);
  await page.getByRole('button', { name: 'Try again' }).click();
  await state(page, 'done');
  await page.context().close();
});

test('axe finds nothing, before and after', async () => {
  const page = await show(`<main><h1>A page</h1>${clip('controls')}</main>`);
  await page.addScriptTag({ url: '/axe.js' });
  const check = () => page.evaluate(async () => (await window.axe.run()).violations.map(({ id }) => id));
  assert.deepEqual(await check(), []);
  await start(page).click();
  await state(page, 'done');
  assert.deepEqual(await check(), []);
  await page.screenshot({ path: join(root, 'tests/out/element.png'), clip: { x: 0, y: 0, width: 400, height: 480 } });
  await page.context().close();
});
