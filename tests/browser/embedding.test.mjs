// The packed package in other people's projects: every example of tests/examples-web is built, served and makes a clip in
// Chromium; so do a page without a bundler, a page that takes the package from another origin, and a page's own worker.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { serve } from '../../tools/serve.mjs';
import { LONG, command, launch, openPage, root, temporaryFolder } from './browser.mjs';
import { addModels, develop, installPackage, prepare, pressStart } from './examples.mjs';

let browser;
let packages;
let first; // the hash of the first clip: every other has the same pixels
const open = [];
before(async () => {
  packages = installPackage();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  for (const { close } of open) await close();
});

/** A page of a server that is stopped after the tests. */
async function visit(server, path = '') {
  open.push(server);
  return openPage(browser, server.url + path);
}

async function makesTheClip(page, settings) {
  const { state, words, frames, hash } = await pressStart(page, settings);
  assert.deepEqual([state, words, frames], ['done', 'The clip is ready', 5]);
  assert.equal(hash, (first ??= hash));
  assert.deepEqual(page.problems, []);
  await page.context().close();
}

/** Builds an example and opens what came out. */
async function built(name, script, out = 'dist') {
  const at = prepare(name, packages);
  command('npx', script, { cwd: at, env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1', ASTRO_TELEMETRY_DISABLED: '1' } });
  if (!readFileSync(join(at, 'package.json'), 'utf8').includes('"vite"')) addModels(join(at, out));
  return at;
}

for (const version of ['vite', 'vite7']) {
  const program = `node_modules/${version}/bin/vite.js`;
  const project = () => {
    const at = prepare('vite', packages);
    addModels(join(at, 'public'));
    return at;
  };
  test(`${version}: dev, with and without the element`, async () => {
    const page = await visit(await develop(program, [], project()), '?frames=5');
    await page.getByRole('button', { name: 'Make', exact: true }).click();
    const output = page.locator('output');
    await page.waitForFunction(() => /frames|fail|could/.test(document.querySelector('output').value), undefined, { timeout: LONG });
    assert.equal(await output.innerText(), '5 frames');
    await makesTheClip(page);
  });
  test(`${version}: build`, async () => {
    const at = project();
    command(process.execPath, [program, 'build'], { cwd: at });
    await makesTheClip(await visit(await serve(join(at, 'dist'))));
  });
}

test('webpack', async () => {
  const at = await built('webpack', ['webpack']);
  cpSync(join(at, 'index.html'), join(at, 'dist/index.html'));
  await makesTheClip(await visit(await serve(join(at, 'dist'))));
});

test('Rollup', async () => {
  const at = await built('rollup', ['rollup', '--config', '--silent']);
  cpSync(join(at, 'index.html'), join(at, 'dist/index.html'));
  await makesTheClip(await visit(await serve(join(at, 'dist'))));
});

test('esbuild', async () => {
  const at = prepare('esbuild', packages);
  command('npm', ['run', 'build'], { cwd: at });
  cpSync(join(at, 'index.html'), join(at, 'dist/index.html'));
  addModels(join(at, 'dist'));
  await makesTheClip(await visit(await serve(join(at, 'dist'))));
});

test('Parcel', async () => {
  const at = await built('parcel', ['parcel', 'build', 'index.html', '--no-cache']);
  await makesTheClip(await visit(await serve(join(at, 'dist'))));
});

test('Next.js, whose server imports it too', async () => {
  const at = await built('next', ['next', 'build'], 'out');
  assert.match(readFileSync(join(at, 'out/index.html'), 'utf8'), /<tabreel-clip/);
  await makesTheClip(await visit(await serve(join(at, 'out'))));
});

test('Astro, whose server imports it too', async () => {
  const at = await built('astro', ['astro', 'build']);
  await makesTheClip(await visit(await serve(join(at, 'dist'))));
});

test('no bundler: a static folder with an import map', async () => {
  const at = prepare('static', packages);
  for (const name of ['tabreel', 'mediabunny']) cpSync(join(packages, name), join(at, name), { recursive: true });
  addModels(at);
  await makesTheClip(await visit(await serve(at)));
});

test('one file, and the package, from another origin', async () => {
  const at = prepare('static', packages);
  addModels(at);
  const elsewhere = await serve(join(packages, 'tabreel'), 0, { 'access-control-allow-origin': '*' });
  open.push(elsewhere);
  const page = readFileSync(join(at, 'bundle.html'), 'utf8');
  writeFileSync(join(at, 'bundle.html'), page.replace('http://localhost:8001/', elsewhere.url));
  const unbundled = readFileSync(join(at, 'index.html'), 'utf8').replaceAll('./tabreel/', elsewhere.url);
  writeFileSync(join(at, 'unbundled.html'), unbundled);
  cpSync(join(packages, 'mediabunny'), join(at, 'mediabunny'), { recursive: true });
  const server = await serve(at);
  await makesTheClip(await visit(server, 'bundle.html'));
  await makesTheClip(await openPage(browser, `${server.url}unbundled.html`));
});

test("probe, load and generate in a page's own worker", async () => {
  const folder = temporaryFolder();
  cpSync(join(packages, 'tabreel'), join(folder.path, 'tabreel'), { recursive: true });
  addModels(folder.path);
  writeFileSync(join(folder.path, 'index.html'), '<!doctype html><title>worker</title><link rel="icon" href="data:," />');
  writeFileSync(
    join(folder.path, 'mine.js'),
    `import { probe, Tabreel } from './tabreel/dist/tabreel.bundle.js';
onmessage = async ({ data: { model, wasmUrl } }) => {
  try {
    const { ok, recommended } = await probe();
    const tabreel = await Tabreel.load({ model, wasmUrl });
    const clip = await tabreel.generate({ prompt: 'a large red ball', numFrames: 5, numSteps: 1, width: 64, height: 64, seed: 7 });
    const canvas = new OffscreenCanvas(64, 64);
    clip.drawFrame(canvas, 4);
    const png = await clip.toBlob({ format: 'png' });
    postMessage({ ok, recommended, frames: clip.numFrames, png: png.size > 100 });
    tabreel.dispose();
  } catch (error) { postMessage({ code: error.code, message: error.message }); }
};`,
  );
  const page = await visit(await serve(folder.path));
  const ask = (message) =>
    page.evaluate(
      (message) =>
        new Promise((done, fail) => {
          const worker = new Worker('/mine.js', { type: 'module' });
          Object.assign(worker, { onmessage: ({ data }) => done(data), onerror: fail });
          worker.postMessage(message);
        }),
      message,
    );
  assert.deepEqual(await ask({ model: './models/small-world' }), { ok: true, recommended: 'cpu', frames: 5, png: true });
  const given = { model: './models/small-world', wasmUrl: 'tabreel/wasm/tabreel_bg.wasm' };
  assert.equal((await ask(given)).frames, 5);
  assert.deepEqual(page.problems, []);
  folder.remove();
});

test('importing it in Node does no harm', () => {
  const at = join(packages, '..');
  const entries = ['tabreel', 'tabreel/element', 'tabreel/bundle'];
  const script = `const all = await Promise.all(${JSON.stringify(entries)}.map((name) => import(name))); console.log(typeof all[0].Tabreel.load);`;
  assert.equal(command(process.execPath, ['--input-type=module', '-e', script], { cwd: at, encoding: 'utf8' }).trim(), 'function');
});

test('publint finds nothing', () => {
  command('npx', ['publint', '--strict', '--pack', 'false', join(packages, 'tabreel')], { cwd: root });
});

const POLICY = {
  'default-src': "'none'",
  'script-src': "'self' 'wasm-unsafe-eval'",
  'worker-src': "'self'",
  'connect-src': "'self'",
};
for (const [name, change, expected] of [
  ['the strict policy of the README', {}, undefined],
  ['Trusted Types', { 'require-trusted-types-for': "'script'", 'trusted-types': 'tabreel' }, undefined],
  ["script-src without 'wasm-unsafe-eval'", { 'script-src': "'self'" }, /WebAssembly needs 'wasm-unsafe-eval' in script-src/],
  ['worker-src none', { 'worker-src': "'none'" }, /allow 'self' in worker-src/],
  ['connect-src none', { 'connect-src': "'none'" }, /allow 'self' in connect-src/],
]) {
  test(`a Content-Security-Policy: ${name}`, async () => {
    const policy = Object.entries({ ...POLICY, ...change }).map((pair) => pair.join(' '));
    const at = prepare('static', packages);
    mkdirSync(join(at, 'site'));
    cpSync(join(packages, 'tabreel'), join(at, 'site/tabreel'), { recursive: true });
    const html = readFileSync(join(at, 'bundle.html'), 'utf8').replace('http://localhost:8001/', './tabreel/');
    writeFileSync(join(at, 'site/index.html'), html.replace('<link rel="icon" href="data:," />', ''));
    writeFileSync(join(at, 'site/favicon.ico'), '');
    addModels(join(at, 'site'));
    const page = await visit(await serve(join(at, 'site'), 0, { 'content-security-policy': policy.join('; ') }));
    if (expected === undefined) return makesTheClip(page);
    const { state, words } = await pressStart(page);
    assert.equal(state, 'error');
    assert.match(words, expected);
    await page.context().close();
  });
}
