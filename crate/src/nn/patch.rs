//! Folding spacetime patches into tokens and back.

use burn::tensor::{Tensor, TensorData};

use super::loader::Loader;
use crate::error::Result;

/// Patchify with a learned projection: a convolution whose stride is its kernel, done as one matmul.
#[derive(Debug, Clone)]
pub struct PatchEmbedding {
    weight: Tensor<2>,
    bias: Tensor<1>,
    patch: [usize; 3],
}

impl PatchEmbedding {
    /// Reads a conv3d `weight` `[hidden, channels, p_t, p_h, p_w]` and `bias` `[hidden]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, channels: usize, hidden: usize, patch: [usize; 3]) -> Result<Self> {
        Self::load_stored(loader, &[hidden, channels, patch[0], patch[1], patch[2]], patch).await
    }

    /// Reads a conv2d `weight` `[hidden, channels, side, side]` and `bias` `[hidden]`, for single frames.
    ///
    /// # Errors
    /// As [`PatchEmbedding::load`].
    pub async fn load_flat(loader: &Loader, channels: usize, hidden: usize, side: usize) -> Result<Self> {
        Self::load_stored(loader, &[hidden, channels, side, side], [1, side, side]).await
    }

    async fn load_stored(loader: &Loader, stored: &[usize], patch: [usize; 3]) -> Result<Self> {
        let (hidden, inner) = (stored[0], stored[1..].iter().product());
        let values = loader.values("weight", stored).await?;
        let weight = Tensor::<2>::from_data(TensorData::new(values, [hidden, inner]), loader.device());
        Ok(Self { weight: weight.transpose(), bias: loader.tensor("bias", [hidden]).await?, patch })
    }

    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, L, D]`, patches in order of frame, row, column
    pub fn forward(&self, latents: Tensor<5>) -> Tensor<3> {
        burn::tensor::module::linear(patchify(latents, self.patch), self.weight.clone(), Some(self.bias.clone()))
    }
}

/// Cuts a latent video into patches; inside a patch the order is channel, time, row, column.
///
/// # Shapes
/// `[B, C, F, H, W]` → `[B, L, C × p_t × p_h × p_w]`
pub fn patchify(x: Tensor<5>, [pt, ph, pw]: [usize; 3]) -> Tensor<3> {
    let [b, c, f, h, w] = x.dims();
    x.reshape([b, c, f / pt, pt, h / ph, ph, w / pw, pw]).permute([0, 2, 4, 6, 1, 3, 5, 7]).reshape([
        b,
        (f / pt) * (h / ph) * (w / pw),
        c * pt * ph * pw,
    ])
}

/// Undoes the model head's layout, in which the channel comes **last** inside a patch.
///
/// # Shapes
/// `[B, L, p_t × p_h × p_w × C]` → `[B, C, F, H, W]` for a `grid` of patches (frames, rows, columns)
///
/// Source: diffusers `transformer_wan.py`, end of `forward`.
pub fn unpatchify(x: Tensor<3>, [pt, ph, pw]: [usize; 3], [f, h, w]: [usize; 3]) -> Tensor<5> {
    let [b, _, inner] = x.dims();
    let c = inner / (pt * ph * pw);
    x.reshape([b, f, h, w, pt, ph, pw, c]).permute([0, 7, 1, 4, 2, 5, 3, 6]).reshape([b, c, f * pt, h * ph, w * pw])
}

/// Folds squares of pixels into channels, in the VAE's order (channel, column, row).
///
/// # Shapes
/// `[B, C, F, H, W]` → `[B, C × p², F, H / p, W / p]`
///
/// Source: diffusers `autoencoder_kl_wan.py` `patchify`.
pub fn fold_pixels(x: Tensor<5>, p: usize) -> Tensor<5> {
    if p == 1 {
        return x;
    }
    let [b, c, f, h, w] = x.dims();
    x.reshape([b, c, f, h / p, p, w / p, p]).permute([0, 1, 6, 4, 2, 3, 5]).reshape([b, c * p * p, f, h / p, w / p])
}

/// Undoes [`fold_pixels`].
///
/// # Shapes
/// `[B, C × p², F, H, W]` → `[B, C, F, H × p, W × p]`
pub fn unfold_pixels(x: Tensor<5>, p: usize) -> Tensor<5> {
    if p == 1 {
        return x;
    }
    let [b, cp, f, h, w] = x.dims();
    let c = cp / (p * p);
    x.reshape([b, c, p, p, f, h, w]).permute([0, 1, 4, 5, 3, 6, 2]).reshape([b, c, f, h * p, w * p])
}
