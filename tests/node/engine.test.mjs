// The built wasm itself, outside a browser: on Dawn (Chrome's WebGPU) and on its CPU backend,
// against what diffusers made of the same folders, and against bad input.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startEngine } from './engine.mjs';
import { distance, folderCase, framesOf, halves, largestDifference, relativeL2, root, scene } from './fixtures.mjs';

const wan21 = folderCase('folder_t2v');
const wan22 = folderCase('folder_t2v_euler');
const catalogued = (id) => JSON.parse(readFileSync(join(root, 'models/models.json'), 'utf8')).models.find((entry) => entry.id === id);
const stages = (events) => events.filter(({ type }) => type === 'stage').map(({ stage }) => stage);

for (const device of ['cpu', 'gpu']) {
  describe(`engine on ${device}`, () => {
    let engine;
    let loaded;
    let made;
    before(async () => {
      engine = await startEngine({ device });
      loaded = await engine.load(wan21.folder);
      made = await engine.generate({ ...wan21.options, preview: true });
    });
    after(() => engine?.stop());

    test('says what it runs on', () => {
      assert.equal(engine.info.device, device);
      assert.ok(engine.info.wasmMemoryBytes > 0);
      if (device === 'gpu') assert.ok(engine.info.adapter, 'a GPU engine names its adapter');
      else assert.equal(engine.info.adapter ?? null, null);
    });

    test('compares its kernels with their twins once', () => {
      const { kernels, again, part, checkTicks } = engine.info;
      assert.match(kernels.revision, /^[0-9a-f]{16}$/);
      const names = kernels.findings.map(({ kernel }) => kernel);
      assert.deepEqual(names, device === 'gpu' ? ['gemm', 'attention', 'conv3d', 'norm_modulate', 'rms_rope', 'channel_norm'] : []);
      for (const { kernel, error } of kernels.findings) assert.ok(error <= 1e-4, `${kernel}: ${error}`);
      assert.deepEqual(again, kernels);
      assert.deepEqual(part, kernels, 'a report that lacks a kernel is not believed');
      assert.equal(checkTicks, names.length, 'the host has its turn after each kernel');
    });

    if (device === 'gpu')
      test('returns the GPU memory of each clip', async () => {
        const longer = { ...wan21.options, numFrames: 2 * wan21.options.numFrames - 1, numSteps: 2 };
        const clips = [made];
        // On a busy machine the driver may still hold a clip's last buffers when it has ended; what leaks would grow with each.
        for (let tries = 0; tries < 4; tries++) {
          clips.push(await engine.generate(longer));
          if (clips.slice(-2).every(({ memory }) => memory.bytes <= loaded.memory.bytes)) break;
        }
        const seen = JSON.stringify([loaded.memory, ...clips.map(({ memory }) => memory)]);
        for (const { memory } of clips.slice(-2)) {
          assert.ok(memory.peakBytes > 2 * memory.bytes, seen);
          assert.ok(memory.bytes <= loaded.memory.bytes, seen);
        }
      });

    test('gives the frames that diffusers gives', () => {
      const frames = framesOf(made.events);
      assert.ok(largestDifference(frames, wan21.rgb) <= 1, `largest difference ${largestDifference(frames, wan21.rgb)} of 255`);
      assert.ok(relativeL2(frames, wan21.rgb) < 2e-3, `relative L2 ${relativeL2(frames, wan21.rgb)}`);
    });

    test('describes the clip it made', () => {
      const { width, height, numFrames, fps, seed } = wan21.options;
      const { clip } = made;
      assert.deepEqual(
        { width: clip.width, height: clip.height, numFrames: clip.numFrames, fps: clip.fps, seed: clip.seed },
        { width, height, numFrames, fps, seed },
      );
      assert.ok(clip.tokens.kept > 3 && clip.tokens.kept === clip.tokens.total, JSON.stringify(clip.tokens));
      assert.equal(typeof clip.device, 'string');
      assert.ok(Object.values(clip.timings).every((seconds) => seconds >= 0) && Object.keys(clip.timings).length > 0);
    });

    test('tells each stage, each step and a preview a step, then the frames in order', () => {
      const { events } = made;
      assert.deepEqual(stages(events), ['tokenize', 'encode-text', 'condition', 'denoise', 'decode']);
      const steps = events.filter(({ type }) => type === 'step');
      assert.deepEqual(
        steps.map(({ step, numSteps }) => [step, numSteps]),
        [1, 2, 3, 4].map((step) => [step, wan21.options.numSteps]),
      );
      const previews = events.filter(({ type }) => type === 'preview');
      assert.deepEqual(
        previews.map(({ step }) => step),
        [1, 2, 3],
      );
      for (const { rgba, width, height } of previews) assert.equal(rgba.length, width * height * 4);
      assert.equal(events.filter(({ type }) => type === 'frame').length, wan21.options.numFrames);
      assert.ok(events.findIndex(({ type }) => type === 'frame') > events.findLastIndex(({ type }) => type === 'step'));
    });

    test('gives the same clip for the same seed and another one for another seed', async () => {
      const again = await engine.generate(wan21.options);
      assert.deepEqual(framesOf(again.events), framesOf(made.events));
      const other = await engine.generate({ ...wan21.options, seed: 43 });
      assert.ok(relativeL2(framesOf(other.events), framesOf(made.events)) > 0.05);
    });

    test('makes a single frame, and other sizes', async () => {
      for (const size of [
        { width: 32, height: 32, numFrames: 1 },
        { width: 32, height: 64, numFrames: 5 },
      ]) {
        const { clip, events } = await engine.generate({ ...wan21.options, ...size, numSteps: 2 });
        assert.equal(clip.numFrames, size.numFrames);
        assert.equal(framesOf(events).length, size.width * size.height * size.numFrames * 3);
      }
    });

    test('stops within a block when the host is aborted, and works again after', async () => {
      const whole = made.ticks;
      assert.ok(whole > 8, `a generation gives the host a turn after every block, here ${whole} times`);
      await assert.rejects(engine.generate(wan21.options, { abortAfterTicks: Math.floor(whole / 2) }), { code: 'aborted' });
      await assert.rejects(engine.generate(wan21.options, { abortAfterTicks: 0 }), { code: 'aborted' });
      const again = await engine.generate(wan21.options);
      assert.deepEqual(framesOf(again.events), framesOf(made.events));
    });

    test('refuses bad options by rule and value, and works again after', async () => {
      const bad = [
        [{ prompt: '' }, /prompt/],
        [{ prompt: ' \n ' }, /prompt/],
        [{ prompt: 7 }, /7.*string/],
        [{ width: 40 }, /width.*40 px/],
        [{ height: 0 }, /height.*0 px/],
        [{ width: 48.5 }, /48\.5/],
        [{ width: 'wide' }, /wide/],
        [{ numFrames: 8 }, /4n \+ 1.*8 frames/],
        [{ numFrames: 0 }, /1 to 1025 frames.*0 frames/],
        [{ numFrames: -3 }, /-3/],
        [{ numSteps: 0 }, /steps.*0 steps/],
        [{ numSteps: 1e6 }, /steps.*1000000 steps/],
        [{ guidanceScale: -1 }, /guidance_scale.*-1/],
        [{ guidanceScale: NaN }, /guidance_scale.*NaN/],
        [{ seed: -1 }, /-1/],
        [{ seed: 1.5 }, /1\.5/],
        [{ fps: 0 }, /fps.*0/],
      ];
      for (const [change, words] of bad) {
        const error = await engine.generate({ ...wan21.options, ...change }).then(
          () => undefined,
          (error) => error,
        );
        assert.equal(error?.code, 'invalid-options', `${JSON.stringify(change)}: ${error?.message}`);
        assert.match(error.message, words);
      }
      const again = await engine.generate(wan21.options);
      assert.deepEqual(framesOf(again.events), framesOf(made.events));
    });

    // nothing in it depends on the device, and its shapes cost lavapipe a minute of shader compilation
    if (device === 'cpu')
      test('says how many tokens of a long prompt it kept', async () => {
        const { clip, events } = await engine.generate({ ...wan21.options, prompt: 'red ball '.repeat(400), numFrames: 1, numSteps: 1 });
        assert.ok(clip.tokens.total > 512 && clip.tokens.kept === 512, JSON.stringify(clip.tokens));
        const warning = events.find(({ type }) => type === 'warning');
        assert.match(warning?.message ?? '', /512/);
        assert.match(warning.message, new RegExp(String(clip.tokens.total)));
      });
  });
}

