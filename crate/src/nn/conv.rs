//! Convolutions of the video VAE: causal in time, symmetric in space.
//!
//! Source: diffusers `autoencoder_kl_wan.py` `WanCausalConv3d`; causal tokenizers: MAGVIT-v2 2310.05737 §3.1.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module};

use super::loader::Loader;
use crate::error::Result;
pub use crate::kernels::conv3d::Form;
use crate::kernels::conv3d::{Weights, conv3d};

/// The frames a causal convolution remembers between chunks (its kernel spans 3).
const MEMORY_FRAMES: usize = 2;

/// A 3-D convolution that sees only this frame and the past.
#[derive(Debug, Clone)]
pub struct CausalConv3d {
    weights: Weights,
}

impl CausalConv3d {
    /// Reads `weight` `[out, in, k_t, k_h, k_w]` and `bias` `[out]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, input: usize, output: usize, kernel: [usize; 3]) -> Result<Self> {
        Self::load_form(loader, input, output, Form::plain(kernel)).await
    }

    /// As [`CausalConv3d::load`], for another form.
    ///
    /// # Errors
    /// As [`CausalConv3d::load`].
    pub async fn load_form(loader: &Loader, input: usize, output: usize, form: Form) -> Result<Self> {
        let [t, h, w] = form.kernel;
        Ok(Self { weights: loader.convolution(&[output, input, t, h, w], form).await? })
    }

    /// A kernel of one frame: no memory needed.
    ///
    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F, H, W]`
    pub fn forward_framewise(&self, x: Tensor<5>) -> Tensor<5> {
        conv3d(x, None, 0, &self.weights, None)
    }

    /// A kernel of three frames: the last two frames seen so far stand before `x` (zeros at the start of a clip).
    ///
    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F, H, W]`, or `[B, C_out / 2, 2F, H, W]` when the form splits
    pub fn forward(&self, x: Tensor<5>, memory: &mut Memory) -> Tensor<5> {
        let past = memory.remember(&x);
        conv3d(x, past, MEMORY_FRAMES, &self.weights, None)
    }

    /// [`CausalConv3d::forward`] plus `residual`.
    ///
    /// # Shapes
    /// As [`CausalConv3d::forward`]; `residual` as the result.
    pub fn forward_plus(&self, x: Tensor<5>, memory: &mut Memory, residual: Tensor<5>) -> Tensor<5> {
        let past = memory.remember(&x);
        conv3d(x, past, MEMORY_FRAMES, &self.weights, Some(residual))
    }

    /// A kernel of three frames over every second position of `before` and `x`.
    ///
    /// # Shapes
    /// `before` `[B, C_in, 1, H, W]`, `x` `[B, C_in, 2F, H, W]` → `[B, C_out, F, H, W]`
    pub fn forward_halving_time(&self, before: Tensor<5>, x: Tensor<5>) -> Tensor<5> {
        conv3d(x, Some(before), 1, &self.weights, None)
    }
}

/// The last input frames of one convolution, carried from chunk to chunk.
#[derive(Debug, Clone, Default)]
pub struct Memory(Option<Tensor<5>>);

impl Memory {
    /// Remembers the last two frames of what was remembered and `x`; returns what was remembered before.
    fn remember(&mut self, x: &Tensor<5>) -> Option<Tensor<5>> {
        let past = self.0.take();
        let last = |x: &Tensor<5>, n: usize| {
            let frames = x.dims()[2];
            let frame = |at: usize| x.clone().narrow(2, at, 1);
            // Put together anew: a view of the last frames would keep them all. The kernels would copy it anyway.
            if frames <= n { x.clone() } else { Tensor::cat((frames - n..frames).map(frame).collect(), 2) }
        };
        self.0 = Some(match &past {
            Some(past) if x.dims()[2] < MEMORY_FRAMES => {
                Tensor::cat(vec![last(past, MEMORY_FRAMES - x.dims()[2]), x.clone()], 2)
            }
            _ => last(x, MEMORY_FRAMES),
        });
        past
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
    weights: Weights,
}

impl FrameConv {
    /// Reads `weight` `[out, in, k, k]` and `bias` `[out]`; same size out.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, input: usize, output: usize, kernel: usize) -> Result<Self> {
        Self::load_form(loader, input, output, Form::plain([1, kernel, kernel])).await
    }

    /// Kernel 3, stride 2, one row and column of zeros below and to the right only.
    ///
    /// # Errors
    /// As [`FrameConv::load`].
    pub async fn load_halving(loader: &Loader, input: usize, output: usize) -> Result<Self> {
        Self::load_form(loader, input, output, Form { halved: true, ..Form::plain([1, 3, 3]) }).await
    }

    /// Kernel 3 over each frame with its pixels doubled in both directions (torch's "nearest-exact" at factor 2).
    ///
    /// # Errors
    /// As [`FrameConv::load`].
    pub async fn load_doubling(loader: &Loader, input: usize, output: usize) -> Result<Self> {
        Self::load_form(loader, input, output, Form { doubled: true, ..Form::plain([1, 3, 3]) }).await
    }

    async fn load_form(loader: &Loader, input: usize, output: usize, form: Form) -> Result<Self> {
        let [_, h, w] = form.kernel;
        Ok(Self { weights: loader.convolution(&[output, input, h, w], form).await? })
    }

    /// Reads `weight` `[stored, in, k, k]`, of which the last `output` rows count, for a form of single frames; without a bias.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when the tensor is missing or mis-shaped.
    pub async fn load_without_bias(
        loader: &Loader,
        input: usize,
        [stored, output]: [usize; 2],
        form: Form,
    ) -> Result<Self> {
        let ([_, h, w], device) = (form.kernel, loader.device());
        let bias = Tensor::zeros([output], device);
        if loader.set().is_blank() {
            drop(loader.tensor("weight", [stored, input, h, w]).await?);
            return Ok(Self { weights: Weights::hollow([output, input], form, bias, device) });
        }
        let mut values = loader.values("weight", &[stored, input, h, w]).await?;
        values.drain(..(stored - output) * input * h * w);
        let precision = loader.precision("weight", form);
        Ok(Self { weights: Weights::new(values, [output, input], form, precision, bias, device) })
    }

    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F, H, W]`, with H and W halved or doubled if so loaded
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        conv3d(x, None, 0, &self.weights, None)
    }
}

/// A 2-D convolution over each frame and each channel on its own.
#[derive(Debug, Clone)]
pub struct Depthwise {
    weight: Tensor<4>,
}

impl Depthwise {
    /// Reads `weight` `[C, 1, k, k]`, k odd; same size out.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when the tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, channels: usize, kernel: usize) -> Result<Self> {
        Ok(Self { weight: loader.tensor("weight", [channels, 1, kernel, kernel]).await? })
    }

    /// # Shapes
    /// `[B, C, F, H, W]` → the same
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let ([b, c, f, h, w], [_, _, kernel, _]) = (x.dims(), self.weight.dims());
        let frames = x.swap_dims(1, 2).reshape([b * f, c, h, w]);
        let options = ConvOptions::new([1, 1], [kernel / 2, kernel / 2], [1, 1], c);
        let out = module::conv2d(frames, self.weight.clone(), None, options);
        out.reshape([b, f, c, h, w]).swap_dims(1, 2)
    }
}
