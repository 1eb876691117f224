//! Attention within windows: a clip's tokens are cut into boxes, and each token sees those of its own.
//!
//! W.A.L.T. lets blocks take turns: spatial windows hold one frame each, spatiotemporal ones a smaller patch of all frames; what
//! it costs grows with the clip's size, not with its square.
//!
//! Source: W.A.L.T. 2312.06662 §3.2.

use burn::tensor::Tensor;

use super::attention::attend;
use crate::error::{Error, Result};

/// A grid of tokens cut into equal boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    grid: [usize; 3],
    window: [usize; 3],
}

impl Windows {
    /// Boxes of `window` frames, rows and columns over a `grid` of tokens; 0, or more than there are, is the whole axis (so a
    /// single picture is cut like a frame of a clip).
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when an axis is no whole number of boxes.
    pub fn new(grid: [usize; 3], window: [usize; 3]) -> Result<Self> {
        let mut cut = grid;
        for ((cut, wanted), axis) in cut.iter_mut().zip(window).zip(["frames", "rows", "columns"]) {
            if wanted == 0 || wanted >= *cut {
                continue;
            }
            if !cut.is_multiple_of(wanted) {
                return Err(Error::options(format!(
                    "the clip must be a whole number of windows of {wanted} {axis} of tokens, got {cut} {axis}"
                )));
            }
            *cut = wanted;
        }
        Ok(Self { grid, window: cut })
    }

    /// Self-attention of each box.
    ///
    /// # Shapes
    /// `q`, `k`, `v` `[B, L, N, K]`, tokens in order of frame, row, column → `[B, L, N × K]`
    pub fn attend(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<3> {
        if self.window == self.grid {
            return attend(q, k, v);
        }
        let [_, _, heads, dim] = q.dims();
        let cut = |x: Tensor<4>| {
            let x = self.cut(x.flatten::<3>(2, 3));
            let [boxes, tokens, _] = x.dims();
            x.reshape([boxes, tokens, heads, dim])
        };
        self.joined(attend(cut(q), cut(k), cut(v)))
    }

    /// `[B, L, D]` → `[B × boxes, tokens of a box, D]`
    fn cut(&self, x: Tensor<3>) -> Tensor<3> {
        let ([b, _, d], [wf, wh, ww]) = (x.dims(), self.window);
        let [nf, nh, nw] = self.boxes();
        let x = x.reshape([b, nf, wf, nh, wh, nw, ww, d]).permute([0, 1, 3, 5, 2, 4, 6, 7]);
        x.reshape([b * nf * nh * nw, wf * wh * ww, d])
    }

    /// Undoes [`Windows::cut`].
    fn joined(&self, x: Tensor<3>) -> Tensor<3> {
        let ([rows, _, d], [wf, wh, ww]) = (x.dims(), self.window);
        let [nf, nh, nw] = self.boxes();
        let (b, length) = (rows / (nf * nh * nw), self.grid.iter().product());
        x.reshape([b, nf, nh, nw, wf, wh, ww, d]).permute([0, 1, 4, 2, 5, 3, 6, 7]).reshape([b, length, d])
    }

    /// How many along each axis.
    fn boxes(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.grid[axis] / self.window[axis])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn boxes_are_cut_and_joined_without_a_token_moving() {
        let windows = Windows::new([2, 4, 6], [0, 2, 3]).unwrap();
        assert_eq!(windows.boxes(), [1, 2, 2]);
        let values: Vec<f32> = (0..2 * 48).map(|i| i as f32).collect();
        let x = Tensor::<3>::from_data(TensorData::new(values.clone(), [2, 48, 1]), &Device::flex());
        let cut = windows.cut(x);
        assert_eq!(cut.dims(), [8, 12, 1]);
        // The first box: rows 0 and 1, columns 0 to 2, of both frames.
        let first = cut.clone().narrow(0, 0, 1).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(first, [0., 1., 2., 6., 7., 8., 24., 25., 26., 30., 31., 32.]);
        assert_eq!(windows.joined(cut).into_data().try_to_vec::<f32>().unwrap(), values);
    }

    #[test]
    fn a_window_larger_than_the_clip_is_the_clip_and_one_that_does_not_divide_it_is_refused() {
        assert_eq!(Windows::new([1, 4, 4], [5, 2, 9]).unwrap().window, [1, 2, 4]);
        let refusal = Windows::new([1, 5, 4], [1, 2, 2]).unwrap_err().to_string();
        assert!(refusal.contains("windows of 2 rows of tokens, got 5 rows"), "{refusal}");
    }
}
