// Models kept in the origin's private folder (OPFS), in a real Chromium: broken off, resumed, damaged, full, shared.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, test as nodeTest } from 'node:test';
import { build } from 'vite';
import { serve } from '../../tools/serve.mjs';
import { startFaultyServer } from '../faulty-server.mjs';
import { LONG, SOON, launchProfile, root, temporaryFolder } from './browser.mjs';

const PART = 8 * 1024 * 1024;
const folder = temporaryFolder();
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
/** More than 64 MiB: read by range and hashed on the way. The small one is checked before it is handed out. */
const content = {
  'config.json': Buffer.from('{"dim":4}'),
  'vae/model.gguf': randomBytes(2 * PART + 5),
  'transformer/model.gguf': randomBytes(9 * PART + 77),
};
const LARGE = 'transformer/model.gguf';
const hashes = Object.fromEntries(Object.entries(content).map(([path, bytes]) => [path, sha256(bytes)]));
const total = Object.values(content).reduce((sum, { length }) => sum + length, 0);

/** A promise that stays open fails its test and not the whole run. */
const test = (name, steps) => nodeTest(name, { timeout: LONG }, steps);

let page;
let files;
let server;
let profile;
let base;
before(async () => {
  writeFileSync(
    join(folder.path, 'index.html'),
    '<!doctype html><title>store</title><link rel="icon" href="data:,"><script type="module" src="./page.js"></script>',
  );
  await build({
    root: join(root, 'tests/browser'),
    configFile: false,
    logLevel: 'error',
    base: './',
    worker: { format: 'es' },
    build: {
      outDir: folder.path,
      emptyOutDir: false,
      target: 'es2022',
      rollupOptions: {
        input: join(root, 'tests/browser/store-page.ts'),
        output: { entryFileNames: 'page.js' },
        preserveEntrySignatures: false,
      },
    },
  });
  files = await serve(folder.path);
  server = await startFaultyServer();
  base = `${server.url}m/`;
});
after(async () => {
  await Promise.all([files?.close(), server?.close()]);
  folder.remove();
});

async function open(context) {
  const tab = await context.newPage();
  await tab.goto(files.url);
  await tab.waitForFunction(() => 'store' in window);
  return tab;
}
const load = (job = {}, stopAt, tab = page) =>
  tab.evaluate(([job, stopAt]) => store.load(job, stopAt ?? Infinity), [{ base, ...job }, stopAt]);
const call = (name, ...args) => page.evaluate(([name, args]) => store[name](...args), [name, args]);
const asked = () => server.requests.filter(({ path, method }) => method === 'GET' && !path.endsWith('tabreel.json'));
/** Which parts of the large file were asked for. */
const parts = () =>
  asked()
    .filter(({ path }) => path.endsWith(LARGE))
    .map(({ range }) => Math.floor(range[0] / PART));
const dataFile = async () =>
  Object.entries(await call('listFiles')).find(([name, size]) => name.endsWith('.bin') && size > 2 * PART + 5)?.[0];

function serveModel(model = content, { sha = true } = {}) {
  server.files.clear();
  for (const [path, bytes] of Object.entries(model)) server.files.set(`/m/${path}`, bytes);
  const listed = Object.entries(model).map(([path, bytes]) => ({ path, bytes: bytes.length, ...(sha && { sha256: sha256(bytes) }) }));
  server.files.set('/m/tabreel.json', JSON.stringify({ name: 'm', files: listed }));
}

beforeEach(async () => {
  serveModel();
  server.fault = () => undefined;
  server.requests.length = 0;
  // A profile on the disk for each test, as a visitor's is.
  profile = temporaryFolder();
  page = await open(await launchProfile(profile.path));
});
afterEach(async () => {
  await page.context().close();
  profile.remove();
});

test('the second load asks for the card and nothing else; the kept model is listed, verified and deleted', async () => {
  const first = await load();
  assert.deepEqual(first.done, { hashes, warnings: [], waits: [], fromDevice: false });
  server.requests.length = 0;
  const second = await load();
  assert.deepEqual(second.done, { hashes, warnings: [], waits: [], fromDevice: true });
  assert.deepEqual(asked(), []);
  const [kept] = await page.evaluate(async () => (await store.kept()).map((one) => ({ ...one, lastUsed: one.lastUsed.getTime() })));
  assert.deepEqual([kept.url, kept.bytes], [base, total]);
  assert.ok(Math.abs(kept.lastUsed - Date.now()) < 60_000);
  assert.deepEqual(await call('verify'), [{ url: base, good: 3, damaged: [], unfinished: [] }]);
  await call('forget', 'http://other.test/');
  assert.equal((await call('kept')).length, 1);
  await call('forget', base);
  assert.deepEqual(await call('kept'), []);
  assert.deepEqual(await call('listFiles'), {});
});

