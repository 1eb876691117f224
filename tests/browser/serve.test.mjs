// `tabreel serve`: the page, the engine and the model out of one program, in an empty folder.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
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
  test('--open gives its address to the system, and says so where the system cannot', { skip: process.platform === 'win32' }, async () => {
    const opener = process.platform === 'darwin' ? 'open' : 'xdg-open';
    const programs = join(folder.path, 'programs');
    mkdirSync(programs);
    const opened = join(folder.path, 'opened');
    writeFileSync(
      join(programs, opener),
      `#!/bin/sh\nprintf '%s\\n' "$#" "$1" > '${opened}.part' && /bin/mv '${opened}.part' '${opened}'\n`,
      { mode: 0o755 },
    );
    const start = async (path, heard) => {
      const other = spawn(program, ['--json', 'serve', '--port', '0', '--open'], { cwd: folder.path, env: { ...process.env, PATH: path } });
      try {
        const [line] = await once(createInterface({ input: other.stdout }), 'line');
        await heard(JSON.parse(line).url, createInterface({ input: other.stderr }));
      } finally {
        other.kill();
      }
    };
    await start(programs, async (url) => {
      for (const end = Date.now() + SOON; !existsSync(opened) && Date.now() < end;) await delay(50);
      assert.equal(readFileSync(opened, 'utf8'), `1\n${url}\n`);
    });
    await start(join(folder.path, 'models'), async (url, errors) => {
      const [warning] = await once(errors, 'line');
      assert.match(warning, /^warning: no browser could be opened \(.+\): open http/);
      assert.ok(warning.endsWith(`open ${url} yourself`), warning);
      assert.equal((await fetch(`${url}models/small-world/tabreel.json`)).status, 200); // and serves all the same
    });
  });
  test('a port in use is an error', () => {
    const { port } = new URL(url);
    const { status, stderr } = spawnSync(program, ['serve', '--port', port], { encoding: 'utf8', timeout: SOON });
    assert.equal(status, 2);
    assert.match(stderr, new RegExp(`port ${port} of 127\\.0\\.0\\.1 is in use`));
  });
});
