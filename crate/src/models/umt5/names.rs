//! llama.cpp's and Wan's own names of a T5 encoder → transformers'.
//!
//! Source: `gguf-py/gguf/tensor_mapping.py` of <https://github.com/ggml-org/llama.cpp>; `wan/modules/t5.py` of
//! <https://github.com/Wan-Video/Wan2.1>.

use crate::weights::rename::{Direction, Naming, Renamer, replace_head};

/// llama.cpp's names.
pub struct LlamaNames;

impl Naming for LlamaNames {
    fn is_foreign(&self, name: &str) -> bool {
        name.starts_with("enc.blk.")
    }

    fn to_diffusers(&self, _: &[&str]) -> Renamer {
        Box::new(|name, info| (to_umt5(name), info.shape.clone()))
    }

    /// Text encoders are written under transformers' names only.
    fn covers(&self, _: &[&str]) -> bool {
        false
    }

    fn to_foreign(&self, _: &[&str]) -> Box<dyn Fn(&str) -> String> {
        Box::new(str::to_owned)
    }
}

/// llama.cpp → transformers, inside one encoder block.
const T5_BLOCK: &[(&str, &str)] = &[
    ("attn_q", "layer.0.SelfAttention.q"),
    ("attn_k", "layer.0.SelfAttention.k"),
    ("attn_v", "layer.0.SelfAttention.v"),
    ("attn_o", "layer.0.SelfAttention.o"),
    ("attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"),
    ("attn_norm", "layer.0.layer_norm"),
    ("ffn_gate", "layer.1.DenseReluDense.wi_0"),
    ("ffn_up", "layer.1.DenseReluDense.wi_1"),
    ("ffn_down", "layer.1.DenseReluDense.wo"),
    ("ffn_norm", "layer.1.layer_norm"),
];

/// llama.cpp → transformers, outside the blocks.
const T5_TOP: &[(&str, &str)] = &[("token_embd", "shared"), ("enc.output_norm", "encoder.final_layer_norm")];

fn to_umt5(name: &str) -> String {
    if let Some((index, rest)) = name.strip_prefix("enc.blk.").and_then(|r| r.split_once('.')) {
        let rest = replace_head(rest, T5_BLOCK, Direction::Forward);
        return format!("encoder.block.{index}.{rest}");
    }
    replace_head(name, T5_TOP, Direction::Forward)
}

/// The names of Wan's own `models_t5_umt5-xxl-enc-bf16.pth`.
pub struct WanNames;

impl Naming for WanNames {
    fn is_foreign(&self, name: &str) -> bool {
        name == "token_embedding.weight" || wan_block(name).is_some_and(|(_, rest)| rest == "attn.q.weight")
    }

    fn to_diffusers(&self, _: &[&str]) -> Renamer {
        Box::new(|name, info| (from_wan(name), info.shape.clone()))
    }

    /// Text encoders are written under transformers' names only.
    fn covers(&self, _: &[&str]) -> bool {
        false
    }

    fn to_foreign(&self, _: &[&str]) -> Box<dyn Fn(&str) -> String> {
        Box::new(str::to_owned)
    }
}

/// Wan → transformers, inside one encoder block.
const WAN_BLOCK: &[(&str, &str)] = &[
    ("norm1", "layer.0.layer_norm"),
    ("attn", "layer.0.SelfAttention"),
    ("pos_embedding.embedding", "layer.0.SelfAttention.relative_attention_bias"),
    ("norm2", "layer.1.layer_norm"),
    ("ffn.gate.0", "layer.1.DenseReluDense.wi_0"),
    ("ffn.fc1", "layer.1.DenseReluDense.wi_1"),
    ("ffn.fc2", "layer.1.DenseReluDense.wo"),
];

/// Wan → transformers, outside the blocks.
const WAN_TOP: &[(&str, &str)] = &[("token_embedding", "shared"), ("norm", "encoder.final_layer_norm")];

fn wan_block(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("blocks.")?.split_once('.')
}

fn from_wan(name: &str) -> String {
    match wan_block(name) {
        Some((index, rest)) => format!("encoder.block.{index}.{}", replace_head(rest, WAN_BLOCK, Direction::Forward)),
        None => replace_head(name, WAN_TOP, Direction::Forward),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wans_own_names_become_those_of_transformers() {
        let cases = [
            ("blocks.3.attn.o.weight", "encoder.block.3.layer.0.SelfAttention.o.weight"),
            ("blocks.3.norm2.weight", "encoder.block.3.layer.1.layer_norm.weight"),
            ("blocks.0.ffn.gate.0.weight", "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
            ("blocks.0.ffn.fc2.weight", "encoder.block.0.layer.1.DenseReluDense.wo.weight"),
            (
                "blocks.11.pos_embedding.embedding.weight",
                "encoder.block.11.layer.0.SelfAttention.relative_attention_bias.weight",
            ),
            ("norm.weight", "encoder.final_layer_norm.weight"),
            ("token_embedding.weight", "shared.weight"),
        ];
        for (wan, transformers) in cases {
            assert_eq!(from_wan(wan), transformers);
        }
        assert!(WanNames.is_foreign("blocks.0.attn.q.weight") && !WanNames.is_foreign("blocks.0.self_attn.q.weight"));
    }
}
