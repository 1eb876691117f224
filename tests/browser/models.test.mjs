// The dialog of models on the built page, as a visitor uses it: what there is, another model, entries of one's own, presets.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  LONG,
  SOON,
  PROMPT,
  SHORT,
  canvasPixels,
  configure,
  drawPng,
  finished,
  give,
  movingClip,
  openPage,
  openSite,
  root,
} from './browser.mjs';

const MODEL = join(root, 'models/small-world');
const ENCODER = join(MODEL, 'text_encoder/model.safetensors');
const VAE = join(MODEL, 'vae/diffusion_pytorch_model.safetensors');
const shipped = JSON.parse(readFileSync(join(root, 'models/models.json'), 'utf8')).models;

let browser;
let server;
let folder;
let close;
before(async () => void ({ browser, server, folder, close } = await openSite()));
after(() => close?.());

/** Runs a test on a fresh page, and demands that nothing went wrong in it and nobody else was asked for anything. */
async function onPage(steps, options = {}) {
  const page = await openPage(browser, server.url, options);
  const strangers = [];
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol.startsWith('http') && origin !== new URL(server.url).origin) strangers.push(request.url());
  });
  try {
    await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
    await steps(page);
    assert.deepEqual([page.problems, strangers], [[], []]);
  } finally {
    await page.context().close();
  }
}

const entry = (page, id) => page.locator(`#models-list [data-id="${id}"]`);
const isOpen = (page) => page.locator('#models').evaluate((dialog) => dialog.open);

/** Makes a clip of the cheapest kind and returns what stands below it. */
async function generate(page, more = {}) {
  await configure(page, { ...SHORT, guidance: 1, ...more });
  await page.fill('#prompt', PROMPT);
  await page.click('#generate');
  await page.locator('#working').waitFor({ timeout: SOON });
  assert.equal(await finished(page), undefined);
  return page.locator('#made').innerText();
}

/** A LoRA of rank 1 for a layer of the default model. */
function writeLora(file) {
  const { num_attention_heads: heads, attention_head_dim: dim } = JSON.parse(readFileSync(join(MODEL, 'transformer/config.json'), 'utf8'));
  const values = Buffer.from(new Float32Array(heads * dim).map((_, i) => ((i % 7) - 3) / 4).buffer);
  const tensor = (shape, at) => ({ dtype: 'F32', shape, data_offsets: [at, at + values.length] });
  const layer = 'transformer.blocks.0.attn1.to_q';
  const tensors = {
    [`${layer}.lora_A.weight`]: tensor([1, heads * dim], 0),
    [`${layer}.lora_B.weight`]: tensor([heads * dim, 1], values.length),
  };
  const header = Buffer.from(JSON.stringify(tensors));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(file, Buffer.concat([length, header, values, values]));
  return file;
}

describe('the list', () => {
  test('shows each model with a verdict, its reason, size and licence, and fetches nothing', () =>
    onPage(async (page) => {
      await page.click('#open-models');
      assert.equal(await page.locator('#models-list > li').count(), shipped.length);
      for (const { id, name, license } of shipped) {
        const item = entry(page, id);
        assert.equal(await item.locator('h3').innerText(), name);
        assert.match(await item.locator('.verdict').innerText(), /^(Runs here|May run here|Too large here|Not on this device).*: .+\.$/);
        assert.equal(await item.locator('p a').first().getAttribute('href'), license.link);
      }
      assert.match(await entry(page, 'wan2.1-t2v-1.3b').innerText(), /needs 1\.6 GB on the CPU, where 2\.1 GB are allowed/);
      assert.equal(await entry(page, 'small-world').getByRole('button', { name: 'Small world 2 is in use' }).isDisabled(), true);
    }));

  test('takes the focus, gives it back on Escape, and fits 360 px', () =>
    onPage(
      async (page) => {
        await page.focus('#open-models');
        await page.keyboard.press('Enter');
        assert.ok(await isOpen(page));
        assert.ok(await page.evaluate(() => document.querySelector('#models').contains(document.activeElement)));
        await entry(page, 'wan2.2-ti2v-5b').getByRole('button', { name: 'Use Wan 2.2 TI2V 5B' }).click();
        await page.click('#models-add > summary');
        const [wide, high] = await page.evaluate(() => [document.querySelector('#models').scrollWidth, innerWidth]);
        assert.ok(wide <= high, `${wide} px of content in ${high}`);
        await page.keyboard.press('Escape');
        assert.equal(await isOpen(page), false);
        assert.equal(await page.evaluate(() => document.activeElement.id), 'open-models');
        assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
      },
      { viewport: { width: 360, height: 740 } },
    ));

  test('every field has a label, and each id is there once', () =>
    onPage(async (page) => {
      await page.click('#open-models');
      for (const button of await page.locator('#models-list > li > .acts button:enabled').all()) await button.click();
      await page.click('#models-add > summary');
      const faults = await page.evaluate(() => {
        const fields = [...document.querySelectorAll('#models input, #models select')].filter(
          (field) => !field.labels?.length && !field.ariaLabel,
        );
        const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
        return [fields.map(({ id }) => id), ids.filter((id, i) => ids.indexOf(id) !== i)];
      });
      assert.deepEqual(faults, [[], []]);
    }));
});

