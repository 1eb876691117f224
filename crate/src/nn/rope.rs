//! Rotary position embedding over time, rows and columns.
//!
//! Source: RoFormer 2104.09864 §3.2; the split over three axes is diffusers `transformer_wan.py` `WanRotaryPosEmbed`.

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};

const THETA: f64 = 10_000.0;

/// Cosines and sines for every patch of a latent video, `[1, L, 1, K/2]`.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rope {
    /// Tables for a grid of patches (frames, rows, columns), each axis counted from 0.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when an axis is longer than `max_positions`.
    pub fn new(head_dim: usize, grid: [usize; 3], max_positions: usize, device: &Device) -> Result<Self> {
        if let Some(&n) = grid.iter().find(|&&n| n > max_positions) {
            return Err(Error::options(format!(
                "the clip must fit {max_positions} patches along each axis, got {n} patches"
            )));
        }
        let side = 2 * (head_dim / 6);
        let axes = [head_dim - 2 * side, side, side];
        let [frames, rows, columns] = grid;
        let mut cos = Vec::with_capacity(frames * rows * columns * head_dim / 2);
        let mut sin = Vec::with_capacity(cos.capacity());
        for f in 0..frames {
            for r in 0..rows {
                for c in 0..columns {
                    for (position, dim) in [f, r, c].into_iter().zip(axes) {
                        for pair in 0..dim / 2 {
                            // f64 as in the reference: at f32 the angles of far positions drift.
                            let angle = position as f64 / THETA.powf((2 * pair) as f64 / dim as f64);
                            cos.push(angle.cos() as f32);
                            sin.push(angle.sin() as f32);
                        }
                    }
                }
            }
        }
        let shape = [1, frames * rows * columns, 1, head_dim / 2];
        Ok(Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
        })
    }

    /// The tables of several clips, one after another.
    pub fn packed(ropes: &[&Self]) -> Self {
        let all =
            |table: fn(&Self) -> &Tensor<4>| Tensor::cat(ropes.iter().map(|rope| table(rope).clone()).collect(), 1);
        Self { cos: all(Self::cos), sin: all(Self::sin) }
    }

    /// Positions, L.
    #[allow(clippy::len_without_is_empty)] // a clip has a token at least
    pub fn len(&self) -> usize {
        self.cos.dims()[1]
    }

    /// `[1, L, 1, K/2]`
    pub fn cos(&self) -> &Tensor<4> {
        &self.cos
    }

    /// `[1, L, 1, K/2]`
    pub fn sin(&self) -> &Tensor<4> {
        &self.sin
    }
}
