//! Functions over slices, without branches so that the compiler makes vectors of them (four lanes in WebAssembly).

/// Values summed side by side: two vectors of WebAssembly, which hides an addition's latency.
const LANES: usize = 8;

/// eˣ within 2 ulp for x in [−87, 88]; what lies outside is treated as the nearer end.
///
/// Source: Cephes `expf` (range cut to ±ln 2 / 2, minimax polynomial of degree 5).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding it leaves the rounded quotient, and the exponent's bias, in the lowest bits.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    (p * r * r + r + 1.0) * f32::from_bits(rounded.to_bits() << 23)
}

/// x · sigmoid(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GELU, tanh form: x · sigmoid(2 √(2/π) (x + 0.044715 x³)), Hendrycks & Gimpel 1606.08415 §2.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769;
    x / (1.0 + exp(-TWICE_ROOT * (x + 0.044_715 * x * x * x)))
}

/// Combines the values of `of(x)` lane by lane, then across the lanes.
#[inline(always)]
fn reduce(values: &[f32], start: f32, of: impl Fn(f32) -> f32, both: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = both(*lane, of(*x));
        }
    }
    let total = lanes.into_iter().fold(start, &both);
    rest.iter().fold(total, |total, x| both(total, of(*x)))
}

/// The sum.
pub fn sum(values: &[f32]) -> f32 {
    reduce(values, 0.0, |x| x, |a, b| a + b)
}

/// The sum of (x − shift)².
pub fn sum_of_squares(values: &[f32], shift: f32) -> f32 {
    reduce(values, 0.0, |x| (x - shift) * (x - shift), |a, b| a + b)
}

/// The largest value.
pub fn max(values: &[f32]) -> f32 {
    reduce(values, f32::NEG_INFINITY, |x| x, |a, b| if a > b { a } else { b })
}

/// Replaces each value by e^(x − the largest); returns their sum.
pub fn exp_below_max(values: &mut [f32]) -> f32 {
    let most = max(values);
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = values.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - most);
            *lane += *x;
        }
    }
    let mut total: f32 = lanes.into_iter().sum();
    for x in rest {
        *x = exp(*x - most);
        total += *x;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_a_few_bits() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let (found, right) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / right - 1.0).abs() < 3e-7, "e^{x} is {right}, not {found}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 1e-37 && exp(-1e30) >= 0.0);
        assert!(exp(1e30) > 1e38 && exp(1e30).is_finite());
    }

    #[test]
    fn gelu_and_silu_are_the_field_s() {
        for i in -200..=200 {
            let x = f64::from(i) / 10.0;
            let tanh_form =
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
            assert!((f64::from(gelu(x as f32)) - tanh_form).abs() < 2e-6 * x.abs().max(1.0), "gelu({x})");
            assert!((f64::from(silu(x as f32)) - x / (1.0 + (-x).exp())).abs() < 2e-6 * x.abs().max(1.0), "silu({x})");
        }
    }

    #[test]
    fn reductions_take_every_value_once() {
        for n in 1..40 {
            let values: Vec<f32> = (0..n).map(|i| ((i * 7) % 11) as f32 - 5.0).collect();
            assert_eq!(sum(&values), values.iter().sum::<f32>());
            assert_eq!(sum_of_squares(&values, 1.0), values.iter().map(|x| (x - 1.0).powi(2)).sum::<f32>());
            assert_eq!(max(&values), values.iter().copied().fold(f32::MIN, f32::max));
            let mut row = values.clone();
            let total = exp_below_max(&mut row);
            assert!((total - row.iter().sum::<f32>()).abs() < 1e-5 * total && row.contains(&1.0));
        }
    }
}
