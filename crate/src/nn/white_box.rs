//! The two steps of a white-box transformer: tokens are compressed against learned subspaces, then written sparsely in a
//! learned dictionary. Each step is derived, not designed: a gradient step on the coding rate, and one of ISTA.
//!
//! Source: CRATE 2306.01129 §2.3 (MSSA) and §2.4 (ISTA), with the choices of its published code: queries, keys
//! and values are one projection, and the heads' subspaces are joined by a linear layer.

use burn::tensor::{Tensor, TensorData, activation};

use super::attention::attend;
use super::linear::{Epilogue, Linear};
use super::loader::Loader;
use crate::error::Result;
use crate::kernels::gemm::{Matrix, linear};
use crate::memory::stay;

/// Step size and sparsity of ISTA in the published models.
const STEP: f64 = 0.1;
const SPARSITY: f64 = 0.1;

/// Multi-head subspace self-attention: each head compresses the tokens' projections on its subspace towards each other.
#[derive(Debug, Clone)]
pub struct Mssa {
    subspaces: Linear,
    to_out: Linear,
    num_heads: usize,
}

impl Mssa {
    /// Reads `qkv` `[dim, dim]` without a bias and `to_out.0` with one.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, dim: usize, num_heads: usize) -> Result<Self> {
        Ok(Self {
            subspaces: Linear::load_without_bias(&loader.at("qkv"), dim, dim).await?,
            to_out: Linear::load(&loader.at("to_out.0"), dim, dim).await?,
            num_heads,
        })
    }

    /// The step itself, then `epilogue` on its way out.
    ///
    /// # Shapes
    /// `[B, L, D]` → `[B, L, D]`
    pub fn forward(&self, x: Tensor<3>, epilogue: Epilogue) -> Tensor<3> {
        let [b, l, d] = x.dims();
        let seen = self.subspaces.forward(x).reshape([b, l, self.num_heads, d / self.num_heads]);
        self.to_out.forward_then(attend(seen.clone(), seen.clone(), seen), epilogue)
    }
}

/// One step of ISTA towards non-negative sparse codes of the tokens: `ReLU(x + η Dᵀ(x − D x) − η λ)`.
#[derive(Debug, Clone)]
pub struct Ista {
    /// `x · Dᵀ`, what the codes stand for.
    decode: Matrix,
    /// `x · D`, its gradient.
    encode: Matrix,
}

impl Ista {
    /// Reads the dictionary, `weight` `[dim, dim]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when it is missing or mis-shaped.
    pub async fn load(loader: &Loader, dim: usize) -> Result<Self> {
        let values = loader.values("weight", &[dim, dim]).await?;
        let turned: Vec<f32> =
            (0..dim).flat_map(|c| (0..dim).map(move |r| (r, c))).map(|(r, c)| values[r * dim + c]).collect();
        let matrix = |values: Vec<f32>| {
            let data = TensorData::new(values, [dim, dim]);
            Matrix::Plain(stay(data, loader.device(), |data, device| Tensor::from_data(data, device)))
        };
        Ok(Self { decode: matrix(turned), encode: matrix(values) })
    }

    /// # Shapes
    /// `[B, L, D]` → `[B, L, D]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let residual = x.clone() - linear(x.clone(), &self.decode, None, Epilogue::Keep);
        let gradient = linear(residual, &self.encode, None, Epilogue::Keep);
        activation::relu(x + gradient * STEP - STEP * SPARSITY)
    }
}
