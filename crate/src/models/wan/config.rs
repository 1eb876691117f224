//! Configurations of Wan's transformer and VAE.
//!
//! Source: diffusers 0.42.1 `models/transformers/transformer_wan.py`, `transformer_wan_vace.py`, `transformer_anyflow.py`,
//! `models/autoencoders/autoencoder_kl_wan.py`.

use serde::Deserialize;

use crate::config::{self, Fields, MOST_LAYERS, MOST_WIDE};
use crate::error::Result;
use crate::size::Stride;

/// The `_class_name`s of the transformers.
pub const TRANSFORMER_CLASSES: &[&str] = &["WanTransformer3DModel", "WanVACETransformer3DModel", FLOW_MAP_CLASS];
/// The `_class_name` of the transformer that is told both times of a step.
pub(super) const FLOW_MAP_CLASS: &str = "AnyFlowTransformer3DModel";
/// A tensor that only such a transformer has.
pub(super) const SECOND_TIME: &str = "condition_embedder.delta_embedder.linear_1.weight";
/// The `_class_name`s of the VAEs.
pub const VAE_CLASSES: &[&str] = &["AutoencoderKLWan"];

/// What a clip's frames (less one), height and width must be multiples of; `None` when one of the two configurations is of
/// another family.
pub fn multiples(transformer: &[u8], vae: &[u8]) -> Option<[usize; 3]> {
    let patch = config::parse::<TransformerConfig>(transformer, "", TRANSFORMER_CLASSES).ok()?.patch_size;
    let Stride { time, space } = stride(vae)?;
    let [t, h, w] = patch;
    Some([time.checked_mul(t)?, space.checked_mul(h)?, space.checked_mul(w)?]).filter(|all| !all.contains(&0))
}

/// How a clip shrinks by a VAE with this configuration; `None` for one of another family.
pub fn stride(vae: &[u8]) -> Option<Stride> {
    Some(config::parse::<VaeConfig>(vae, "", VAE_CLASSES).ok()?.stride())
}

/// What a flow-map model embeds beside the time at which a step begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum DeltaTime {
    /// The time at which it ends.
    #[serde(rename = "r")]
    Target,
    /// How far it goes.
    #[serde(rename = "t-r")]
    Length,
}

/// `WanTransformer3DModel`; `WanVACETransformer3DModel` when `vace_layers` is set; `AnyFlowTransformer3DModel` by its class.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    /// The class, where the file names it.
    #[serde(rename = "_class_name")]
    pub class: String,
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
    /// Whether tokens have times of their own; diffusers writes it into model_index.json, which goes before.
    pub expand_timesteps: bool,
    /// Share of the second time embedding of a flow-map model, 0…1.
    pub gate_value: f64,
    /// What that embedding is of.
    pub deltatime_type: DeltaTime,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            class: String::new(),
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
            expand_timesteps: false,
            gate_value: 0.25,
            deltatime_type: DeltaTime::Target,
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

    /// True for a model that is told where a step leads, and predicts the mean velocity on the way (AnyFlow 2605.13724).
    pub fn is_flow_map(&self) -> bool {
        self.class == FLOW_MAP_CLASS
    }

    /// Refuses what the model could only answer with a panic or numbers that are not finite.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] naming `file` and the field.
    pub fn check(&self, file: &str) -> Result<()> {
        let fields = Fields(file);
        for (name, value, most) in [
            ("num_attention_heads", self.num_attention_heads, MOST_LAYERS),
            ("num_layers", self.num_layers, MOST_LAYERS),
            ("attention_head_dim", self.attention_head_dim, MOST_LAYERS),
            ("in_channels", self.in_channels, MOST_WIDE),
            ("out_channels", self.out_channels(), MOST_WIDE),
            ("text_dim", self.text_dim, MOST_WIDE),
            ("freq_dim", self.freq_dim, MOST_WIDE),
            ("ffn_dim", self.ffn_dim, 16 * MOST_WIDE),
            ("image_dim", self.image_dim.unwrap_or(1), MOST_WIDE),
            ("added_kv_proj_dim", self.added_kv_proj_dim.unwrap_or(1), MOST_WIDE),
            ("rope_max_seq_len", self.rope_max_seq_len, MOST_WIDE),
            ("pos_embed_seq_len", self.pos_embed_seq_len.unwrap_or(1), MOST_WIDE),
        ] {
            fields.within(name, value, 1..=most)?;
        }
        for (axis, patch) in self.patch_size.into_iter().enumerate() {
            fields.within(&format!("patch_size[{axis}]"), patch, 1..=MOST_PATCH)?;
        }
        if self.attention_head_dim < 6 || !self.attention_head_dim.is_multiple_of(2) {
            return fields.refuse("attention_head_dim", "an even number, at least 6", self.attention_head_dim);
        }
        if !self.freq_dim.is_multiple_of(2) {
            return fields.refuse("freq_dim", "an even number", self.freq_dim);
        }
        fields.positive("eps", self.eps)?;
        if !(0.0..=1.0).contains(&self.gate_value) {
            return fields.refuse("gate_value", "a number from 0 to 1", self.gate_value);
        }
        // Its reference puts image tokens before the text's, where Wan attends to them beside it.
        if let Some(dim) = self.image_dim.filter(|_| self.is_flow_map()) {
            return fields.refuse("image_dim", format!("none for {FLOW_MAP_CLASS} (not supported)"), dim);
        }
        if self.vace_layers.is_empty() {
            return Ok(());
        }
        fields.within("vace_in_channels", self.vace_in_channels, 1..=MOST_WIDE)?;
        let mut sorted = self.vace_layers.clone();
        sorted.sort_unstable();
        let twice = sorted.windows(2).any(|pair| pair[0] == pair[1]);
        if twice || sorted[0] != 0 || sorted.last().is_some_and(|&last| last >= self.num_layers) {
            let rule = format!("0 and others below num_layers ({}), each once", self.num_layers);
            return fields.refuse("vace_layers", rule, format!("{:?}", self.vace_layers));
        }
        Ok(())
    }
}

