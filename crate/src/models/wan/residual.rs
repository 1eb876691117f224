//! The VAE's residual block and its middle block with per-frame attention.
//!
//! Source: diffusers `autoencoder_kl_wan.py` `WanResidualBlock`, `WanAttentionBlock`, `WanMidBlock`.

use burn::tensor::Tensor;

use crate::error::Result;
use crate::nn::attention::attend;
use crate::nn::conv::{CausalConv3d, FrameConv, Memories};
use crate::nn::loader::Loader;
use crate::nn::norm::ChannelNorm;

/// Two norm–SiLU–conv layers beside a shortcut.
#[derive(Debug, Clone)]
pub struct ResidualBlock {
    norm1: ChannelNorm,
    conv1: CausalConv3d,
    norm2: ChannelNorm,
    conv2: CausalConv3d,
    conv_shortcut: Option<CausalConv3d>,
}

impl ResidualBlock {
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, input: usize, output: usize) -> Result<Self> {
        let conv_shortcut = match input == output {
            true => None,
            false => Some(CausalConv3d::load(&loader.at("conv_shortcut"), input, output, [1, 1, 1]).await?),
        };
        Ok(Self {
            norm1: ChannelNorm::load(&loader.at("norm1"), input, false).await?,
            conv1: CausalConv3d::load(&loader.at("conv1"), input, output, [3, 3, 3]).await?,
            norm2: ChannelNorm::load(&loader.at("norm2"), output, false).await?,
            conv2: CausalConv3d::load(&loader.at("conv2"), output, output, [3, 3, 3]).await?,
            conv_shortcut,
        })
    }

    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F, H, W]`
    pub fn forward(&self, x: Tensor<5>, memories: &mut Memories) -> Tensor<5> {
        let shortcut = match &self.conv_shortcut {
            Some(conv) => conv.forward_framewise(x.clone()),
            None => x.clone(),
        };
        let x = self.conv1.forward(self.norm1.forward_silu(x), memories.next_memory());
        self.conv2.forward_plus(self.norm2.forward_silu(x), memories.next_memory(), shortcut)
    }
}

/// Single-head attention among the pixels of each frame.
#[derive(Debug, Clone)]
struct FrameAttention {
    norm: ChannelNorm,
    to_qkv: FrameConv,
    proj: FrameConv,
}

impl FrameAttention {
    async fn load(loader: &Loader, dim: usize) -> Result<Self> {
        Ok(Self {
            norm: ChannelNorm::load(&loader.at("norm"), dim, true).await?,
            to_qkv: FrameConv::load(&loader.at("to_qkv"), dim, 3 * dim, 1).await?,
            proj: FrameConv::load(&loader.at("proj"), dim, dim, 1).await?,
        })
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [b, c, f, h, w] = x.dims();
        let qkv = self.to_qkv.forward(self.norm.forward(x.clone()));
        let qkv = qkv.permute([0, 2, 3, 4, 1]).reshape([b * f, h * w, 1, 3 * c]);
        let part = |i: usize| qkv.clone().narrow(3, i * c, c);
        let out = attend(part(0), part(1), part(2)); // [BF, HW, C]
        let out = out.reshape([b, f, h, w, c]).permute([0, 4, 1, 2, 3]);
        self.proj.forward(out) + x
    }
}

/// Residual block, attention, residual block.
#[derive(Debug, Clone)]
pub struct MidBlock {
    first: ResidualBlock,
    attention: FrameAttention,
    second: ResidualBlock,
}

impl MidBlock {
    /// # Errors
    /// As [`ResidualBlock::load`].
    pub async fn load(loader: &Loader, dim: usize) -> Result<Self> {
        Ok(Self {
            first: ResidualBlock::load(&loader.at("resnets.0"), dim, dim).await?,
            attention: FrameAttention::load(&loader.at("attentions.0"), dim).await?,
            second: ResidualBlock::load(&loader.at("resnets.1"), dim, dim).await?,
        })
    }

    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, C, F, H, W]`
    pub fn forward(&self, x: Tensor<5>, memories: &mut Memories) -> Tensor<5> {
        let x = self.attention.forward(self.first.forward(x, memories));
        self.second.forward(x, memories)
    }
}
