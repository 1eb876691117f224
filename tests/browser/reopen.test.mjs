// What made a clip is had back: from its saved file, and from the stage; and the clip can be made again.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { SOON, configure, deviation, drawPng, give, movingClip, openSite, save } from './browser.mjs';
import { at, difference, frames, generate, visits } from './visit.mjs';

let site;
before(async () => void (site = await openSite()));
after(() => site?.close());
const onPage = visits(() => site);

const far = (pixel, colour) => Math.max(...pixel.map((value, i) => Math.abs(value - colour[i])));

describe('what made a clip', () => {
  test('a clip goes on from its first frames to a last one; saved, it opens again with both, and can be made anew', () =>
    onPage(async (page) => {
      await configure(page, { frames: 9 });
      await page.check('#mode-keyframes');
      const path = movingClip(site.folder.path, 'begins.mp4', { size: '128x128', speed: 100 });
      const begins = { base64: readFileSync(path, 'base64'), name: 'begins.mp4', type: 'video/mp4' };
      // Half a second: four frames of the nine, 8 a second.
      await give(page, 'drop', '#key-add', begins);
      const keys = page.locator('.key');
      await keys.first().waitFor({ timeout: SOON });
      await give(page, 'drop', '#key-add', { base64: await drawPng(page, { width: 128, height: 128 }), name: 'ends.png' });
      await keys.nth(1).waitFor();
      const places = () =>
        keys.evaluateAll((all) => all.map((key) => [key.ariaValueNow, /\d+ frames/.exec(key.ariaLabel)?.[0] ?? 'a picture']));
      const wanted = [
        ['0', '12 frames'],
        ['8', 'a picture'],
      ];
      assert.deepEqual(await places(), wanted);
      assert.match(await generate(page), /from keyframes.*9 frames/);
      const made = await frames(page);
      assert.ok(
        far(at(made[8], 3, 3), [150, 190, 235]) <= 3 && far(at(made[8], 16, 16), [215, 40, 35]) <= 3,
        'the last frame is the picture',
      );
      const white = (frame) => [...Array(32).keys()].filter((x) => at(frame, x, 12).every((value) => value > 200));
      assert.ok(white(made[3])[0] > white(made[0])[0] + 4, 'the first four are the clip');
      assert.ok(made.slice(4, 8).every((frame) => deviation(frame) > 10));
      const saved = readFileSync(await save(page, '#save-mp4', site.folder.path));
      await page.reload();
      await page.locator('#needs-line').filter({ hasNotText: 'Looking' }).waitFor({ timeout: SOON });
      await give(page, 'drop', '#stage', { base64: saved.toString('base64'), name: 'made.mp4', type: 'video/mp4' });
      const words = page.locator('#reopened-words').filter({ visible: true });
      await words.filter({ hasText: /^Opened the recipe of made\.mp4\.$/ }).waitFor({ timeout: SOON });
      assert.ok(await page.locator('#mode-keyframes').isChecked());
      // The picture stands before the clip in the call: it is put back first.
      const again = [
        ['8', 'a picture'],
        ['0', '4 frames'],
      ];
      assert.deepEqual(await places(), again);
      assert.match(await generate(page), /from keyframes.*9 frames/);
      const anew = await frames(page);
      for (const i of [0, 1, 2, 3, 8]) assert.ok(difference(made[i], anew[i]) < 6, `frame ${i} differs by ${difference(made[i], anew[i])}`);
    }));

  test('how closely lines are followed and how soft an edge is are chosen, and come back with the recipe', () =>
    onPage(async (page) => {
      await page.check('#mode-sketch');
      const buffer = Buffer.from(await drawPng(page, { width: 128, height: 128 }), 'base64');
      await page.setInputFiles('#sketch-file', { name: 'ball.png', mimeType: 'image/png', buffer });
      await page.locator('#sketch-undo:enabled').waitFor({ timeout: SOON });
      assert.equal(await page.locator('#steer-note').innerText(), '100 %: as trained');
      await page.locator('#steer').focus();
      await page.keyboard.press('End');
      assert.equal(await page.locator('#steer-note').innerText(), '200 %: more closely');
      assert.match(await generate(page), /from a sketch/);
      const saved = readFileSync(await save(page, '#save-png', site.folder.path));
      await page.locator('#steer').focus();
      await page.keyboard.press('Home');
      assert.equal(await page.locator('#steer-note').innerText(), '0 %: more loosely');
      await give(page, 'drop', '#stage', { base64: saved.toString('base64'), name: 'sketched.png' });
      const words = page.locator('#reopened-words').filter({ visible: true });
      await words.filter({ hasText: 'its sketch or control clip must be given again' }).waitFor({ timeout: SOON });
      assert.equal(await page.locator('#steer').inputValue(), '2');
      await page.check('#mode-grow');
      assert.equal(await page.locator('#seam-note').innerText(), '4 px');
      await page.locator('#seam').focus();
      await page.keyboard.press('Home');
      assert.equal(await page.locator('#seam-note').innerText(), '0 px: a hard edge');
      await page.click('#clip-shown');
      await page.selectOption('#grow-to', '192x128');
      assert.match(await generate(page), /in another shape/);
      await page.locator('#seam').focus();
      await page.keyboard.press('End');
      await page.click('#reuse');
      await words.filter({ hasText: 'its clip must be given again' }).waitFor({ timeout: SOON });
      assert.equal(await page.locator('#seam').inputValue(), '0');
      assert.equal(await page.locator('#grow-to').inputValue(), '192x128');
    }));

  test('what made a clip is taken over again, its clips too, from a file and from the stage', () =>
    onPage(async (page) => {
      await generate(page);
      await page.click('#quick-extend');
      await page.fill('#added', '4');
      assert.match(await generate(page), /extended forward.*9 frames/);
      const saved = readFileSync(await save(page, '#save-mp4', site.folder.path));
      const given = () => page.locator('#clip-thumb').getAttribute('aria-label');
      const forget = async () => {
        await page.click('#clip-remove');
        await page.fill('#added', '7');
        await page.check('#mode-text');
      };
      await forget();
      await page.click('#reuse');
      await page.locator('#clip-thumb').waitFor({ timeout: SOON });
      assert.ok(await page.locator('#mode-extend').isChecked());
      assert.match(await given(), /5 frames, 128 × 128 px/);
      assert.equal(await page.locator('#added').inputValue(), '4');
      await forget();
      await give(page, 'drop', '#stage', { base64: saved.toString('base64'), name: 'longer.mp4', type: 'video/mp4' });
      const words = page.locator('#reopened-words').filter({ visible: true });
      await words.filter({ hasText: /^Opened the recipe of longer\.mp4\.$/ }).waitFor({ timeout: SOON });
      assert.match(await given(), /longer\.mp4, 5 frames, 128 × 128 px/);
      await forget();
      await page.check('#mode-edit');
      await page.click('#clip-shown');
      assert.match(await generate(page), /from a clip/);
      await page.check('#mode-text');
      await page.click('#reuse');
      await words.filter({ hasText: 'Took over what made this clip; its clip must be given again.' }).waitFor({ timeout: SOON });
      assert.ok(await page.locator('#mode-edit').isChecked());
    }));
});
