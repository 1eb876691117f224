//! Convolutions of the video VAE: causal in time, symmetric in space.
//!
//! Source: diffusers `autoencoder_kl_wan.py` `WanCausalConv3d`; causal tokenizers: MAGVIT-v2 2310.05737 §3.1.

use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Tensor, module};

use super::loader::Loader;
use crate::error::Result;

/// The frames a causal convolution remembers between chunks (its kernel spans 3).
const MEMORY_FRAMES: usize = 2;

/// A 3-D convolution that sees only this frame and the past.
#[derive(Debug, Clone)]
pub struct CausalConv3d {
    weight: Tensor<5>,
    bias: Tensor<1>,
    kernel: [usize; 3],
}

impl CausalConv3d {
    /// Reads `weight` `[out, in, k_t, k_h, k_w]` and `bias` `[out]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub fn load(loader: &Loader, input: usize, output: usize, kernel: [usize; 3]) -> Result<Self> {
        let [t, h, w] = kernel;
        Ok(Self {
            weight: loader.tensor("weight", [output, input, t, h, w])?,
            bias: loader.tensor("bias", [output])?,
            kernel,
        })
    }

    /// A kernel of one frame: no memory needed.
    ///
    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F, H, W]`
    pub fn forward_framewise(&self, x: Tensor<5>) -> Tensor<5> {
        self.convolve(x, 1)
    }

    /// A kernel of three frames: the last two frames seen so far stand before `x` (zeros at the start of a clip).
    ///
    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F, H, W]`
    pub fn forward(&self, x: Tensor<5>, memory: &mut Memory) -> Tensor<5> {
        self.convolve(memory.prepend(x), 1)
    }

    /// A kernel of three frames over every second position of `x`, nothing added before it.
    ///
    /// # Shapes
    /// `[B, C_in, 2F + 1, H, W]` → `[B, C_out, F, H, W]`
    pub fn forward_halving_time(&self, x: Tensor<5>) -> Tensor<5> {
        self.convolve(x, 2)
    }

    fn convolve(&self, x: Tensor<5>, time_stride: usize) -> Tensor<5> {
        let [_, h, w] = self.kernel;
        let padding = [0, h / 2, w / 2];
        let options = ConvOptions::new([time_stride, 1, 1], padding, [1, 1, 1], 1);
        module::conv3d(x, self.weight.clone(), Some(self.bias.clone()), options)
    }
}

/// The last two input frames of one convolution, carried from chunk to chunk.
#[derive(Debug, Clone, Default)]
pub struct Memory(Option<Tensor<5>>);

impl Memory {
    /// `x` with the remembered frames before it; remembers the last two of the result.
    fn prepend(&mut self, x: Tensor<5>) -> Tensor<5> {
        let [b, c, _, h, w] = x.dims();
        let past = self.0.take().unwrap_or_else(|| Tensor::zeros([b, c, MEMORY_FRAMES, h, w], &x.device()));
        let joined = Tensor::cat(vec![past, x], 2);
        let frames = joined.dims()[2];
        self.0 = Some(joined.clone().narrow(2, frames - MEMORY_FRAMES, MEMORY_FRAMES));
        joined
    }

    /// Remembers the last frame of `x` instead; returns what was remembered before.
    pub fn replace_by_last_frame(&mut self, x: &Tensor<5>) -> Option<Tensor<5>> {
        let frames = x.dims()[2];
        self.0.replace(x.clone().narrow(2, frames - 1, 1))
    }
}

/// The memories of all convolutions of an encoder or decoder, for one clip.
///
/// Weights and memories are kept apart so that several clips (or tiles) can stream through one model.
#[derive(Debug, Clone, Default)]
pub struct Memories {
    slots: Vec<Memory>,
    cursor: usize,
    chunks: usize,
}

impl Memories {
    /// To be called before each chunk: the first convolution is next.
    pub fn start_chunk(&mut self) {
        self.cursor = 0;
        self.chunks += 1;
    }

    /// True while the clip's first chunk (a single frame) passes.
    pub fn in_first_chunk(&self) -> bool {
        self.chunks <= 1
    }

    /// The memory of the next convolution, in the order in which they run.
    pub fn next_memory(&mut self) -> &mut Memory {
        if self.cursor == self.slots.len() {
            self.slots.push(Memory::default());
        }
        self.cursor += 1;
        &mut self.slots[self.cursor - 1]
    }
}

/// A 2-D convolution over each frame on its own.
#[derive(Debug, Clone)]
pub struct FrameConv {
    weight: Tensor<4>,
    bias: Tensor<1>,
}

impl FrameConv {
    /// Reads `weight` `[out, in, k, k]` and `bias` `[out]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub fn load(loader: &Loader, input: usize, output: usize, kernel: usize) -> Result<Self> {
        Ok(Self {
            weight: loader.tensor("weight", [output, input, kernel, kernel])?,
            bias: loader.tensor("bias", [output])?,
        })
    }

    /// Kernel 1 or 3, same size out.
    ///
    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let k = self.weight.dims()[2];
        self.on_frames(x, ConvOptions::new([1, 1], [k / 2, k / 2], [1, 1], 1), |x| x)
    }

    /// Kernel 3, stride 2, one row and column of zeros below and to the right only.
    ///
    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F, H / 2, W / 2]`
    pub fn forward_halving(&self, x: Tensor<5>) -> Tensor<5> {
        let pad = |x: Tensor<4>| x.pad((0, 1, 0, 1), PadMode::Constant(0.0));
        self.on_frames(x, ConvOptions::new([2, 2], [0, 0], [1, 1], 1), pad)
    }

    fn on_frames(&self, x: Tensor<5>, options: ConvOptions<2>, before: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<5> {
        let [b, c, f, h, w] = x.dims();
        let frames = before(x.swap_dims(1, 2).reshape([b * f, c, h, w]));
        let out = module::conv2d(frames, self.weight.clone(), Some(self.bias.clone()), options);
        let [_, c, h, w] = out.dims();
        out.reshape([b, f, c, h, w]).swap_dims(1, 2)
    }
}

/// Doubles height and width by repeating pixels (torch's "nearest-exact" at factor 2).
///
/// # Shapes
/// `[B, C, F, H, W]` → `[B, C, F, 2H, 2W]`
pub fn double_size(x: Tensor<5>) -> Tensor<5> {
    let [b, c, f, h, w] = x.dims();
    x.reshape([b * c * f, h, 1, w, 1]).expand([b * c * f, h, 2, w, 2]).reshape([b, c, f, 2 * h, 2 * w])
}
