//! The VAE's changes of size: learned ones, and the parameter-free shortcuts of the 2.2 family.
//!
//! Source: diffusers `autoencoder_kl_wan.py` `WanResample`, `AvgDown3D`, `DupUp3D`.

use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

use crate::error::{Error, Result};
use crate::nn::conv::{CausalConv3d, Form, FrameConv, Memories};
use crate::nn::loader::Loader;

/// Halves height and width, and time where `time_conv` is set (not for the clip's first frame).
#[derive(Debug, Clone)]
pub struct Downsample {
    conv: FrameConv,
    time_conv: Option<CausalConv3d>,
}

impl Downsample {
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, dim: usize, temporal: bool) -> Result<Self> {
        let time_conv = match temporal {
            true => {
                let form = Form { time_stride: 2, ..Form::plain([3, 1, 1]) };
                Some(CausalConv3d::load_form(&loader.at("time_conv"), dim, dim, form).await?)
            }
            false => None,
        };
        Ok(Self { conv: FrameConv::load_halving(&loader.at("resample.1"), dim, dim).await?, time_conv })
    }

    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, C, F or F/2, H / 2, W / 2]`
    pub fn forward(&self, x: Tensor<5>, memories: &mut Memories) -> Tensor<5> {
        let x = self.conv.forward(x);
        let Some(time_conv) = &self.time_conv else { return x };
        match memories.next_memory().replace_by_last_frame(&x) {
            None => x,
            Some(before) => time_conv.forward_halving_time(before, x),
        }
    }
}

/// Doubles height and width, and time where `time_conv` is set (not for the clip's first frame).
#[derive(Debug, Clone)]
pub struct Upsample {
    conv: FrameConv,
    time_conv: Option<CausalConv3d>,
}

impl Upsample {
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, dim: usize, output: usize, temporal: bool) -> Result<Self> {
        let time_conv = match temporal {
            true => {
                let form = Form { split: true, ..Form::plain([3, 1, 1]) };
                Some(CausalConv3d::load_form(&loader.at("time_conv"), dim, 2 * dim, form).await?)
            }
            false => None,
        };
        Ok(Self { conv: FrameConv::load_doubling(&loader.at("resample.1"), dim, output).await?, time_conv })
    }

    /// # Shapes
    /// `[B, C, F, H, W]` → `[B, C_out, F or 2F, 2H, 2W]`
    pub fn forward(&self, mut x: Tensor<5>, memories: &mut Memories) -> Tensor<5> {
        if let Some(time_conv) = &self.time_conv {
            let first = memories.in_first_chunk();
            let memory = memories.next_memory();
            // The first frame is not doubled and not remembered: the next chunk sees zeros before it.
            if !first {
                x = time_conv.forward(x, memory); // [B, C, 2F, H, W]
            }
        }
        self.conv.forward(x)
    }
}

/// Averages cells (and channels) to a smaller size: the shortcut of a 2.2 down block.
#[derive(Debug, Clone)]
pub struct AverageDown {
    output: usize,
    time: usize,
    side: usize,
}

impl AverageDown {
    /// # Errors
    /// [`Error::Weights`] when the channels do not divide.
    pub fn new(input: usize, output: usize, time: usize, side: usize) -> Result<Self> {
        let cells = input * time * side * side;
        if !cells.is_multiple_of(output) {
            return Err(Error::weights("vae/config.json", format!("channels dividing {cells}"), output.to_string()));
        }
        Ok(Self { output, time, side })
    }

    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, ⌈F / time⌉, H / side, W / side]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let (t, s) = (self.time, self.side);
        let missing = (t - x.dims()[2] % t) % t;
        let x =
            if missing > 0 { x.pad([(0, 0), (0, 0), (missing, 0), (0, 0), (0, 0)], PadMode::Constant(0.0)) } else { x };
        let [b, c, f, h, w] = x.dims();
        let (f, h, w) = (f / t, h / s, w / s);
        let group = c * t * s * s / self.output;
        x.reshape([b, c, f, t, h, s, w, s])
            .permute([0, 1, 3, 5, 7, 2, 4, 6])
            .reshape([b, self.output, group, f, h, w])
            .mean_dim(2)
            .reshape([b, self.output, f, h, w])
    }
}

/// Repeats channels into cells of a larger size: the shortcut of a 2.2 up block.
#[derive(Debug, Clone)]
pub struct DuplicateUp {
    output: usize,
    time: usize,
    side: usize,
    repeats: usize,
}

impl DuplicateUp {
    /// # Errors
    /// [`Error::Weights`] when the channels do not divide.
    pub fn new(input: usize, output: usize, time: usize, side: usize) -> Result<Self> {
        let cells = output * time * side * side;
        if !cells.is_multiple_of(input) {
            return Err(Error::weights("vae/config.json", format!("channels dividing {cells}"), input.to_string()));
        }
        Ok(Self { output, time, side, repeats: cells / input })
    }

    /// # Shapes
    /// `[B, C_in, F, H, W]` → `[B, C_out, F × time, H × side, W × side]`, less `time − 1` frames in the first chunk
    pub fn forward(&self, x: Tensor<5>, first_chunk: bool) -> Tensor<5> {
        let [b, c, f, h, w] = x.dims();
        let (t, s) = (self.time, self.side);
        let x = x
            .reshape([b, c, 1, f, h, w])
            .expand([b, c, self.repeats, f, h, w])
            .reshape([b, self.output, t, s, s, f, h, w])
            .permute([0, 1, 5, 2, 6, 3, 7, 4])
            .reshape([b, self.output, f * t, h * s, w * s]);
        if first_chunk { x.narrow(2, t - 1, f * t - (t - 1)) } else { x }
    }
}
