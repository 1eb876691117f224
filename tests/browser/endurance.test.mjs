// A minute of what `npm run faults` and `npm run soak` do for hours.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { runFaults } from '../../tools/faults.mjs';
import { grown, runSoak } from '../../tools/soak.mjs';
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

test('a GPU that is lost, while it loads and while it works, ends as it should', async () => {
  const gpu = await launch({ webgpu: true });
  try {
    const seed = Math.floor(Date.now() / 86_400_000);
    const { done, wrong } = await runFaults(gpu, { count: 0, gpu: 4, seed });
    assert.deepEqual(wrong, [], `seed ${seed}`);
    assert.equal(
      Object.values(done).reduce((sum, n) => sum + n, 0),
      4,
    );
  } finally {
    await gpu.close();
  }
});

test('memory stays flat from clip to clip', async () => {
  assert.deepEqual(grown((await runSoak(browser, { count: 45 })).cpu), []);
});