describe('engine on cpu, other folders', () => {
  test('a Wan 2.2 folder in half precision gives the frames that diffusers gives', async () => {
    const engine = await startEngine({ device: 'cpu' });
    try {
      const { model } = await engine.load(wan22.folder);
      assert.deepEqual([model.widthMultiple, model.heightMultiple], [32, 32]);
      const frames = framesOf((await engine.generate(wan22.options)).events);
      assert.ok(largestDifference(frames, wan22.rgb) <= 1, `largest difference ${largestDifference(frames, wan22.rgb)} of 255`);
    } finally {
      engine.stop();
    }
  });

  const editJson = (path, edit) => writeFileSync(path, JSON.stringify(edit(JSON.parse(readFileSync(path, 'utf8')))));

  test("a folder of FastVideo's pipeline for few steps samples as that does, where its card says nothing of it", async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tabreel-'));
    const engine = await startEngine({ device: 'cpu' });
    const sampling = ({ sampler, sigmas, guidanceScale }) => ({ sampler, sigmas, guidanceScale });
    try {
      cpSync(wan21.folder, folder, { recursive: true });
      editJson(join(folder, 'model_index.json'), (index) => ({ ...index, _class_name: 'WanDMDPipeline' }));
      const { fastwan } = catalogued('wan2.2-ti2v-5b').presets;
      const loaded = await engine.load(folder);
      assert.deepEqual(sampling(loaded.model.defaults), { sampler: fastwan.sampler, sigmas: fastwan.sigmas, guidanceScale: 1 });
      writeFileSync(join(folder, 'tabreel.json'), JSON.stringify({ default: { num_steps: 5 } }));
      assert.equal((await engine.load(folder)).model.defaults.numSteps, 5);
    } finally {
      engine.stop();
      rmSync(folder, { recursive: true });
    }
  });

  /** A copy of the folder with one thing broken, and what load must say of it. */
  async function refuses(breakIt, code, words) {
    const folder = mkdtempSync(join(tmpdir(), 'tabreel-'));
    const engine = await startEngine({ device: 'cpu' });
    try {
      cpSync(wan21.folder, folder, { recursive: true });
      breakIt((...parts) => join(folder, ...parts));
      await assert.rejects(engine.load(folder), (error) => {
        assert.equal(error.code, code, error.message);
        assert.match(error.message, words);
        return true;
      });
      // the engine is not hurt: the sound folder loads and runs
      await engine.load(wan21.folder);
      const { events } = await engine.generate({ ...wan21.options, numFrames: 1, numSteps: 1 });
      assert.equal(framesOf(events).length, 48 * 32 * 3);
    } finally {
      engine.stop();
      rmSync(folder, { recursive: true });
    }
  }
  const transformer = ['transformer', 'diffusion_pytorch_model.safetensors'];

  test('a missing weight file is named', () => refuses((at) => rmSync(at(...transformer)), 'fetch', /transformer/));
  test('a truncated weight file is named', () => refuses((at) => truncateSync(at(...transformer), 5000), 'weights', /transformer/));
  test('a mis-shaped tensor is named with both shapes', () =>
    refuses((at) => editJson(at('transformer', 'config.json'), (c) => ({ ...c, ffn_dim: 100 })), 'weights', /ffn.*100/));
  test('a missing tensor is named', () =>
    refuses((at) => editJson(at('transformer', 'config.json'), (c) => ({ ...c, num_layers: 3 })), 'weights', /blocks\.2\./));
  test('a wrong class is named', () =>
    refuses((at) => editJson(at('vae', 'config.json'), (c) => ({ ...c, _class_name: 'AutoencoderTiny' })), 'weights', /AutoencoderTiny/));
  test('a broken config is named', () => refuses((at) => writeFileSync(at('vae', 'config.json'), '{'), 'weights', /vae/));
  test('a broken tokenizer is reported as such', () =>
    refuses((at) => writeFileSync(at('tokenizer', 'tokenizer.json'), '{}'), 'tokenizer', /./));
  test('NaN in the weights is found and named', () =>
    refuses(
      (at) => {
        const path = at(...transformer);
        const bytes = readFileSync(path);
        const header = Number(bytes.readBigUInt64LE(0));
        const { data_offsets } = JSON.parse(bytes.subarray(8, 8 + header).toString())['blocks.1.ffn.net.2.weight'];
        bytes.writeFloatLE(NaN, 8 + header + data_offsets[0] + 40);
        writeFileSync(path, bytes);
      },
      'weights',
      /blocks\.1\.ffn\.net\.2\.weight/,
    ));
});

