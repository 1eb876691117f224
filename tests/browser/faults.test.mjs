// The built page when the machine, the server or the storage fails it: an error in words and a way on, never a page that hangs.
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { PROMPT, SHORT, configure, finished, openPage, openSite, root, save } from './browser.mjs';

/** Shorter still: most of these clips are never done. */
const SHORTEST = { ...SHORT, steps: 2, guidance: 1 };
const ENGINE = readFileSync(join(root, 'pkg/wasm/tabreel_bg.wasm'));

let browser;
let server;
let folder;
let close;
before(async () => void ({ browser, server, folder, close } = await openSite()));
after(() => close?.());

/** A page on which `route` was called before it loads, and `script` runs before its own. */
async function withPage({ route, script }, steps) {
  const page = await openPage(browser, 'about:blank');
  try {
    await route?.(page);
    if (script) await page.addInitScript(script);
    await page.goto(server.url);
    await steps(page);
  } finally {
    await page.context().close();
  }
}

/** Presses Generate; the error's code and words, or undefined where a clip came. */
async function generate(page, settings = SHORTEST) {
  await configure(page, settings);
  await page.fill('#prompt', PROMPT);
  await page.click('#generate');
  const words = await finished(page);
  return words && { code: await page.locator('#error').getAttribute('data-code'), words };
}

const engineRoute = (body) => (page) =>
  page.route('**/*.wasm', (route) => route.fulfill({ status: 200, contentType: 'application/wasm', body }));

/** The worker with this in front of its script. */
const workerRoute = (before) => (page) =>
  page.route('**/worker-*.js', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: before + (await response.text()) });
  });

function leb128(bytes, at) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value += (byte & 127) * 2 ** shift;
    if (byte < 128) return [value, at];
  }
}

function toLeb128(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Buffer.from([...bytes, value]);
}

/** The engine with at most `more` bytes of memory beyond what it starts with. */
function cramped(engine, more) {
  for (let at = 8; at < engine.length;) {
    const [length, start] = leb128(engine, at + 1);
    if (engine[at] === 5) {
      // One memory: flags (has it a most?), least and most pages.
      const [count, flagsAt] = leb128(engine, start);
      const [least] = leb128(engine, flagsAt + 1);
      assert.equal(count, 1);
      const section = Buffer.concat([Buffer.from([1, 1]), toLeb128(least), toLeb128(least + Math.ceil(more / 65_536))]);
      return Buffer.concat([engine.subarray(0, at), Buffer.from([5]), toLeb128(section.length), section, engine.subarray(start + length)]);
    }
    at = start + length;
  }
  throw new Error('the engine has no memory section');
}

test('memory that runs out is told as such, and a retry with an engine that has enough works', () =>
  withPage({ route: engineRoute(cramped(ENGINE, 3 << 20)) }, async (page) => {
    const error = await generate(page);
    assert.equal(error?.code, 'out-of-memory', error?.words);
    await page.unroute('**/*.wasm');
    assert.equal(await generate(page), undefined);
  }));

/** In front of the worker's script: at its second step the engine's clock stops it, by a trap or by a full stack. */
const stopped = (how) => `{
  // (func (export "f") unreachable)
  const bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 5, 1, 3, 0, 0, 11];
  const trap = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes))).exports.f;
  const stack = () => stack() + 1;
  const say = self.postMessage.bind(self);
  let armed = false;
  self.postMessage = (message, ...more) => {
    armed ||= message.event?.type === 'step';
    say(message, ...more);
  };
  const now = performance.now.bind(performance);
  // Not where the worker's own code asks.
  performance.now = () => (armed && /wasm/.test(new Error().stack) ? ${how}() : now());
}
`;

for (const [how, words] of [
  ['trap', /unreachable/],
  ['stack', /call stack/],
]) {
  test(`an engine that stops while it makes a clip (${how}) ends in words, and the next clip has a new one`, () => {
    return withPage({ route: workerRoute(stopped(how)) }, async (page) => {
      const error = await generate(page);
      assert.equal(error?.code, 'internal', error?.words);
      assert.match(error.words, words);
      await page.unroute('**/worker-*.js');
      assert.equal(await generate(page), undefined);
    });
  });
}

/** In front of the worker's script: after its first step the machine is busy with something else for 7 s. */
const BUSY = `{
  const say = self.postMessage.bind(self);
  self.postMessage = (message, ...more) => {
    say(message, ...more);
    if (message.event?.type !== 'step' || message.event.step !== 1) return;
    for (const end = Date.now() + 7000; Date.now() < end; );
  };
}
`;

