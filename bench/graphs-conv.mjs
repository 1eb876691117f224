// Causal 3-D convolutions as ONNX graphs: the 3-D operator itself, and what it can be composed of where that is slow or
// missing: 2-D convolutions over frames.

export function conv({ cin, cout, f, h, w, kernel: [kt, kh, kw], stride, pads, out, cache }, { x, past, weight }) {
  const frames = f + (cache ? 2 : 0);
  const before = cache ? 0 : pads[0][0];
  const outShape = [1, cout, ...out];
  const kernel = weight.data;
  const list = [{
    name: 'Conv 3-D',
    build({ g, feed, constant }) {
      const now = feed('x', [1, cin, f, h, w]);
      const input = cache ? g.op('Concat', [feed('past', [1, cin, 2, h, w]), now], { axis: 2 }) : now;
      const padding = [before, pads[1][0], pads[2][0], pads[0][1], pads[1][1], pads[2][1]];
      g.output(g.op('Conv', [input, constant('weight'), constant('bias')], { kernel_shape: [kt, kh, kw], strides: stride, pads: padding }), outShape);
    },
  }];
  const flat = { strides: stride.slice(1), pads: [pads[1][0], pads[2][0], pads[1][1], pads[2][1]], kernel_shape: [kh, kw] };

  /** The weights of some taps in time, side by side on the input axis: [cout, taps × cin, kh, kw]. */
  const taps = (from, to) => {
    const count = to - from;
    const part = new Float32Array(cout * count * cin * kh * kw);
    let at = 0;
    for (let co = 0; co < cout; co++) for (let t = from; t < to; t++) for (let ci = 0; ci < cin; ci++) {
      const start = ((co * cin + ci) * kt + t) * kh * kw;
      part.set(kernel.subarray(start, start + kh * kw), at);
      at += kh * kw;
    }
    return part;
  };
  /** Frames-first inputs, the causal zeros or the cache in front. */
  const framesFirst = ({ g, feed }) => {
    const now = feed('x', [f, cin, h, w], swapped(x.data, cin, f, h * w));
    if (cache) return g.op('Concat', [feed('past', [2, cin, h, w], swapped(past.data, cin, 2, h * w)), now], { axis: 0 });
    return before ? g.op('Concat', [g.constant(new Float32Array(before * cin * h * w), [before, cin, h, w]), now], { axis: 0 }) : now;
  };
  const restore = (output) => swapped(output, out[0], cout, out[1] * out[2]);
  const slice = (g, x, start, end) => g.op('Slice', [x, g.constant([start]), g.constant([end]), g.constant([0])]);

  if (kt === 1) list.push({
    name: 'Conv 2-D over frames',
    build({ g, feed, constant }) {
      g.output(g.op('Conv', [framesFirst({ g, feed }), constant('weight', [cout, cin, kh, kw]), constant('bias')], flat), [out[0], cout, out[1], out[2]]);
      return { restore };
    },
  });
  if (kt === 3 && kh > 1) {
    list.push({
      name: 'Conv 2-D over three stacked frames',
      build({ g, feed, constant }) {
        const all = framesFirst({ g, feed });
        const stacked = g.op('Concat', [0, 1, 2].map((t) => slice(g, all, t, t + f)), { axis: 1 });
        g.output(g.op('Conv', [stacked, g.constant(taps(0, 3), [cout, 3 * cin, kh, kw]), constant('bias')], flat), [f, cout, out[1], out[2]]);
        return { restore };
      },
    }, {
      name: 'three Conv 2-D added',
      build({ g, feed, constant }) {
        const all = framesFirst({ g, feed });
        const parts = [0, 1, 2].map((t) => g.op('Conv', [slice(g, all, t, t + f), g.constant(taps(t, t + 1), [cout, cin, kh, kw]), ...(t ? [] : [constant('bias')])], flat));
        g.output(parts.reduce((a, b) => g.op('Add', [a, b])), [f, cout, out[1], out[2]]);
        return { restore };
      },
    });
  }
  if (kh === 1 && kw === 1 && kt === 3) list.push({
    name: 'Conv 2-D over time × positions',
    build({ g, feed, constant }) {
      const input = feed('x', [1, cin, frames, h * w]);
      const weights = constant('weight', [cout, cin, 3, 1]);
      g.output(g.op('Conv', [input, weights, constant('bias')], { strides: [stride[0], 1], pads: [pads[0][0], 0, pads[0][1], 0], kernel_shape: [3, 1] }), [1, cout, out[0], h * w]);
    },
  });
  if (kt * kh * kw === 1) list.push({
    name: 'MatMul',
    build({ g, feed, constant }) {
      const product = g.op('MatMul', [constant('weight', [cout, cin]), feed('x', [cin, f * h * w])]);
      g.output(g.op('Add', [product, constant('bias', [cout, 1])]), [cout, f * h * w]);
    },
  });
  return list;
}

/** [a, b, size] → [b, a, size]. */
export function swapped(data, a, b, size) {
  const result = new Float32Array(data.length);
  for (let i = 0; i < a; i++) for (let j = 0; j < b; j++) result.set(data.subarray((i * b + j) * size, (i * b + j + 1) * size), (j * a + i) * size);
  return result;
}