test('files of a host that the page may not talk to are given as links, and what was chosen for them is looked at', () =>
  onPage(async (page) => {
    await page.click('#open-models');
    const item = entry(page, 'wan2.1-t2v-1.3b');
    await item.getByRole('button', { name: 'Use Wan 2.1 T2V 1.3B' }).click();
    const panel = item.locator('.take');
    assert.match(
      await panel.locator('.policy').innerText(),
      /may only talk to the server it came from, so it cannot fetch these files itself/,
    );
    const links = await panel.locator('.file-slot a[href*="resolve/main"]').evaluateAll((all) => all.map(({ href }) => href));
    assert.ok(links[0].startsWith('https://huggingface.co/Comfy-Org/'), links.join(' '));
    assert.deepEqual(await panel.locator('select option').allInnerTexts(), ['full', 'self-forcing', 'rcm']);
    assert.equal(await panel.getByLabel('LoRA').count(), 0);
    await panel.locator('select').selectOption('self-forcing');
    assert.equal(await panel.getByLabel('LoRA').count(), 1);
    assert.match(await panel.innerText(), /91 MB \(not checked: licence\)/);

    const told = (part) => panel.locator('.file-slot', { has: page.getByLabel(part) }).locator('.told');
    await panel.getByLabel('Text encoder').setInputFiles(ENCODER);
    await told('Text encoder')
      .filter({ hasText: /umT5.*, 4\.\d MB|umT5.* MB/ })
      .waitFor({ timeout: SOON });
    await panel.getByLabel('Transformer').setInputFiles(VAE);
    await told('Transformer')
      .filter({ hasText: /This file is a vae .*, not a Transformer/ })
      .waitFor({ timeout: SOON });
    assert.match(await panel.locator('.found').innerText(), /Still to be chosen: VAE, LoRA/);
    assert.ok(await panel.getByRole('button', { name: 'Use these files' }).isDisabled());
  }));