describe('pictures', () => {
  const day = scene({ sky: [150, 190, 235], ground: [62, 138, 50] });
  const snow = scene({ sky: [60, 70, 110], ground: [225, 232, 242] });
  const frame = (at, picture) => ({ kind: 'frame', at, picture });
  const options = {
    prompt: 'a large red ball bounces',
    negativePrompt: '',
    numFrames: 5,
    fps: 16,
    numSteps: 8,
    guidanceScale: 3,
    seed: 7,
  };
  let engine;
  let loaded;
  before(async () => {
    engine = await startEngine({ device: 'cpu' });
    loaded = await engine.load(join(import.meta.dirname, '../../models/small-world'));
    const { width, height } = loaded.model.defaults;
    Object.assign(options, { width, height });
  });
  after(() => engine?.stop());

  /** The halves of the first and the last frame of a clip that is given these pieces. */
  async function ends(pieces) {
    const { events } = await engine.generate(options, pieces.length > 0 ? { condition: { pieces } } : {});
    const made = events.filter(({ type }) => type === 'frame');
    return [made.at(0), made.at(-1)].map(({ rgba }) => halves(rgba));
  }

  test('the default model says that it takes them', () => {
    const { image, lastImage, keyframes } = loaded.model.capabilities;
    assert.ok(image && lastImage && keyframes, JSON.stringify(loaded.model.capabilities));
  });

  test('a picture of another size becomes the first frame', async () => {
    const wanted = halves(scene({ sky: [150, 190, 235], ground: [62, 138, 50], width: 64 }).rgba); // as it is cut
    const [[plain], [first]] = [await ends([]), await ends([frame(0, day)])];
    for (const [i, value] of first.entries())
      assert.ok(Math.abs(value - wanted[i]) < 40, `${first.map(Math.round)} for ${wanted.map(Math.round)}`);
    assert.ok(
      distance(first, wanted) < distance(plain, wanted) / 2,
      `${distance(first, wanted)} against ${distance(plain, wanted)} without`,
    );
  });

  test('a second one draws the last frame to it, and leaves the first', async () => {
    const wanted = halves(scene({ sky: [60, 70, 110], ground: [225, 232, 242], width: 64 }).rgba);
    const one = await ends([frame(0, day)]);
    const both = await ends([frame(0, day), frame(-1, snow)]);
    assert.ok(distance(both[1], wanted) < distance(one[1], wanted), `${both[1].map(Math.round)}, without it ${one[1].map(Math.round)}`);
    assert.ok(distance(both[0], one[0]) < distance(both[0], both[1]), `${both[0].map(Math.round)}, without it ${one[0].map(Math.round)}`);
  });

  test('bad ones are refused in words, and the next clip is made', async () => {
    const given = (...pieces) => engine.generate(options, { condition: { pieces } });
    const refused = (code, words) => (error) => {
      assert.equal(error.code, code, error.message);
      assert.match(error.message, words);
      return true;
    };
    const invalid = (words) => refused('invalid-options', words);
    await assert.rejects(given(frame(5, day)), invalid(/5 frames.*frame 5/));
    await assert.rejects(given(frame(0, day), frame(-5, day)), invalid(/once.*frame 0/));
    await assert.rejects(given(frame(0, { ...day, height: 63 })), invalid(/96 × 63 px.*24192.*24576/));
    await assert.rejects(given(frame(0, { width: 0, height: 0, rgba: new Uint8Array() })), invalid(/0 × 0 px/));
    const { events } = await engine.generate({ ...options, numFrames: 1, numSteps: 1 });
    assert.equal(framesOf(events).length, options.width * options.height * 3);
  });

  test('a model without a door for them says why', async () => {
    const plain = await startEngine({ device: 'cpu' });
    try {
      const { model } = await plain.load(wan21.folder);
      assert.equal(model.capabilities.image, false);
      await assert.rejects(plain.generate(wan21.options, { condition: { pieces: [frame(0, day)] } }), (error) => {
        assert.equal(error.code, 'invalid-options');
        assert.match(error.message, /takes no first frame: \w+/);
        return true;
      });
      assert.equal(framesOf((await plain.generate({ ...wan21.options, numFrames: 1, numSteps: 1 })).events).length, 48 * 32 * 3);
    } finally {
      plain.stop();
    }
  });
});