test('what lies in the folder and is no model hides none; a model is deleted by the address it was loaded from', async () => {
  await load();
  await page.evaluate(async () => {
    const models = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabreel-models');
    await models.getFileHandle('0-not-a-folder', { create: true });
    await models.getDirectoryHandle('1-empty', { create: true });
  });
  assert.deepEqual(
    (await call('kept')).map(({ url }) => url),
    [base],
  );
  assert.equal((await call('verify', base.slice(0, -1)))[0].good, 3);
  await call('forget', base.slice(0, -1));
  assert.deepEqual(await call('kept'), []);
});

test('a server that never answers is not waited for long where a card is kept', async () => {
  await load();
  server.fault = () => ({ stallAfter: 0 });
  const began = Date.now();
  assert.equal((await call('describe', base)).name, 'm');
  assert.ok(Date.now() - began < 30_000, `${Date.now() - began} ms`);
});

test('without a server, what was loaded once is enough, card included', async () => {
  await load();
  server.fault = () => ({ status: 503 });
  assert.deepEqual((await load()).done?.hashes, hashes);
  assert.equal((await call('describe', base)).name, 'm');
});

test('a download that is cut at random points and whose worker is ended goes on at the missing parts', async () => {
  let seed = 11;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  server.fault = ({ range }) => (range && random() < 0.5 ? { cutAfter: Math.floor(random() * PART) } : undefined);
  for (const share of [0.2, 0.5, 0.8]) {
    const { stopped, done } = await load({}, share * total);
    assert.ok(stopped || done, 'it came so far');
  }
  // What the worker that was ended had asked for may still be on its way.
  await new Promise((done) => setTimeout(done, 1000));
  const [{ bytes }] = await call('kept');
  assert.ok(bytes > 0.5 * total && bytes < total, `${bytes} of ${total} bytes are kept`);
  server.requests.length = 0;
  server.fault = () => undefined;
  assert.deepEqual((await load()).done.hashes, hashes);
  const missing = total - bytes;
  const fetched = asked().reduce((sum, { path, range }) => sum + (range ? range[1] - range[0] : content[path.slice(3)].length), 0);
  assert.equal(fetched, missing, 'only what was missing is fetched');
});

test('a tab that is closed in the middle of a download costs only the part at hand', async () => {
  server.fault = ({ range }) => (range && range[0] >= 5 * PART ? { stallAfter: 1000 } : undefined);
  void page.evaluate((base) => void store.load({ base }), base);
  await page.waitForFunction((bytes) => window.loaded >= bytes, 7 * PART, { timeout: SOON });
  await page.waitForTimeout(500);
  await page.context().close();
  server.requests.length = 0;
  server.fault = () => undefined;
  page = await open(await launchProfile(profile.path));
  assert.deepEqual((await load()).done.hashes, hashes);
  assert.deepEqual(
    parts().sort((a, b) => a - b),
    [5, 6, 7, 8, 9],
  );
});

test('a disk that fills up: the model is loaded all the same, and it is said that it is not kept', async () => {
  // Chromium holds only the default profile to a quota that is set from outside.
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Storage.overrideQuotaForOrigin', { origin: new URL(files.url).origin, quotaSize: 50 * 1024 * 1024 });
  const { done } = await load();
  assert.deepEqual(done?.hashes, hashes);
  assert.equal(done.warnings.length, 1);
  assert.match(done.warnings[0], /^the model is not kept on this device: /);
  const [{ bytes }] = await page.evaluate(() => store.kept());
  assert.ok(bytes > 2 * PART && bytes < 50 * 1024 * 1024, `${bytes} bytes were kept until then`);
  // With room again, the next load goes on there.
  await devtools.send('Storage.overrideQuotaForOrigin', { origin: new URL(files.url).origin });
  assert.deepEqual((await load()).done, { hashes, warnings: [], waits: [], fromDevice: false });
  assert.equal((await load()).done.fromDevice, true);
});

test('what the browser says it has no room for is not begun', async () => {
  const { done } = await load({ break: 'quota' });
  assert.deepEqual(done.hashes, hashes);
  assert.deepEqual(done.warnings, ['the model is not kept on this device: it takes 92 MB and the browser allows this site 20 MB more']);
  assert.deepEqual(await call('kept'), []);
});

test('of two tabs one fetches, the other waits and says so, and then reads what is there', async () => {
  server.fault = ({ range }) => (range ? { delay: 100 } : undefined);
  const other = await open(page.context());
  const first = load();
  await page.waitForFunction((bytes) => window.loaded >= bytes, PART, { timeout: SOON });
  const second = load({}, undefined, other);
  await other.waitForFunction(() => window.waiting === 'another tab is downloading this model', null, { timeout: SOON });
  assert.match((await call('forget', base)).message, /cannot be deleted just now: a tab is downloading it/);
  assert.deepEqual((await first).done.hashes, hashes);
  const { done } = await second;
  assert.deepEqual([done.hashes, done.waits, done.fromDevice], [hashes, ['another tab is downloading this model'], true]);
  assert.equal(parts().length, 10, 'each part was fetched once');
});

