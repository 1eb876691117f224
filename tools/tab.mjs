// The built package in a tab of Chromium, with a model of a few kilobytes: for runs of thousands of clips.
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { root } from './common.mjs';
import { serve } from './serve.mjs';

/** A module beside the page, whose exports are what runs in the tab. */
const PAGE = (script) => `<!doctype html><title>tabreel</title><link rel="icon" href="data:,">
<script type="importmap">{ "imports": { "mediabunny": "./mediabunny.js", "tabreel": "./pkg/dist/index.js" } }</script>
<script type="module">import * as steps from './${script}'; window.steps = steps;</script>`;

/** Serves the package, the tiny model as `model/` and `script` (a file), and opens them in `browser`. */
export async function openTab(browser, script) {
  const folder = mkdtempSync(join(tmpdir(), 'tabreel-tab-'));
  const at = (name) => join(folder, name);
  symlinkSync(join(root, 'pkg'), at('pkg'));
  copyFileSync(join(root, 'node_modules/mediabunny/dist/bundles/mediabunny.mjs'), at('mediabunny.js'));
  copyFileSync(script, at('steps.js'));
  writeFileSync(at('index.html'), PAGE('steps.js'));
  cpSync(join(root, 'tests/fixtures/folder_t2v/model'), at('model'), { recursive: true });
  writeFileSync(at('model/tabreel.json'), JSON.stringify({ name: 'tiny', files: filesOf(at('model')) }));
  const server = await serve(folder);
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(server.url);
  await page.waitForFunction(() => 'steps' in window);
  const close = async () => {
    await context.close();
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  };
  return { page, url: server.url, close };
}

function filesOf(folder) {
  const files = readdirSync(folder, { recursive: true }).map((name) => join(folder, name));
  return files
    .filter((file) => statSync(file).isFile())
    .map((file) => {
      const bytes = readFileSync(file);
      const path = relative(folder, file).replaceAll('\\', '/');
      return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
    });
}

/** Repeatable numbers below `n`: the same seed makes the same faults. */
export function dice(seed) {
  let state = BigInt(seed);
  return (n) => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
    return Number(state >> 33n) % n;
  };
}

/** The number after `--name`, or `usual`. */
export function number(name, usual) {
  const at = process.argv.indexOf(`--${name}`);
  if (at < 0) return usual;
  const value = Number(process.argv[at + 1]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} must be a whole number from 1, got ${process.argv[at + 1]}`);
  return value;
}
