//! The names under which different tools store the same tensors, and how to get from one to the other.
//!
//! Models here ask for diffusers (transformers) names. Files with the original Wan names (also inside ComfyUI
//! checkpoints and GGUF files) or llama.cpp's T5 names are recognised and renamed by [`to_diffusers`].
//!
//! Source: `convert_wan_to_diffusers.py` of <https://github.com/huggingface/diffusers> and
//! `gguf-py/gguf/tensor_mapping.py` of <https://github.com/ggml-org/llama.cpp>.

mod wan_transformer;
mod wan_vae;

use std::collections::BTreeMap;

use super::info::TensorInfo;
use super::set::WeightSet;
use crate::error::Result;

/// Prefixes that single-file checkpoints put before every name.
const PREFIXES: &[&str] = &["model.diffusion_model.", "diffusion_model.", "net."];

/// Whose names a set of tensors bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// diffusers or transformers names, or none that is known: nothing is renamed.
    Diffusers,
    /// The original Wan transformer (T2V, I2V, FLF2V, VACE).
    WanTransformer,
    /// The original Wan VAE, 2.1 or 2.2.
    WanVae,
    /// llama.cpp's names of a T5 encoder.
    LlamaT5,
}

/// Recognises the scheme by names that only it uses.
pub fn detect<'a>(names: impl IntoIterator<Item = &'a str>) -> Scheme {
    for name in names {
        let name = strip_prefix(name);
        if name.starts_with("enc.blk.") {
            return Scheme::LlamaT5;
        }
        if wan_vae::is_original(name) {
            return Scheme::WanVae;
        }
        if wan_transformer::is_original(name) {
            return Scheme::WanTransformer;
        }
    }
    Scheme::Diffusers
}

/// The set under the names that the models of this crate ask for.
///
/// # Errors
/// [`crate::error::Error::Weights`] when two tensors would get the same name.
pub fn to_diffusers(set: WeightSet) -> Result<WeightSet> {
    let scheme = detect(set.names());
    let layout = wan_vae::Layout::of_original(set.names().map(strip_prefix));
    set.renamed(|info| {
        let name = strip_prefix(&info.name);
        match scheme {
            Scheme::Diffusers => (name.to_owned(), info.shape.clone()),
            Scheme::WanTransformer => (wan_transformer::to_diffusers(name), unflattened_patch(name, info)),
            Scheme::WanVae => (wan_vae::to_diffusers(name, layout), info.shape.clone()),
            Scheme::LlamaT5 => (llama_to_umt5(name), info.shape.clone()),
        }
    })
}

/// The original Wan name of every diffusers name, for writing files that other tools read.
///
/// Names that are neither a Wan transformer's nor a Wan VAE's stay as they are.
pub fn to_original<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let names: Vec<&str> = names.into_iter().collect();
    let layout = wan_vae::Layout::of_diffusers(names.iter().copied());
    let is_vae = names.iter().any(|n| wan_vae::is_diffusers(n));
    let is_transformer = names.iter().any(|n| n.starts_with("condition_embedder."));
    names
        .into_iter()
        .map(|name| {
            let original = match (is_transformer, is_vae) {
                (true, _) => wan_transformer::to_original(name),
                (false, true) => wan_vae::to_original(name, layout),
                (false, false) => name.to_owned(),
            };
            (name.to_owned(), original)
        })
        .collect()
}

fn strip_prefix(name: &str) -> &str {
    PREFIXES.iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name)
}

/// Some few-step checkpoints (rCM) store the patch embedding as a linear layer `[D, C·1·2·2]`: the convolution
/// flattened, which is the same numbers in the same order. Every Wan has patches of 1×2×2.
fn unflattened_patch(original_name: &str, info: &TensorInfo) -> Vec<usize> {
    match info.shape[..] {
        [hidden, flat] if original_name.ends_with("patch_embedding.weight") && flat % 4 == 0 => {
            vec![hidden, flat / 4, 1, 2, 2]
        }
        _ => info.shape.clone(),
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

fn llama_to_umt5(name: &str) -> String {
    if let Some((index, rest)) = name.strip_prefix("enc.blk.").and_then(|r| r.split_once('.')) {
        let rest = replace_head(rest, T5_BLOCK, Direction::Forward);
        return format!("encoder.block.{index}.{rest}");
    }
    replace_head(name, T5_TOP, Direction::Forward)
}

/// Which column of a table is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Left to right.
    Forward,
    /// Right to left.
    Backward,
}

/// Replaces the leading path of `name` by the table's other column; whole path segments only.
fn replace_head(name: &str, table: &[(&str, &str)], direction: Direction) -> String {
    table
        .iter()
        .map(|&(a, b)| if direction == Direction::Forward { (a, b) } else { (b, a) })
        .find_map(|(from, to)| {
            let rest = name.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with('.')).then(|| format!("{to}{rest}"))
        })
        .unwrap_or_else(|| name.to_owned())
}
