// What a model needs, told from headers alone, on the built wasm; at the true shapes of Wan 2.1 T2V-1.3B with umT5-xxl.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startEngine } from './engine.mjs';
import { fixture, root } from './fixtures.mjs';
import { headerOnly, umt5, wanTransformer, wanVae } from './shapes.mjs';

const tokenizer = { path: 'tokenizer/tokenizer.json', from: join(fixture('tokenizer'), 'tokenizer.json') };
const encoder = headerOnly('text_encoder/umt5-xxl.safetensors', umt5());
const wan = headerOnly('transformer/wan2.1-t2v-1.3b.safetensors', wanTransformer());
const vae = (width) => headerOnly('vae/wan2.1-vae.safetensors', wanVae(width), 'F32');
const files = [tokenizer, encoder, wan, vae()];
/** Headers, the first reads of them and the tokenizer. */
const HEADERS = 4e6;
const near = (value, wanted, within = 0.02) => assert.ok(Math.abs(value / wanted - 1) <= within, `${value} beside ${wanted}`);
/** Values of all tensors but the embedding table, which is read by rows. */
const values = (tensors) =>
  Object.entries(tensors).reduce((sum, [name, shape]) => sum + (name === 'shared.weight' ? 0 : shape.reduce((a, b) => a * b)), 0);

describe('on the CPU', () => {
  let engine;
  before(async () => (engine = await startEngine({ device: 'cpu' })));
  after(() => engine?.stop());

  test('a load without room for the weights is refused before they are read, with what is needed, what there is and what helps', async () => {
    await assert.rejects(engine.loose(files, { budget: 64e9 }), {
      code: 'out-of-memory',
      message:
        /^the model's weights take at least \d\.\d GB of memory on the CPU at once, 4\.\d GB are free: state less memory, so that layers are read when their turn comes$/,
    });
    assert.ok((await engine.read()).bytes < HEADERS);
    await assert.rejects(engine.loose([tokenizer, encoder, wan, vae(320)]), {
      code: 'out-of-memory',
      message: /^the model's weights take at least \d\.\d GB .* 4\.\d GB are free: take a smaller model, a smaller video codec/,
    });
    const { bytes, wasmBytes } = await engine.read();
    assert.ok(bytes < HEADERS && wasmBytes < 100e6, `${bytes} bytes read, ${wasmBytes} bytes of memory`);
  });

  test('a codec larger than a tab is told with what it needs, and the look takes next to no memory', async () => {
    const { runs, reason, parts, plan } = await engine.loose([tokenizer, encoder, wan, vae(320)], { inspect: true });
    assert.equal(runs, false);
    assert.match(
      reason,
      /^the model's weights take at least \d\.\d GB of memory on the CPU at once, 4\.3 GB are free: take a smaller model/,
    );
    assert.deepEqual(
      parts.map(({ part, leftOver, problem }) => [part, leftOver, problem]),
      ['tokenizer', 'text_encoder', 'transformer', 'vae'].map((part) => [part, [], undefined]),
    );
    near(plan.vae.bytes, 4 * values(wanVae(320)));
    const { bytes, wasmBytes } = await engine.read();
    assert.ok(bytes < HEADERS && wasmBytes < 100e6, `${bytes} bytes read, ${wasmBytes} bytes of memory`);
  });

  test('Wan 1.3B is planned: what stays, what a load and what a clip of its own size takes', async () => {
    const { parts, missing, plan, cpuPlan, runs, reason, caution } = await engine.loose(files, { inspect: true });
    assert.deepEqual(
      parts.map(({ part, leftOver, problem }) => [part, leftOver, problem]),
      ['tokenizer', 'text_encoder', 'transformer', 'vae'].map((part) => [part, [], undefined]),
    );
    assert.equal(parts[2].name, 'Wan 2.1 T2V 1.3B');
    assert.deepEqual([missing, runs, cpuPlan, caution], [[], true, undefined, undefined], reason);
    near(parts[2].parameters, 1.42e9);
    near(plan.textEncoder.bytes, 4 * values(umt5()));
    near(plan.transformer.bytes, 4 * values(wanTransformer()));
    near(plan.vae.bytes, 4 * values(wanVae()));
    assert.deepEqual([plan.textEncoder.streamed, plan.transformer.streamed, plan.vae.streamed], [true, true, false]);
    assert.equal(plan.budget, 2 ** 31);
    const stays = plan.textEncoder.keptBytes + plan.transformer.keptBytes + plan.vae.keptBytes;
    assert.equal(plan.residentBytes, stays + plan.textEncoder.passingBytes);
    // A matrix of umT5 on its way: as it is stored, and before it is turned.
    assert.equal(plan.loadBytes, plan.residentBytes + 10240 * 4096 * (2 + 4));
    // Tokens of 4 frames and 16 × 16 px, a block's hidden layer beside its input; and the frames, three bytes a pixel.
    const pixels = 832 * 480 * 81;
    assert.equal(plan.peakBytes, plan.residentBytes + Math.floor(pixels / (4 * 16 * 16)) * (1536 + 8960) * 4 + 3 * pixels);
    assert.ok((await engine.read()).bytes < HEADERS);
  });

  test('the default model is told as its loading plans it', async () => {
    const model = join(root, 'models/small-world');
    const paths = [
      'tabreel.json',
      'model_index.json',
      'scheduler/scheduler_config.json',
      'tokenizer/tokenizer.json',
      ...['text_encoder/config.json', 'text_encoder/model.safetensors'],
      ...['transformer/config.json', 'transformer/diffusion_pytorch_model.gguf'],
      ...['vae/config.json', 'vae/diffusion_pytorch_model.safetensors'],
    ];
    const all = paths.map((path) => ({ path, from: join(model, path) }));
    const { plan } = await engine.loose(all, { inspect: true });
    assert.deepEqual((await engine.loose(all)).model.plan, plan);
    assert.ok(plan.peakBytes > plan.residentBytes && plan.loadBytes > plan.residentBytes);
  });
});

describe('on a GPU with nothing but what WebGPU guarantees', () => {
  let engine;
  before(async () => (engine = await startEngine({ device: 'gpu', poor: true })));
  after(() => engine?.stop());

  test('both devices are planned, and a clip whose tokens fit into no buffer is told with the frames that would', async () => {
    const { plan, cpuPlan, runs, reason, caution } = await engine.loose(files, { inspect: true });
    assert.equal(runs, true, reason);
    assert.equal(plan.budget, 2 ** 30);
    assert.equal(cpuPlan.budget, 2 ** 31);
    near(cpuPlan.transformer.bytes, 4 * values(wanTransformer()));
    near(plan.transformer.bytes, 2 * values(wanTransformer()));
    assert.match(
      caution,
      /^81 frames of 832 × 480 px need a GPU buffer of \d+\.\d MB, this GPU's largest has 134\.2 MB: \d\d frames of this size might fit$/,
    );
  });

  test('weights beyond what its limits suggest are refused unless somebody states how much it has', async () => {
    const huge = [tokenizer, encoder, wan, vae(220)];
    await assert.rejects(engine.loose(huge), {
      code: 'out-of-memory',
      message:
        /^the model's weights take at least \d\.\d GB of GPU memory at once, the GPU's limits suggest 1\.1 GB \(its largest buffer for shaders has 134\.2 MB\): take files of smaller types/,
    });
    assert.ok((await engine.read()).bytes < HEADERS);
  });
});
