//! A linear layer.

use burn::tensor::{Tensor, module};

use super::loader::Loader;
use crate::error::Result;

/// `y = x · Wᵀ + b`, with `W` kept transposed (`[in, out]`) so that the matmul reads it in order.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
}

impl Linear {
    /// Reads `weight` `[out, in]` and `bias` `[out]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub fn load(loader: &Loader, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: loader.transposed("weight", output, input)?, bias: Some(loader.tensor("bias", [output])?) })
    }

    /// Reads `weight` `[out, in]` only.
    ///
    /// # Errors
    /// As [`Linear::load`].
    pub fn load_without_bias(loader: &Loader, input: usize, output: usize) -> Result<Self> {
        Ok(Self { weight: loader.transposed("weight", output, input)?, bias: None })
    }

    /// # Shapes
    /// `[.., in]` → `[.., out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::linear(x, self.weight.clone(), self.bias.clone())
    }
}
