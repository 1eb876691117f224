//! A linear layer.

use burn::tensor::Tensor;

use super::loader::Loader;
use crate::error::Result;
pub use crate::kernels::gemm::Epilogue;
use crate::kernels::gemm::{Matrix, linear};

/// `y = x · Wᵀ + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor<1>>,
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
        })
    }

    /// Reads `weight` `[out, in]` only.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub async fn load_without_bias(loader: &Loader, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: loader.matrix("weight", output, input).await?, bias: None })
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
        linear(x, &self.weight, self.bias.as_ref(), epilogue)
    }
}