test('an entry by address with files of one’s own is looked at, added, used, exported, removed and imported', () =>
  onPage(async (page) => {
    const lora = writeLora(join(folder.path, 'mine.safetensors'));
    await page.click('#open-models');
    await page.click('#models-add > summary');
    await page.click('#add-submit');
    assert.match(await page.locator('#add-found').innerText(), /Give it a name/);
    await page.getByLabel('Name', { exact: true }).fill('Wörld & LoRA');
    await page.getByLabel(/Address of a model folder/).fill('javascript:alert(1)');
    await page.click('#add-submit');
    assert.match(await page.locator('#add-found').innerText(), /url must be an http\(s\) address/);
    await page.getByLabel(/Address of a model folder/).fill('models/small-world/');
    await page.locator('#add-form').getByLabel('LoRA').setInputFiles(lora);
    await page.locator('#add-lora-told').filter({ hasText: 'LoRA of 1 layers, rank 1' }).waitFor({ timeout: SOON });
    await page.click('#add-look');
    await page
      .locator('#add-found')
      .filter({ hasText: /small-world, 14 MB, licence: free to use/ })
      .waitFor({ timeout: SOON });
    await page.getByLabel('Licence, as its card says').fill('MIT');
    await page.click('#add-submit');
    assert.match(await page.locator('#models-status').innerText(), /Wörld & LoRA was added/);
    const item = entry(page, 'wo-rld-lora');
    assert.match(await item.innerText(), /yours/);

    await item.getByRole('button', { name: 'Use Wörld & LoRA' }).click();
    await item.getByRole('button', { name: /^(Fetch .* and use it|Use these files)$/ }).click();
    await page.waitForFunction(() => !document.querySelector('#models').open, undefined, { timeout: LONG });
    await page.locator('#needs-line').filter({ hasText: 'Ready: Wörld & LoRA is loaded' }).waitFor({ timeout: SOON });
    await generate(page);

    await page.click('#open-models');
    assert.equal(await page.locator('#model-name').innerText(), 'Wörld & LoRA');
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#models-export')]);
    const file = join(folder.path, download.suggestedFilename());
    await download.saveAs(file);
    assert.equal(JSON.parse(readFileSync(file, 'utf8')).models[0].name, 'Wörld & LoRA');
    await item.getByRole('button', { name: 'Remove Wörld & LoRA from this list' }).click();
    assert.equal(await item.count(), 0);
    await page.setInputFiles('#models-import-file', file);
    await item.waitFor();

    // At the next visit the entry is there, and its file is asked for.
    await page.reload();
    await page.locator('#needs-line').filter({ hasText: 'Ready: model already on this device' }).waitFor({ timeout: SOON });
    await page.click('#open-models');
    await item.getByRole('button', { name: 'Use Wörld & LoRA' }).click();
    assert.match(await item.locator('.found').innerText(), /Still to be chosen: LoRA/);

    writeFileSync(file, '{ "tabreel": 1, "models": [{ "id": "x" }] }');
    await page.setInputFiles('#models-import-file', file);
    await page
      .locator('#models-status')
      .filter({ hasText: 'Nothing was imported: my-models.json: models[0].files must be a list' })
      .waitFor();
  }));

/** Adds the default model as one of a forbidden host, and chooses the folder that was downloaded; gives its entry. */
async function takeElsewhere(page) {
  const copy = join(folder.path, 'downloaded');
  cpSync(MODEL, copy, { recursive: true });
  await page.click('#open-models');
  await page.click('#models-add > summary');
  await page.getByLabel('Name', { exact: true }).fill('Elsewhere');
  await page.getByLabel(/Address of a model folder/).fill('somebody/small-world');
  await page.click('#add-look');
  assert.match(await page.locator('#add-found').innerText(), /may only talk to the server it came from, not to huggingface\.co/);
  await page.click('#add-submit');
  const item = entry(page, 'elsewhere');
  await item.getByRole('button', { name: 'Use Elsewhere' }).click();
  await item.getByLabel('Model folder').setInputFiles(copy);
  return item;
}

const NEEDS =
  /on the CPU it needs [\d.]+ MB for its weights, [\d.]+ MB while it loads, at least [\d.]+ [MG]B for a clip of its own size; 2\.1 GB are allowed/i;

test('a model on the page’s own server says what it is and needs before it is fetched, also the one in use', () =>
  onPage(async (page) => {
    await page.click('#open-models');
    const used = entry(page, 'small-world');
    await used.getByRole('button', { name: 'What Small world 2 needs' }).click();
    assert.equal(await used.getByRole('button', { name: /^(Use it|Fetch)/ }).count(), 0);
    assert.match(await used.locator('.take').innerText(), /Licence of the model: free to use/);
    await used.getByRole('button', { name: /^See what it needs/ }).click();
    await used.locator('.found .memory').filter({ hasText: NEEDS }).waitFor({ timeout: LONG });
    assert.match(await used.locator('.verdict').innerText(), new RegExp(`^Runs here: ${NEEDS.source}`, 'i'));

    await page.click('#models-add > summary');
    await page.getByLabel('Name', { exact: true }).fill('Twin');
    await page.getByLabel(/Address of a model folder/).fill('models/small-world/');
    await page.click('#add-look');
    await page
      .locator('#add-found')
      .filter({ hasText: /small-world, 14 MB/ })
      .waitFor({ timeout: SOON });
    await page.click('#add-submit');
    const item = entry(page, 'twin');
    await item.getByRole('button', { name: 'Use Twin' }).click();
    assert.ok(await isOpen(page));
    const use = item.getByRole('button', { name: /^Use it: the first clip fetches .+, once$/ });
    await item.getByRole('button', { name: /^See what it needs/ }).click();
    await item.locator('.found .good').filter({ hasText: 'Runs here' }).waitFor({ timeout: LONG });
    const modes = 'Text, Image, Keyframes, Extend, Loop, Connect, Edit, Paint, Sketch, Picture, Subject, Grow, Enlarge';
    assert.equal(await item.locator('.found .modes').innerText(), `Modes: ${modes}.`);
    await use.click();
    await page.waitForFunction(() => !document.querySelector('#models').open, undefined, { timeout: SOON });
    await page.click('#open-models');
    assert.equal(await item.getByRole('button', { name: 'Twin is in use' }).isDisabled(), true);
  }));

