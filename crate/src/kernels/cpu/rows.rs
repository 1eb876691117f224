//! The norms on the CPU, each in two passes over a row that is in the cache.

use burn::tensor::Tensor;

use super::{Values, math, tensor};

/// Mean and 1 / √(variance + eps).
fn moments(row: &[f32], eps: f64) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = math::sum(row) / count;
    let variance = math::sum_of_squares(row, mean) / count;
    (mean, (variance + eps as f32).sqrt().recip())
}

/// As [`crate::kernels::norm_modulate::norm_modulate`]; `None` where a tensor is elsewhere.
pub fn norm_modulate(x: &Tensor<3>, six: &Tensor<4>, scale: usize, shift: usize, eps: f64) -> Option<Tensor<3>> {
    let [b, l, d] = x.dims();
    let [six_batch, six_rows, _, _] = six.dims();
    if b * l * d == 0 {
        return None;
    }
    let (values, six) = (Values::of(x)?, Values::of(six)?);
    let mut out = vec![0.0; b * l * d];
    for (i, (to, row)) in out.chunks_exact_mut(d).zip(values.as_slice().chunks_exact(d)).enumerate() {
        let (mean, factor) = moments(row, eps);
        let at = (i / l).min(six_batch - 1) * six_rows + (i % l).min(six_rows - 1);
        let slot = |slot: usize| &six.as_slice()[(at * 6 + slot) * d..][..d];
        for (((to, x), scale), shift) in to.iter_mut().zip(row).zip(slot(scale)).zip(slot(shift)) {
            *to = (x - mean) * factor * (1.0 + scale) + shift;
        }
    }
    Some(tensor(out, [b, l, d]))
}

/// As [`crate::kernels::norm_modulate::norm_affine`]; `None` where a tensor is elsewhere.
pub fn norm_affine<const D: usize>(x: &Tensor<D>, gain: &Tensor<1>, shift: &Tensor<1>, eps: f64) -> Option<Tensor<D>> {
    let shape = x.dims();
    let d = shape[D - 1];
    if d == 0 {
        return None;
    }
    let (values, gain, shift) = (Values::of(x)?, Values::of(gain)?, Values::of(shift)?);
    let mut out = vec![0.0; values.as_slice().len()];
    for (to, row) in out.chunks_exact_mut(d).zip(values.as_slice().chunks_exact(d)) {
        let (mean, factor) = moments(row, eps);
        for (((to, x), gain), shift) in to.iter_mut().zip(row).zip(gain.as_slice()).zip(shift.as_slice()) {
            *to = (x - mean) * factor * gain + shift;
        }
    }
    Some(tensor(out, shape))
}

/// As [`crate::kernels::rms_rope::rms`], and with `turn` (cosines and sines) as
/// [`crate::kernels::rms_rope::rms_rope`] before its heads are taken apart; `None` where a tensor is elsewhere.
pub fn rms<const D: usize>(
    x: &Tensor<D>,
    gain: &Tensor<1>,
    eps: f64,
    turn: Option<(&Tensor<4>, &Tensor<4>)>,
) -> Option<Tensor<D>> {
    let shape = x.dims();
    let d = shape[D - 1];
    if d == 0 {
        return None;
    }
    let (values, gain) = (Values::of(x)?, Values::of(gain)?);
    let turn = match turn {
        Some((cos, sin)) => Some((Values::of(cos)?, Values::of(sin)?, cos.dims()[1], cos.dims()[3])),
        None => None,
    };
    let mut out = vec![0.0; values.as_slice().len()];
    for (i, (to, row)) in out.chunks_exact_mut(d).zip(values.as_slice().chunks_exact(d)).enumerate() {
        let factor = (math::sum_of_squares(row, 0.0) / d as f32 + eps as f32).sqrt().recip();
        for ((to, x), gain) in to.iter_mut().zip(row).zip(gain.as_slice()) {
            *to = x * factor * gain;
        }
        if let Some((cos, sin, tokens, pairs)) = &turn {
            let at = i % tokens * pairs;
            let (cos, sin) = (&cos.as_slice()[at..][..*pairs], &sin.as_slice()[at..][..*pairs]);
            for head in to.chunks_exact_mut(2 * pairs) {
                for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                    *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
                }
            }
        }
    }
    Some(tensor(out, shape))
}

/// As [`crate::kernels::channel_norm::channel_norm`]; `None` where a tensor is elsewhere.
pub fn channel_norm(x: &Tensor<5>, gain: &Tensor<5>, silu: bool) -> Option<Tensor<5>> {
    /// Pixels at a time: their sums stay in the first cache.
    const PIXELS: usize = 512;
    let shape = x.dims();
    let [b, c, f, h, w] = shape;
    let pixels = f * h * w;
    if b * c * pixels == 0 {
        return None;
    }
    let (values, gain) = (Values::of(x)?, Values::of(gain)?);
    let mut out = vec![0.0; values.as_slice().len()];
    let mut factors = [0.0; PIXELS];
    for (to, from) in out.chunks_exact_mut(c * pixels).zip(values.as_slice().chunks_exact(c * pixels)) {
        for first in (0..pixels).step_by(PIXELS) {
            let count = PIXELS.min(pixels - first);
            let factors = &mut factors[..count];
            factors.fill(0.0);
            for plane in from.chunks_exact(pixels) {
                factors.iter_mut().zip(&plane[first..]).for_each(|(sum, x)| *sum += x * x);
            }
            factors.iter_mut().for_each(|sum| {
                let length = sum.sqrt();
                *sum = 1.0 / if length < 1e-12 { 1e-12 } else { length };
            });
            for ((to, from), gain) in to.chunks_exact_mut(pixels).zip(from.chunks_exact(pixels)).zip(gain.as_slice()) {
                let rows = to[first..].iter_mut().zip(&from[first..]).zip(factors.iter());
                match silu {
                    true => rows.for_each(|((to, x), factor)| *to = math::silu(x * factor * gain)),
                    false => rows.for_each(|((to, x), factor)| *to = x * factor * gain),
                }
            }
        }
    }
    Some(tensor(out, shape))
}
