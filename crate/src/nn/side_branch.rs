//! Low-rank differences beside a linear layer whose weight stays as it is stored.

use burn::tensor::{Tensor, TensorData};

use super::loader::Loader;
use crate::error::Result;
use crate::kernels::gemm::{Epilogue, Matrix, linear};
use crate::memory::stay;

/// `x · downᵀ · upᵀ`, every factor in `up`.
///
/// Source: LoRA 2106.09685 eq. 3.
#[derive(Debug, Clone)]
pub struct SideBranch {
    /// `[in, rank]`
    down: Matrix,
    /// `[rank, out]`
    up: Matrix,
}

impl SideBranch {
    /// What the LoRAs laid over the checkpoint do to `weight` `[output, input]` here; none where they leave it alone or are
    /// part of what is read.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a factor holds values that are not finite;
    /// [`crate::error::Error::Fetch`] when it cannot be read.
    pub async fn load(loader: &Loader, output: usize, input: usize) -> Result<Option<Self>> {
        let Some(low) = loader.low_rank("weight").await? else { return Ok(None) };
        let matrix = |values: &[f32], rows: usize, columns: usize| {
            let turned: Vec<f32> = (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect();
            let data = TensorData::new(turned, [columns, rows]);
            Matrix::Plain(stay(data, loader.device(), |data, device| Tensor::from_data(data, device)))
        };
        Ok(Some(Self { down: matrix(&low.down, low.rank, input), up: matrix(&low.up, output, low.rank) }))
    }

    /// # Shapes
    /// `[.., in]` → `[.., out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        linear(linear(x, &self.down, None, Epilogue::Keep), &self.up, None, Epilogue::Keep)
    }
}