test('a folder on a forbidden host is taken from the files that were downloaded, and what it needs is told before', () =>
  onPage(async (page) => {
    const item = await takeElsewhere(page);
    await item.locator('.found .memory').filter({ hasText: NEEDS }).waitFor({ timeout: LONG });
    assert.match(await item.locator('.verdict').innerText(), new RegExp(`^Runs here: ${NEEDS.source}`));
    assert.equal(await item.locator('.caution').count(), 0);
    await item.getByRole('button', { name: 'Look at the files' }).click();
    await item.locator('.found .good').filter({ hasText: 'Runs here' }).waitFor({ timeout: LONG });
    await item.getByRole('button', { name: 'Use these files' }).click();
    await page.waitForFunction(() => !document.querySelector('#models').open, undefined, { timeout: LONG });
    await generate(page);
  }));

test('a clip that needs more memory than the device reports is warned of before the model is loaded', () =>
  onPage(async (page) => {
    // No device has so little; the default model needs no more.
    await page.addInitScript(() => Object.defineProperty(Navigator.prototype, 'deviceMemory', { get: () => 1 / 64 }));
    await page.reload();
    await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
    const item = await takeElsewhere(page);
    const told =
      /May not suffice: a clip of its own size needs [\d.]+ [MG]B or more, and this device has 16\.8 MB by what the browser says/;
    await item.locator('.found .caution').filter({ hasText: told }).waitFor({ timeout: LONG });
    assert.match(await item.locator('.verdict .caution').innerText(), told);
    assert.equal(await item.getByRole('button', { name: 'Use these files' }).isEnabled(), true);
  }));

test('a model of classes offers them in place of a prompt, and makes a picture of the one that is chosen', () =>
  onPage(async (page) => {
    assert.equal(await page.getByRole('radio', { name: 'Class' }).isVisible(), false);
    await page.click('#open-models');
    await page.click('#models-add > summary');
    await page.getByLabel('Name', { exact: true }).fill('Animals');
    await page.getByLabel(/Address of a model folder/).fill('somebody/animals');
    await page.click('#add-look');
    await page.click('#add-submit');
    const item = entry(page, 'animals');
    await item.getByRole('button', { name: 'Use Animals' }).click();
    await item.getByLabel('Model folder').setInputFiles(join(root, 'tests/fixtures/pipe_dit/model'));
    await item.getByRole('button', { name: 'Look at the files' }).click();
    await item.locator('.found .good').filter({ hasText: 'Runs here' }).waitFor({ timeout: LONG });
    await item.getByRole('button', { name: 'Use these files' }).click();
    await page.waitForFunction(() => !document.querySelector('#models').open, undefined, { timeout: LONG });
    assert.equal(await page.getByRole('radio', { name: 'Class' }).isChecked(), true);
    await page.getByLabel('What it shows').selectOption({ label: '207: golden retriever' });
    const pixels = async () => {
      // The picture is done before one could see that it is worked on: its seed tells it from the one before.
      const before = await page.locator('#made').textContent();
      await page.click('#generate');
      await page.waitForFunction((was) => document.querySelector('#made').textContent !== was, before, { timeout: LONG });
      assert.equal(await finished(page), undefined);
      return canvasPixels(page);
    };
    const dog = await pixels();
    assert.match(await page.locator('#made').innerText(), /16 × 16/);
    await page.getByLabel('What it shows').selectOption('134');
    assert.notDeepEqual(await pixels(), dog);
  }));

