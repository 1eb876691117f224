// What is measured: every row as data. A row is {name, group, kind, p (its sizes), flops, bytes(activationBytes)}.
// FLOPs count a multiply-add as two. Bytes are the least traffic there can be: every input and weight read once,
// every output written once; weights at their stored size, activations at the column's own size. `alone`: why there is
// no onnxruntime beside it; `tolerance`: where another one than the columns' applies.
import { bytesPerWeight } from './lib/weights.mjs';
import { describe, vaes } from './vae.mjs';

const rows = [];
function row(group, name, kind, p, flops, bytes, more = {}) {
  rows.push({ name, group, kind, p, flops, bytes, weights: p.weights ?? 'f32', ...more });
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
// lengths in steps of two: is the memory linear in the length?
for (const l of [80, 320, 640, 1280]) attention('self', 6, 32, l, l);
for (const l of [80, 320]) attention('cross', 6, 32, l, 32);
for (const l of [64, 256, 320, 640, 1280, 5184, 10368]) attention('self', 12, 128, l, l);
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
function blockFlops({ l, d, ffn, text, vace }) {
  const projections = 2 * d * d * (4 * l + 2 * l + 2 * text + (vace ? l : 0)); // q k v o, cross q o, cross k v, proj_out
  return projections + 4 * l * d * ffn + 4 * l * l * d + 4 * l * text * d;
}
function block(name, { grid, d, heads, ffn, text, vace = false }) {
  const l = grid[0] * grid[1] * grid[2];
  const weights = 8 * d * d + 2 * d * ffn + (vace ? d * d : 0);
  row('block', name, 'block', { grid, l, d, heads, dim: d / heads, ffn, text, vace }, blockFlops({ l, d, ffn, text, vace }), (a) => a * (weights + (vace ? 3 : 2) * l * d + text * d));
}
const small = { grid: [5, 4, 4], d: 192, heads: 6, ffn: 768, text: 32 };
const wan = { d: 1536, heads: 12, ffn: 8960 };
for (const [name, vace] of [['DiT', false], ['VACE', true]]) {
  block(`${name} block default model, 80 tokens`, { ...small, vace });
  block(`${name} block Wan-1.3B, 32 tokens`, { ...wan, grid: [2, 4, 4], text: 32, vace }); // what a software adapter can do
  block(`${name} block Wan-1.3B, 256 tokens`, { ...wan, grid: [1, 16, 16], text: 512, vace });
}
const t5Flops = ({ l, d, heads, dim, ffn }) => 2 * l * d * (4 * heads * dim + 3 * ffn) + 4 * l * l * heads * dim; // q k v o, wi_0 wi_1 wo, attention
function t5(name, { l, d, heads, dim, ffn }) {
  const inner = heads * dim;
  row('block', name, 't5', { l, d, heads, dim, ffn }, t5Flops({ l, d, heads, dim, ffn }), (a) => a * (4 * d * inner + 3 * d * ffn + 2 * l * d + heads * l * l));
}
const smallText = { d: 128, heads: 4, dim: 32, ffn: 384 };
t5('umT5 layer default model, 64 tokens', { ...smallText, l: 64 });
t5('umT5-xxl layer, 64 tokens', { l: 64, d: 4096, heads: 64, dim: 64, ffn: 10240 });

// ---- the VAE's decoder: `before` latent frames fill its memories (not timed), then `chunks` are decoded one by one
const product = (shape) => shape.reduce((a, b) => a * b, 1);
function decodeFlops(model, size, before, chunks) {
  const [first, later] = [true, false].map((one) => describe(vaes[model], one, size).flops);
  return before ? chunks * later : first + (chunks - 1) * later;
}
function vae(name, model, { size, before = 0, chunks = 1 }) {
  const { weights, shape } = describe(vaes[model], before + chunks === 1, size);
  const numbers = Object.values(weights).map(product).reduce((a, b) => a + b) + chunks * vaes[model].z_dim * product(size) + product(shape);
  const more = chunks > 1 ? { alone: 'two graphs in turns, with what they remember between them: the chunks are rows of their own' } : {};
  row('vae', name, 'vae', { model, size, before, chunks, out: shape }, decodeFlops(model, size, before, chunks), (a) => a * numbers, more);
}
for (const [model, title, sizes] of [['small-world', 'default model', [[2, 2], [8, 8]]], ['Wan 2.1', 'Wan 2.1', [[1, 2], [4, 4]]]]) {
  for (const size of sizes) for (const [which, before] of [['first', 0], ['later', 2]]) {
    vae(`VAE ${title}, ${which} chunk, ${8 * size[0]}×${8 * size[1]} px`, model, { size, before });
  }
}
// a clip and one of twice the length: the memory should not grow, since the frames stream through
for (const chunks of [5, 9]) vae(`VAE default model, ${4 * chunks - 3} frames, 32×32 px`, 'small-world', { size: [4, 4], chunks });

// ---- the default model from prompt to pixels, by the engine that ships (pkg/wasm)
{
  const [width, height, numFrames, numSteps] = [64, 64, 17, 12];
  const one = { l: 80, d: small.d, ffn: small.ffn, text: small.text };
  const transformer = 6 * blockFlops(one) + 2 * blockFlops({ ...one, vace: true });
  const text = 2 * t5Flops({ ...smallText, l: 32 });
  // guidance: the prompt and the empty one; embeddings, projections and the scheduler are under 1 % and not counted
  const flops = 2 * (text + numSteps * transformer) + decodeFlops('small-world', [8, 8], 0, 5);
  const request = {
    prompt: 'a large red ball bounces over grass at sunset', negativePrompt: '', width, height, numFrames, fps: 16, numSteps,
    guidanceScale: 3, seed: 7, preview: false,
  };
  row('clip', `clip default model ${width}×${height}×${numFrames}, ${numSteps} steps`, 'clip', { folder: 'models/small-world', request }, flops, () => 0, {
    alone: 'a whole pipeline is more than a graph',
    tolerance: 1e-2, // bytes after twelve steps, where rounding adds up
  });
}

export { rows };
/** Rows that a smoke run does. */
export const isSmall = (one) => one.flops <= 0.2e9;
/** Rows of the CPU table: single operations and whole layers; on the CPU weights are f32. */
export const onCpu = (one) => one.group !== 'norm' && one.weights === 'f32';