describe('the default model on a GPU', () => {
  test('compiles its shaders while it is loaded, and returns the memory of each clip', async () => {
    const engine = await startEngine({ device: 'gpu' });
    try {
      const loaded = await engine.load(join(import.meta.dirname, '../../models/small-world'));
      const { width, height, numFrames } = loaded.model.defaults;
      const options = {
        prompt: 'a red ball',
        negativePrompt: '',
        width,
        height,
        numFrames,
        fps: 16,
        numSteps: 3,
        guidanceScale: 3,
        seed: 1,
      };
      for (let i = 0; i < 2; i++) {
        const { memory } = await engine.generate(options);
        // a prompt of another length may need a copy in other vectors
        const compiled = memory.pipelines - loaded.memory.pipelines;
        assert.ok(loaded.memory.pipelines > 50 && compiled <= 2, `${compiled} pipelines compiled for a clip of the default size`);
        assert.ok(memory.peakBytes > memory.bytes + 5e6, JSON.stringify(memory));
        // the kept condition of an empty clip comes on top of the weights
        assert.ok(memory.bytes < loaded.memory.bytes + 1e6, JSON.stringify([loaded.memory, memory]));
      }
    } finally {
      engine.stop();
    }
  });

  for (const [how, budget] of [
    ['kept', undefined],
    ['streamed', 1],
  ])
    test(`takes the GPU memory that was planned, within 10 %, its layers ${how}`, async () => {
      const engine = await startEngine({ device: 'gpu' });
      try {
        const { model } = await engine.load(join(import.meta.dirname, '../../models/small-world'), { budget });
        assert.equal(model.plan.transformer.streamed, how === 'streamed');
        const { width, height, numFrames } = model.defaults;
        const options = { prompt: 'a red ball', width, height, numFrames, fps: 16, numSteps: 2, guidanceScale: 3, seed: 1 };
        const { clip, memory } = await engine.generate(options);
        const ratio = memory.peakBytes / clip.plannedBytes;
        assert.ok(Math.abs(ratio - 1) <= 0.1, `planned ${clip.plannedBytes} bytes, took ${memory.peakBytes}: × ${ratio.toFixed(3)}`);
      } finally {
        engine.stop();
      }
    });
});

describe('engine on a GPU with nothing beyond what WebGPU guarantees', () => {
  test('no timestamp-query, no f16, no subgroups, default limits: the same frames', async () => {
    const engine = await startEngine({ device: 'gpu', poor: true });
    try {
      await engine.load(wan21.folder);
      const frames = framesOf((await engine.generate(wan21.options)).events);
      assert.ok(largestDifference(frames, wan21.rgb) <= 1, `largest difference ${largestDifference(frames, wan21.rgb)} of 255`);
    } finally {
      engine.stop();
    }
  });
});
