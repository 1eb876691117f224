//! The names of Wan's own `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth` → transformers'.
//!
//! The file also holds a text encoder, which Wan's models do not use, and what a comparison of the two would need.
//!
//! Source: `wan/modules/clip.py` of <https://github.com/Wan-Video/Wan2.1>.

use crate::weights::rename::{Direction, Naming, Renamer, replace_head};

/// Wan's names.
pub struct WanNames;

impl Naming for WanNames {
    fn is_foreign(&self, name: &str) -> bool {
        layer(name).is_some_and(|(_, rest)| rest.starts_with("attn.to_qkv."))
    }

    fn is_extra(&self, name: &str) -> bool {
        !name.starts_with("visual.") || name == "visual.head"
    }

    fn to_diffusers(&self, _: &[&str]) -> Renamer {
        Box::new(|name, info| {
            // The class and the positions are stored as they are added to a batch.
            let ones =
                if name.ends_with("_embedding") { info.shape.iter().take_while(|n| **n == 1).count() } else { 0 };
            (from_wan(name), info.shape[ones..].to_vec())
        })
    }

    /// Image encoders are written under transformers' names only.
    fn covers(&self, _: &[&str]) -> bool {
        false
    }

    fn to_foreign(&self, _: &[&str]) -> Box<dyn Fn(&str) -> String> {
        Box::new(str::to_owned)
    }
}

/// Wan → transformers, inside one layer; queries, keys and values are one matrix here, which transformers has no name for.
const LAYER: &[(&str, &str)] = &[
    ("norm1", "layer_norm1"),
    ("attn.to_qkv", "self_attn.qkv_proj"),
    ("attn.proj", "self_attn.out_proj"),
    ("norm2", "layer_norm2"),
    ("mlp.0", "mlp.fc1"),
    ("mlp.2", "mlp.fc2"),
];

/// Wan → transformers, outside the layers.
const TOP: &[(&str, &str)] = &[
    ("visual.cls_embedding", "embeddings.class_embedding"),
    ("visual.pos_embedding", "embeddings.position_embedding.weight"),
    ("visual.patch_embedding", "embeddings.patch_embedding"),
    ("visual.pre_norm", "pre_layrnorm"),
    ("visual.post_norm", "post_layernorm"),
];

fn layer(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("visual.transformer.")?.split_once('.')
}

fn from_wan(name: &str) -> String {
    match layer(name) {
        Some((index, rest)) => format!("encoder.layers.{index}.{}", replace_head(rest, LAYER, Direction::Forward)),
        None => replace_head(name, TOP, Direction::Forward),
    }
}
