// The rows as ONNX graphs, made from the rows' own weights. Where there are several ways to say the same thing, all are
// built: the ORT column tries them and keeps the fastest that is right, so that we compare with its best.
// A variant is {name, build()}; build gives {graph, feeds, restore?}: what the graph's inputs are filled with, and how
// an output that has another layout than the row is brought back (outside the timing: a whole model would keep it).
import { conv } from './graphs-conv.mjs';
import { vae } from './graphs-vae.mjs';
import { Graph } from './lib/onnx.mjs';
import { onnxBlocks } from './lib/weights.mjs';

/** All ways to compute a row with activations of `type` ('f32' or 'f16'). */
export function variants(row, inputs, type) {
  const list = { ...builders, conv, vae }[row.kind](row.p, inputs);
  return list.map(({ name, build }) => ({
    name,
    build() {
      const feeds = {};
      const g = new Graph(type);
      const context = {
        g,
        /** A graph input: one of the row's tensors, or that tensor laid out differently. */
        feed(key, shape = inputs[key].shape, data = inputs[key].data) {
          feeds[key] = data;
          return g.input(key, shape);
        },
        constant: (key, shape = inputs[key].shape) => g.constant(inputs[key].data, shape),
        linear: (x, key) => linear(g, x, inputs, key),
      };
      return { graph: g, feeds, ...build(context) };
    },
  }));
}

/** x · wᵀ + b as PyTorch's exporter writes it for inputs of three axes: the weight transposed once. */
function linear(g, x, inputs, key) {
  const { shape: [n, k], data } = inputs[`${key}.weight`];
  const product = g.op('MatMul', [x, g.constant(transposed(data, n, k), [k, n])]);
  const bias = inputs[`${key}.bias`];
  return bias ? g.op('Add', [product, g.constant(bias.data)]) : product;
}

function transposed(data, rows, columns) {
  const out = new Float32Array(data.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j];
  return out;
}

/** RMSNorm over the last axis: one fused operator of onnxruntime's, or as exported from plain tensor code. */
const rmsNorm = {
  fused: (g, x, gain) => g.op('SimplifiedLayerNormalization', [x, gain], { axis: -1, epsilon: { float: 1e-6 }, stash_type: 1 }),
  composed(g, x, gain) {
    const mean = g.op('ReduceMean', [g.op('Mul', [x, x]), g.constant([-1])], { keepdims: 1 });
    return g.op('Mul', [g.op('Div', [x, g.op('Sqrt', [g.op('Add', [mean, g.scalar(1e-6)])])]), gain]);
  },
};

function layerNorm(g, x, gain, shift) {
  return g.op('LayerNormalization', [x, gain, shift], { axis: -1, epsilon: { float: 1e-6 } });
}
const plainNorm = (g, x, d) => layerNorm(g, x, g.constant(new Float32Array(d).fill(1)), g.constant(new Float32Array(d)));
const modulate = (g, x, scale, shift) => g.op('Add', [g.op('Mul', [x, g.op('Add', [scale, g.scalar(1)])]), shift]);

/** Rotary embedding of neighbouring pairs; x [l, heads·dim] → the same. */
const rotate = {
  fused(g, x, { l, heads, dim }, cos, sin) {
    const positions = g.constant(Array.from({ length: l }, (_, i) => i), [1, l]);
    const batched = g.op('Reshape', [x, g.constant([1, l, heads * dim])]);
    const turned = g.contrib('RotaryEmbedding', [batched, positions, cos, sin], { interleaved: 1, num_heads: heads });
    return g.op('Reshape', [turned, g.constant([l, heads * dim])]);
  },
  composed(g, x, { l, heads, dim }, cos, sin) {
    const pairs = g.op('Reshape', [x, g.constant([l, heads, dim / 2, 2])]);
    const [even, odd] = g.op('Split', [pairs], { axis: 3, num_outputs: 2 }, { outputs: 2 });
    const table = (one) => g.op('Reshape', [one, g.constant([l, 1, dim / 2, 1])]);
    const times = (a, b) => g.op('Mul', [a, b]);
    const [c, s] = [table(cos), table(sin)];
    const joined = g.op('Concat', [g.op('Sub', [times(even, c), times(odd, s)]), g.op('Add', [times(even, s), times(odd, c)])], { axis: 3 });
    return g.op('Reshape', [joined, g.constant([l, heads * dim])]);
  },
};

