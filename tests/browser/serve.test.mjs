// `tabreel serve`: the page, the engine and the model out of one program, in an empty folder.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { buildServe } from '../../tools/build.mjs';
import { SOON, PROMPT, SHORT, canvasPixels, configure, deviation, finished, launch, openPage, temporaryFolder } from './browser.mjs';

describe('tabreel serve', { timeout: 1_800_000 }, () => {
  const folder = temporaryFolder();
  const program = join(folder.path, process.platform === 'win32' ? 'tabreel.exe' : 'tabreel');
  let server;
  let url;
  let browser;
  before(async () => {
    // TABREEL_SERVE_BIN: one that is built already. Away from the checkout, whose files it must not need.
    copyFileSync(process.env.TABREEL_SERVE_BIN ?? buildServe(), program);
    mkdirSync(join(folder.path, 'models/own'), { recursive: true });
    writeFileSync(join(folder.path, 'models/own/tabreel.json'), '{"name":"own"}');
    server = spawn(program, ['--json', 'serve', '--port', '0', '--models', 'models'], {
      cwd: folder.path,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: server.stdout })) {
      const told = JSON.parse(line);
      assert.equal(told.type, 'serving');
      url = told.url;
      break;
    }
    browser = await launch({ webgpu: false });
  });
  after(async () => {
    await browser?.close();
    server?.kill();
    folder.remove();
  });

  test('the page opens and makes a clip', async () => {
    const page = await openPage(browser, url, { serviceWorkers: 'allow' });
    await page.waitForFunction(() => navigator.serviceWorker.controller?.state === 'activated', null, { timeout: SOON });
    await configure(page, SHORT);
    await page.fill('#prompt', PROMPT);
    await page.click('#generate');
    assert.equal(await finished(page), undefined);
    assert.ok(deviation(await canvasPixels(page)) > 10);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
  test('a folder of models stands beside its own', async () => {
    assert.deepEqual(await (await fetch(`${url}models/own/tabreel.json`)).json(), { name: 'own' });
    assert.ok((await (await fetch(`${url}models/small-world/tabreel.json`)).json()).files.length > 0);
  });
  test('a port in use is an error', () => {
    const { port } = new URL(url);
    const { status, stderr } = spawnSync(program, ['serve', '--port', port], { encoding: 'utf8', timeout: SOON });
    assert.equal(status, 2);
    assert.match(stderr, new RegExp(`port ${port} of 127\\.0\\.0\\.1 is in use`));
  });
});
