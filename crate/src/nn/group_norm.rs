//! Group norm: channels in groups, each group of a picture normalised as a whole.
//!
//! Source: Wu & He 1803.08494 eq. 7.

use burn::tensor::{Tensor, activation};

use super::loader::Loader;
use crate::error::Result;

/// Mean 0 and deviation 1 over the pixels of each group of channels, then a gain and a shift for each channel.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// `[1, C, 1, 1, 1]`
    gain: Tensor<5>,
    /// `[1, C, 1, 1, 1]`
    shift: Tensor<5>,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias`, both `[channels]`, a multiple of `groups`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, channels: usize, groups: usize, eps: f64) -> Result<Self> {
        let gain = loader.tensor("weight", [channels]).await?.reshape([1, channels, 1, 1, 1]);
        let shift = loader.tensor("bias", [channels]).await?.reshape([1, channels, 1, 1, 1]);
        Ok(Self { gain, shift, groups, eps })
    }

    /// All frames of a clip count as one picture: give frames one by one where they are pictures of their own.
    ///
    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, C, F, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let shape = x.dims();
        let [b, c, f, h, w] = shape;
        // Axis by axis: sums of a million numbers in one go would lose digits in f32.
        let mean = |x: Tensor<5>| x.mean_dim(4).mean_dim(3).mean_dim(2);
        let x = x.reshape([b, self.groups, c / self.groups * f, h, w]);
        let centred = x.clone() - mean(x);
        let deviation = (mean(centred.clone().square()) + self.eps).sqrt();
        (centred / deviation).reshape(shape) * self.gain.clone() + self.shift.clone()
    }

    /// The norm, then SiLU.
    ///
    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, C, F, H, W]`
    pub fn forward_silu(&self, x: Tensor<5>) -> Tensor<5> {
        activation::silu(self.forward(x))
    }
}
