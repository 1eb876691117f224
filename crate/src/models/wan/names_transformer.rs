//! Original Wan transformer names ↔ diffusers `WanTransformer3DModel` and `WanVACETransformer3DModel` names.
//!
//! Source: `convert_wan_to_diffusers.py` of <https://github.com/huggingface/diffusers>.

use crate::weights::TensorInfo;
use crate::weights::rename::{Direction, Naming, Renamer, replace_head};

/// The original names of Wan's transformer (T2V, I2V, FLF2V, VACE).
pub struct TransformerNames;

impl Naming for TransformerNames {
    fn is_foreign(&self, name: &str) -> bool {
        is_original(name)
    }

    fn to_diffusers(&self, _: &[&str]) -> Renamer {
        Box::new(|name, info| (to_diffusers(name), unflattened_patch(name, info)))
    }

    fn covers(&self, names: &[&str]) -> bool {
        names.iter().any(|n| n.starts_with("condition_embedder."))
    }

    fn to_foreign(&self, _: &[&str]) -> Box<dyn Fn(&str) -> String> {
        Box::new(to_original)
    }
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

/// diffusers, original: outside the blocks.
const TOP: &[(&str, &str)] = &[
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("scale_shift_table", "head.modulation"),
    ("proj_out", "head.head"),
];

/// diffusers, original: inside `blocks.N` and `vace_blocks.N`.
const BLOCK: &[(&str, &str)] = &[
    ("attn1.to_q", "self_attn.q"),
    ("attn1.to_k", "self_attn.k"),
    ("attn1.to_v", "self_attn.v"),
    ("attn1.to_out.0", "self_attn.o"),
    ("attn1.norm_q", "self_attn.norm_q"),
    ("attn1.norm_k", "self_attn.norm_k"),
    ("attn2.to_q", "cross_attn.q"),
    ("attn2.to_k", "cross_attn.k"),
    ("attn2.to_v", "cross_attn.v"),
    ("attn2.to_out.0", "cross_attn.o"),
    ("attn2.norm_q", "cross_attn.norm_q"),
    ("attn2.norm_k", "cross_attn.norm_k"),
    ("attn2.add_k_proj", "cross_attn.k_img"),
    ("attn2.add_v_proj", "cross_attn.v_img"),
    ("attn2.norm_added_k", "cross_attn.norm_k_img"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    // The two number their norms differently: the one before cross-attention is 2 here and 3 there.
    ("norm2", "norm3"),
    ("norm3", "norm2"),
    ("scale_shift_table", "modulation"),
    ("proj_in", "before_proj"),
    ("proj_out", "after_proj"),
];

/// True for a name that only the original uses.
fn is_original(name: &str) -> bool {
    const MARKS: &[&str] =
        &["time_embedding.", "time_projection.", "text_embedding.", "head.head.", "head.modulation", "img_emb."];
    MARKS.iter().any(|m| name.starts_with(m))
        || split_block(name).is_some_and(|(_, rest)| rest.starts_with("self_attn.") || rest.starts_with("cross_attn."))
}

fn to_diffusers(original: &str) -> String {
    rename(original, Direction::Backward)
}

fn to_original(diffusers: &str) -> String {
    rename(diffusers, Direction::Forward)
}

fn rename(name: &str, direction: Direction) -> String {
    match split_block(name) {
        Some((block, rest)) => format!("{block}{}", replace_head(rest, BLOCK, direction)),
        None => replace_head(name, TOP, direction),
    }
}

/// `blocks.7.ffn.0.weight` → (`blocks.7.`, `ffn.0.weight`).
fn split_block(name: &str) -> Option<(&str, &str)> {
    let after = name.strip_prefix("vace_blocks.").or_else(|| name.strip_prefix("blocks."))?;
    let (index, rest) = after.split_once('.')?;
    let is_index = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    is_index.then(|| name.split_at(name.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_numbers_are_swapped_and_back() {
        assert_eq!(to_diffusers("blocks.3.norm3.weight"), "blocks.3.norm2.weight");
        assert_eq!(to_original("blocks.3.norm2.weight"), "blocks.3.norm3.weight");
    }

    #[test]
    fn a_block_modulation_is_not_the_heads() {
        assert_eq!(to_diffusers("blocks.0.modulation"), "blocks.0.scale_shift_table");
        assert_eq!(to_diffusers("head.modulation"), "scale_shift_table");
        assert_eq!(to_diffusers("vace_blocks.1.after_proj.bias"), "vace_blocks.1.proj_out.bias");
        assert_eq!(to_diffusers("head.head.bias"), "proj_out.bias");
    }

    #[test]
    fn every_row_goes_there_and_back() {
        for (diffusers, _) in TOP {
            let name = format!("{diffusers}.weight");
            assert_eq!(to_diffusers(&to_original(&name)), name);
        }
        for (diffusers, _) in BLOCK {
            let name = format!("vace_blocks.12.{diffusers}.bias");
            assert_eq!(to_diffusers(&to_original(&name)), name);
        }
    }

    #[test]
    fn a_segment_is_replaced_whole_or_not_at_all() {
        assert_eq!(to_diffusers("blocks.0.ffn.01.weight"), "blocks.0.ffn.01.weight");
        assert_eq!(to_diffusers("blocks.x.ffn.0.weight"), "blocks.x.ffn.0.weight");
    }
}
