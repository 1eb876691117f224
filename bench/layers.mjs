// The rows of whole layers in the words of the engine's own loader: a configuration as diffusers and transformers have
// it, and the row's weights as a safetensors file under their names.
import { safetensors } from './lib/safetensors.mjs';
import { vaes } from './vae.mjs';

const zeros = (shape) => ({ shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) });
/** The row's tensors under the names that `names` gives their keys. */
const renamed = (inputs, names) => Object.fromEntries(Object.entries(names).flatMap(([key, name]) => {
  const whole = inputs[key] ? [[name, inputs[key]]] : [];
  return [...whole, ...['weight', 'bias'].filter((part) => inputs[`${key}.${part}`]).map((part) => [`${name}.${part}`, inputs[`${key}.${part}`]])];
}));

export function block({ d, heads, dim, ffn }, inputs) {
  const names = { 'norm2.gain': 'norm2.weight', 'norm2.bias': 'norm2.bias', 'ffn.in': 'ffn.net.0.proj', 'ffn.out': 'ffn.net.2', proj_out: 'proj_out' };
  for (const [part, attention] of [['self', 'attn1'], ['cross', 'attn2']]) {
    for (const one of ['q', 'k', 'v', 'o']) names[`${part}.${one}`] = `${attention}.to_${one === 'o' ? 'out.0' : one}`;
    for (const one of ['q', 'k']) names[`${part}.${one}.gain`] = `${attention}.norm_${one}.weight`;
  }
  // the row's modulation is the sum of table and time embedding: here it comes with the time
  const weights = { ...renamed(inputs, names), scale_shift_table: zeros([1, 6, d]) };
  return { config: { num_attention_heads: heads, attention_head_dim: dim, ffn_dim: ffn }, weights: safetensors(weights) };
}

const BUCKETS = 32;

export function t5({ d, heads, dim, ffn }, inputs) {
  const names = { norm1: '0.layer_norm.weight', norm2: '1.layer_norm.weight' };
  for (const one of ['q', 'k', 'v', 'o']) names[one] = `0.SelfAttention.${one}`;
  for (const one of ['wi_0', 'wi_1', 'wo']) names[one] = `1.DenseReluDense.${one}`;
  // the row gives the bias of every pair of positions itself, not the table that it is looked up in
  const weights = { ...renamed(inputs, names), '0.SelfAttention.relative_attention_bias.weight': zeros([BUCKETS, heads]) };
  const config = { vocab_size: 1, d_model: d, d_kv: dim, d_ff: ffn, num_layers: 1, num_heads: heads, relative_attention_num_buckets: BUCKETS };
  return { config, weights: safetensors(weights) };
}

export function vae({ model }, inputs) {
  const weights = Object.fromEntries(Object.entries(inputs).filter(([, { weight }]) => weight));
  return { config: vaes[model], weights: safetensors(weights) };
}
