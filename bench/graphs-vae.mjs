// A chunk of the VAE's decoder as one ONNX graph, in two layouts: as exported, with 3-D convolutions; and frames first,
// where convolutions in time are 2-D ones over stacked frames (onnxruntime's fastest form of them, see graphs-conv.mjs).
// The frames remembered from the chunk before are inputs. They are not among the outputs, as they would have to be in a
// real graph: onnxruntime is spared these copies.
import { swapped } from './graphs-conv.mjs';
import { decode, vaes } from './vae.mjs';

export function vae({ model, size, before }, inputs) {
  const config = vaes[model];
  return [['3-D', video], ['frames first', framesFirst]].map(([name, layout]) => ({
    name,
    build(context) {
      const first = before === 0;
      const latent = { shape: [config.z_dim, 1, ...size], value: context.feed('latents', [1, config.z_dim, ...(layout === video ? [1] : []), ...size]) };
      const x = decode(layout(context, inputs), config, first, latent);
      const [c, f, h, w] = x.shape;
      context.g.output(x.value, layout === video ? [1, c, f, h, w] : [f, c, h, w]);
      return layout === video ? {} : { restore: (output) => swapped(output, f, c, h * w) };
    },
  }));
}

/** What both layouts do alike: channels are the second axis in both. */
const common = ({ g, constant }, ones) => ({
  norm({ shape: [c], value }, { key, silu }) {
    const length = g.op('Max', [g.op('ReduceL2', [value, g.constant([1])], { keepdims: 1 }), g.scalar(1e-6)]);
    const gain = constant(`${key}.gamma`, [c, ...ones]);
    const out = g.op('Mul', [g.op('Mul', [g.op('Div', [value, length]), g.scalar(Math.sqrt(c))]), gain]);
    return silu ? g.op('Mul', [out, g.op('Sigmoid', [out])]) : out;
  },
  add: ({ value: a }, { value: b }) => g.op('Add', [a, b]),
});
const reshape = (g, value, shape) => g.op('Reshape', [value, g.constant(shape)]);
const transpose = (g, value, perm) => g.op('Transpose', [value], { perm });
const slice = (g, value, axis, from, to) => g.op('Slice', [value, g.constant([from]), g.constant([to]), g.constant([axis])]);
/** Nearest neighbours, of pictures [1, n, h, w]. */
const doubled = (g, value, n, h, w) => {
  const scales = g.constant(Float32Array.of(1, 1, 2, 2), [4], 'f32');
  const attributes = { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' };
  return g.op('Resize', [reshape(g, value, [1, n, h, w]), '', scales], attributes);
};
/** Attention over [f, 3c, l] → [f, c, l], one head a frame. */
const attended = (g, value, c) => {
  const [q, k, v] = g.op('Split', [value], { axis: 1, num_outputs: 3 }, { outputs: 3 });
  const scores = g.op('Mul', [g.op('MatMul', [transpose(g, q, [0, 2, 1]), k]), g.scalar(1 / Math.sqrt(c))]);
  return g.op('MatMul', [v, transpose(g, g.op('Softmax', [scores], { axis: -1 }), [0, 2, 1])]);
};

/** Tensors [1, c, f, h, w]. */
function video(context, inputs) {
  const { g, feed, constant } = context;
  return {
    ...common(context, [1, 1, 1]),
    conv({ shape: [input, f, h, w], value }, { key, output, kernel, split }) {
      const [kt, kh, kw] = kernel;
      const past = kt === 3 && inputs[`past.${key}`];
      const x = past ? g.op('Concat', [feed(`past.${key}`, [1, input, 2, h, w]), value], { axis: 2 }) : value;
      const pads = [past ? 0 : kt - 1, kh >> 1, kw >> 1, 0, kh >> 1, kw >> 1];
      const y = g.op('Conv', [x, constant(`${key}.weight`, [output, input, ...kernel]), constant(`${key}.bias`)], { kernel_shape: kernel, pads });
      if (!split) return y;
      return reshape(g, transpose(g, reshape(g, y, [2, output / 2, f, h, w]), [1, 2, 0, 3, 4]), [1, output / 2, 2 * f, h, w]);
    },
    attend({ shape: [c3, f, h, w], value }) {
      const frames = transpose(g, reshape(g, value, [c3, f, h * w]), [1, 0, 2]);
      return reshape(g, transpose(g, attended(g, frames, c3 / 3), [1, 0, 2]), [1, c3 / 3, f, h, w]);
    },
    double: ({ shape: [c, f, h, w], value }) => reshape(g, doubled(g, value, c * f, h, w), [1, c, f, 2 * h, 2 * w]),
    duplicate({ shape: [c, f, h, w], value }, { output, time, first }) {
      const repeats = (output * time * 4) / c;
      const repeated = g.op('Expand', [reshape(g, value, [c, 1, f, h, w]), g.constant([c, repeats, f, h, w])]);
      const turned = transpose(g, reshape(g, repeated, [output, time, 2, 2, f, h, w]), [0, 4, 1, 5, 2, 6, 3]);
      const all = reshape(g, turned, [1, output, f * time, 2 * h, 2 * w]);
      return first && time > 1 ? slice(g, all, 2, time - 1, f * time) : all;
    },
  };
}

/** Tensors [f, c, h, w]. */
function framesFirst(context, inputs) {
  const { g, feed, constant } = context;
  return {
    ...common(context, [1, 1]),
    conv({ shape: [input, f, h, w], value }, { key, output, kernel: [kt, kh, kw], split }) {
      const options = { kernel_shape: [kh, kw], pads: [kh >> 1, kw >> 1, kh >> 1, kw >> 1] };
      const bias = constant(`${key}.bias`);
      const weight = (from) => g.constant(taps(inputs[`${key}.weight`].data, output, input, kt, kh * kw, from), [output, (kt - from) * input, kh, kw]);
      // the clip's first frame has zeros before it: only the last tap in time sees anything
      if (kt === 1 || !inputs[`past.${key}`]) return g.op('Conv', [value, weight(kt - 1), bias], options);
      const past = feed(`past.${key}`, [2, input, h, w], swapped(inputs[`past.${key}`].data, input, 2, h * w));
      const all = g.op('Concat', [past, value], { axis: 0 });
      const stacked = g.op('Concat', [0, 1, 2].map((t) => slice(g, all, 0, t, t + f)), { axis: 1 });
      const y = g.op('Conv', [stacked, weight(0), bias], options);
      return split ? reshape(g, y, [2 * f, output / 2, h, w]) : y;
    },
    attend: ({ shape: [c3, f, h, w], value }) => reshape(g, attended(g, reshape(g, value, [f, c3, h * w]), c3 / 3), [f, c3 / 3, h, w]),
    double: ({ shape: [c, f, h, w], value }) => reshape(g, doubled(g, value, f * c, h, w), [f, c, 2 * h, 2 * w]),
    duplicate({ shape: [c, f, h, w], value }, { output, time, first }) {
      const repeats = (output * time * 4) / c;
      const repeated = g.op('Expand', [reshape(g, value, [f, c, 1, h, w]), g.constant([f, c, repeats, h, w])]);
      const turned = transpose(g, reshape(g, repeated, [f, output, time, 2, 2, h, w]), [0, 2, 1, 5, 3, 6, 4]);
      const all = reshape(g, turned, [f * time, output, 2 * h, 2 * w]);
      return first && time > 1 ? slice(g, all, 0, time - 1, f * time) : all;
    },
  };
}

/** The weights of the taps in time from `from` on, side by side on the input axis: [output, taps × input, size]. */
function taps(kernel, output, input, kt, size, from) {
  const part = new Float32Array(output * (kt - from) * input * size);
  let at = 0;
  for (let co = 0; co < output; co++) for (let t = from; t < kt; t++) for (let ci = 0; ci < input; ci++) {
    const start = ((co * input + ci) * kt + t) * size;
    part.set(kernel.subarray(start, start + size), at);
    at += size;
  }
  return part;
}