test('a damaged part is found by verify, and only it is fetched again; so is one that a load comes upon', async () => {
  await load();
  await call('damage', await dataFile(), 3 * PART + 100);
  assert.deepEqual(await call('verify', base), [{ url: base, good: 2, damaged: [LARGE], unfinished: [] }]);
  server.requests.length = 0;
  assert.deepEqual((await load()).done.hashes, hashes);
  assert.deepEqual(parts(), [3]);
  await call('damage', await dataFile(), 6 * PART);
  server.requests.length = 0;
  assert.deepEqual((await load()).done.hashes, hashes);
  assert.deepEqual(parts(), [6]);
});

test('files that were deleted or cut under us, and a journal cut in the middle of a line, only cost a download', async () => {
  await load();
  await call('damage', await dataFile(), 4 * PART + 1, true);
  assert.deepEqual((await load()).done.hashes, hashes);
  await call('remove', await dataFile());
  assert.deepEqual((await load()).done.hashes, hashes);
  const journal = (await dataFile()).replace('.bin', '.log');
  await call('damage', journal, (await call('listFiles'))[journal] - 30, true);
  assert.deepEqual((await load()).done.hashes, hashes);
  await call('damage', journal, 0);
  assert.deepEqual((await load()).done.hashes, hashes);
  assert.deepEqual((await call('verify'))[0].damaged, []);
});

for (const what of ['directory', 'journal', 'handles', 'silence', 'locks']) {
  test(`a browser whose storage fails (${what}) only costs a download`, async () => {
    assert.deepEqual((await load({ break: what })).done?.hashes, hashes);
    await load();
    assert.deepEqual((await load({ break: what })).done?.hashes, hashes);
  });
}

test('a new version replaces the old one, which stays until the new one is whole', async () => {
  await load();
  const next = { ...content, [LARGE]: Buffer.from(content[LARGE].map((byte) => byte ^ 255)) };
  serveModel(next);
  server.fault = ({ path }) => (path.endsWith(LARGE) ? { status: 503 } : undefined);
  assert.equal((await load()).failed.code, 'fetch');
  assert.equal((await call('kept'))[0].bytes, total, 'nothing is lost');
  server.fault = () => ({ status: 503 });
  assert.deepEqual((await load()).done.hashes, hashes, 'offline, the last whole model is there');
  server.fault = () => undefined;
  assert.equal((await load()).done.hashes[LARGE], sha256(next[LARGE]));
  assert.equal((await call('kept'))[0].bytes, total, 'the old version is gone');
});

test('bytes that are not what the card promises are refused and forgotten', async () => {
  const bad = Buffer.from(content[LARGE]);
  bad[5 * PART] ^= 1;
  server.files.set(`/m/${LARGE}`, bad);
  const { failed } = await load();
  assert.equal(failed.code, 'weights');
  assert.match(failed.message, /transformer\/model.gguf is damaged: its SHA-256 must be/);
  assert.equal((await call('kept'))[0].bytes, total - bad.length);
  serveModel();
  assert.deepEqual((await load()).done.hashes, hashes);
});

test('without a hash the ETag is the version; without either nothing is kept, and it is said', async () => {
  serveModel(content, { sha: false });
  await load();
  server.requests.length = 0;
  assert.equal((await load()).done.fromDevice, true);
  assert.deepEqual(
    asked().map(({ range }) => range),
    [
      [0, 1],
      [0, 1],
      [0, 1],
    ],
    'one byte each, for the version',
  );
  server.fault = () => ({ status: 500 });
  assert.deepEqual((await load()).done?.hashes, hashes, 'without a server, the whole copy will do');
  server.fault = () => undefined;
  server.files.set(`/m/${LARGE}`, Buffer.from(content[LARGE].map((byte) => byte ^ 255)));
  assert.notEqual((await load()).done.hashes[LARGE], hashes[LARGE], 'a file of the same length is seen to be another');
  await call('forget');
  server.fault = () => ({ version: null });
  const { done } = await load();
  assert.match(done.warnings[0], /names no version of config.json/);
  assert.deepEqual(await call('kept'), []);
});

test('a file that changed under its name is not taken from the cache of a browser that may still use its copy', async () => {
  server.fault = () => ({ headers: { 'cache-control': 'max-age=3600' } });
  const version = (seed, length = 300_000) => ({ 'config.json': `{"dim":${seed}}`, 'vae/model.gguf': Buffer.alloc(length, seed) });
  const hashesOf = (model) => Object.fromEntries(Object.entries(model).map(([path, bytes]) => [path, sha256(bytes)]));
  for (const sha of [true, false]) {
    const models = [version(1), version(2), version(3, 400_000)];
    for (const [nth, model] of models.entries()) {
      serveModel(model, { sha });
      assert.deepEqual((await load({ keep: false })).done?.hashes, hashesOf(model), `hashes: ${sha}, version ${nth + 1}`);
      server.requests.length = 0;
      await load({ keep: false });
      // Where a hash tells, what is at hand need not be asked for.
      assert.equal(asked().length, sha ? 0 : 2, 'the cache is in use');
    }
  }
});

test('keep: false leaves nothing', async () => {
  assert.deepEqual((await load({ keep: false })).done.hashes, hashes);
  assert.deepEqual(await call('listFiles'), {});
});
