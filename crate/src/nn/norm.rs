//! Normalisations: layer norm, RMS norm over the last dimension, and Wan's channel norm.

use burn::tensor::{Device, Tensor, TensorData};

use super::loader::Loader;
use super::rope::Rope;
use crate::error::Result;
use crate::kernels::channel_norm::channel_norm;
use crate::kernels::norm_modulate::{norm_affine, norm_modulate};
use crate::kernels::rms_rope::{rms, rms_rope};
use crate::memory::stay;

/// Layer norm over the last dimension, with or without learned gain and shift.
///
/// Source: diffusers `models/normalization.py` `FP32LayerNorm`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    gain: Tensor<1>,
    shift: Tensor<1>,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both `[dim]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self { gain: loader.tensor("weight", [dim]).await?, shift: loader.tensor("bias", [dim]).await?, eps })
    }

    /// A norm without parameters.
    pub fn plain(dim: usize, eps: f64, device: &Device) -> Self {
        // As weights: a streamed layer's would take a buffer of a clip's tensors each.
        let all = |value: f32| {
            let data = TensorData::new(vec![value; dim], [dim]);
            stay(data, device, |data, device| Tensor::from_data(data, device))
        };
        Self { gain: all(1.0), shift: all(0.0), eps }
    }

    /// # Shapes
    /// `[.., dim]` → `[.., dim]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        norm_affine(x, &self.gain, &self.shift, self.eps)
    }

    /// The norm without its own parameters, then `× (1 + scale) + shift` from two slots of `six`.
    ///
    /// # Shapes
    /// `x` `[B, L, D]`, `six` `[1 or B, 1 or L, 6, D]` → `[B, L, D]`
    pub fn forward_modulated(&self, x: Tensor<3>, six: &Tensor<4>, scale: usize, shift: usize) -> Tensor<3> {
        norm_modulate(x, six, scale, shift, self.eps)
    }
}

/// `x / rms(x) × gain` over the last dimension (T5's layer norm, Wan's q/k norm).
///
/// Source: RMSNorm, Zhang & Sennrich 1910.07467 eq. 4.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    gain: Tensor<1>,
    eps: f64,
}

impl RmsNorm {
    /// Reads `weight` `[dim]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when it is missing or mis-shaped.
    pub async fn load(loader: &Loader, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self { gain: loader.tensor("weight", [dim]).await?, eps })
    }

    /// # Shapes
    /// `[.., dim]` → `[.., dim]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        rms(x, &self.gain, self.eps)
    }

    /// The norm over all heads, then each head turned by its position.
    ///
    /// # Shapes
    /// `[B, L, N × K]` → `[B, L, N, K]`
    pub fn forward_turned(&self, x: Tensor<3>, rope: &Rope) -> Tensor<4> {
        rms_rope(x, &self.gain, self.eps, rope.cos(), rope.sin())
    }
}

/// Wan's VAE norm: each pixel's channel vector is scaled to length √C, then by a gain per channel.
///
/// Source: diffusers `autoencoder_kl_wan.py` `WanRMS_norm` (`F.normalize`, eps 1e-12 on the length).
#[derive(Debug, Clone)]
pub struct ChannelNorm {
    scaled_gain: Tensor<5>,
}

impl ChannelNorm {
    /// Reads `gamma`, stored `[channels, 1, 1]` for images or `[channels, 1, 1, 1]` for video.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when it is missing or mis-shaped.
    pub async fn load(loader: &Loader, channels: usize, images: bool) -> Result<Self> {
        let gain: Tensor<5> = if images {
            loader.tensor("gamma", [channels, 1, 1]).await?.reshape([1, channels, 1, 1, 1])
        } else {
            loader.tensor("gamma", [channels, 1, 1, 1]).await?.reshape([1, channels, 1, 1, 1])
        };
        Ok(Self { scaled_gain: gain * (channels as f64).sqrt() })
    }

    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, C, F, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        channel_norm(x, &self.scaled_gain, false)
    }

    /// The norm, then SiLU.
    ///
    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, C, F, H, W]`
    pub fn forward_silu(&self, x: Tensor<5>) -> Tensor<5> {
        channel_norm(x, &self.scaled_gain, true)
    }
}
