//! Scaled dot-product attention over heads.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Tensor, module};

/// Attention without mask, scaled by 1/√K.
///
/// # Shapes
/// `query` `[B, L, N, K]`, `key` and `value` `[B, S, N, K]` → `[B, L, N × K]`
pub fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<3> {
    attend_with(query, key, value, None, None, AttentionModuleOptions::default())
}

/// Attention with an optional mask (true = hidden, `[B, N, L, S]`) and additive bias (`[B, N, L, S]`).
///
/// # Shapes
/// As [`attend`].
pub fn attend_with(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
    bias: Option<Tensor<4>>,
    options: AttentionModuleOptions,
) -> Tensor<3> {
    let [b, l, n, k] = query.dims();
    let heads_first = |x: Tensor<4>| x.swap_dims(1, 2);
    let out = module::attention(heads_first(query), heads_first(key), heads_first(value), hidden, bias, options);
    out.swap_dims(1, 2).reshape([b, l, n * k])
}
