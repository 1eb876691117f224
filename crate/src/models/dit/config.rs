//! Configuration of a DiT.
//!
//! Source: diffusers 0.42.1 `models/transformers/dit_transformer_2d.py`.

use serde::Deserialize;

use crate::config::{self, Fields, MOST_LAYERS, MOST_WIDE};
use crate::error::Result;
use crate::size::Stride;

/// The `_class_name`s; the published checkpoints bear the second one, from before there was the first.
pub(super) const CLASSES: &[&str] = &["DiTTransformer2DModel", "Transformer2DModel"];

/// What a picture's frames (one, so any), height and width must be multiples of with such a codec; `None` for the
/// configuration of another family.
pub fn multiples(json: &[u8], stride: Stride) -> Option<[usize; 3]> {
    let config: DitConfig = config::parse(json, "", CLASSES).ok()?;
    config.check("").ok()?;
    let side = stride.space.checked_mul(config.patch_size)?;
    Some([stride.time, side, side])
}

/// Most latent cells along one side of a patch.
const MOST_PATCH: usize = 64;

/// `DiTTransformer2DModel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct DitConfig {
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of one head; the hidden width is heads × this.
    pub attention_head_dim: usize,
    /// Latent channels in.
    pub in_channels: usize,
    /// Channels out; twice `in_channels` where it predicts a variance too, which no sampler here reads. `in_channels` when null.
    pub out_channels: Option<usize>,
    /// Transformer blocks.
    pub num_layers: usize,
    /// Whether queries, keys and values have a bias.
    pub attention_bias: bool,
    /// Latent cells along one side of the pictures it was trained on.
    pub sample_size: usize,
    /// Latent cells along one side of a patch.
    pub patch_size: usize,
    /// Of the feed-forward part; only GELU in its tanh form.
    pub activation_fn: String,
    /// Classes, besides the one that stands for none.
    pub num_embeds_ada_norm: usize,
    /// Only `ada_norm_zero`: other transformers of this class are none of DiT's.
    pub norm_type: String,
    /// Not supported.
    pub norm_elementwise_affine: bool,
    /// Epsilon of the norm before the feed-forward part.
    pub norm_eps: f64,
    /// Latent frames of the clips that it was trained on; 1 for a model of pictures, as all of diffusers' are.
    pub sample_frames: usize,
    /// Windows (frames, rows and columns of patches; 0 is the whole axis) within which blocks attend, in turn: W.A.L.T.'s spatial
    /// and spatiotemporal ones. Empty where all tokens see all.
    pub attention_windows: Vec<[usize; 3]>,
    /// What its blocks are made of.
    pub block_kind: BlockKind,
}

/// What a block is made of, besides its modulation by time and class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// Self-attention and a feed-forward part: DiT's.
    #[default]
    Attention,
    /// CRATE's two white-box steps: subspace attention and ISTA.
    Crate,
}

impl Default for DitConfig {
    fn default() -> Self {
        Self {
            num_attention_heads: 16,
            attention_head_dim: 72,
            in_channels: 4,
            out_channels: None,
            num_layers: 28,
            attention_bias: true,
            sample_size: 32,
            patch_size: 2,
            activation_fn: "gelu-approximate".into(),
            num_embeds_ada_norm: 1000,
            norm_type: "ada_norm_zero".into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-5,
            sample_frames: 1,
            attention_windows: Vec::new(),
            block_kind: BlockKind::Attention,
        }
    }
}

impl DitConfig {
    /// Hidden width D.
    pub fn hidden_dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Channels out.
    pub fn out_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Refuses what the model could only answer with a panic or numbers that are not finite.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] naming `file` and the field.
    pub fn check(&self, file: &str) -> Result<()> {
        let fields = Fields(file);
        for (name, value, most) in [
            ("num_attention_heads", self.num_attention_heads, MOST_LAYERS),
            ("attention_head_dim", self.attention_head_dim, MOST_LAYERS),
            ("num_layers", self.num_layers, MOST_LAYERS),
            ("in_channels", self.in_channels, MOST_WIDE),
            ("sample_size", self.sample_size, MOST_WIDE),
            ("sample_frames", self.sample_frames, MOST_WIDE),
            ("patch_size", self.patch_size, MOST_PATCH),
            ("num_embeds_ada_norm", self.num_embeds_ada_norm, MOST_WIDE),
        ] {
            fields.within(name, value, 1..=most)?;
        }
        if !self.hidden_dim().is_multiple_of(4) {
            let rule = "heads × width that are a multiple of 4, for sines and cosines of rows and columns";
            return fields.refuse("attention_head_dim", rule, self.attention_head_dim);
        }
        if ![self.in_channels, 2 * self.in_channels].contains(&self.out_channels()) {
            let rule = format!("in_channels ({}) or twice as many", self.in_channels);
            return fields.refuse("out_channels", rule, self.out_channels());
        }
        if !self.sample_size.is_multiple_of(self.patch_size) {
            return fields.refuse(
                "sample_size",
                format!("a multiple of patch_size ({})", self.patch_size),
                self.sample_size,
            );
        }
        for (name, found, only) in [
            ("norm_type", &self.norm_type, "ada_norm_zero"),
            ("activation_fn", &self.activation_fn, "gelu-approximate"),
        ] {
            if found != only {
                return fields.refuse(name, format!("{only} (others are not supported)"), found);
            }
        }
        if self.block_kind == BlockKind::Crate && !self.attention_windows.is_empty() {
            let rule = "none for blocks of kind crate (not supported)";
            return fields.refuse("attention_windows", rule, self.attention_windows.len());
        }
        if self.norm_elementwise_affine {
            return fields.refuse("norm_elementwise_affine", "false (true is not supported)", true);
        }
        fields.positive("norm_eps", self.norm_eps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_model_cannot_be_is_named() {
        let text = |change: fn(&mut DitConfig)| {
            let mut config = DitConfig::default();
            change(&mut config);
            config.check("transformer/config.json").err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(text(|_| ()), "");
        assert_eq!(text(|c| c.out_channels = Some(8)), "");
        assert!(text(|c| c.out_channels = Some(5)).contains("out_channels: expected in_channels (4) or twice as many"));
        assert!(text(|c| c.norm_type = "layer_norm".into()).contains("norm_type: expected ada_norm_zero"));
        assert!(text(|c| c.patch_size = 0).contains("patch_size"));
        assert!(text(|c| c.sample_size = 33).contains("sample_size: expected a multiple of patch_size (2)"));
        assert!(text(|c| c.norm_eps = f64::NAN).contains("norm_eps"));
    }
}
