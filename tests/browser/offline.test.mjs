// The page without a network, a new version of it, and what a server sends: in a Chromium whose profile outlives it.
import assert from 'node:assert/strict';
import { cpSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join, relative } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { build } from 'vite';
import { SMALLEST, keptBrotliOf } from '../../tools/compress.mjs';
import { LIMITS } from '../../tools/size.mjs';
import { serve } from '../../tools/serve.mjs';
import { SOON, PROMPT, SHORT, configure, finished, launchProfile, probeVideo, root, save, temporaryFolder } from './browser.mjs';

const dist = join(root, 'www/dist');

/** Opens the page in a tab; `tab.errors` must stay empty. */
async function open(context, url) {
  const tab = await context.newPage();
  tab.errors = [];
  tab.on('pageerror', (error) => tab.errors.push(error.message));
  await tab.goto(url);
  return tab;
}

/** Until the worker has kept everything and answers for the tab. */
const kept = (tab) => tab.waitForFunction(() => navigator.serviceWorker.controller?.state === 'activated', null, { timeout: SOON });
const versionOf = (tab) => tab.locator('meta[name="tabreel-version"]').getAttribute('content');
const caches = (tab) => tab.evaluate(async () => (await caches.keys()).filter((name) => name.startsWith('tabreel-page')));

async function generate(tab) {
  await configure(tab, SHORT);
  await tab.fill('#prompt', PROMPT);
  await tab.click('#generate');
  assert.equal(await finished(tab), undefined);
}

describe('after one visit, without a network', () => {
  let context;
  let tab;
  let problems;
  const folder = temporaryFolder();
  before(async () => {
    const server = await serve(dist);
    context = await launchProfile(join(folder.path, 'profile'));
    const first = await open(context, server.url);
    await kept(first);
    const devtools = await context.newCDPSession(first);
    problems = (await devtools.send('Page.getInstallabilityErrors')).installabilityErrors;
    await generate(first);
    await context.close();
    await server.close();

    context = await launchProfile(join(folder.path, 'profile'));
    await context.setOffline(true);
    tab = await open(context, server.url);
  });
  after(async () => {
    await context?.close();
    folder.remove();
  });

  test('Chromium finds nothing that keeps the page from being installed', () => assert.deepEqual(problems, []));
  test('the page opens whole: styles, icon, sample clip', async () => {
    assert.match(await tab.locator('h1').innerText(), /tabreel/);
    assert.notEqual(await tab.locator('#composer').evaluate((form) => getComputedStyle(form).display), 'inline');
    const sizes = await tab.evaluate(async () => {
      const whole = await (await fetch('sample.mp4')).blob();
      const part = await fetch('sample.mp4', { headers: { range: 'bytes=10-19' } });
      return [whole.size, part.status, part.headers.get('content-range'), (await part.blob()).size];
    });
    const { size } = statSync(join(dist, 'sample.mp4'));
    assert.deepEqual(sizes, [size, 206, `bytes 10-19/${size}`, 10]);
  });
  test('a clip is made and saved', async () => {
    await generate(tab);
    const video = probeVideo(await save(tab, '#save-mp4', folder.path));
    assert.equal(video.numFrames, 5);
    assert.deepEqual(tab.errors, []);
  });
});

/** Builds another version of the page: without the sample clip it has another script; the engine is the same. */
async function buildOther(folder) {
  const www = join(root, 'www');
  const outDir = relative(www, join(folder, 'dist'));
  await build({ root: www, logLevel: 'error', define: { SAMPLE: 'null' }, build: { outDir, emptyOutDir: true } });
  return join(folder, 'dist');
}

describe('a new version', () => {
  let context;
  let server;
  let old;
  let fresh;
  const folder = temporaryFolder();
  before(async () => {
    const other = await buildOther(folder.path);
    server = await serve(dist);
    context = await launchProfile(join(folder.path, 'profile'));
    old = await open(context, server.url);
    await kept(old);
    assert.equal(await old.locator('#update').isVisible(), false, 'a first visit hears of no new version');
    const port = Number(new URL(server.url).port);
    await server.close();
    server = await serve(other, port);
  });
  after(async () => {
    await context?.close();
    await server?.close();
    folder.remove();
  });

  test('is shown to who comes now, and announced to who is there', async () => {
    fresh = await open(context, server.url);
    await old.locator('#update').waitFor({ timeout: SOON });
    assert.match(await old.locator('#update').innerText(), /new version is ready/i);
    assert.notEqual(await versionOf(fresh), await versionOf(old));
    assert.equal(await fresh.locator('#update').isVisible(), false);
  });
  test('leaves an open page its own worker and engine', async () => {
    const script = readdirSync(join(dist, 'assets')).find((name) => /^index-.*\.js$/.test(name));
    const answer = await fetch(`${server.url}assets/${script}`);
    assert.equal(answer.status, 404, 'the server has the old script no more');
    assert.equal(await old.evaluate(async (path) => (await fetch(path)).status, `assets/${script}`), 200);
    await generate(old);
  });
  test('is what a reload brings; then the old files go', async () => {
    await Promise.all([old.waitForEvent('load'), old.click('#update-reload')]);
    assert.equal(await versionOf(old), await versionOf(fresh));
    const deadline = Date.now() + 10_000;
    while ((await caches(old)).length > 1 && Date.now() < deadline) await old.waitForTimeout(100);
    assert.deepEqual(await caches(old), [`tabreel-page ${await versionOf(old)}`]);
    assert.deepEqual([...old.errors, ...fresh.errors], []);
  });
});

