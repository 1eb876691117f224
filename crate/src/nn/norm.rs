//! Normalisations: layer norm, RMS norm over the last dimension, and Wan's channel norm.

use burn::tensor::{Device, Tensor, module};

use super::loader::Loader;
use crate::error::Result;

/// Layer norm over the last dimension, with or without learned gain and shift.
///
/// Source: diffusers `models/normalization.py` `FP32LayerNorm`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    gain: Tensor<1>,
    shift: Option<Tensor<1>>,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both `[dim]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub fn load(loader: &Loader, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self { gain: loader.tensor("weight", [dim])?, shift: Some(loader.tensor("bias", [dim])?), eps })
    }

    /// A norm without parameters.
    pub fn plain(dim: usize, eps: f64, device: &Device) -> Self {
        Self { gain: Tensor::ones([dim], device), shift: None, eps }
    }

    /// # Shapes
    /// `[.., dim]` → `[.., dim]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::layer_norm(x, self.gain.clone(), self.shift.clone(), self.eps)
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
    pub fn load(loader: &Loader, dim: usize, eps: f64) -> Result<Self> {
        Ok(Self { gain: loader.tensor("weight", [dim])?, eps })
    }

    /// # Shapes
    /// `[.., dim]` → `[.., dim]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mean_square = x.clone().square().mean_dim(D - 1);
        let scale = (mean_square + self.eps).sqrt().recip();
        x * scale * self.gain.clone().unsqueeze()
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
    pub fn load(loader: &Loader, channels: usize, images: bool) -> Result<Self> {
        let gain: Tensor<5> = if images {
            loader.tensor("gamma", [channels, 1, 1])?.reshape([1, channels, 1, 1, 1])
        } else {
            loader.tensor("gamma", [channels, 1, 1, 1])?.reshape([1, channels, 1, 1, 1])
        };
        Ok(Self { scaled_gain: gain * (channels as f64).sqrt() })
    }

    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, C, F, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let length = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
        x / length * self.scaled_gain.clone()
    }
}