test('a step that takes longer than expected says so, whatever is still to come after it', () => {
  // With seconds for what comes after the steps, as the last clip had them.
  const script = () => localStorage.setItem('tabreel.pace.cpu', JSON.stringify({ denoise: 1e-7, rest: 1e-4 }));
  return withPage({ route: workerRoute(BUSY), script }, async (page) => {
    await page.evaluate(() => {
      window.told = [];
      const line = document.querySelector('#status');
      new MutationObserver(() => window.told.push(line.textContent)).observe(line, { childList: true, characterData: true, subtree: true });
    });
    assert.equal(await generate(page), undefined);
    const told = await page.evaluate(() => window.told);
    const longer = told.filter((words) => words.endsWith(' · longer than expected: the machine may be busy'));
    assert.ok(longer.length > 0, told.join('\n'));
    // Said of the step that took long, and no more once it was done.
    assert.doesNotMatch(told.at(-1), /longer than expected/);
  });
});

for (const [words, body] of [
  ['an engine that is cut off', ENGINE.subarray(0, ENGINE.length / 2)],
  ['something else in place of the engine', Buffer.from('not here')],
]) {
  test(`${words} is a failed download, whatever the device, and nothing is blamed on the GPU`, () =>
    withPage({ route: engineRoute(body) }, async (page) => {
      const error = await generate(page, { ...SHORTEST, backend: 'gpu' }, 60);
      assert.equal(error?.code, 'fetch', error?.words);
      assert.doesNotMatch(error.words, /GPU/);
      assert.equal(await page.locator('#use-cpu').count(), 0);
    }));
}

test('a shader that the driver refuses costs that kernel, not the engine', () => {
  const engine = Buffer.from(ENGINE);
  // The compiler may lay the text down more than once.
  let copies = 0;
  for (let marker = -1; (marker = engine.indexOf('// A second walk instead of E[x^2]', marker + 1)) >= 0; copies++) {
    const at = engine.indexOf('squares += dot(a, a);', marker);
    assert.ok(at > marker);
    engine.write('squares += bot(a, a);', at);
  }
  assert.ok(copies > 0);
  return withPage({ route: engineRoute(engine) }, async (page) => {
    const error = await generate(page, { ...SHORTEST, frames: 1, backend: 'gpu' });
    assert.equal(error, undefined, error?.words);
    // What was found is read at the next visit.
    await page.reload();
    await page.locator('#needs-line', { hasText: /Generate first fetches|Ready/ }).waitFor();
    assert.match(await page.locator('#needs-list').textContent(), /gets norm[-_ ]?modulate wrong/i);
  });
});

test('an encoder that stalls without a word is given up, and the next codec makes the file', () =>
  withPage(
    {
      script: () => {
        const { encode, flush } = VideoEncoder.prototype;
        let stuck;
        VideoEncoder.prototype.encode = function (...given) {
          stuck ??= new WeakSet([this]);
          if (!stuck.has(this)) encode.apply(this, given);
        };
        VideoEncoder.prototype.flush = function () {
          return stuck?.has(this) ? new Promise(() => undefined) : flush.call(this);
        };
      },
    },
    async (page) => {
      assert.equal(await generate(page), undefined);
      const file = await save(page, '#save-webm', folder.path);
      assert.ok(statSync(file).size > 1000);
    },
  ));

/** An encoder that begins only when `window.encode()` is called. */
const heldEncoder = () => {
  const { encode } = VideoEncoder.prototype;
  const held = new Promise((resolve) => (window.encode = resolve));
  VideoEncoder.prototype.encode = function (...given) {
    const copy = given[0].clone();
    held.then(() => {
      if (this.state === 'configured') encode.call(this, copy, given[1]);
      copy.close();
    });
  };
  const { flush } = VideoEncoder.prototype;
  VideoEncoder.prototype.flush = function () {
    return held.then(() => flush.call(this));
  };
};

test('encoding can be stopped, and the next save works; a clip picked meanwhile does not lend its name', () =>
  withPage({ script: heldEncoder }, async (page) => {
    assert.equal(await generate(page, { ...SHORTEST, seed: 7 }), undefined);
    assert.equal(await generate(page, { ...SHORTEST, seed: 8 }), undefined);
    const button = page.locator('#save-mp4');
    await button.click();
    assert.equal(await button.innerText(), 'Stop encoding');
    await button.click();
    await page.locator('#save-mp4', { hasText: 'Save MP4' }).waitFor();
    assert.equal(await page.locator('#error').isVisible(), false);

    const download = page.waitForEvent('download');
    await button.click();
    await page.locator('#history-strip .thumb').nth(1).click(); // seed 7
    await page.locator('#made', { hasText: 'seed 7' }).waitFor();
    await page.evaluate(() => window.encode());
    assert.match((await download).suggestedFilename(), /-8\.mp4$/);
  }));

