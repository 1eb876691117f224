// What is measured: every row as data. A row is {name, group, kind, p (its sizes), flops, bytes(activationBytes)}.
// FLOPs count a multiply-add as two. Bytes are the least traffic there can be: every input and weight read once,
// every output written once; weights at their stored size, activations at the column's own size.
import { bytesPerWeight } from './lib/weights.mjs';

const rows = [];
function row(group, name, kind, p, flops, bytes) {
  rows.push({ name, group, kind, p, flops, bytes, weights: p.weights ?? 'f32' });
}

// ---- GEMM + bias: y[m, n] = x[m, k] · wᵀ[n, k] + b[n]
function gemm(m, k, n, weights) {
  const flops = 2 * m * n * k + m * n; // products, and the bias
  const bytes = (a) => n * k * (weights === 'f32' ? a : bytesPerWeight[weights]) + (m * k + m * n + n) * a;
  row('gemm', `gemm ${m}×${k}→${n} ${weights}`, 'gemm', { m, k, n, weights }, flops, bytes);
}
for (const m of [80, 320]) {
  // the default model: 80 tokens for 64 px and 5 frames of latents; 192 is no multiple of 256, so Q4_K cannot be
  for (const [k, n] of [[192, 192], [192, 768], [768, 192]]) {
    for (const weights of ['f32', 'f16', 'q8_0', 'q4_0']) gemm(m, k, n, weights);
  }
}
for (const m of [256, 1280, 5184]) {
  for (const [k, n] of [[1536, 1536], [1536, 8960], [8960, 1536]]) {
    for (const weights of ['f32', 'f16', 'q8_0', 'q4_0', 'q4_k']) gemm(m, k, n, weights);
  }
}
// smaller M: what a software adapter can do of Wan's widths
for (const weights of ['f32', 'f16', 'q8_0', 'q4_0', 'q4_k']) gemm(32, 1536, 1536, weights);

// ---- attention: q [lq, heads·dim], k and v [lk, heads·dim] → [lq, heads·dim], scores scaled by 1/√dim
function attention(name, heads, dim, lq, lk) {
  const flops = 4 * heads * lq * lk * dim; // q·kᵀ and scores·v; the softmax is not counted
  row('attention', `${name} ${heads}×${dim} ${lq}→${lk}`, 'attention', { heads, dim, lq, lk }, flops, (a) => 2 * (lq + lk) * heads * dim * a);
}
for (const l of [80, 320]) attention('self', 6, 32, l, l);
for (const l of [80, 320]) attention('cross', 6, 32, l, 32);
for (const l of [64, 256, 1280, 5184]) attention('self', 12, 128, l, l);
attention('self', 12, 128, 10368, 10368); // twice the largest: is the memory linear in the length?
for (const l of [256, 1280, 5184]) for (const s of [64, 512]) attention('cross', 12, 128, l, s);

// ---- convolutions of the VAE: x [cin, f, h, w] → [cout, f', h', w']. `pad`: zeros before and after each axis.
// `cache`: the two frames before x are given instead of zeros.
function conv(name, { cin, cout = cin, f, h, w = h, kernel = [3, 3, 3], stride = [1, 1, 1], pad, cache = false }) {
  const [kt, kh, kw] = kernel;
  const pads = pad ?? [[kt - 1, 0], [kh >> 1, kh >> 1], [kw >> 1, kw >> 1]];
  const out = [f, h, w].map((size, i) => Math.floor((size + pads[i][0] + pads[i][1] - kernel[i]) / stride[i]) + 1);
  const positions = out[0] * out[1] * out[2];
  const flops = 2 * positions * cout * cin * kt * kh * kw + positions * cout; // padding counted as work, and the bias
  const bytes = (a) => a * (cin * (f + (cache ? 2 : 0)) * h * w + cout * positions + cout * cin * kt * kh * kw + cout);
  row('conv', `conv ${kernel.join('×')} ${cin}→${cout} ${f}×${h}×${w}${name}`, 'conv', { cin, cout, f, h, w, kernel, stride, pads, out, cache }, flops, bytes);
}
conv('', { cin: 32, f: 4, h: 16 });
conv('', { cin: 32, f: 4, h: 32 });
conv(' cache', { cin: 32, f: 4, h: 16, cache: true });
conv('', { cin: 64, f: 2, h: 16 });
for (const c of [96, 192, 384]) for (const h of [32, 64]) conv('', { cin: c, f: 4, h });
conv('', { cin: 96, f: 1, h: 32 });
for (const c of [96, 384]) conv(' cache', { cin: c, f: 4, h: 32, cache: true });
conv('', { cin: 96, f: 4, h: 32, kernel: [1, 1, 1] });
conv('', { cin: 384, cout: 192, f: 4, h: 32, kernel: [1, 1, 1] });
// down-sampling: a row and a column of zeros below and to the right only, as diffusers' ZeroPad2d
for (const c of [32, 96, 192]) conv(' stride 2', { cin: c, f: 4, h: 32, kernel: [1, 3, 3], stride: [1, 2, 2], pad: [[0, 0], [0, 1], [0, 1]] });
for (const c of [32, 192]) conv(' stride 2 in time', { cin: c, f: 5, h: 16, kernel: [3, 1, 1], stride: [2, 1, 1], pad: [[0, 0], [0, 0], [0, 0]] });

