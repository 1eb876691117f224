//! The VAE of Stable Diffusion: pictures ↔ latents.
//!
//! Source: LDM 2112.10752 §3.1; diffusers `models/autoencoders/vae.py` `Encoder`, `Decoder`.

use burn::tensor::Tensor;

use super::config::KlConfig;
use super::layers::{EPS, Middle, ResidualBlock};
use crate::error::{Error, Result};
use crate::models::footage::Footage;
use crate::nn::conv::FrameConv;
use crate::nn::group_norm::GroupNorm;
use crate::nn::loader::Loader;
use crate::pace::Pace;
use crate::size::ClipSize;

/// A loaded VAE.
#[derive(Debug, Clone)]
pub struct KlVae {
    config: KlConfig,
    encoder: Side,
    quant_conv: Option<FrameConv>,
    post_quant_conv: Option<FrameConv>,
    decoder: Side,
}

/// Residual blocks, and the change of size after them.
#[derive(Debug, Clone)]
struct Level {
    blocks: Vec<ResidualBlock>,
    sample: Option<FrameConv>,
}

/// Encoder or decoder: the middle comes last in the one, first in the other.
#[derive(Debug, Clone)]
struct Side {
    conv_in: FrameConv,
    middle: Middle,
    levels: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: FrameConv,
}

impl Side {
    async fn load_encoder(loader: &Loader, config: &KlConfig) -> Result<Self> {
        let (widths, groups) = (&config.block_out_channels, config.norm_num_groups);
        let (first, top) = ends(widths);
        let (mut levels, mut input) = (Vec::with_capacity(widths.len()), first);
        for (level, &output) in widths.iter().enumerate() {
            let at = loader.at(format_args!("down_blocks.{level}"));
            let sample = match level + 1 == widths.len() {
                true => None,
                false => Some(FrameConv::load_halving(&at.at("downsamplers.0.conv"), output, output).await?),
            };
            let blocks = resnets(&at, config.layers_per_block, [input, output], groups).await?;
            levels.push(Level { blocks, sample });
            input = output;
        }
        Ok(Self {
            conv_in: FrameConv::load(&loader.at("conv_in"), config.in_channels, first, 3).await?,
            middle: Middle::load(&loader.at("mid_block"), top, config).await?,
            levels,
            norm_out: GroupNorm::load(&loader.at("conv_norm_out"), top, groups, EPS).await?,
            conv_out: FrameConv::load(&loader.at("conv_out"), top, 2 * config.latent_channels, 3).await?,
        })
    }

    async fn load_decoder(loader: &Loader, config: &KlConfig) -> Result<Self> {
        let (widths, groups) = (&config.block_out_channels, config.norm_num_groups);
        let (last, top) = ends(widths);
        let (mut levels, mut input) = (Vec::with_capacity(widths.len()), top);
        for (level, &output) in widths.iter().rev().enumerate() {
            let at = loader.at(format_args!("up_blocks.{level}"));
            let sample = match level + 1 == widths.len() {
                true => None,
                false => Some(FrameConv::load_doubling(&at.at("upsamplers.0.conv"), output, output).await?),
            };
            let blocks = resnets(&at, config.layers_per_block + 1, [input, output], groups).await?;
            levels.push(Level { blocks, sample });
            input = output;
        }
        Ok(Self {
            conv_in: FrameConv::load(&loader.at("conv_in"), config.latent_channels, top, 3).await?,
            middle: Middle::load(&loader.at("mid_block"), top, config).await?,
            levels,
            norm_out: GroupNorm::load(&loader.at("conv_norm_out"), last, groups, EPS).await?,
            conv_out: FrameConv::load(&loader.at("conv_out"), last, config.out_channels, 3).await?,
        })
    }

    async fn forward(&self, x: Tensor<5>, middle_first: bool, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let mut x = self.conv_in.forward(x);
        if middle_first {
            x = self.middle.forward(x, pace).await?;
        }
        for level in &self.levels {
            for block in &level.blocks {
                x = block.forward(x);
                pace.block_done(&x).await?;
            }
            if let Some(sample) = &level.sample {
                x = sample.forward(x);
            }
        }
        if !middle_first {
            x = self.middle.forward(x, pace).await?;
        }
        Ok(self.conv_out.forward(self.norm_out.forward_silu(x)))
    }
}

