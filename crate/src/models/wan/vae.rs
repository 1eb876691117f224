//! The causal 3-D VAE: video ↔ latents, a chunk at a time with remembered frames, so that memory use does not grow
//! with the clip's length.
//!
//! Source: diffusers `autoencoder_kl_wan.py` `AutoencoderKLWan`, `WanEncoder3d`, `WanDecoder3d`.

use burn::tensor::{Device, Tensor, TensorData};

use super::config::VaeConfig;
use super::resample::{AverageDown, Downsample, DuplicateUp, Upsample};
use super::residual::{MidBlock, ResidualBlock};
use crate::error::{Error, Result};
use crate::models::footage::Footage;
use crate::nn::conv::{CausalConv3d, Memories};
use crate::nn::loader::Loader;
use crate::nn::norm::ChannelNorm;
use crate::nn::patch::{fold_pixels, unfold_pixels};
use crate::pace::Pace;
use crate::size::ClipSize;

/// Frames in a chunk after the first one, and in a latent frame.
const CHUNK_FRAMES: usize = 4;

/// A loaded VAE.
#[derive(Debug, Clone)]
pub struct Vae {
    config: VaeConfig,
    encoder: Encoder,
    quant_conv: CausalConv3d,
    post_quant_conv: CausalConv3d,
    decoder: Decoder,
    latents_mean: Tensor<5>,
    latents_std: Tensor<5>,
}

impl Vae {
    /// Builds both halves from a checkpoint with diffusers names.
    ///
    /// # Errors
    /// [`Error::Weights`] when the configuration or a tensor does not fit.
    pub async fn load(loader: &Loader, config: &VaeConfig) -> Result<Self> {
        config.check("vae/config.json")?;
        let z = config.z_dim;
        let per_channel =
            |values: &[f32]| Tensor::<5>::from_data(TensorData::new(values.to_vec(), [1, z, 1, 1, 1]), loader.device());
        Ok(Self {
            encoder: Encoder::load(&loader.at("encoder"), config).await?,
            quant_conv: CausalConv3d::load(&loader.at("quant_conv"), 2 * z, 2 * z, [1, 1, 1]).await?,
            post_quant_conv: CausalConv3d::load(&loader.at("post_quant_conv"), z, z, [1, 1, 1]).await?,
            decoder: Decoder::load(&loader.at("decoder"), config).await?,
            latents_mean: per_channel(&config.latents_mean),
            latents_std: per_channel(&config.latents_std),
            config: config.clone(),
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// The device the weights are on.
    pub fn device(&self) -> Device {
        self.latents_mean.device()
    }

    /// Mean and log-variance of the latents' distribution.
    ///
    /// # Shapes
    /// 4n + 1 frames of `H × W` px → `[1, 2z, n + 1, H / s, W / s]`
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the size does not fit; [`Error::Aborted`] from between the blocks.
    pub async fn encode(&self, video: &dyn Footage, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let ClipSize { frames, height, width } = video.size();
        let side = self.config.scale_factor_spatial;
        if frames % CHUNK_FRAMES != 1 {
            return Err(Error::options(format!("a clip to encode must have 4n + 1 frames, got {frames} frames")));
        }
        if height % side != 0 || width % side != 0 {
            return Err(Error::options(format!(
                "height and width must be multiples of {side} px, got {height} × {width} px"
            )));
        }
        let mut memories = Memories::default();
        let mut chunks = Vec::with_capacity(frames / CHUNK_FRAMES + 1);
        let mut start = 0;
        while start < frames {
            let length = if start == 0 { 1 } else { CHUNK_FRAMES };
            let chunk = fold_pixels(video.read(start, length)?, self.config.patch());
            memories.start_chunk();
            chunks.push(self.encoder.forward(chunk, &mut memories, pace).await?);
            start += length;
        }
        Ok(self.quant_conv.forward_framewise(Tensor::cat(chunks, 2)))
    }

    /// The most likely latents, normalised to mean 0 and deviation 1 as the transformer sees them.
    ///
    /// # Shapes
    /// moments `[B, 2z, F, h, w]` → `[B, z, F, h, w]`
    pub(super) fn normalised(&self, moments: Tensor<5>) -> Tensor<5> {
        let mean = moments.narrow(1, 0, self.config.z_dim);
        // Multiply by the reciprocal, as the reference pipelines do: dividing differs in the last bit.
        (mean - self.latents_mean.clone()) * self.latents_std.clone().recip()
    }

    /// Undoes the normalisation of the latents.
    ///
    /// # Shapes
    /// `[B, z, F, H, W]` → `[B, z, F, H, W]`
    pub fn denormalise(&self, latents: Tensor<5>) -> Tensor<5> {
        latents * self.latents_std.clone() + self.latents_mean.clone()
    }

    /// Starts decoding a clip; latent frames are pushed in order.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream { vae: self, memories: Memories::default() }
    }

    /// Decodes a whole clip.
    ///
    /// # Shapes
    /// `[B, z, F, h, w]` (not normalised) → `[B, 3, 4F − 3, h × s, w × s]` in −1…1
    ///
    /// # Errors
    /// [`Error::Aborted`] and [`Error::DeviceLost`] from between the blocks.
    pub async fn decode(&self, latents: Tensor<5>, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let frames = latents.dims()[2];
        let mut stream = self.decode_stream();
        let mut chunks = Vec::with_capacity(frames);
        for i in 0..frames {
            chunks.push(stream.push(latents.clone().narrow(2, i, 1), pace).await?);
        }
        Ok(Tensor::cat(chunks, 2).clamp(-1.0, 1.0))
    }

    /// Turns the decoder's output into pixels, not clamped.
    pub(super) fn to_pixels(&self, decoded: Tensor<5>) -> Tensor<5> {
        unfold_pixels(decoded, self.config.patch())
    }

    /// One latent frame through the decoder, still with folded pixels and not clamped.
    pub(super) async fn decode_chunk(
        &self,
        latent: Tensor<5>,
        memories: &mut Memories,
        pace: &Pace<'_>,
    ) -> Result<Tensor<5>> {
        memories.start_chunk();
        self.decoder.forward(self.post_quant_conv.forward_framewise(latent), memories, pace).await
    }
}

/// A clip being decoded.
pub struct DecodeStream<'a> {
    vae: &'a Vae,
    memories: Memories,
}

impl DecodeStream<'_> {
    /// Decodes the next latent frame: 1 frame for the first, 4 for each later one.
    ///
    /// # Shapes
    /// `[B, z, 1, h, w]` (not normalised) → `[B, 3, 1 or 4, h × s, w × s]` around −1…1 and not clamped
    ///
    /// # Errors
    /// As [`Vae::decode`].
    pub async fn push(&mut self, latent: Tensor<5>, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let decoded = self.vae.decode_chunk(latent, &mut self.memories, pace).await?;
        Ok(self.vae.to_pixels(decoded))
    }
}

