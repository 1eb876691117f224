//! Configuration of Stable Diffusion's VAE.
//!
//! Source: diffusers 0.42.1 `models/autoencoders/autoencoder_kl.py`.

use serde::Deserialize;
use serde_json::Value;

use crate::config::{self, Fields, MOST_LAYERS, MOST_WIDE};
use crate::error::Result;
use crate::size::Stride;

/// The `_class_name`s.
pub(super) const CLASSES: &[&str] = &["AutoencoderKL"];

/// How a picture shrinks, told by a configuration; `None` for that of another family.
pub fn stride(json: &[u8]) -> Option<Stride> {
    // A configuration without a class is Wan's.
    config::class(json, "").ok().filter(|class| CLASSES.contains(&class.as_str()))?;
    let config: KlConfig = config::parse(json, "", CLASSES).ok()?;
    config.check("").ok()?;
    Some(config.stride())
}

/// Furthest that latents are scaled: a million times what is published, and squares of it still fit an f32.
const MOST_SCALE: f64 = 1e6;

/// Most levels; each but the last halves the picture.
const MOST_LEVELS: usize = 8;

/// `AutoencoderKL`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct KlConfig {
    /// Channels of a picture; 3.
    pub in_channels: usize,
    /// Channels of a decoded picture; 3.
    pub out_channels: usize,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// The kinds of the encoder's levels; only `DownEncoderBlock2D`.
    pub down_block_types: Vec<String>,
    /// The kinds of the decoder's levels; only `UpDecoderBlock2D`.
    pub up_block_types: Vec<String>,
    /// Residual blocks a level (the decoder has one more).
    pub layers_per_block: usize,
    /// Latent channels.
    pub latent_channels: usize,
    /// Groups of all group norms.
    pub norm_num_groups: usize,
    /// Only `silu`.
    pub act_fn: String,
    /// What latents are multiplied by for the denoiser.
    pub scaling_factor: f64,
    /// What other pipelines take from them before; those of DiTs do not, so it must be null or 0.
    pub shift_factor: Option<f64>,
    /// Not supported: statistics by channel.
    pub latents_mean: Value,
    /// Not supported: statistics by channel.
    pub latents_std: Value,
    /// Whether a convolution of one pixel follows the encoder.
    pub use_quant_conv: bool,
    /// Whether one goes before the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the middle attends to itself.
    pub mid_block_add_attention: bool,
}

impl Default for KlConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![64],
            down_block_types: Vec::new(),
            up_block_types: Vec::new(),
            layers_per_block: 1,
            latent_channels: 4,
            norm_num_groups: 32,
            act_fn: "silu".into(),
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: Value::Null,
            latents_std: Value::Null,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

impl KlConfig {
    /// How a picture shrinks; every frame is one of its own.
    pub fn stride(&self) -> Stride {
        Stride { time: 1, space: 1 << (self.block_out_channels.len().max(1) - 1) }
    }

    /// Values of the largest tensor while a picture is decoded: the last level, entered at its full size.
    pub fn largest(&self, height: usize, width: usize) -> usize {
        let [entering, leaving] = [1, 0].map(|level| self.block_out_channels.get(level).copied().unwrap_or(0));
        height * width * entering.max(leaving)
    }

    /// Refuses what the model could only answer with a panic, a wrong picture or numbers that are not finite.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] naming `file` and the field.
    pub fn check(&self, file: &str) -> Result<()> {
        let fields = Fields(file);
        fields.within("levels of block_out_channels", self.block_out_channels.len(), 1..=MOST_LEVELS)?;
        for (name, value, range) in [
            ("in_channels", self.in_channels, 3..=3),
            ("out_channels", self.out_channels, 3..=3),
            ("layers_per_block", self.layers_per_block, 1..=MOST_LAYERS),
            ("latent_channels", self.latent_channels, 1..=MOST_WIDE),
            ("norm_num_groups", self.norm_num_groups, 1..=MOST_WIDE),
        ] {
            fields.within(name, value, range)?;
        }
        for (level, channels) in self.block_out_channels.iter().enumerate() {
            let name = format!("block_out_channels[{level}]");
            fields.within(&name, *channels, 1..=MOST_WIDE)?;
            if !channels.is_multiple_of(self.norm_num_groups) {
                let rule = format!("a multiple of norm_num_groups ({})", self.norm_num_groups);
                return fields.refuse(&name, rule, channels);
            }
        }
        for (name, kinds, only) in [
            ("down_block_types", &self.down_block_types, "DownEncoderBlock2D"),
            ("up_block_types", &self.up_block_types, "UpDecoderBlock2D"),
        ] {
            if let Some(other) = kinds.iter().find(|kind| *kind != only) {
                return fields.refuse(name, format!("{only} only (others are not supported)"), other);
            }
        }
        if self.act_fn != "silu" {
            return fields.refuse("act_fn", "silu (others are not supported)", &self.act_fn);
        }
        for (name, found) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            if !found.is_null() {
                return fields.refuse(name, "null (statistics by channel are not supported)", found);
            }
        }
        if let Some(shift) = self.shift_factor.filter(|shift| *shift != 0.0) {
            return fields.refuse("shift_factor", "null or 0 (pipelines of DiTs do not shift latents)", shift);
        }
        fields.between("scaling_factor", self.scaling_factor, 1.0 / MOST_SCALE..=MOST_SCALE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_vae_cannot_be_is_named() {
        let text = |change: fn(&mut KlConfig)| {
            let mut config = KlConfig { block_out_channels: vec![128, 256, 512, 512], ..KlConfig::default() };
            change(&mut config);
            config.check("vae/config.json").err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(text(|_| ()), "");
        assert!(text(|c| c.block_out_channels[1] = 100).contains("[1]: expected a multiple of norm_num_groups (32)"));
        assert!(text(|c| c.up_block_types = vec!["AttnUpDecoderBlock2D".into()]).contains("up_block_types"));
        assert!(text(|c| c.scaling_factor = 0.0).contains("scaling_factor"));
        assert!(text(|c| c.scaling_factor = f64::MAX).contains("scaling_factor: expected 0.000001 to 1000000"));
        assert!(text(|c| c.shift_factor = Some(0.1)).contains("shift_factor: expected null or 0"));
        assert!(text(|c| c.latents_mean = Value::from(vec![0.0])).contains("latents_mean: expected null"));
        assert!(text(|c| c.in_channels = 4).contains("in_channels: expected 3 to 3"));
    }
}