/// Channels of the largest and of the smallest picture.
fn ends(widths: &[usize]) -> (usize, usize) {
    (widths.first().copied().unwrap_or(0), widths.last().copied().unwrap_or(0))
}

async fn resnets(at: &Loader, count: usize, [input, output]: [usize; 2], groups: usize) -> Result<Vec<ResidualBlock>> {
    let mut blocks = Vec::with_capacity(count);
    for i in 0..count {
        let input = if i == 0 { input } else { output };
        blocks.push(ResidualBlock::load(&at.at(format_args!("resnets.{i}")), input, output, groups).await?);
    }
    Ok(blocks)
}

impl KlVae {
    /// Builds both halves from a checkpoint with diffusers names.
    ///
    /// # Errors
    /// [`Error::Weights`] when the configuration or a tensor does not fit.
    pub async fn load(loader: &Loader, config: &KlConfig) -> Result<Self> {
        config.check("vae/config.json")?;
        let z = config.latent_channels;
        let single = async |wanted: bool, name: &str, channels: usize| match wanted {
            true => FrameConv::load(&loader.at(name), channels, channels, 1).await.map(Some),
            false => Ok(None),
        };
        Ok(Self {
            encoder: Side::load_encoder(&loader.at("encoder"), config).await?,
            quant_conv: single(config.use_quant_conv, "quant_conv", 2 * z).await?,
            post_quant_conv: single(config.use_post_quant_conv, "post_quant_conv", z).await?,
            decoder: Side::load_decoder(&loader.at("decoder"), config).await?,
            config: config.clone(),
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &KlConfig {
        &self.config
    }

    /// Mean and log-variance of the latents' distribution, each frame for itself.
    ///
    /// # Shapes
    /// F frames of `H × W` px → `[1, 2z, F, H / s, W / s]`
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the size does not fit; [`Error::Aborted`] from between the blocks.
    pub async fn encode(&self, video: &dyn Footage, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let (ClipSize { frames, height, width }, side) = (video.size(), self.config.stride().space);
        if height % side != 0 || width % side != 0 {
            return Err(Error::options(format!(
                "height and width must be multiples of {side} px, got {height} × {width} px"
            )));
        }
        let mut moments = Vec::with_capacity(frames);
        for frame in 0..frames {
            let x = self.encoder.forward(video.read(frame, 1)?, false, pace).await?;
            moments.push(match &self.quant_conv {
                Some(conv) => conv.forward(x),
                None => x,
            });
        }
        Ok(Tensor::cat(moments, 2))
    }

    /// The most likely latents, as the denoiser sees them.
    ///
    /// # Shapes
    /// F frames of `H × W` px → `[1, z, F, H / s, W / s]`
    ///
    /// # Errors
    /// As [`KlVae::encode`].
    pub async fn encode_normalised(&self, video: &dyn Footage, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let mean = self.encode(video, pace).await?.narrow(1, 0, self.config.latent_channels);
        Ok(mean * self.config.scaling_factor)
    }

    /// Undoes the scaling of the latents.
    ///
    /// # Shapes
    /// `[1, z, F, h, w]` → `[1, z, F, h, w]`
    pub fn denormalise(&self, latents: Tensor<5>) -> Tensor<5> {
        latents / self.config.scaling_factor
    }

    /// Decodes one frame.
    ///
    /// # Shapes
    /// `[1, z, 1, h, w]` (not normalised) → `[1, 3, 1, h × s, w × s]`, around −1…1 and not clamped
    ///
    /// # Errors
    /// [`Error::Aborted`] and [`Error::DeviceLost`] from between the blocks.
    pub async fn decode(&self, latent: Tensor<5>, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let x = match &self.post_quant_conv {
            Some(conv) => conv.forward(latent),
            None => latent,
        };
        self.decoder.forward(x, true, pace).await
    }
}