/** A folder as of Wan 2.1 FLF2V, which looks at the first and the last frame, with random weights. */
function firstAndLast(to) {
  const fixture = (path) => join(root, 'tests/fixtures', path);
  const config = JSON.parse(readFileSync(fixture('pipe_clip/config.json'), 'utf8'));
  const write = (path, json) => writeFileSync(join(to, path), JSON.stringify(json));
  cpSync(fixture('folder_t2v/model'), to, { recursive: true });
  mkdirSync(join(to, 'image_encoder'));
  const index = JSON.parse(readFileSync(join(to, 'model_index.json'), 'utf8'));
  write('model_index.json', { ...index, image_encoder: ['transformers', 'CLIPVisionModel'] });
  write('transformer/config.json', config.transformer);
  cpSync(fixture('pipe_clip/transformer.safetensors'), join(to, 'transformer/diffusion_pytorch_model.safetensors'));
  write('image_encoder/config.json', config.image_encoder);
  const bytes = readFileSync(fixture('pipe_clip/image_encoder.safetensors'));
  const length = Number(bytes.readBigUInt64LE(0));
  // As transformers 4 names them, and as they are published.
  const tensors = Object.entries(JSON.parse(bytes.subarray(8, 8 + length).toString())).map(([name, tensor]) =>
    name === '__metadata__' ? [name, tensor] : [`vision_model.${name}`, tensor],
  );
  const header = Buffer.from(JSON.stringify(Object.fromEntries(tensors)));
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(join(to, 'image_encoder/model.safetensors'), Buffer.concat([head, header, bytes.subarray(8 + length)]));
  const settings = { width: 32, height: 32, num_frames: 5, num_steps: 2, fps: 8, guidance_scale: 1 };
  write('tabreel.json', { name: 'Both ends', max_sequence_length: 16, sizes: [[32, 32]], default: settings });
  return to;
}

test('a model that needs a last frame offers what it can do with one, asks for it, and says why the rest is not', () =>
  onPage(async (page) => {
    await page.click('#open-models');
    await page.click('#models-add > summary');
    await page.getByLabel('Name', { exact: true }).fill('Ends');
    await page.getByLabel(/Address of a model folder/).fill('somebody/ends');
    await page.click('#add-look');
    await page.click('#add-submit');
    const item = entry(page, 'ends');
    await item.getByRole('button', { name: 'Use Ends' }).click();
    await item.getByLabel('Model folder').setInputFiles(firstAndLast(join(folder.path, 'ends')));
    await item.getByRole('button', { name: 'Look at the files' }).click();
    await item.locator('.found .good').filter({ hasText: 'Runs here' }).waitFor({ timeout: LONG });
    await item.getByRole('button', { name: 'Use these files' }).click();
    await page.waitForFunction(() => !document.querySelector('#models').open, undefined, { timeout: LONG });
    const why = 'it was trained with a first and a last frame, and needs both';
    for (const name of ['Extend', 'Text']) {
      const mode = page.getByRole('radio', { name, exact: true });
      assert.equal(await mode.isDisabled(), true, name);
      assert.equal(await mode.locator('..').getAttribute('title'), `Not with this model: ${why}`);
    }
    for (const name of ['Image', 'Loop', 'Connect']) {
      assert.equal(await page.getByRole('radio', { name, exact: true }).isDisabled(), false, name);
    }
    assert.equal(await page.locator('#quick-extend').isDisabled(), true);
    assert.equal(await page.locator('#quick-extend').getAttribute('title'), `Not with this model: ${why}`);
    assert.equal(await page.locator('#quick-loop').isDisabled(), false);
    // Both places are there at once, and both are asked for.
    await page.getByRole('radio', { name: 'Image', exact: true }).check();
    await page.fill('#prompt', PROMPT);
    await give(page, 'drop', '#first-add', { base64: await drawPng(page, { width: 32, height: 32 }) });
    await page.locator('#first-thumb').waitFor();
    await page.click('#generate');
    await page.locator('#error').filter({ visible: true, hasText: 'Image needs a last frame with this model' }).waitFor({ timeout: SOON });
    await give(page, 'drop', '#last-add', { base64: await drawPng(page, { width: 32, height: 32, sky: 'rgb(20 20 60)' }) });
    await page.locator('#last-thumb').waitFor();
    await page.click('#generate');
    assert.equal(await finished(page), undefined);
    // A clip that nothing here can go on from is not lost without a word.
    const video = readFileSync(movingClip(folder.path, 'on.mp4'), 'base64');
    await give(page, 'drop', '#stage', { base64: video, name: 'on.mp4', type: 'video/mp4' });
    await page
      .locator('#error')
      .filter({ visible: true, hasText: `Extend: Not with this model: ${why}` })
      .waitFor({ timeout: SOON });
  }));

