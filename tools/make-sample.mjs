// Makes the clip that loops when the page opens, as a visitor would: through the built page, in Chromium, on the CPU.
//   node tools/make-sample.mjs "a large red ball bounces over grass at sunset" 7
// Writes www/public/sample.mp4 and www/sample.json; build the page again afterwards.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { serve } from './serve.mjs';
import { configure, finished, launch, openPage, probeVideo, root, save, temporaryFolder } from '../tests/browser/browser.mjs';

const [prompt, seed] = process.argv.slice(2);
if (!prompt || !/^\d+$/.test(seed ?? '')) {
  console.error('usage: make-sample.mjs PROMPT SEED');
  process.exit(2);
}
const server = await serve(join(root, 'www/dist'));
const browser = await launch();
const folder = temporaryFolder();
try {
  const page = await openPage(browser, server.url);
  await page.waitForLoadState('networkidle'); // the model's own settings have come
  await configure(page, { seed, backend: 'cpu' });
  await page.fill('#prompt', prompt);
  await page.click('#generate');
  const problem = await finished(page);
  if (problem) throw new Error(problem);
  const file = await save(page, '#save-mp4', folder.path);
  const { width, height, numFrames, fps } = probeVideo(file);
  copyFileSync(file, join(root, 'www/public/sample.mp4'));
  writeFileSync(join(root, 'www/sample.json'), `${JSON.stringify({ prompt, seed: Number(seed), width, height }, null, 2)}\n`);
  console.log(
    `www/public/sample.mp4: ${width} × ${height} px, ${numFrames} frames at ${fps} a second\n${await page.locator('#made').innerText()}`,
  );
} finally {
  await browser.close();
  await server.close?.();
  folder.remove();
}
process.exit(0);
