//! Layer norm over a row with what follows it, in one launch: adaLN's scale and shift, or a learned gain and shift.
//!
//! Source: adaLN, DiT 2212.09748 §3.2.

use burn::tensor::{Tensor, module};

use super::launch::{Template, on_gpu, output_like, tensor};
use super::rows::row_shader;
use super::{Kernel, Switches, cpu};

const TEMPLATE: Template = Template(include_str!("norm_modulate.wgsl"));

/// Layer norm of `x` times `1 + scale`, plus `shift`; both are slots of `six`, which holds six vectors for the clip or
/// for each token.
///
/// # Shapes
/// `x` `[B, L, D]`, `six` `[1 or B, 1 or L, 6, D]` → `[B, L, D]`
pub fn norm_modulate(x: Tensor<3>, six: &Tensor<4>, scale: usize, shift: usize, eps: f64) -> Tensor<3> {
    let switches = Switches::of(&x.device());
    let done = switches.run(
        Kernel::NormModulate,
        || fused_modulate(&x, six, [scale, shift], eps, switches.software),
        || cpu::rows::norm_modulate(&x, six, scale, shift, eps),
    );
    done.unwrap_or_else(|| norm_modulate_plain(x, six, scale, shift, eps))
}

/// The twin of [`norm_modulate`] in plain tensors.
pub fn norm_modulate_plain(x: Tensor<3>, six: &Tensor<4>, scale: usize, shift: usize, eps: f64) -> Tensor<3> {
    let slot = |i: usize| six.clone().narrow(2, i, 1).squeeze_dim::<3>(2);
    let [_, _, d] = x.dims();
    let ones = Tensor::ones([d], &x.device());
    module::layer_norm(x, ones, None, eps) * (slot(scale) + 1.0) + slot(shift)
}

fn fused_modulate(
    x: &Tensor<3>,
    six: &Tensor<4>,
    [scale, shift]: [usize; 2],
    eps: f64,
    software: bool,
) -> Option<Tensor<3>> {
    let [b, l, d] = x.dims();
    if !d.is_multiple_of(4) || b * l == 0 {
        return None;
    }
    let [six_batch, six_rows, _, _] = six.dims();
    let (x, six) = (on_gpu(x)?, on_gpu(six)?);
    let out = output_like(&x, [b, l, d]);
    let (shader, count) = row_shader("norm_modulate", TEMPLATE, ("apply", "apply.modulate"), b * l, software);
    let eps = (eps as f32).to_bits() as usize;
    let words = [b * l, d / 4, l, six_rows, eps, scale, shift, six_batch].map(|w| w as u32);
    shader.launch(&[&x, &out, &six], &words, count);
    Some(tensor(out))
}

/// Layer norm of `x` with a learned gain and shift.
///
/// # Shapes
/// `x` `[.., D]`, `gain` and `shift` `[D]` → `[.., D]`
pub fn norm_affine<const D: usize>(x: Tensor<D>, gain: &Tensor<1>, shift: &Tensor<1>, eps: f64) -> Tensor<D> {
    let switches = Switches::of(&x.device());
    let done = switches.run(
        Kernel::NormModulate,
        || fused_affine(&x, gain, shift, eps, switches.software),
        || cpu::rows::norm_affine(&x, gain, shift, eps),
    );
    done.unwrap_or_else(|| norm_affine_plain(x, gain, shift, eps))
}

/// The twin of [`norm_affine`] in plain tensors.
pub fn norm_affine_plain<const D: usize>(x: Tensor<D>, gain: &Tensor<1>, shift: &Tensor<1>, eps: f64) -> Tensor<D> {
    module::layer_norm(x, gain.clone(), Some(shift.clone()), eps)
}

fn fused_affine<const D: usize>(
    x: &Tensor<D>,
    gain: &Tensor<1>,
    shift: &Tensor<1>,
    eps: f64,
    software: bool,
) -> Option<Tensor<D>> {
    let shape = x.dims();
    let d = shape[D - 1];
    let rows = shape.iter().product::<usize>() / d.max(1);
    if d == 0 || !d.is_multiple_of(4) || rows == 0 {
        return None;
    }
    let (x, gain, shift) = (on_gpu(x)?, on_gpu(gain)?, on_gpu(shift)?);
    let out = output_like(&x, shape);
    let (shader, count) = row_shader("norm_affine", TEMPLATE, ("apply", "apply.affine"), rows, software);
    let words = [rows as u32, d as u32 / 4, 1, 1, (eps as f32).to_bits(), 0, 0, 1];
    shader.launch(&[&x, &out, &gain, &shift], &words, count);
    Some(tensor(out))
}
