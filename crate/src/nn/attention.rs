//! Scaled dot-product attention over heads.

use burn::tensor::Tensor;

pub use crate::kernels::attention::{Scores, attention as attend_with};

/// Attention without mask, scaled by 1/√K.
///
/// # Shapes
/// `query` `[B, L, N, K]`, `key` and `value` `[B, S, N, K]` → `[B, L, N × K]`
pub fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<3> {
    attend_with(query, key, value, Scores::default())
}