/// Most latent cells (or pixels) along one side of a patch.
const MOST_PATCH: usize = 64;

/// Most levels of a VAE; each halves the picture.
const MOST_LEVELS: usize = 8;

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

    /// Refuses what the model could only answer with a panic, a wrong picture or numbers that are not finite.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] naming `file` and the field.
    pub fn check(&self, file: &str) -> Result<()> {
        let fields = Fields(file);
        let (levels, patch) = (self.dim_mult.len(), self.patch());
        fields.within("levels of dim_mult", levels, 1..=MOST_LEVELS)?;
        for (name, value, most) in [
            ("base_dim", self.base_dim, MOST_WIDE),
            ("decoder_base_dim", self.decoder_base_dim.unwrap_or(self.base_dim), MOST_WIDE),
            ("z_dim", self.z_dim, MOST_WIDE),
            ("num_res_blocks", self.num_res_blocks, MOST_LAYERS),
            ("patch_size", patch, MOST_PATCH),
        ] {
            fields.within(name, value, 1..=most)?;
        }
        for (level, factor) in self.dim_mult.iter().enumerate() {
            fields.within(&format!("dim_mult[{level}]"), *factor, 1..=64)?;
        }
        for (name, value) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            if value != 3 * patch * patch {
                return fields.refuse(name, format!("{} for patch_size {patch}", 3 * patch * patch), value);
            }
        }
        if self.temperal_downsample.len() + 1 != levels {
            let found = self.temperal_downsample.len();
            return fields.refuse("temperal_downsample", format!("{} entries", levels - 1), found);
        }
        if self.temperal_downsample.iter().filter(|&&t| t).count() != 2 {
            let found = format!("{:?}", self.temperal_downsample);
            return fields.refuse("temperal_downsample", "two levels that halve time", found);
        }
        if self.scale_factor_temporal != 4 {
            return fields.refuse(
                "scale_factor_temporal",
                "4, for two levels that halve time",
                self.scale_factor_temporal,
            );
        }
        if !self.attn_scales.is_empty() {
            return fields.refuse("attn_scales", "none (not supported)", format!("{:?}", self.attn_scales));
        }
        // Cannot wrap: both are bounded above.
        let factor = patch << (levels - 1);
        if self.scale_factor_spatial != factor {
            let rule = format!("{factor} for {levels} levels and patch_size {patch}");
            return fields.refuse("scale_factor_spatial", rule, self.scale_factor_spatial);
        }
        for (name, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            if values.len() != self.z_dim {
                return fields.refuse(name, format!("{} values (z_dim)", self.z_dim), values.len());
            }
        }
        for (channel, (mean, std)) in self.latents_mean.iter().zip(&self.latents_std).enumerate() {
            fields.finite(&format!("latents_mean[{channel}]"), f64::from(*mean))?;
            fields.positive(&format!("latents_std[{channel}]"), f64::from(*std))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
