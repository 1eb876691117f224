// What tests of the page share: a visitor who gives files, presses Generate and looks at what came out.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROMPT, SHORT, SOON, canvasPixels, configure, finished, openPage, root } from './browser.mjs';

/** Without guidance, which doubles the work. */
export const QUICK = { ...SHORT, guidance: 1 };

/** Runs a test on a fresh page of a site with the short settings and demands that nothing went wrong in it. */
export const visits =
  (site) =>
  async (steps, options = {}) => {
    const { browser, server } = site();
    const page = await openPage(browser, server.url, options);
    try {
      await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
      await configure(page, QUICK);
      await page.fill('#prompt', PROMPT);
      await steps(page);
      assert.deepEqual(page.problems, []);
    } finally {
      await page.context().close();
    }
  };

/** Presses Generate, waits for the clip, and returns what stands below it. */
export async function generate(page) {
  const before = await page.locator('#made').textContent();
  await page.click('#generate');
  await page.locator('#working').waitFor({ timeout: SOON });
  assert.equal(await finished(page), undefined);
  assert.notEqual(await page.locator('#made').innerText(), before);
  return page.locator('#made').innerText();
}

/** The frames of the shown clip, 32 × 32 px each, by stepping through it with the keyboard; `region` as for `canvasPixels`. */
export async function frames(page, region) {
  await page.locator('#stage').focus();
  await page.keyboard.press('Home');
  const count = Number((await page.locator('#scrub-label').innerText()).split('/')[1]);
  const found = [];
  for (let i = 0; i < count; i++) {
    found.push(await canvasPixels(page, region));
    await page.keyboard.press('ArrowRight');
  }
  return found;
}

/** Mean difference of two frames, bytes. */
export const difference = (a, b) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;

/** Colour of a pixel of a frame of 32 × 32 px. */
export const at = (frame, x, y) => frame.slice((y * 32 + x) * 4, (y * 32 + x) * 4 + 3);

const axe = readFileSync(join(root, 'node_modules/axe-core/axe.min.js'), 'utf8');

/** What axe finds wrong, and whether anything is wider than the window. */
export async function wrongWith(page) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ['violations'] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help} (${nodes.map(({ target }) => target).join(', ')})`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  return wide > 0 ? [...found, `${wide} px wider than the window`] : found;
}