/// One step of the way down.
#[derive(Debug, Clone)]
enum Down {
    Residual(ResidualBlock),
    Sample(Downsample),
    /// A whole level of the 2.2 family with its averaging shortcut.
    Level {
        blocks: Vec<ResidualBlock>,
        sample: Option<Downsample>,
        shortcut: AverageDown,
    },
}

#[derive(Debug, Clone)]
struct Encoder {
    conv_in: CausalConv3d,
    down: Vec<Down>,
    mid: MidBlock,
    norm_out: ChannelNorm,
    conv_out: CausalConv3d,
}

impl Encoder {
    async fn load(loader: &Loader, config: &VaeConfig) -> Result<Self> {
        let base = config.base_dim;
        let dims: Vec<usize> = std::iter::once(base).chain(config.dim_mult.iter().map(|m| m * base)).collect();
        let levels = config.dim_mult.len();
        let mut down = Vec::new();
        for level in 0..levels {
            let (mut input, output) = (dims[level], dims[level + 1]);
            let last = level + 1 == levels;
            let temporal = !last && config.temperal_downsample[level];
            if config.is_residual {
                let at = loader.at(format_args!("down_blocks.{level}"));
                let shortcut = AverageDown::new(input, output, if temporal { 2 } else { 1 }, if last { 1 } else { 2 })?;
                let mut blocks = Vec::new();
                for i in 0..config.num_res_blocks {
                    blocks.push(ResidualBlock::load(&at.at(format_args!("resnets.{i}")), input, output).await?);
                    input = output;
                }
                let sample =
                    if last { None } else { Some(Downsample::load(&at.at("downsampler"), output, temporal).await?) };
                down.push(Down::Level { blocks, sample, shortcut });
            } else {
                for _ in 0..config.num_res_blocks {
                    let at = loader.at(format_args!("down_blocks.{}", down.len()));
                    down.push(Down::Residual(ResidualBlock::load(&at, input, output).await?));
                    input = output;
                }
                if !last {
                    let at = loader.at(format_args!("down_blocks.{}", down.len()));
                    down.push(Down::Sample(Downsample::load(&at, output, temporal).await?));
                }
            }
        }
        let top = dims[levels];
        Ok(Self {
            conv_in: CausalConv3d::load(&loader.at("conv_in"), config.in_channels, base, [3, 3, 3]).await?,
            down,
            mid: MidBlock::load(&loader.at("mid_block"), top).await?,
            norm_out: ChannelNorm::load(&loader.at("norm_out"), top, false).await?,
            conv_out: CausalConv3d::load(&loader.at("conv_out"), top, 2 * config.z_dim, [3, 3, 3]).await?,
        })
    }