/** Attention of [lq, d] over [lk, d]; `scale` and `bias` [1, heads, lq, lk] for T5. */
const attend = {
  fused(g, q, k, v, { lq, lk, heads, dim, scale = 1 / Math.sqrt(dim), bias = '' }) {
    const batched = (x, l) => g.op('Reshape', [x, g.constant([1, l, heads * dim])]);
    const inputs = [batched(q, lq), batched(k, lk), batched(v, lk), ...(bias ? ['', '', bias] : [])];
    const out = g.contrib('MultiHeadAttention', inputs, { num_heads: heads, scale: { float: scale } });
    return g.op('Reshape', [out, g.constant([lq, heads * dim])]);
  },
  composed(g, q, k, v, { lq, lk, heads, dim, scale = 1 / Math.sqrt(dim), bias = '' }) {
    const split = (x, l, perm) => g.op('Transpose', [g.op('Reshape', [x, g.constant([l, heads, dim])])], { perm });
    const product = g.op('MatMul', [split(q, lq, [1, 0, 2]), split(k, lk, [1, 2, 0])]);
    const scaled = scale === 1 ? product : g.op('Mul', [product, g.scalar(scale)]);
    const scores = bias ? g.op('Add', [scaled, g.op('Squeeze', [bias, g.constant([0])])]) : scaled;
    const out = g.op('MatMul', [g.op('Softmax', [scores], { axis: -1 }), split(v, lk, [1, 0, 2])]);
    return g.op('Reshape', [g.op('Transpose', [out], { perm: [1, 0, 2] }), g.constant([lq, heads * dim])]);
  },
};

/** GELU's tanh approximation. */
const gelu = {
  fused: (g, x) => g.contrib('FastGelu', [x]),
  composed: (g, x) => g.op('Gelu', [x], { approximate: 'tanh' }),
};

const either = (build) => ['fused', 'composed'].map((how) => ({ name: how, build: (context) => build(context, how) }));

