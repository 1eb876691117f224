// Runs the bench in a worker of a page in Chromium, which the tests' own code finds and starts.
import { launch } from '../../tests/browser/browser.mjs';
import { filesIn, machine, packageVersion, root } from '../lib/node.mjs';
import { rows } from '../rows.mjs';
import { serveIsolated } from './serve.mjs';

/** Folders of models that a page cannot list. */
const FOLDERS = [...rows.filter(({ kind }) => kind === 'clip').map(({ p }) => p.folder), 'tests/fixtures/folder_t2v/model'];

/** As `bench` of bench.mjs. */
export async function inChromium(options, save) {
  const server = await serveIsolated(root);
  const browser = await launch();
  try {
    const page = await browser.newPage();
    let end;
    const ended = new Promise((resolve, reject) => (end = { resolve, reject }));
    page.on('crash', () => end.reject(new Error('the page crashed')));
    page.on('pageerror', end.reject);
    await page.exposeFunction('tell', ({ text, result, done, failed }) => {
      if (text !== undefined) console.log(text);
      if (result) save(result);
      if (done) end.resolve(done.fine);
      if (failed) end.reject(new Error(failed));
    });
    await page.goto(`${server.url}bench/browser/index.html`);
    const versions = { chromium: browser.version(), 'onnxruntime-web': packageVersion('onnxruntime-web') };
    const facts = { ...machine, versions, colour: process.stdout.isTTY };
    const folders = Object.fromEntries(FOLDERS.map((folder) => [folder, filesIn(folder)]));
    await page.evaluate((message) => window.start(message), { options, facts, folders });
    return await ended;
  } finally {
    await browser.close();
    await server.close();
  }
}
