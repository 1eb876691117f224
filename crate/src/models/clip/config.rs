//! Configuration of CLIP's picture encoder, and its sizes told by its tensors.
//!
//! Source: transformers 5.23 `models/clip/configuration_clip.py` `CLIPVisionConfig`.

use serde::Deserialize;
use serde_json::json;

use crate::config::{Fields, MOST_LAYERS, MOST_WIDE};
use crate::error::{Error, Result};
use crate::models::family::Known;
use crate::models::sizes::{along, layers};
use crate::weights::WeightSet;

/// `CLIPVisionModel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
    /// Width D.
    pub hidden_size: usize,
    /// Hidden width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Layers; the last one is not needed.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Channels of a picture; 3.
    pub num_channels: usize,
    /// Side of the picture that it sees, px.
    pub image_size: usize,
    /// Side of a token in it, px.
    pub patch_size: usize,
    /// `gelu` or `quick_gelu`.
    pub hidden_act: String,
    /// Epsilon of the norms.
    pub layer_norm_eps: f64,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: QUICK_GELU.into(),
            layer_norm_eps: 1e-5,
        }
    }
}

const QUICK_GELU: &str = "quick_gelu";

impl ClipVisionConfig {
    /// Tokens of a picture: its patches, and the class before them.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }

    /// True for OpenAI's rough GELU, `x · sigmoid(1.702 x)`.
    pub(super) fn quick(&self) -> bool {
        self.hidden_act == QUICK_GELU
    }

    /// Refuses what the encoder does not implement, and numbers that could only end in a panic.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] naming `file` and the field.
    pub fn check(&self, file: &str) -> Result<()> {
        let fields = Fields(file);
        for (name, value, most) in [
            ("hidden_size", self.hidden_size, MOST_WIDE),
            ("intermediate_size", self.intermediate_size, 16 * MOST_WIDE),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MOST_LAYERS),
            ("image_size", self.image_size, MOST_SIDE),
            ("patch_size", self.patch_size, MOST_SIDE),
        ] {
            fields.within(name, value, 1..=most)?;
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let rule = format!("a multiple of num_attention_heads ({})", self.num_attention_heads);
            return fields.refuse("hidden_size", rule, self.hidden_size);
        }
        if self.patch_size > self.image_size || !self.image_size.is_multiple_of(self.patch_size) {
            return fields.refuse(
                "image_size",
                format!("a multiple of patch_size ({})", self.patch_size),
                self.image_size,
            );
        }
        if self.num_channels != 3 {
            return fields.refuse("num_channels", "3", self.num_channels);
        }
        if !["gelu", QUICK_GELU].contains(&self.hidden_act.as_str()) {
            return fields.refuse("hidden_act", format!("gelu or {QUICK_GELU}"), &self.hidden_act);
        }
        fields.positive("layer_norm_eps", self.layer_norm_eps)
    }
}

/// Largest picture that an encoder may see, px along a side.
const MOST_SIDE: usize = 4096;

/// What stands before the names: transformers below version 5 wrote `vision_model`. `None` for tensors of another model.
pub(super) fn prefix(set: &WeightSet) -> Option<&'static str> {
    let here = |prefix: &&str| set.get(&named(prefix, "embeddings.class_embedding")).is_some();
    ["vision_model", ""].into_iter().find(here)
}

fn named(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// Heads of the one encoder that Wan uses, ViT-H, whose width is this. Tensors do not tell how many there are.
const VIT_H: (usize, usize) = (1280, 16);

/// Wan's encoder by its tensors.
///
/// # Errors
/// [`Error::Weights`] when a tensor that tells a size is missing, or it is not as wide as ViT-H.
pub(super) fn configure(set: &WeightSet) -> Result<Known> {
    let prefix = prefix(set).unwrap_or_default();
    let name = |name: &str| named(prefix, name);
    let class = name("embeddings.class_embedding");
    let (width, side) = (along(set, &class, 0)?, along(set, &name("embeddings.patch_embedding.weight"), 3)?);
    if width != VIT_H.0 {
        let rule = format!("width {}, of the ViT-H that Wan uses, or a config.json", VIT_H.0);
        return Err(Error::weights(class, rule, format!("width {width}")));
    }
    let patches = along(set, &name("embeddings.position_embedding.weight"), 0)? - 1;
    let num_layers = layers(set, &name("encoder.layers"));
    Ok(Known::part(
        if num_layers == 32 { "CLIP ViT-H".into() } else { format!("CLIP ViT of width {width}, {num_layers} layers") },
        json!({
            "architectures": ["CLIPVisionModel"], "hidden_size": width, "num_attention_heads": VIT_H.1,
            "intermediate_size": along(set, &name("encoder.layers.0.mlp.fc1.weight"), 0)?,
            "num_hidden_layers": num_layers, "patch_size": side, "image_size": side * patches.isqrt(),
            "hidden_act": "gelu", "layer_norm_eps": 1e-5,
        }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_cannot_do_is_named() {
        let said = |change: fn(&mut ClipVisionConfig)| {
            let mut config = ClipVisionConfig::default();
            change(&mut config);
            config.check("image_encoder/config.json").err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(said(|_| ()), "");
        assert!(said(|c| c.hidden_act = "relu".into()).contains("hidden_act: expected gelu or quick_gelu, found relu"));
        assert!(said(|c| c.num_attention_heads = 7).contains("a multiple of num_attention_heads (7)"));
        assert!(said(|c| c.patch_size = 33).contains("a multiple of patch_size (33)"));
        assert!(said(|c| c.num_hidden_layers = 0).contains("num_hidden_layers"));
        assert!(said(|c| c.num_channels = 4).contains("num_channels: expected 3, found 4"));
    }
}
