//! The VAE's norm over the channels of each pixel, with the SiLU that follows it.
//!
//! Source: diffusers `autoencoder_kl_wan.py` `WanRMS_norm` (`F.normalize`, eps 1e-12 on the length).

use burn::tensor::{Tensor, activation};

use super::launch::{Shader, fill, fold, on_gpu, output_like, tensor};
use super::{Kernel, Switches, cpu};

/// Each pixel's channel vector scaled to length 1, times `gain` (which holds the √C), then SiLU if asked for.
///
/// # Shapes
/// `x` `[B, C, F, H, W]`, `gain` `[1, C, 1, 1, 1]` → `[B, C, F, H, W]`
pub fn channel_norm(x: Tensor<5>, gain: &Tensor<5>, silu: bool) -> Tensor<5> {
    let done = Switches::of(&x.device()).run(
        Kernel::ChannelNorm,
        || fused(&x, gain, silu),
        || cpu::rows::channel_norm(&x, gain, silu),
    );
    done.unwrap_or_else(|| channel_norm_plain(x, gain, silu))
}

/// The twin of [`channel_norm`] in plain tensors.
pub fn channel_norm_plain(x: Tensor<5>, gain: &Tensor<5>, silu: bool) -> Tensor<5> {
    let length = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    let y = x / length * gain.clone();
    if silu { activation::silu(y) } else { y }
}

fn fused(x: &Tensor<5>, gain: &Tensor<5>, silu: bool) -> Option<Tensor<5>> {
    let shape = x.dims();
    let [b, c, f, h, w] = shape;
    let pixels = f * h * w;
    if b * c * pixels == 0 {
        return None;
    }
    let (x, gain) = (on_gpu(x)?, on_gpu(gain)?);
    let out = output_like(&x, shape);
    let wide = pixels.is_multiple_of(4);
    let columns = if wide { pixels / 4 } else { pixels };
    let source = move || {
        let kind = if wide { "vec4<f32>" } else { "f32" };
        // exp of large numbers is not finite on every driver.
        let result = if silu { "a / (V(1.0) + exp(-max(a, V(-80.0))))" } else { "a" };
        fill(include_str!("channel_norm.wgsl"), &[("type", kind), ("result", result)])
    };
    let key = format!("{wide} {silu}");
    Shader { name: "channel_norm", key, source: Box::new(source), threads: 64 }.launch(
        &[&x, &out, &gain],
        &[b as u32, c as u32, columns as u32, 0],
        fold((b * columns).div_ceil(64)),
    );
    Some(tensor(out))
}
