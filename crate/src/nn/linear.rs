//! A linear layer.

use burn::tensor::Tensor;

use super::loader::Loader;
use super::side_branch::SideBranch;
use crate::error::Result;
pub use crate::kernels::gemm::Epilogue;
use crate::kernels::gemm::{Matrix, finish, linear};

/// `y = x · Wᵀ + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor<1>>,
    /// What LoRAs add, where the weight is not stored as f32.
    side: Option<SideBranch>,
}

impl Linear {
    /// Reads `weight` `[out, in]` and `bias` `[out]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            weight: loader.matrix("weight", output, input).await?,
            bias: Some(loader.tensor("bias", [output]).await?),
            side: SideBranch::load(loader, output, input).await?,
        })
    }

    /// Reads `weight` `[out, in]` only.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub async fn load_without_bias(loader: &Loader, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            weight: loader.matrix("weight", output, input).await?,
            bias: None,
            side: SideBranch::load(loader, output, input).await?,
        })
    }

    /// # Shapes
    /// `[.., in]` → `[.., out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward_then(x, Epilogue::Keep)
    }

    /// The layer and what follows it, in one launch on a GPU.
    ///
    /// # Shapes
    /// `[.., in]` → `[.., out]`; the epilogue's tensors as [`Epilogue`] says.
    pub fn forward_then<const D: usize>(&self, x: Tensor<D>, epilogue: Epilogue) -> Tensor<D> {
        match &self.side {
            None => linear(x, &self.weight, self.bias.as_ref(), epilogue),
            Some(side) => {
                let beside = side.forward(x.clone());
                finish(linear(x, &self.weight, self.bias.as_ref(), Epilogue::Keep) + beside, epilogue)
            }
        }
    }
}
