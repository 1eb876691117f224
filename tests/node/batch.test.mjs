// Several clips in one call of the built wasm, on its CPU backend and on Dawn: each is what it is alone.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startEngine } from './engine.mjs';
import { folderCase, framesOf, largestDifference } from './fixtures.mjs';

const { folder, options } = folderCase('folder_t2v');
/** Of different sizes, lengths, steps, prompts and guidance. */
const clips = [
  { ...options, numSteps: 3 },
  { ...options, prompt: 'A blue cube rises.', width: 32, height: 64, numFrames: 1, numSteps: 2, guidanceScale: 1, seed: 4 },
];

/** The events of each clip alone. */
function eventsOf(events, clip) {
  let about = { first: 0, count: 0 };
  return events.filter((event) => {
    if (event.type === 'clips') about = event;
    return about.first === clip && about.count === 1;
  });
}

for (const device of ['cpu', 'gpu']) {
  describe(`several clips on ${device}`, () => {
    let engine;
    let loaded;
    before(async () => {
      engine = await startEngine({ device });
      loaded = await engine.load(folder);
    });
    after(() => engine?.stop());

    test('are what they are alone, in one pass of the model', async () => {
      const { events } = await engine.batch(clips);
      for (const [place, asked] of clips.entries()) {
        const alone = await engine.generate(asked);
        const own = eventsOf(events, place);
        const most = largestDifference(framesOf(own), framesOf(alone.events));
        assert.ok(most <= 1, `clip ${place}: up to ${most} of 255 away`);
        const { timings: _, plannedBytes: __, ...clip } = own.find(({ type }) => type === 'made').clip;
        const { timings: ___, plannedBytes: ____, ...wanted } = alone.clip;
        assert.deepEqual(clip, wanted);
      }
      // A step is one of both, as long as there are two.
      const steps = events.filter(({ type }) => type === 'step').map(({ step, numSteps }) => [step, numSteps]);
      assert.deepEqual(steps, [
        [1, 3],
        [2, 3],
        [3, 3],
      ]);
      assert.deepEqual(
        events.filter(({ type }) => type === 'made').map(({ place }) => place),
        [0, 1],
      );
    });

    test('stop within a block, refuse what one cannot be, and are made again after', async () => {
      const { ticks } = await engine.batch(clips);
      for (const abortAfterTicks of [0, Math.floor(ticks / 2)]) {
        await assert.rejects(engine.batch(clips, { abortAfterTicks }), { code: 'aborted' });
      }
      const bad = [clips[0], { ...clips[1], numFrames: 8 }];
      await assert.rejects(engine.batch(bad), { code: 'invalid-options', message: /num_frames must be 4n \+ 1.*8 frames/ });
      await assert.rejects(engine.batch([7]), { code: 'invalid-options' });
      assert.deepEqual((await engine.batch([])).events, []);
      const { events } = await engine.batch(clips);
      assert.equal(events.filter(({ type }) => type === 'frame').length, options.numFrames + 1);
    });

    if (device === 'gpu')
      test('return their GPU memory', async () => {
        const runs = [];
        // As with clips alone: on a busy machine the driver may still hold the last buffers when it has ended.
        for (let tries = 0; tries < 4; tries++) {
          runs.push(await engine.batch(clips));
          if (runs.at(-1).memory.bytes <= loaded.memory.bytes) break;
        }
        const seen = JSON.stringify([loaded.memory, ...runs.map(({ memory }) => memory)]);
        assert.ok(runs.at(-1).memory.bytes <= loaded.memory.bytes, seen);
        assert.ok(runs.at(-1).memory.peakBytes > loaded.memory.bytes, seen);
      });
  });
}
