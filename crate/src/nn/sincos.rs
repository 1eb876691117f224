//! Fixed position embeddings of a picture's patches: sines and cosines of column and row.
//!
//! Source: ViT-style 2-D embeddings of MAE 2111.06377, as in diffusers `models/embeddings.py` `get_2d_sincos_pos_embed`.

use burn::tensor::{Device, Tensor, TensorData};

/// One row a patch, rows of the picture one after another: of the width `dim` the first half tells the column, the second the
/// row; sines first in each. Positions are stretched so that they run from 0 to `trained` whatever the grid, as in training.
///
/// # Shapes
/// `[rows, columns]` patches → `[1, rows × columns, dim]`; `dim` a multiple of 4
pub fn sincos_2d(dim: usize, [rows, columns]: [usize; 2], trained: usize, device: &Device) -> Tensor<3> {
    let half = dim / 2;
    let axis = |positions: usize| -> Vec<Vec<f32>> {
        // The position itself is an f32 in the reference, its product with the frequency is not.
        let place = |i: usize| i as f32 / (positions as f64 / trained as f64) as f32;
        (0..positions).map(|i| sincos_1d(half, f64::from(place(i)))).collect()
    };
    let (down, across) = (axis(rows), axis(columns));
    let mut values = Vec::with_capacity(rows * columns * dim);
    for row in &down {
        for column in &across {
            values.extend_from_slice(column);
            values.extend_from_slice(row);
        }
    }
    Tensor::from_data(TensorData::new(values, [1, rows * columns, dim]), device)
}

/// The same for places along one axis, 0, 1, 2 … `count − 1`, such as frames.
///
/// # Shapes
/// → `[count, dim]`; `dim` a multiple of 2
pub fn sincos_along(dim: usize, count: usize, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..count).flat_map(|i| sincos_1d(dim, i as f64)).collect();
    Tensor::from_data(TensorData::new(values, [count, dim]), device)
}

/// Sines, then cosines, of `position × 10000^(−i / (dim/2))`.
fn sincos_1d(dim: usize, position: f64) -> Vec<f32> {
    let half = dim / 2;
    let angles = (0..half).map(|i| position / 10_000f64.powf(i as f64 / half as f64));
    angles.clone().map(f64::sin).chain(angles.map(f64::cos)).map(|v| v as f32).collect()
}
