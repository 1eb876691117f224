// What a browser can besides: rows of the table in pkg/README.md, measured in the same way in each.
import { cpSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { serve } from '../../tools/serve.mjs';
import { movingClip, root } from './browser.mjs';

/** Makes a clip of 5 frames in one step on the page that is open; what went wrong, in words, or undefined. Runs in the page. */
async function makeClip() {
  const values = { prompt: 'a large red ball bounces over grass at sunset', frames: '5', steps: '1', seed: '7' };
  for (let i = 0; i < 50 && !document.getElementById('seed'); i++) await new Promise((done) => setTimeout(done, 200));
  if (!document.getElementById('seed')) return `not the page: ${location.href}: ${document.documentElement?.innerText}`;
  for (const [id, value] of Object.entries(values)) {
    const field = document.getElementById(id);
    field.value = value;
    for (const type of ['input', 'change']) field.dispatchEvent(new Event(type, { bubbles: true }));
  }
  document.querySelector('#mode-text')?.click();
  document.querySelector('#generate').click();
  const [error, save] = [document.querySelector('#error'), document.querySelector('#save-png')];
  for (let i = 0; i < 500 && !error.checkVisibility() && !save.checkVisibility(); i++) await new Promise((done) => setTimeout(done, 200));
  if (error.checkVisibility()) return error.innerText;
  return save.checkVisibility() ? undefined : `no clip within 100 s: ${document.querySelector('#status').textContent}`;
}

/** Whether a service worker answers for the page, within some seconds. Runs in the page. */
async function isControlled() {
  const { serviceWorker } = navigator;
  for (let i = 0; i < 75 && serviceWorker && serviceWorker.controller?.state !== 'activated'; i++) {
    await new Promise((done) => setTimeout(done, 200));
  }
  return serviceWorker?.controller?.state === 'activated';
}

/** Drops a clip on the page; what the page says of what it read. Runs in the page. */
async function dropClip(base64, name, type) {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], name, { type }));
  document.querySelector('#stage').dispatchEvent(new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }));
  // Either place: a file that is read as a picture goes to the first frame.
  const seen = (selector) => [...document.querySelectorAll(selector)].find((element) => element.checkVisibility());
  for (let i = 0; i < 100 && !seen('#clip-thumb, #first-thumb, #error'); i++) await new Promise((done) => setTimeout(done, 200));
  // Shown, and not only read out.
  const said = seen('.slot .warning')?.textContent ?? '';
  return seen('#error')?.innerText ?? `${seen('#clip-thumb, #first-thumb')?.ariaLabel}; ${said}`;
}

/**
 * Measures a browser: `open(url)` in a tab of its own, which resolves when the page is there and rejects when it does not come, and
 * `run(function, ...arguments)` in that tab.
 */
export async function measure({ open, run }, folder) {
  const dist = join(folder, 'dist');
  cpSync(join(root, 'www/dist'), dist, { recursive: true });
  const server = await serve(dist);
  try {
    await open(server.url);
    const first = await run(makeClip);
    if (first) throw new Error(first);
    const gif = await run(dropClip, readFileSync(movingClip(folder, 'moving.gif'), 'base64'), 'moving.gif', 'image/gif');
    const worker = await run(isControlled);
    // Weights that are gone from the server can only come from the device.
    const models = join(dist, 'models/small-world');
    for (const path of readdirSync(models, { recursive: true })) if (/\.(gguf|safetensors)(\.|$)/.test(path)) rmSync(join(models, path));
    await open(server.url);
    const kept = await run(makeClip);
    await server.close();
    const opened = await open(server.url).then(
      () => run(() => document.querySelector('h1')?.innerText),
      (error) => String(error),
    );
    const isOpen = /tabreel/.test(opened ?? '');
    return { gif, worker, kept, opened, offline: isOpen ? await run(makeClip) : opened };
  } finally {
    await server.close();
  }
}
