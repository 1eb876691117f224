// The examples of tests/examples-web: installed with the packed package into the cache, built there, served.
import { createHash } from 'node:crypto';
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cache } from '../../tools/common.mjs';
import { serve } from '../../tools/serve.mjs';
import { LONG, command, root } from './browser.mjs';

const sources = join(root, 'tests/examples-web');
const folder = (name) => join(cache, 'examples', name);
/** The page's own copy of the default model, with the list of its files. */
const models = join(root, 'www/dist/models');

const npm = (args, cwd) => command('npm', [...args, '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'], { cwd });

/** Packs the package and installs the tarball into an empty project; returns its node_modules. */
export function installPackage() {
  const at = folder('package');
  rmSync(at, { recursive: true, force: true });
  mkdirSync(at, { recursive: true });
  command('npm', ['pack', '--workspace', 'pkg', '--pack-destination', at], { cwd: root });
  const tarball = readdirSync(at).find((name) => name.endsWith('.tgz'));
  writeFileSync(join(at, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }));
  npm(['install', `./${tarball}`], at);
  return join(at, 'node_modules');
}

/**
 * A fresh copy of an example in the cache, with what its lock file names (installed once) and the packed package, as
 * `npm ci` and `npm install tabreel` make it. Returns the folder.
 */
export function prepare(name, packages) {
  const at = folder(name);
  mkdirSync(at, { recursive: true });
  for (const entry of readdirSync(at)) if (entry !== 'node_modules') rmSync(join(at, entry), { recursive: true, force: true });
  cpSync(join(sources, name), at, { recursive: true });
  if (existsSync(join(at, 'package-lock.json'))) {
    const lock = createHash('sha256')
      .update(readFileSync(join(at, 'package-lock.json')))
      .digest('hex');
    const stamp = join(at, 'node_modules/.tabreel-lock');
    if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
      npm(['ci'], at);
      writeFileSync(stamp, lock);
    }
  }
  // Bundlers keep what they made of a package under its version, which stays the same here.
  for (const made of ['.vite', '.cache', '.astro']) rmSync(join(at, 'node_modules', made), { recursive: true, force: true });
  for (const used of ['tabreel', 'mediabunny']) {
    rmSync(join(at, 'node_modules', used), { recursive: true, force: true });
    cpSync(join(packages, used), join(at, 'node_modules', used), { recursive: true });
  }
  return at;
}

/** Lays the default model into a folder that is served, as its owner would. */
export function addModels(to) {
  mkdirSync(to, { recursive: true });
  symlinkSync(models, join(to, 'models'));
}

/** Starts a development server; resolves to its address, once it has said it, and a function that stops it. */
export async function develop(program, args, cwd) {
  const child = spawn(process.execPath, [program, ...args], { cwd, env: { ...process.env, NO_COLOR: '1' } });
  const exited = new Promise((done) => child.once('exit', done));
  const close = async () => (child.kill(), await exited);
  let text = '';
  const url = await new Promise((done, fail) => {
    const read = (chunk) => {
      text += chunk;
      const found = /http:\/\/localhost:\d+\//.exec(text);
      if (found) done(found[0]);
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.once('exit', () => fail(new Error(`${program} ended:\n${text}`)));
    setTimeout(() => fail(new Error(`${program} named no address within 30 s:\n${text}`)), 30_000).unref();
  }).catch(async (error) => {
    await close();
    throw error;
  });
  return { url, close };
}

/** The least work that is still a clip. */
const TINY = { numFrames: 5, numSteps: 1, width: 64, height: 64, seed: 7 };

/**
 * Presses the start button of the page's first `<tabreel-clip>`, as a visitor would, for a tiny clip. Resolves to the
 * element's state, its words, and a hash of the pixels.
 */
export async function pressStart(page, settings = {}) {
  const element = page.locator('tabreel-clip').first();
  await page.waitForFunction(() => customElements.get('tabreel-clip') !== undefined);
  await element.evaluate((clip, tiny) => void Object.assign(clip, tiny), { ...TINY, ...settings });
  await element.getByRole('button', { name: /Make the clip|Try again/ }).click();
  await page.waitForFunction(() => ['done', 'error'].includes(document.querySelector('tabreel-clip').state), undefined, {
    timeout: LONG,
  });
  return element.evaluate((clip) => {
    let hash = 0;
    for (const { data } of clip.clip?.frames ?? []) for (const byte of data) hash = (Math.imul(hash, 31) + byte) | 0;
    const words = clip.shadowRoot.querySelector('[part=status]').textContent;
    return { state: clip.state, words, frames: clip.clip?.numFrames, hash };
  });
}

/** The page of `static/bundle.html` in `folder`, with the built package on another origin. Resolves to its address and what stops both. */
export async function serveFromElsewhere(folder) {
  const elsewhere = await serve(join(root, 'pkg'), 0, { 'access-control-allow-origin': '*' });
  const html = readFileSync(join(sources, 'static/bundle.html'), 'utf8');
  writeFileSync(join(folder, 'index.html'), html.replace('http://localhost:8001/', elsewhere.url));
  addModels(folder);
  const server = await serve(folder);
  return { url: server.url, close: () => Promise.all([server.close(), elsewhere.close()]) };
}

/** Makes a tiny clip; runs in a page of any browser, so it uses nothing of this file. */
export async function startHere() {
  await customElements.whenDefined('tabreel-clip');
  const element = document.querySelector('tabreel-clip');
  Object.assign(element, { numFrames: 5, numSteps: 1, width: 64, height: 64, seed: 7 });
  await element.generate().catch(() => undefined);
  const words = element.shadowRoot.querySelector('[part=status]').textContent;
  return { state: element.state, words, frames: element.clip?.numFrames };
}