    async fn forward(&self, x: Tensor<5>, memories: &mut Memories, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let mut x = self.conv_in.forward(x, memories.next_memory());
        for step in &self.down {
            x = match step {
                Down::Residual(block) => block.forward(x, memories),
                Down::Sample(sample) => sample.forward(x, memories),
                Down::Level { blocks, sample, shortcut } => {
                    let beside = shortcut.forward(x.clone());
                    for block in blocks {
                        x = block.forward(x, memories);
                        pace.block_done(&x).await?;
                    }
                    if let Some(sample) = sample {
                        x = sample.forward(x, memories);
                    }
                    x + beside
                }
            };
            pace.block_done(&x).await?;
        }
        let x = self.mid.forward(x, memories);
        pace.block_done(&x).await?;
        Ok(self.conv_out.forward(self.norm_out.forward_silu(x), memories.next_memory()))
    }
}

/// A level on the way up.
#[derive(Debug, Clone)]
struct Up {
    blocks: Vec<ResidualBlock>,
    sample: Option<Upsample>,
    shortcut: Option<DuplicateUp>,
}

/// The half that turns latents into pixels, a chunk at a time.
#[derive(Debug, Clone)]
pub struct Decoder {
    conv_in: CausalConv3d,
    mid: MidBlock,
    up: Vec<Up>,
    norm_out: ChannelNorm,
    conv_out: CausalConv3d,
}

impl Decoder {
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, config: &VaeConfig) -> Result<Self> {
        let base = config.decoder_base_dim.unwrap_or(config.base_dim);
        let levels = config.dim_mult.len();
        let top = config.dim_mult[levels - 1] * base;
        let dims: Vec<usize> = std::iter::once(top).chain(config.dim_mult.iter().rev().map(|m| m * base)).collect();
        let mut up = Vec::with_capacity(levels);
        for level in 0..levels {
            let at = loader.at(format_args!("up_blocks.{level}"));
            let output = dims[level + 1];
            // The 2.1 family halves the channels while it doubles the size.
            let mut input = if level > 0 && !config.is_residual { dims[level] / 2 } else { dims[level] };
            let last = level + 1 == levels;
            let temporal = !last && config.temperal_downsample[levels - 2 - level];
            let shortcut = match config.is_residual && !last {
                true => Some(DuplicateUp::new(input, output, if temporal { 2 } else { 1 }, 2)?),
                false => None,
            };
            let mut blocks = Vec::new();
            for i in 0..=config.num_res_blocks {
                blocks.push(ResidualBlock::load(&at.at(format_args!("resnets.{i}")), input, output).await?);
                input = output;
            }
            let sample = match (last, config.is_residual) {
                (true, _) => None,
                (false, true) => Some(Upsample::load(&at.at("upsampler"), output, output, temporal).await?),
                (false, false) => Some(Upsample::load(&at.at("upsamplers.0"), output, output / 2, temporal).await?),
            };
            up.push(Up { blocks, sample, shortcut });
        }
        let bottom = dims[levels];
        Ok(Self {
            conv_in: CausalConv3d::load(&loader.at("conv_in"), config.z_dim, top, [3, 3, 3]).await?,
            mid: MidBlock::load(&loader.at("mid_block"), top).await?,
            up,
            norm_out: ChannelNorm::load(&loader.at("norm_out"), bottom, false).await?,
            conv_out: CausalConv3d::load(&loader.at("conv_out"), bottom, config.out_channels, [3, 3, 3]).await?,
        })
    }

    /// One latent frame; call [`Memories::start_chunk`] before.
    ///
    /// # Shapes
    /// `[B, z, 1, h, w]` → `[B, C_out, 1 or 4, H, W]`, pixels still folded
    ///
    /// # Errors
    /// [`Error::Aborted`] and [`Error::DeviceLost`] from between the blocks.
    pub async fn forward(&self, x: Tensor<5>, memories: &mut Memories, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let mut x = self.mid.forward(self.conv_in.forward(x, memories.next_memory()), memories);
        pace.block_done(&x).await?;
        for level in &self.up {
            let entered = x.clone();
            for block in &level.blocks {
                x = block.forward(x, memories);
                pace.block_done(&x).await?;
            }
            if let Some(sample) = &level.sample {
                x = sample.forward(x, memories);
            }
            if let Some(shortcut) = &level.shortcut {
                x = x + shortcut.forward(entered, memories.in_first_chunk());
            }
        }
        Ok(self.conv_out.forward(self.norm_out.forward_silu(x), memories.next_memory()))
    }
}
