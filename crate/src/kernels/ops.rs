//! What an op is asked for, whichever kernel or twin does it.

use burn::tensor::Tensor;

/// What happens to the product before it is stored.
#[derive(Debug, Clone)]
pub enum Epilogue {
    /// Nothing.
    Keep,
    /// GELU, tanh form.
    Gelu,
    /// x · sigmoid(x).
    Silu,
    /// `residual + x`, `residual` shaped like the result.
    Add(Tensor<3>),
    /// `residual + gate × x`, `gate` `[1, 1 or L, N]`.
    GatedAdd(Tensor<3>, Tensor<3>),
}

/// What is added to the scores, and which keys count.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// Factor of the scores; 1/√K where `None`.
    pub scale: Option<f64>,
    /// Added to the scaled scores, `[1 or B, N, L, S]`.
    pub bias: Option<Tensor<4>>,
    /// `[B, S]`: 1 for a key that counts, 0 for one that is hidden. Every row must have one that counts.
    pub seen: Option<Tensor<2>>,
}

/// What a convolution does besides multiplying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Kernel size: frames, rows, columns; 1 or 3 each, rows and columns alike.
    pub kernel: [usize; 3],
    /// Frames from one output to the next: 1 or 2.
    pub time_stride: usize,
    /// Every second row and column only, with zeros below and to the right (3×3 kernels).
    pub halved: bool,
    /// Each pixel doubled in both directions first (3×3 kernels of one frame).
    pub doubled: bool,
    /// The two halves of the output channels become neighbouring frames.
    pub split: bool,
}

impl Form {
    /// The same size out.
    pub fn plain(kernel: [usize; 3]) -> Self {
        Self { kernel, time_stride: 1, halved: false, doubled: false, split: false }
    }
}

/// For each parity, the taps that meet the same pixel: parity 0 sees pixels (i − 1, i, i), parity 1 (i, i, i + 1).
pub const MERGED: [[&[usize]; 2]; 2] = [[&[0], &[1, 2]], [&[0, 1], &[2]]];