const builders = {
  gemm({ m, k, n }, inputs) {
    const weight = inputs['w.weight'];
    if (!weight.blocks) {
      return [
        { name: 'MatMul+Add', build: ({ g, feed, linear }) => g.output(linear(feed('x'), 'w'), [m, n]) },
        { name: 'Gemm', build: ({ g, feed, constant }) => g.output(g.op('Gemm', [feed('x'), constant('w.weight'), constant('w.bias')], { transB: 1 }), [m, n]) },
      ];
    }
    const make = (biasInside, accuracy) => ({ g, feed, constant }) => {
      const { bits, b, bShape, scales, zeros } = onnxBlocks(weight);
      const attributes = { K: k, N: n, bits, block_size: 32, ...(accuracy ? { accuracy_level: accuracy } : {}) };
      // without zero points they are in the middle, which is what Q4_0 and Q8_0 have
      const zero = weight.type === 'q4_k' ? g.constant(zeros) : '';
      const parts = [feed('x'), g.constant(b, bShape), g.constant(scales), zero];
      const out = biasInside
        ? g.contrib('MatMulNBits', [...parts, '', constant('w.bias')], attributes)
        : g.op('Add', [g.contrib('MatMulNBits', zero ? parts : parts.slice(0, 3), attributes), constant('w.bias')]);
      g.output(out, [m, n]);
    };
    return [
      { name: 'MatMulNBits with bias', build: make(true) },
      { name: 'MatMulNBits+Add', build: make(false) },
      { name: 'MatMulNBits with bias, 8-bit activations', build: make(true, 4) },
    ];
  },
  attention({ heads, dim, lq, lk }) {
    return ['fused', 'composed'].map((how) => ({
      name: how === 'fused' ? 'MultiHeadAttention' : 'MatMul·Softmax·MatMul',
      build: ({ g, feed }) => g.output(attend[how](g, feed('q'), feed('k'), feed('v'), { lq, lk, heads, dim }), [lq, heads * dim]),
    }));
  },
  modulate({ l, d }) {
    return [
      { name: 'LayerNormalization·Mul·Add', build: ({ g, feed }) => g.output(modulate(g, plainNorm(g, feed('x'), d), feed('scale'), feed('shift')), [l, d]) },
      // no exporter writes this, but nothing forbids it: the norm's own gain and shift, computed at run time
      { name: 'modulation as the norm’s weights', build: ({ g, feed }) => g.output(layerNorm(g, feed('x'), g.op('Add', [feed('scale'), g.scalar(1)]), feed('shift')), [l, d]) },
    ];
  },
  gate({ l, d }) {
    return [{ name: 'Mul+Add', build: ({ g, feed }) => g.output(g.op('Add', [feed('x'), g.op('Mul', [feed('y'), feed('gate')])]), [l, d]) }];
  },
  rope(p) {
    return either(({ g, feed, constant }, how) => {
      const [cos, sin] = [constant('cos'), constant('sin')];
      for (const one of ['q', 'k']) g.output(rotate[how](g, rmsNorm[how](g, feed(one), constant(`${one}.gain`)), p, cos, sin), [p.l, p.d]);
    });
  },
  channelnorm({ c, f, h, w }, inputs) {
    const volume = f * h * w;
    return [{
      name: 'as exported',
      build({ g, feed, constant }) {
        const x = feed('x', [1, c, f, h, w]);
        const norm = g.op('Max', [g.op('ReduceL2', [x, g.constant([1])], { keepdims: 1 }), g.scalar(1e-6)]);
        const gained = g.op('Mul', [g.op('Mul', [g.op('Div', [x, norm]), g.scalar(Math.sqrt(c))]), constant('gain', [c, 1, 1, 1])]);
        g.output(g.op('Mul', [gained, g.op('Sigmoid', [gained])]), [1, c, f, h, w]);
      },
    }, {
      name: 'channels last, SimplifiedLayerNormalization·QuickGelu',
      build({ g, feed, constant }) {
        const x = feed('x', [volume, c], transposed(inputs.x.data, c, volume));
        g.output(g.contrib('QuickGelu', [rmsNorm.fused(g, x, constant('gain'))], { alpha: { float: 1 } }), [volume, c]);
        return { restore: (output) => transposed(output, volume, c) };
      },
    }];
  },
  block({ l, d, heads, dim, text, vace }) {
    return either(({ g, feed, constant, linear }, how) => {
      const [x, words] = [feed('x'), feed('text')];
      const six = g.op('Split', [feed('modulation')], { axis: 0, num_outputs: 6 }, { outputs: 6 });
      const tables = [constant('cos'), constant('sin')];
      const normed = (y, key) => rmsNorm[how](g, linear(y, key), constant(`${key}.gain`));
      const turned = (y, key) => rotate[how](g, normed(y, key), { l, heads, dim }, ...tables);
      const one = modulate(g, plainNorm(g, x, d), six[1], six[0]);
      const own = attend[how](g, turned(one, 'self.q'), turned(one, 'self.k'), linear(one, 'self.v'), { lq: l, lk: l, heads, dim });
      const after = g.op('Add', [x, g.op('Mul', [linear(own, 'self.o'), six[2]])]);
      const two = layerNorm(g, after, constant('norm2.gain'), constant('norm2.bias'));
      const other = attend[how](g, normed(two, 'cross.q'), normed(words, 'cross.k'), linear(words, 'cross.v'), { lq: l, lk: text, heads, dim });
      const both = g.op('Add', [after, linear(other, 'cross.o')]);
      const three = modulate(g, plainNorm(g, both, d), six[4], six[3]);
      const fed = linear(gelu[how](g, linear(three, 'ffn.in')), 'ffn.out');
      const out = g.op('Add', [both, g.op('Mul', [fed, six[5]])]);
      g.output(out, [l, d]);
      if (vace) g.output(linear(out, 'proj_out'), [l, d]);
    });
  },
  t5({ l, d, heads, dim }) {
    return either(({ g, feed, constant, linear }, how) => {
      const x = feed('x');
      const one = rmsNorm[how](g, x, constant('norm1'));
      const bias = feed('position', [1, heads, l, l]);
      const seen = attend[how](g, linear(one, 'q'), linear(one, 'k'), linear(one, 'v'), { lq: l, lk: l, heads, dim, scale: 1, bias });
      const after = g.op('Add', [x, linear(seen, 'o')]);
      const two = rmsNorm[how](g, after, constant('norm2'));
      const hidden = g.op('Mul', [gelu[how](g, linear(two, 'wi_0')), linear(two, 'wi_1')]);
      g.output(g.op('Add', [after, linear(hidden, 'wo')]), [l, d]);
    });
  },
};