test('however often clips are picked, one loop of animation runs', () =>
  withPage(
    {
      script: () => {
        const ask = window.requestAnimationFrame;
        window.asked = 0;
        window.requestAnimationFrame = (callback) => (window.asked++, ask.call(window, callback));
      },
    },
    async (page) => {
      assert.equal(await generate(page, { ...SHORTEST, frames: 5, seed: 7 }), undefined);
      assert.equal(await generate(page, { ...SHORTEST, frames: 5, seed: 8 }), undefined);
      const thumbs = page.locator('#history-strip .thumb');
      for (let i = 0; i < 20; i++) await thumbs.nth(i % 2).click();
      const perFrame = await page.evaluate(async () => {
        const frame = () => new Promise((resolve) => setTimeout(resolve, 100));
        await frame();
        const before = window.asked;
        const began = performance.now();
        for (let i = 0; i < 10; i++) await frame();
        return (window.asked - before) / ((performance.now() - began) / (1000 / 60));
      });
      assert.ok(perFrame < 2.5, `${perFrame.toFixed(1)} callbacks a frame`);
    },
  ));

/** Put before the worker's own lines: when told to, the driver refuses every shader. */
const REFUSING = `
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function (...given) {
  const device = await requestDevice.apply(this, given);
  const { createShaderModule } = device;
  new BroadcastChannel('refuse').onmessage = () =>
    (device.createShaderModule = () => createShaderModule.call(device, { code: 'no shader' }));
  return device;
};
`;

test('a shader that the driver refuses after the trial ends in words and a way on, and what was found is forgotten', () =>
  withPage(
    {
      route: (page) =>
        page.route(/worker[^/]*\.js$/, async (route) => {
          const response = await route.fetch();
          await route.fulfill({ response, body: REFUSING + (await response.text()) });
        }),
    },
    async (page) => {
      const gpu = { ...SHORTEST, frames: 1, backend: 'gpu' };
      assert.equal(await generate(page, gpu), undefined);
      assert.ok(await page.evaluate(() => caches.has('tabreel-kernels')));
      await page.evaluate(() => new BroadcastChannel('refuse').postMessage(0));
      const error = await generate(page, { ...gpu, size: '192x128' });
      assert.equal(error?.code, 'unsupported-device', error?.words);
      assert.match(error.words, /driver/);
      assert.equal(await page.evaluate(() => caches.has('tabreel-kernels')), false);
      await page.click('#use-cpu');
      assert.equal(await finished(page), undefined);
    },
  ));

test('whatever lies in the storage, the page makes a clip', () => {
  const odd = [
    '{}',
    '[null]',
    '[{}]',
    '[{"recipe":{},"thumb":1,"made":2}]',
    '7',
    '"x"',
    '{',
    'null',
    '[[[]]]',
    '{"numSteps":"many","width":null,"device":"tpu"}',
    `{"name":"1","made":"x","thumb":"data:image/","parts":{"given":{},"options":{"prompt":"x"}}}`,
  ];
  const keys = ['settings', 'drawer', 'memoryBytes', 'model', 'pace.cpu', 'pace.gpu'];
  return withPage({}, async (page) => {
    for (const [round, value] of odd.entries()) {
      await page.evaluate(
        async ({ keys, value }) => {
          for (const key of keys) localStorage.setItem(`tabreel.${key}`, value);
          // The history lies in the private file system.
          const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('tabreel-history', { create: true });
          const stream = await (await folder.getFileHandle('000000000000001.json', { create: true })).createWritable();
          await stream.write(value);
          await stream.close();
        },
        { keys, value },
      );
      await page.reload();
      if (round === 0) assert.equal(await generate(page), undefined);
      // Of the history only what makes a clip is shown.
      assert.ok((await page.locator('#history-strip li').count()) <= 1, value);
      // Ready, and Generate answers.
      await page.locator('#needs-line', { hasText: /Generate first fetches|Ready/ }).waitFor();
      await page.fill('#prompt', '');
      await page.click('#generate');
      await page.locator('#error').waitFor();
      assert.match(await page.locator('#error').innerText(), /prompt/i);
    }
    assert.deepEqual(page.problems, []);
  });
});

test('a link sets a clip and is not remembered; a size without end is none', () =>
  withPage({}, async (page) => {
    const before = await page.evaluate(() => localStorage.getItem('tabreel.settings'));
    await page.goto(`${server.url}#prompt=a+blue+cube&steps=3&size=${'9'.repeat(400)}x64&seed=5`);
    await page.locator('#needs-line', { hasText: /Generate first fetches|Ready/ }).waitFor();
    assert.equal(await page.locator('#steps').inputValue(), '3');
    assert.equal(await page.evaluate(() => localStorage.getItem('tabreel.settings')), before);
    await page.goto('about:blank');
    await page.goto(server.url);
    await page.locator('#needs-line', { hasText: /Generate first fetches|Ready/ }).waitFor();
    assert.notEqual(await page.locator('#steps').inputValue(), '3');
    assert.doesNotMatch(await page.locator('#size').textContent(), /null|Infinity/);
  }));
