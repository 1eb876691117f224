// Files of true shapes of which only the header is there: the rest reads as zeros. No disk is filled.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fixture } from './fixtures.mjs';

const BYTES = { F16: 2, F32: 4 };

/** A safetensors file: `head` is its beginning, `size` its length with all the tensors, `{ name: shape }`. */
export function headerOnly(path, tensors, dtype = 'F16') {
  let at = 0;
  const entries = Object.entries(tensors).map(([name, shape]) => {
    const start = at;
    at += shape.reduce((product, side) => product * side, BYTES[dtype]);
    return [name, { dtype, shape, data_offsets: [start, at] }];
  });
  const text = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return { path, head: new Uint8Array(Buffer.concat([length, text])), size: 8 + text.length + at };
}

const withBias = (name, [output, ...rest]) => ({ [`${name}.weight`]: [output, ...rest], [`${name}.bias`]: [output] });

/** Wan 2.1's text-to-video transformer under diffusers' names; by default the 1.3B. */
export function wanTransformer({ dim = 1536, ffn = 8960, layers = 30, channels = 16 } = {}) {
  const attention = (name) => ({
    ...Object.assign({}, ...['to_q', 'to_k', 'to_v', 'to_out.0'].map((one) => withBias(`${name}.${one}`, [dim, dim]))),
    [`${name}.norm_q.weight`]: [dim],
    [`${name}.norm_k.weight`]: [dim],
  });
  const block = (i) => ({
    [`blocks.${i}.scale_shift_table`]: [1, 6, dim],
    ...attention(`blocks.${i}.attn1`),
    ...attention(`blocks.${i}.attn2`),
    ...withBias(`blocks.${i}.norm2`, [dim]),
    ...withBias(`blocks.${i}.ffn.net.0.proj`, [ffn, dim]),
    ...withBias(`blocks.${i}.ffn.net.2`, [dim, ffn]),
  });
  const embedder = 'condition_embedder';
  return Object.assign(
    {
      ...withBias('patch_embedding', [dim, channels, 1, 2, 2]),
      ...withBias(`${embedder}.time_embedder.linear_1`, [dim, 256]),
      ...withBias(`${embedder}.time_embedder.linear_2`, [dim, dim]),
      ...withBias(`${embedder}.time_proj`, [6 * dim, dim]),
      ...withBias(`${embedder}.text_embedder.linear_1`, [dim, 4096]),
      ...withBias(`${embedder}.text_embedder.linear_2`, [dim, dim]),
      scale_shift_table: [1, 2, dim],
      ...withBias('proj_out', [4 * channels, dim]),
    },
    ...Array.from({ length: layers }, (_, i) => block(i)),
  );
}

/** umT5-xxl under transformers' names. */
export function umt5() {
  const [dim, ffn, layers] = [4096, 10240, 24];
  const block = (i) => ({
    ...Object.fromEntries(['q', 'k', 'v', 'o'].map((one) => [`encoder.block.${i}.layer.0.SelfAttention.${one}.weight`, [dim, dim]])),
    [`encoder.block.${i}.layer.0.SelfAttention.relative_attention_bias.weight`]: [32, 64],
    [`encoder.block.${i}.layer.0.layer_norm.weight`]: [dim],
    [`encoder.block.${i}.layer.1.DenseReluDense.wi_0.weight`]: [ffn, dim],
    [`encoder.block.${i}.layer.1.DenseReluDense.wi_1.weight`]: [ffn, dim],
    [`encoder.block.${i}.layer.1.DenseReluDense.wo.weight`]: [dim, ffn],
    [`encoder.block.${i}.layer.1.layer_norm.weight`]: [dim],
  });
  return Object.assign(
    { 'shared.weight': [256384, dim], 'encoder.final_layer_norm.weight': [dim] },
    ...Array.from({ length: layers }, (_, i) => block(i)),
  );
}

/** Wan 2.1's VAE at a width, published at 96: the fixture's, which diffusers wrote, with its channels scaled. */
export function wanVae(width = 96) {
  const bytes = readFileSync(join(fixture('wan_vae21'), 'weights.safetensors'));
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
  const [fixtureWidth, z] = [4, 16];
  /** Channels of the latents, which do not grow with the width, on the side of the output and the input. */
  const latents = { quant_conv: [2 * z, 2 * z], post_quant_conv: [z, z], 'encoder.conv_out': [2 * z], 'decoder.conv_in': [undefined, z] };
  const scaled = (name, shape) => {
    const fixed = latents[name.replace(/\.(weight|bias)$/, '')] ?? [];
    return shape.map((side, i) => (i > 1 || side === 1 || side === 3 ? side : (fixed[i] ?? (side / fixtureWidth) * width)));
  };
  const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__');
  return Object.fromEntries(tensors.map(([name, { shape }]) => [name, scaled(name, shape)]));
}
