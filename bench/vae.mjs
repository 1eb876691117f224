// The decoder of the Wan VAE as one walk over a handful of operations, for a single latent frame. Whoever walks it says
// what the operations do: count, compute plainly (reference-vae.mjs) or write a graph (graphs-vae.mjs).
// It follows diffusers' autoencoder_kl_wan.py, names included; pixels stay folded where the model folds them.

/** Configurations under diffusers' names. The encoder and the latents' statistics play no part here. */
export const vaes = {
  'small-world': {
    z_dim: 32, base_dim: 24, decoder_base_dim: 32, dim_mult: [1, 2, 2], num_res_blocks: 1, temperal_downsample: [true, true],
    is_residual: true, in_channels: 12, out_channels: 12, patch_size: 2, scale_factor_spatial: 8,
    latents_mean: new Array(32).fill(0), latents_std: new Array(32).fill(1),
  },
  'Wan 2.1': {
    z_dim: 16, base_dim: 96, dim_mult: [1, 2, 4, 4], num_res_blocks: 2, temperal_downsample: [false, true, true],
    is_residual: false, in_channels: 3, out_channels: 3, scale_factor_spatial: 8,
  },
};

/**
 * Decodes one latent frame. A tensor is {shape: [channels, frames, height, width], value}; `first` is the clip's first
 * frame, which is not doubled in time.
 * ops: conv(x, {key, output, kernel, split, flat}), norm(x, {key, silu}), attend(qkv), double(x),
 * duplicate(x, {output, time, first}), add(x, y), all returning values; `flat` weights have no axis of time.
 */
export function decode(ops, config, first, latent) {
  const conv = (x, key, output, kernel, more = {}) => {
    const [, f, h, w] = x.shape;
    return { shape: more.split ? [output / 2, 2 * f, h, w] : [output, f, h, w], value: ops.conv(x, { key, output, kernel, ...more }) };
  };
  const norm = (x, key, silu = true) => ({ shape: x.shape, value: ops.norm(x, { key, silu }) });
  const add = (x, y) => ({ shape: x.shape, value: ops.add(x, y) });
  const resnet = (x, at, output) => {
    const shortcut = x.shape[0] === output ? x : conv(x, `${at}.conv_shortcut`, output, [1, 1, 1]);
    const half = conv(norm(x, `${at}.norm1`), `${at}.conv1`, output, [3, 3, 3]);
    return add(conv(norm(half, `${at}.norm2`), `${at}.conv2`, output, [3, 3, 3]), shortcut);
  };
  const attention = (x, at) => {
    const c = x.shape[0];
    const qkv = conv(norm(x, `${at}.norm`, false), `${at}.to_qkv`, 3 * c, [1, 1, 1], { flat: true });
    return add(conv({ shape: x.shape, value: ops.attend(qkv) }, `${at}.proj`, c, [1, 1, 1], { flat: true }), x);
  };
  const upsample = (x, at, output, temporal) => {
    const timed = temporal && !first ? conv(x, `${at}.time_conv`, 2 * x.shape[0], [3, 1, 1], { split: true }) : x;
    const [c, f, h, w] = timed.shape;
    return conv({ shape: [c, f, 2 * h, 2 * w], value: ops.double(timed) }, `${at}.resample.1`, output, [1, 3, 3], { flat: true });
  };
  const shortcutOf = (x, output, temporal) => {
    const [, f, h, w] = x.shape;
    const time = temporal ? 2 : 1;
    return { shape: [output, first ? 1 : f * time, 2 * h, 2 * w], value: ops.duplicate(x, { output, time, first }) };
  };

  const { dim_mult: multiples, is_residual: residual } = config;
  const base = config.decoder_base_dim ?? config.base_dim;
  const levels = multiples.length;
  const widths = multiples.map((multiple) => multiple * base).reverse();
  let x = conv(latent, 'conv_in', widths[0], [3, 3, 3]);
  x = resnet(x, 'mid_block.resnets.0', widths[0]);
  x = attention(x, 'mid_block.attentions.0');
  x = resnet(x, 'mid_block.resnets.1', widths[0]);
  widths.forEach((width, level) => {
    const last = level + 1 === levels;
    const temporal = !last && config.temperal_downsample[levels - 2 - level];
    const at = `up_blocks.${level}`;
    const entered = x;
    for (let i = 0; i <= config.num_res_blocks; i++) x = resnet(x, `${at}.resnets.${i}`, width);
    if (last) return;
    // the 2.1 family halves the channels while it doubles the size
    x = residual ? upsample(x, `${at}.upsampler`, width, temporal) : upsample(x, `${at}.upsamplers.0`, width / 2, temporal);
    if (residual) x = add(x, shortcutOf(entered, width, temporal));
  });
  return conv(norm(x, 'norm_out'), 'conv_out', config.out_channels, [3, 3, 3]);
}

const product = (shape) => shape.reduce((a, b) => a * b, 1);

/** What decoding one latent frame of `size` [height, width] takes: FLOPs, the shapes of weights and of the output. */
export function describe(config, first, size) {
  let flops = 0;
  const weights = {};
  const ops = {
    conv({ shape: [input, ...space] }, { key, output, kernel, flat }) {
      weights[`${key}.weight`] = [output, input, ...(flat ? kernel.slice(1) : kernel)];
      weights[`${key}.bias`] = [output];
      flops += product(space) * output * (2 * input * product(kernel) + 1);
    },
    norm({ shape: [channels] }, { key, silu }) {
      // the norm before the attention is stored as one for pictures
      weights[`${key}.gamma`] = silu ? [channels, 1, 1, 1] : [channels, 1, 1];
    },
    attend({ shape: [c, f, h, w] }) {
      flops += (4 * f * (h * w) ** 2 * c) / 3;
    },
    double() {},
    duplicate() {},
    add() {},
  };
  const { shape } = decode(ops, config, first, { shape: [config.z_dim, 1, ...size] });
  return { flops, weights, shape };
}