test('what a model of the list takes is offered before it is loaded, and what not is said', () =>
  onPage(async (page) => {
    await page.evaluate(() => localStorage.setItem('tabreel.model', '"wan2.1-t2v-1.3b"'));
    await page.reload();
    await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
    const refused = 'Not with this model: the list of models does not name it';
    for (const mode of ['image', 'keyframes', 'extend', 'loop', 'connect', 'paint', 'sketch', 'subject', 'grow']) {
      assert.ok(await page.locator(`#mode-${mode}`).isDisabled(), mode);
      assert.equal(await page.locator(`label:has(#mode-${mode})`).getAttribute('title'), refused);
    }
    for (const mode of ['text', 'picture', 'edit', 'enlarge']) assert.ok(await page.locator(`#mode-${mode}`).isEnabled(), mode);
    await page.evaluate(() => localStorage.setItem('tabreel.model', '"wan2.2-ti2v-5b"'));
    await page.reload();
    await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
    await page.check('#mode-extend');
    assert.ok(await page.locator('#direction option[value=backward]').isDisabled(), 'it goes on from a last frame alone');
    assert.ok(await page.locator('#mode-loop').isDisabled());
    await page.evaluate(() => localStorage.removeItem('tabreel.model'));
    await page.reload();
    await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
    assert.ok(await page.locator('#mode-keyframes').isEnabled());
  }));

test('a preset fills the settings, an edit goes before it, and the clip says so', () =>
  onPage(async (page) => {
    await page.click('#open-settings');
    const steps = page.locator('#steps');
    assert.equal(await steps.inputValue(), '12');
    await page.getByLabel('Preset').selectOption('draft');
    assert.equal(await steps.inputValue(), '6');
    assert.match(await page.locator('#preset-note').innerText(), /6 steps/);
    await page.getByLabel('Preset').selectOption('fine');
    assert.equal(await steps.inputValue(), '24');
    await steps.fill('3');
    await page.getByLabel('Preset').selectOption('draft');
    assert.equal(await steps.inputValue(), '6');
    await page.click('#defaults');
    assert.deepEqual([await steps.inputValue(), await page.getByLabel('Preset').inputValue()], ['12', '']);
    await page.getByLabel('Preset').selectOption('draft');
    await page.click('#close-settings');
    const { steps: _, ...rest } = SHORT;
    await configure(page, { ...rest, guidance: 1 });
    await page.fill('#prompt', PROMPT);
    await page.click('#generate');
    assert.equal(await finished(page), undefined);
    await page.evaluate(() => (navigator.clipboard.writeText = (text) => ((globalThis.shared = text), Promise.resolve())));
    await page.click('#share');
    const link = await page.evaluate(() => globalThis.shared ?? location.href);
    assert.match(link, /steps=6/);
    assert.doesNotMatch(link, /preset=/);
  }));

test('damaged entries of an earlier visit are left out and said', () =>
  onPage(async (page) => {
    await page.evaluate(() => localStorage.setItem('tabreel.catalogue', '{ "models": [{ "id": 7 }] }'));
    await page.reload();
    await page.click('#open-models');
    assert.match(await page.locator('#models-status').innerText(), /an own entry is left out/);
    assert.equal(await page.locator('#models-list > li').count(), shipped.length);
  }));
