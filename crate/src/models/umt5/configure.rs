//! umT5 told by its tensors.

use serde_json::json;

use crate::error::Result;
use crate::models::family::Known;
use crate::models::sizes::{along, layers, shared};
use crate::weights::WeightSet;

/// Any umT5 encoder; what its shapes leave open is the same in all published ones.
///
/// # Errors
/// [`crate::error::Error::Weights`] when a tensor that tells a size is missing.
pub fn umt5(set: &WeightSet) -> Result<Known> {
    let attention = "encoder.block.0.layer.0.SelfAttention";
    let heads = along(set, &format!("{attention}.relative_attention_bias.weight"), 1)?;
    let inner = along(set, &format!("{attention}.q.weight"), 0)?;
    let d_model = along(set, &format!("{attention}.q.weight"), 1)?;
    let table = if set.get("shared.weight").is_some() { "shared.weight" } else { "encoder.embed_tokens.weight" };
    let num_layers = layers(set, "encoder.block");
    let name = match (d_model, num_layers) {
        (4096, 24) => "umT5-xxl encoder".into(),
        _ => format!("umT5 encoder of width {d_model} with {num_layers} layers"),
    };
    Ok(Known::part(
        name,
        json!({
            "architectures": ["UMT5EncoderModel"], "vocab_size": shared(set, table, d_model)?, "d_model": d_model,
            "d_kv": inner / heads, "num_heads": heads, "num_layers": num_layers,
            "d_ff": along(set, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight", 0)?,
            "relative_attention_num_buckets": along(set, &format!("{attention}.relative_attention_bias.weight"), 0)?,
            "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6, "feed_forward_proj": "gated-gelu",
        }),
    ))
}