test('a page that is alone takes a new version when told to, and has it without a network', async () => {
  const folder = temporaryFolder();
  const other = await buildOther(folder.path);
  let server = await serve(dist);
  const { url } = server;
  const context = await launchProfile(join(folder.path, 'profile'));
  try {
    const tab = await open(context, url);
    await kept(tab);
    const before = await versionOf(tab);
    await server.close();
    server = await serve(other, Number(new URL(url).port));
    await tab.evaluate(async () => void (await (await navigator.serviceWorker.ready).update()));
    await tab.locator('#update').waitFor({ timeout: SOON });
    await Promise.all([tab.waitForEvent('load'), tab.click('#update-reload')]);
    const now = await versionOf(tab);
    assert.notEqual(now, before);
    await server.close();
    await tab.reload();
    assert.equal(await versionOf(tab), now);
    assert.deepEqual(tab.errors, []);
  } finally {
    await context.close();
    await server.close();
    folder.remove();
  }
});

test('a browser whose cache fails opens the page from the network', async () => {
  const folder = temporaryFolder();
  const copy = join(folder.path, 'dist');
  cpSync(dist, copy, { recursive: true });
  const script = readFileSync(join(dist, 'sw.js'), 'utf8');
  const broken = "self.addEventListener('activate', () => { caches.open = caches.match = () => Promise.reject(new Error('broken')); });";
  for (const name of readdirSync(copy).filter((name) => name.startsWith('sw.js'))) rmSync(join(copy, name));
  writeFileSync(join(copy, 'sw.js'), `${broken}\n${script}`);
  const server = await serve(copy);
  const context = await launchProfile(join(folder.path, 'profile'));
  try {
    const tab = await open(context, server.url);
    await kept(tab);
    const answer = await tab.reload();
    assert.deepEqual([answer.status(), answer.fromServiceWorker()], [200, true]);
    await tab.locator('#needs-line', { hasText: /Generate first fetches|Ready/ }).waitFor({ timeout: SOON });
    assert.deepEqual(tab.errors, []);
  } finally {
    await context.close();
    await server.close();
    folder.remove();
  }
});

describe('the server', () => {
  const engine = `assets/${readdirSync(join(dist, 'assets')).find((name) => name.endsWith('.wasm'))}`;
  const whole = readFileSync(join(dist, engine));
  let server;
  before(async () => void (server = await serve(dist)));
  after(() => server.close());
  const ask = (headers) =>
    new Promise((done, fail) => {
      get(new URL(engine, server.url), { headers }, async (response) => {
        const body = Buffer.concat(await response.toArray());
        assert.equal(response.headers['content-type'], 'application/wasm');
        assert.equal(Number(response.headers['content-length']), body.length);
        assert.equal(response.headers.vary, 'accept-encoding');
        done({ body, status: response.statusCode, coding: response.headers['content-encoding'] });
      }).once('error', fail);
    });

  test('sends the engine within its budget, from a build for visitors too', async () => {
    const { body, coding } = await ask({ 'accept-encoding': 'gzip, deflate, br, zstd' });
    assert.equal(coding, 'br');
    // Tests build at brotli's quality 5, `npm run build` at 11; what stands for what is told in tools/size.mjs. The better one
    // may have come into the cache since this page was built.
    const [most, mostOfBuild] = [LIMITS['in brotli, quality 5'], LIMITS['in brotli, quality 11']];
    assert.ok(body.length <= most, `${body.length} bytes of at most ${most}`);
    const kept = keptBrotliOf(whole, SMALLEST);
    if (kept) assert.ok(statSync(kept).size <= mostOfBuild, `${statSync(kept).size} bytes of at most ${mostOfBuild}`);
    assert.ok(brotliDecompressSync(body).equals(whole));
  });
  test('sends what the client takes', async () => {
    const gzip = await ask({ 'accept-encoding': 'gzip, br;q=0' });
    assert.equal(gzip.coding, 'gzip');
    assert.ok(gunzipSync(gzip.body).equals(whole));
    const plain = await ask({});
    assert.equal(plain.coding, undefined);
    assert.ok(plain.body.equals(whole));
  });
  test('sends a range of the file as it is', async () => {
    const { body, status, coding } = await ask({ 'accept-encoding': 'br', range: 'bytes=100-299' });
    assert.deepEqual([status, coding], [206, undefined]);
    assert.ok(body.equals(whole.subarray(100, 300)));
  });
});
