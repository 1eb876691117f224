//! Configurations of Wan's transformer and VAE.
//!
//! Source: diffusers 0.42.1 `models/transformers/transformer_wan.py`, `transformer_wan_vace.py`,
//! `models/autoencoders/autoencoder_kl_wan.py`.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::size::Stride;

/// `WanTransformer3DModel`, and `WanVACETransformer3DModel` when `vace_layers` is set.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    /// Latent frames, rows and columns in one token.
    pub patch_size: [usize; 3],
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width of one head; the hidden width is heads × this.
    pub attention_head_dim: usize,
    /// Latent channels in (16 for T2V, 36 for I2V).
    pub in_channels: usize,
    /// Latent channels out; `in_channels` when null.
    pub out_channels: Option<usize>,
    /// Width of the text encoder's output.
    pub text_dim: usize,
    /// Width of the sinusoidal time embedding.
    pub freq_dim: usize,
    /// Hidden width of the feed-forward layers.
    pub ffn_dim: usize,
    /// Transformer blocks.
    pub num_layers: usize,
    /// Whether the cross-attention input is normalised.
    pub cross_attn_norm: bool,
    /// Epsilon of all norms.
    pub eps: f64,
    /// Width of image (CLIP) tokens, for I2V models of Wan 2.1.
    pub image_dim: Option<usize>,
    /// Width of the added image keys and values.
    pub added_kv_proj_dim: Option<usize>,
    /// Positions for which rotary tables exist, per axis.
    pub rope_max_seq_len: usize,
    /// Positions of the learned image embedding (first + last frame models).
    pub pos_embed_seq_len: Option<usize>,
    /// Blocks after which a VACE hint is added; empty without a control branch.
    pub vace_layers: Vec<usize>,
    /// Channels of the VACE control input.
    pub vace_in_channels: usize,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            patch_size: [1, 2, 2],
            num_attention_heads: 40,
            attention_head_dim: 128,
            in_channels: 16,
            out_channels: Some(16),
            text_dim: 4096,
            freq_dim: 256,
            ffn_dim: 13824,
            num_layers: 40,
            cross_attn_norm: true,
            eps: 1e-6,
            image_dim: None,
            added_kv_proj_dim: None,
            rope_max_seq_len: 1024,
            pos_embed_seq_len: None,
            vace_layers: Vec::new(),
            vace_in_channels: 96,
        }
    }
}

impl TransformerConfig {
    /// Hidden width D.
    pub fn hidden_dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Latent channels out.
    pub fn out_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Refuses what the code below could only answer with a panic.
    pub fn check(&self, file: &str) -> Result<()> {
        let wrong = |expected: &str, found: String| Err(Error::weights(file, expected, found));
        if self.num_attention_heads == 0 || self.num_layers == 0 || self.patch_size.contains(&0) {
            return wrong("sizes above 0", format!("{self:?}"));
        }
        if self.attention_head_dim < 6 || !self.attention_head_dim.is_multiple_of(2) {
            return wrong("an even attention_head_dim of at least 6", self.attention_head_dim.to_string());
        }
        if self.freq_dim < 2 || !self.freq_dim.is_multiple_of(2) {
            return wrong("an even freq_dim", self.freq_dim.to_string());
        }
        let last = self.vace_layers.iter().max();
        if last.is_some_and(|&last| last >= self.num_layers || !self.vace_layers.contains(&0)) {
            return wrong("vace_layers below num_layers and including 0", format!("{:?}", self.vace_layers));
        }
        Ok(())
    }
}

/// `AutoencoderKLWan`, both families (2.1; 2.2 with `is_residual` and `patch_size`).
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of the encoder's first level.
    pub base_dim: usize,
    /// Channels of the decoder's first level; `base_dim` when null.
    pub decoder_base_dim: Option<usize>,
    /// Latent channels.
    pub z_dim: usize,
    /// Channel multiplier of each level.
    pub dim_mult: Vec<usize>,
    /// Residual blocks a level (the decoder has one more).
    pub num_res_blocks: usize,
    /// Scales with attention; only empty is supported (as all published models have it).
    pub attn_scales: Vec<f64>,
    /// Which levels also halve time.
    pub temperal_downsample: Vec<bool>,
    /// Wan 2.2 layout: nested levels with averaging shortcuts.
    pub is_residual: bool,
    /// Channels in, after patchify.
    pub in_channels: usize,
    /// Channels out, before unpatchify.
    pub out_channels: usize,
    /// Pixels folded into channels before the encoder, along each side.
    pub patch_size: Option<usize>,
    /// Frames in one latent frame.
    pub scale_factor_temporal: usize,
    /// Pixels along the side of one latent cell.
    pub scale_factor_spatial: usize,
    /// Mean of each latent channel.
    pub latents_mean: Vec<f32>,
    /// Standard deviation of each latent channel.
    pub latents_std: Vec<f32>,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: vec![false, true, true],
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
            scale_factor_temporal: 4,
            scale_factor_spatial: 8,
            // Statistics of the published Wan 2.1 VAE, diffusers' defaults.
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
                -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382,
                1.1253, 2.8251, 1.9160,
            ],
        }
    }
}

impl VaeConfig {
    /// How a clip shrinks.
    pub fn stride(&self) -> Stride {
        Stride { time: self.scale_factor_temporal, space: self.scale_factor_spatial }
    }

    /// Pixels folded along each side, 1 for none.
    pub fn patch(&self) -> usize {
        self.patch_size.unwrap_or(1)
    }

    /// Refuses what the code below could only answer with a panic or a wrong picture.
    pub fn check(&self, file: &str) -> Result<()> {
        let wrong = |expected: String, found: String| Err(Error::weights(file, expected, found));
        let levels = self.dim_mult.len();
        if levels == 0 || self.z_dim == 0 || self.patch() == 0 {
            return wrong("at least one level, one latent channel, patch_size above 0".into(), format!("{self:?}"));
        }
        if self.temperal_downsample.len() + 1 != levels {
            return wrong(
                format!("{} temperal_downsample entries", levels - 1),
                self.temperal_downsample.len().to_string(),
            );
        }
        if self.temperal_downsample.iter().filter(|&&t| t).count() != 2 || self.scale_factor_temporal != 4 {
            return wrong("a time factor of 4 (two temporal levels)".into(), format!("{:?}", self.temperal_downsample));
        }
        if !self.attn_scales.is_empty() {
            return wrong("no attn_scales (not supported)".into(), format!("{:?}", self.attn_scales));
        }
        let factor = self.patch() << (levels - 1);
        if self.scale_factor_spatial != factor {
            return wrong(
                format!("scale_factor_spatial {factor} for {levels} levels"),
                self.scale_factor_spatial.to_string(),
            );
        }
        for (name, n) in [("latents_mean", self.latents_mean.len()), ("latents_std", self.latents_std.len())] {
            if n != self.z_dim {
                return wrong(format!("{} values of {name}", self.z_dim), n.to_string());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vae_whose_levels_do_not_match_its_scale_is_refused() {
        let config = VaeConfig { dim_mult: vec![1, 2], temperal_downsample: vec![true], ..VaeConfig::default() };
        assert!(config.check("vae/config.json").is_err());
        assert!(VaeConfig::default().check("vae/config.json").is_ok());
    }
}
