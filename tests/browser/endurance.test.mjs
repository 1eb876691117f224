// A minute of what `npm run faults` and `npm run soak` do for hours.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { runFaults } from '../../tools/faults.mjs';
import { runSoak } from '../../tools/soak.mjs';
import { launch } from './browser.mjs';

let browser;
before(async () => (browser = await launch({ webgpu: false })));
after(() => browser?.close());

test('faults end as they should, and the next clip is right byte for byte', async () => {
  const seed = Math.floor(Date.now() / 86_400_000);
  const { done, wrong } = await runFaults(browser, { count: 30, seed });
  assert.deepEqual(wrong, [], `seed ${seed}`);
  assert.ok(Object.keys(done).length > 5);
});

test('memory stays flat from clip to clip', async () => {
  const { first, last } = (await runSoak(browser, { count: 45 })).cpu;
  assert.equal(last.wasmBytes, first.wasmBytes);
  assert.ok(last.heapBytes - first.heapBytes < 4e6, `JavaScript grew from ${first.heapBytes} to ${last.heapBytes} bytes`);
});
