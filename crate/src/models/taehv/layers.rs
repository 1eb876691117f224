//! The layers of TAEHV: 2-D convolutions over each frame, and regrouping of frames and channels.

use burn::tensor::{Tensor, activation};

use super::BLOCKS;
use crate::error::Result;
use crate::nn::conv::{Form, FrameConv};
use crate::nn::loader::Loader;

/// The last frame that a block saw; none at the start of a clip.
pub type Past = Option<Tensor<5>>;

/// A residual block that sees each frame and the one before.
#[derive(Debug, Clone)]
pub struct MemBlock {
    first: FrameConv,
    second: FrameConv,
    third: FrameConv,
}

impl MemBlock {
    /// Reads the blocks `first`, `first` + 1 … of a level.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load_all(side: &Loader, first: usize, width: usize) -> Result<Vec<Self>> {
        let mut blocks = Vec::with_capacity(BLOCKS);
        for index in first..first + BLOCKS {
            let conv = side.at(index).at("conv");
            blocks.push(Self {
                first: FrameConv::load(&conv.at(0), 2 * width, width, 3).await?,
                second: FrameConv::load(&conv.at(2), width, width, 3).await?,
                third: FrameConv::load(&conv.at(4), width, width, 3).await?,
            });
        }
        Ok(blocks)
    }

    /// # Shapes
    /// `[1, C, F, H, W]` → the same; `past` `[1, C, 1, H, W]` becomes the last frame of `x`.
    pub fn forward(&self, x: Tensor<5>, past: &mut Past) -> Tensor<5> {
        let frames = x.dims()[2];
        let last = x.clone().narrow(2, frames - 1, 1);
        let before = past.replace(last.clone()).unwrap_or_else(|| last.zeros_like());
        let before = match frames {
            1 => before,
            _ => Tensor::cat(vec![before, x.clone().narrow(2, 0, frames - 1)], 2),
        };
        let y = activation::relu(self.first.forward(Tensor::cat(vec![x.clone(), before], 1)));
        let y = activation::relu(self.second.forward(y));
        activation::relu(self.third.forward(y) + x)
    }
}

/// A kernel of one pixel that makes each frame one or two.
#[derive(Debug, Clone)]
pub struct Grow {
    conv: FrameConv,
    times: usize,
}

impl Grow {
    /// Reads `conv.weight` `[times · width, width, 1, 1]`; of a file with more rows, the last count.
    ///
    /// # Errors
    /// As [`MemBlock::load_all`].
    pub async fn load(loader: &Loader, width: usize, doubles: bool) -> Result<Self> {
        let times = if doubles { 2 } else { 1 };
        let (conv, rows) = (loader.at("conv"), times * width);
        // A file for four frames a latent frame may bring rows for eight; the reference cuts them off in front.
        let doubled = conv.shape("weight").is_some_and(|shape| shape.first() == Some(&(2 * rows)));
        let stored = if doubled { 2 * rows } else { rows };
        let form = Form::plain([1, 1, 1]);
        Ok(Self { conv: FrameConv::load_without_bias(&conv, width, [stored, rows], form).await?, times })
    }

    /// # Shapes
    /// `[1, C, F, H, W]` → `[1, C, times · F, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [b, c, f, h, w] = x.dims();
        let y = self.conv.forward(x);
        match self.times {
            1 => y,
            n => y.reshape([b, n, c, f, h * w]).permute([0, 2, 3, 1, 4]).reshape([b, c, n * f, h, w]),
        }
    }
}

/// A kernel of one pixel that makes one frame of each one or two.
#[derive(Debug, Clone)]
pub struct Pool {
    conv: FrameConv,
    times: usize,
}

impl Pool {
    /// Reads `conv.weight` `[width, times · width, 1, 1]`.
    ///
    /// # Errors
    /// As [`MemBlock::load_all`].
    pub async fn load(loader: &Loader, width: usize, halves: bool) -> Result<Self> {
        let times = if halves { 2 } else { 1 };
        let (conv, form) = (loader.at("conv"), Form::plain([1, 1, 1]));
        Ok(Self { conv: FrameConv::load_without_bias(&conv, times * width, [width, width], form).await?, times })
    }

    /// # Shapes
    /// `[1, C, F, H, W]` → `[1, C, F / times, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [b, c, f, h, w] = x.dims();
        let x = match self.times {
            1 => x,
            n => x.reshape([b, c, f / n, n, h * w]).permute([0, 3, 1, 2, 4]).reshape([b, n * c, f / n, h, w]),
        };
        self.conv.forward(x)
    }
}

/// Every second row and column, from the first on: what a stride of two leaves of a convolution.
///
/// # Shapes
/// `[1, C, F, H, W]` → `[1, C, F, H / 2, W / 2]`
pub fn halved(x: Tensor<5>) -> Tensor<5> {
    let [b, c, f, h, w] = x.dims();
    let x = x.reshape([b * c * f, h / 2, 2, w]).narrow(2, 0, 1);
    x.reshape([b * c * f, h / 2, w / 2, 2]).narrow(3, 0, 1).reshape([b, c, f, h / 2, w / 2])
}

/// torch's `pixel_shuffle`.
///
/// # Shapes
/// `[1, C · p · p, F, H, W]` → `[1, C, F, p · H, p · W]`
pub fn shuffled(x: Tensor<5>, patch: usize) -> Tensor<5> {
    let [b, c, f, h, w] = x.dims();
    if patch == 1 {
        return x;
    }
    let c = c / (patch * patch);
    let x = x.reshape([b * c, patch, patch, f, h, w]).permute([0, 3, 4, 1, 5, 2]);
    x.reshape([b, c, f, h * patch, w * patch])
}

/// torch's `pixel_unshuffle`.
///
/// # Shapes
/// `[1, C, F, p · H, p · W]` → `[1, C · p · p, F, H, W]`
pub fn unshuffled(x: Tensor<5>, patch: usize) -> Tensor<5> {
    let [b, c, f, h, w] = x.dims();
    if patch == 1 {
        return x;
    }
    let (h, w) = (h / patch, w / patch);
    let x = x.reshape([b * c, f, h, patch, w, patch]).permute([0, 3, 5, 1, 2, 4]);
    x.reshape([b, c * patch * patch, f, h, w])
}