// ---- norms and what is fused with them; x [l, d]
for (const [l, d] of [[80, 192], [320, 192], [256, 1536], [1280, 1536], [5184, 1536]]) {
  // LayerNorm without parameters × (1 + scale) + shift: mean 1, variance 3, normalise 2, modulate 2 per element
  row('norm', `layernorm·modulate ${l}×${d}`, 'modulate', { l, d }, 8 * l * d, (a) => a * (2 * l * d + 2 * d));
  // x + y × gate
  row('norm', `gate+residual ${l}×${d}`, 'gate', { l, d }, 2 * l * d, (a) => a * (3 * l * d + d));
}
for (const [grid, heads, dim] of [[[5, 4, 4], 6, 32], [[1, 16, 16], 12, 128], [[5, 16, 16], 12, 128], [[4, 36, 36], 12, 128]]) {
  const l = grid[0] * grid[1] * grid[2];
  const d = heads * dim;
  // q and k: RMSNorm over all heads (square 2, normalise and gain 2), then each pair of channels turned (3 per channel)
  row('norm', `q/k rmsnorm·rope ${l}×${heads}×${dim}`, 'rope', { grid, heads, dim, l, d }, 2 * 7 * l * d, (a) => a * (4 * l * d + l * dim + 2 * d));
}
for (const [c, f, h] of [[32, 4, 16], [96, 4, 32], [192, 4, 32], [384, 4, 32], [96, 4, 128]]) {
  // x / ‖x‖ · √c · gain over channels, then SiLU (4): square 2, scale 2
  row('norm', `channelnorm·silu ${c}×${f}×${h}×${h}`, 'channelnorm', { c, f, h, w: h }, 8 * c * f * h * h, (a) => a * (2 * c * f * h * h + c));
}

// ---- whole layers
function block(name, { grid, d, heads, ffn, text, vace = false }) {
  const l = grid[0] * grid[1] * grid[2];
  const projections = 2 * d * d * (4 * l + 2 * l + 2 * text + (vace ? l : 0)); // q k v o, cross q o, cross k v, proj_out
  const flops = projections + 4 * l * d * ffn + 4 * l * l * d + 4 * l * text * d;
  const weights = 8 * d * d + 2 * d * ffn + (vace ? d * d : 0);
  row('block', name, 'block', { grid, l, d, heads, dim: d / heads, ffn, text, vace }, flops, (a) => a * (weights + (vace ? 3 : 2) * l * d + text * d));
}
block('DiT block default model, 80 tokens', { grid: [5, 4, 4], d: 192, heads: 6, ffn: 768, text: 32 });
block('VACE block default model, 80 tokens', { grid: [5, 4, 4], d: 192, heads: 6, ffn: 768, text: 32, vace: true });
block('DiT block Wan-1.3B, 256 tokens', { grid: [1, 16, 16], d: 1536, heads: 12, ffn: 8960, text: 512 });
block('VACE block Wan-1.3B, 256 tokens', { grid: [1, 16, 16], d: 1536, heads: 12, ffn: 8960, text: 512, vace: true });
function t5(name, { l, d, heads, dim, ffn }) {
  const inner = heads * dim;
  const flops = 2 * l * (4 * d * inner + 3 * d * ffn) + 4 * l * l * inner; // q k v o, wi_0 wi_1 wo, attention
  row('block', name, 't5', { l, d, heads, dim, ffn }, flops, (a) => a * (4 * d * inner + 3 * d * ffn + 2 * l * d + heads * l * l));
}
t5('umT5 layer default model, 64 tokens', { l: 64, d: 128, heads: 4, dim: 32, ffn: 384 });
t5('umT5-xxl layer, 64 tokens', { l: 64, d: 4096, heads: 64, dim: 64, ffn: 10240 });

export { rows };
/** Rows that a smoke run does. */
export const isSmall = (one) => one.flops <= 0.2e9;
/** Rows of the CPU table: on the CPU weights are f32. */
export const onCpu = (one) => ['gemm', 'attention', 'conv'].includes(one.group) && one.weights === 'f32';
