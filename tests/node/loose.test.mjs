// The default model from loose files and with LoRAs, on the built wasm: as a folder, byte for byte.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { temporaryFolder } from '../browser/browser.mjs';
import { startEngine } from './engine.mjs';
import { framesOf, relativeL2, root } from './fixtures.mjs';

const model = join(root, 'models/small-world');
const options = {
  prompt: 'a large red ball bounces over grass at sunset',
  width: 64,
  height: 64,
  numFrames: 5,
  numSteps: 2,
  guidanceScale: 3,
  seed: 7,
};
/** Files of the model as a set would place them; `loose` renames what the engine is to tell by its tensors. */
const place = (path, from = path) => ({ path, from: join(model, from) });
const BASE = ['tabreel.json', 'model_index.json', 'scheduler/scheduler_config.json'].map((path) => place(path));
const ENCODER = place('text_encoder/any-name.bin', 'text_encoder/model.safetensors');
const TOKENIZER = place('tokenizer/tokenizer.json');
const VAE = ['vae/config.json', 'vae/diffusion_pytorch_model.safetensors'].map((path) => place(path));
const TRANSFORMER = ['transformer/config.json', 'transformer/diffusion_pytorch_model.gguf'].map((path) => place(path));
const PARTS = [ENCODER, TOKENIZER, ...VAE, ...TRANSFORMER];

/** A LoRA file of rank 1 for one layer. */
function writeLora(file, layer, [output, input]) {
  const values = (count) => new Float32Array(count).map((_, i) => ((i % 7) - 3) / 4);
  const [down, up] = [values(input), values(output)];
  const header = JSON.stringify({
    [`${layer}.lora_A.weight`]: { dtype: 'F32', shape: [1, input], data_offsets: [0, 4 * input] },
    [`${layer}.lora_B.weight`]: { dtype: 'F32', shape: [output, 1], data_offsets: [4 * input, 4 * (input + output)] },
  });
  const head = new Uint8Array(8);
  new DataView(head.buffer).setBigUint64(0, BigInt(header.length), true);
  writeFileSync(file, Buffer.concat([head, Buffer.from(header), Buffer.from(down.buffer), Buffer.from(up.buffer)]));
}

describe('loose files', () => {
  let engine;
  let whole;
  let folder;
  let width;
  before(async () => {
    folder = temporaryFolder();
    engine = await startEngine({ device: 'cpu' });
    await engine.load(model);
    whole = framesOf((await engine.generate(options)).events);
    const { default: config } = await import('../../models/small-world/transformer/config.json', { with: { type: 'json' } });
    width = config.num_attention_heads * config.attention_head_dim;
    writeLora(join(folder.path, 'fits.safetensors'), 'transformer.blocks.0.attn1.to_q', [width, width]);
    writeLora(join(folder.path, 'other.safetensors'), 'transformer.blocks.99.attn1.to_q', [width, width]);
  });
  after(() => {
    engine?.stop();
    folder?.remove();
  });

  const made = async (more) => {
    await engine.loose([...BASE, ...PARTS, ...more]);
    return framesOf((await engine.generate(options)).events);
  };
  const lora = (name, strength) => ({ path: `loras/1/${name}`, from: join(folder.path, name), strength });

  test('make the clip that the folder makes', async () => {
    assert.deepEqual(await made([]), whole);
  });

  test('a LoRA of strength 0 changes nothing, and one of strength 1 does', async () => {
    assert.deepEqual(await made([lora('fits.safetensors', 0)]), whole);
    assert.ok(relativeL2(await made([lora('fits.safetensors', 1)]), whole) > 1e-3);
  });

  test('a LoRA that fits nothing and a strength that is none are errors', async () => {
    await assert.rejects(made([lora('other.safetensors', 1)]), { code: 'weights', message: /a LoRA for this model/ });
    await assert.rejects(made([lora('fits.safetensors', 'much')]), {
      code: 'invalid-options',
      message: /strength must be a finite number/,
    });
  });

  test('inspecting tells the parts, what is missing, and what runs', async () => {
    const found = await engine.loose([...BASE, ...PARTS, lora('fits.safetensors', 1)], { inspect: true });
    assert.deepEqual(
      found.parts.map(({ part, leftOver, problem }) => [part, leftOver, problem]),
      ['tokenizer', 'text_encoder', 'transformer', 'vae', 'lora'].map((part) => [part, [], undefined]),
    );
    assert.equal(found.runs, true, found.reason);
    assert.ok(found.plan.vae.bytes > 1e6);
    const alone = await engine.loose([place('loose/what.bin', ENCODER.path.replace('any-name.bin', 'model.safetensors'))], {
      inspect: true,
    });
    assert.deepEqual([alone.parts[0].part, alone.missing], ['text_encoder', ['tokenizer', 'transformer', 'vae']]);
    assert.equal(alone.runs, false);
  });
});
