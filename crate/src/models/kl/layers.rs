//! What the VAE's levels and middle are made of.
//!
//! Source: diffusers `models/resnet.py` `ResnetBlock2D`, `models/attention_processor.py` `Attention` (with a residual),
//! `models/unets/unet_2d_blocks.py` `UNetMidBlock2D`.

use burn::tensor::Tensor;

use super::config::KlConfig;
use crate::error::Result;
use crate::nn::attention::attend;
use crate::nn::conv::FrameConv;
use crate::nn::group_norm::GroupNorm;
use crate::nn::linear::Linear;
use crate::nn::loader::Loader;
use crate::pace::Pace;

/// Epsilon of all its norms.
pub const EPS: f64 = 1e-6;

/// Two convolutions, each after a norm and SiLU, and a shortcut around both.
#[derive(Debug, Clone)]
pub struct ResidualBlock {
    norm1: GroupNorm,
    conv1: FrameConv,
    norm2: GroupNorm,
    conv2: FrameConv,
    shortcut: Option<FrameConv>,
}

impl ResidualBlock {
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, input: usize, output: usize, groups: usize) -> Result<Self> {
        let shortcut = match input == output {
            true => None,
            false => Some(FrameConv::load(&loader.at("conv_shortcut"), input, output, 1).await?),
        };
        Ok(Self {
            norm1: GroupNorm::load(&loader.at("norm1"), input, groups, EPS).await?,
            conv1: FrameConv::load(&loader.at("conv1"), input, output, 3).await?,
            norm2: GroupNorm::load(&loader.at("norm2"), output, groups, EPS).await?,
            conv2: FrameConv::load(&loader.at("conv2"), output, output, 3).await?,
            shortcut,
        })
    }

    /// # Shapes
    /// `[1, C_in, 1, H, W]` → `[1, C_out, 1, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let inner = self.conv1.forward(self.norm1.forward_silu(x.clone()));
        let inner = self.conv2.forward(self.norm2.forward_silu(inner));
        let beside = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x),
            None => x,
        };
        beside + inner
    }
}

/// Self-attention of all pixels with one head.
#[derive(Debug, Clone)]
pub struct PixelAttention {
    norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl PixelAttention {
    /// Reads it under diffusers' names, or those that it had in files until 2023.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, channels: usize, groups: usize) -> Result<Self> {
        let old = loader.has("query.weight");
        let linear = async |name: &str, before: &str| {
            Linear::load(&loader.at(if old { before } else { name }), channels, channels).await
        };
        Ok(Self {
            norm: GroupNorm::load(&loader.at("group_norm"), channels, groups, EPS).await?,
            to_q: linear("to_q", "query").await?,
            to_k: linear("to_k", "key").await?,
            to_v: linear("to_v", "value").await?,
            to_out: linear("to_out.0", "proj_attn").await?,
        })
    }

    /// # Shapes
    /// `[1, C, 1, H, W]` → `[1, C, 1, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let shape = x.dims();
        let [b, c, f, h, w] = shape;
        let pixels = self.norm.forward(x.clone()).reshape([b, c, f * h * w]).swap_dims(1, 2); // [1, L, C]
        let head = |x: Tensor<3>| x.unsqueeze_dim::<4>(2); // one head
        let (q, k, v) =
            (self.to_q.forward(pixels.clone()), self.to_k.forward(pixels.clone()), self.to_v.forward(pixels));
        let out = self.to_out.forward(attend(head(q), head(k), head(v)));
        x + out.swap_dims(1, 2).reshape(shape)
    }
}

/// The middle of encoder and decoder.
#[derive(Debug, Clone)]
pub struct Middle {
    before: ResidualBlock,
    attention: Option<PixelAttention>,
    after: ResidualBlock,
}

impl Middle {
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, channels: usize, config: &KlConfig) -> Result<Self> {
        let groups = config.norm_num_groups;
        let attention = match config.mid_block_add_attention {
            true => Some(PixelAttention::load(&loader.at("attentions.0"), channels, groups).await?),
            false => None,
        };
        Ok(Self {
            before: ResidualBlock::load(&loader.at("resnets.0"), channels, channels, groups).await?,
            attention,
            after: ResidualBlock::load(&loader.at("resnets.1"), channels, channels, groups).await?,
        })
    }

    /// # Shapes
    /// `[1, C, 1, H, W]` → `[1, C, 1, H, W]`
    ///
    /// # Errors
    /// As [`Pace::block_done`].
    pub async fn forward(&self, x: Tensor<5>, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let mut x = self.before.forward(x);
        if let Some(attention) = &self.attention {
            x = attention.forward(x);
        }
        let x = self.after.forward(x);
        pace.block_done(&x).await?;
        Ok(x)
    }
}
