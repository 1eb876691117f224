//! Attention on the CPU: a block of query rows at a time, so that scores stay in the cache and memory grows with the
//! number of keys only.

use burn::tensor::Tensor;

use super::{Target, Values, View, math, product, tensor};
use crate::kernels::ops::Scores;

/// Scores held at once: 256 KiB, half of a small core's second cache.
const SCORES: usize = 1 << 16;
/// The score of a hidden key: its weight is e^(−87) of the best one's, nothing in f32.
const HIDDEN: f32 = -1e30;

/// As [`crate::kernels::attention::attention`]; `None` where a tensor is elsewhere.
pub fn attention(query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>, scores: &Scores) -> Option<Tensor<3>> {
    let [b, l, n, k] = query.dims();
    let s = key.dims()[1];
    if b * l * n * k * s == 0 {
        return None;
    }
    let (q, key, value) = (Values::of(query)?, Values::of(key)?, Values::of(value)?);
    let bias = match &scores.bias {
        Some(bias) => Some((Values::of(bias)?, bias.dims()[0])),
        None => None,
    };
    let seen = match &scores.seen {
        Some(seen) => Some(Values::of(seen)?),
        None => None,
    };
    let scale = scores.scale.unwrap_or(1.0 / (k as f64).sqrt()) as f32;
    let step = n * k; // from one token to the next
    let mut out = vec![0.0; b * l * step];
    let block = (SCORES / s).clamp(4, 256).min(l);
    let mut weights = vec![0.0; block * s];
    for batch in 0..b {
        for head in 0..n {
            let of_keys = batch * s * step + head * k;
            for first in (0..l).step_by(block) {
                let rows = block.min(l - first);
                let at = (batch * l + first) * step + head * k;
                // Transposed, [S, rows] by columns: each query's scores lie together.
                product(
                    [s, rows, k],
                    Target { values: &mut weights, row: 1, column: s, add: false },
                    View { values: &key.as_slice()[of_keys..], row: step, column: 1 },
                    View { values: &q.as_slice()[at..], row: 1, column: step },
                    scale,
                );
                let mut sums = [0.0; 256];
                for (i, row) in weights.chunks_exact_mut(s).take(rows).enumerate() {
                    if let Some((bias, batches)) = &bias {
                        let at = ((batch.min(batches - 1) * n + head) * l + first + i) * s;
                        row.iter_mut().zip(&bias.as_slice()[at..]).for_each(|(score, bias)| *score += bias);
                    }
                    if let Some(seen) = &seen {
                        let seen = &seen.as_slice()[batch * s..];
                        row.iter_mut().zip(seen).for_each(|(score, seen)| {
                            *score = if *seen == 0.0 { HIDDEN } else { *score };
                        });
                    }
                    sums[i] = math::exp_below_max(row);
                }
                product(
                    [k, rows, s],
                    Target { values: &mut out[at..], row: 1, column: step, add: false },
                    View { values: &value.as_slice()[of_keys..], row: 1, column: step },
                    View { values: &weights, row: 1, column: s },
                    1.0,
                );
                for (i, sum) in sums.iter().take(rows).enumerate() {
                    let share = 1.0 / sum;
                    out[at + i * step..][..k].iter_mut().for_each(|x| *x *= share);
                }
            }
        }
    }
    Some(tensor(out, [b, l, step]))
}
