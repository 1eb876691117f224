//! RMS norm over a row and, for queries and keys, the rotation of each head, in one launch.
//!
//! Source: RMSNorm 1910.07467 eq. 4; RoFormer 2104.09864 §3.2.

use burn::tensor::Tensor;

use super::launch::{Template, on_gpu, output_like, tensor};
use super::rows::row_shader;
use super::{Kernel, Switches, cpu};

const TEMPLATE: Template = Template(include_str!("rms_rope.wgsl"));

/// `x / √(mean(x²) + eps) × gain` over the last dimension.
///
/// # Shapes
/// `x` `[.., D]`, `gain` `[D]` → `[.., D]`
pub fn rms<const D: usize>(x: Tensor<D>, gain: &Tensor<1>, eps: f64) -> Tensor<D> {
    in_one_pass(&x, gain, eps, None).unwrap_or_else(|| rms_plain(x, gain, eps))
}

/// The twin of [`rms`] in plain tensors.
pub fn rms_plain<const D: usize>(x: Tensor<D>, gain: &Tensor<1>, eps: f64) -> Tensor<D> {
    let mean_square = x.clone().square().mean_dim(D - 1);
    let scale = (mean_square + eps).sqrt().recip();
    x * scale * gain.clone().unsqueeze()
}

/// [`rms`], then each pair of neighbouring channels of a head turned by its token's angle.
///
/// # Shapes
/// `x` `[B, L, N × K]`, `gain` `[N × K]`, `cos` and `sin` `[1, L, 1, K / 2]` → `[B, L, N, K]`
pub fn rms_rope(x: Tensor<3>, gain: &Tensor<1>, eps: f64, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    let [b, l, d] = x.dims();
    let head = 2 * cos.dims()[3];
    match in_one_pass(&x, gain, eps, Some((cos, sin))) {
        Some(done) => done.reshape([b, l, d / head, head]),
        None => rms_rope_plain(x, gain, eps, cos, sin),
    }
}

/// The twin of [`rms_rope`] in plain tensors.
pub fn rms_rope_plain(x: Tensor<3>, gain: &Tensor<1>, eps: f64, cos: &Tensor<4>, sin: &Tensor<4>) -> Tensor<4> {
    let [b, l, d] = x.dims();
    let k = 2 * cos.dims()[3];
    let n = d / k;
    let pairs = rms_plain(x, gain, eps).reshape([b, l, n, k / 2, 2]);
    let even = pairs.clone().narrow(4, 0, 1).reshape([b, l, n, k / 2]);
    let odd = pairs.narrow(4, 1, 1).reshape([b, l, n, k / 2]);
    let turned_even = even.clone() * cos.clone() - odd.clone() * sin.clone();
    let turned_odd = even * sin.clone() + odd * cos.clone();
    Tensor::stack::<5>(vec![turned_even, turned_odd], 4).reshape([b, l, n, k])
}

/// Norm and, with `turn` (cosines and sines), rotation by the device's kernel, heads still side by side.
fn in_one_pass<const D: usize>(
    x: &Tensor<D>,
    gain: &Tensor<1>,
    eps: f64,
    turn: Option<(&Tensor<4>, &Tensor<4>)>,
) -> Option<Tensor<D>> {
    let switches = Switches::of(&x.device());
    switches.run(
        Kernel::RmsRope,
        || fused(x, gain, eps, turn, switches.software),
        || cpu::rows::rms(x, gain, eps, turn),
    )
}

fn fused<const D: usize>(
    x: &Tensor<D>,
    gain: &Tensor<1>,
    eps: f64,
    turn: Option<(&Tensor<4>, &Tensor<4>)>,
    software: bool,
) -> Option<Tensor<D>> {
    let shape = x.dims();
    let d = shape[D - 1];
    let rows = shape.iter().product::<usize>() / d.max(1);
    let (tokens, head) = turn.map_or((1, 4), |(cos, _)| (cos.dims()[1], 2 * cos.dims()[3]));
    if d == 0 || !d.is_multiple_of(4) || !head.is_multiple_of(4) || rows == 0 {
        return None;
    }
    let (x, gain) = (on_gpu(x)?, on_gpu(gain)?);
    let out = output_like(&x, shape);
    let words = [rows, d / 4, head / 4, tokens, (eps as f32).to_bits() as usize, 0, 0, 0].map(|w| w as u32);
    match turn {
        None => {
            let (shader, count) = row_shader("rms", TEMPLATE, ("turn", "turn.none"), rows, software);
            shader.launch(&[&x, &out, &gain], &words, count);
        }
        Some((cos, sin)) => {
            let (cos, sin) = (on_gpu(cos)?, on_gpu(sin)?);
            let (shader, count) = row_shader("rms_rope", TEMPLATE, ("turn", "turn.rope"), rows, software);
            shader.launch(&[&x, &out, &gain, &cos, &sin], &words, count);
        }
    }
    Some(tensor(out))
}
