//! llama.cpp's names of a T5 encoder → transformers'.
//!
//! Source: `gguf-py/gguf/tensor_mapping.py` of <https://github.com/ggml-org/llama.cpp>.

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
