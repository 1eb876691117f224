//! From stored weights to tensors on a device, by dotted name.

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::Result;
use crate::kernels::Kernel;
use crate::kernels::gemm::Matrix;
use crate::kernels::launch::is_gpu;
use crate::kernels::repack::Packing;
use crate::memory::stay;
use crate::weights::WeightSet;

/// A place in a checkpoint: hands out tensors below a name prefix.
#[derive(Clone)]
pub struct Loader<'a> {
    set: &'a WeightSet,
    device: &'a Device,
    prefix: String,
}

impl<'a> Loader<'a> {
    /// The root of a checkpoint.
    pub fn new(set: &'a WeightSet, device: &'a Device) -> Self {
        Self { set, device, prefix: String::new() }
    }

    /// The place `name` below this one.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.full(&name.to_string()), ..self.clone() }
    }

    /// Where tensors go.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// True if the checkpoint has a tensor of this name here.
    pub fn has(&self, name: &str) -> bool {
        self.set.get(&self.full(name)).is_some()
    }

    /// A tensor of exactly this shape, as f32 whatever its stored type.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when it is missing, mis-shaped or holds values that are not finite.
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        let values = self.set.take_f32(&self.full(name), &shape)?;
        Ok(stay(TensorData::new(values, shape), self.device, |data, device| Tensor::from_data(data, device)))
    }

    /// A matrix stored `[rows, columns]`, returned as `[columns, rows]` in memory order.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn transposed(&self, name: &str, rows: usize, columns: usize) -> Result<Tensor<2>> {
        let values = self.set.take_f32(&self.full(name), &[rows, columns])?;
        let mut turned = vec![0.0f32; values.len()];
        for (r, row) in values.chunks_exact(columns.max(1)).enumerate() {
            for (c, v) in row.iter().enumerate() {
                turned[c * rows + r] = *v;
            }
        }
        Ok(stay(TensorData::new(turned, [columns, rows]), self.device, |data, device| Tensor::from_data(data, device)))
    }

    /// The weights of a linear layer, stored `[output, input]`: on a GPU as small as they are stored where the kernel
    /// reads their type, else as f32.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn matrix(&self, name: &str, output: usize, input: usize) -> Result<Matrix> {
        let full = self.full(name);
        let (stored, bytes) = self.set.take_stored(&full, &[output, input])?;
        match Packing::of(stored).filter(|_| Kernel::Gemm.is_on(self.device) && is_gpu(self.device)) {
            Some(packing) => {
                let words = packing.repack(&full, bytes, output, input)?;
                Ok(Matrix::packed(words, packing, [output, input], self.device))
            }
            None => Ok(Matrix::Plain(self.transposed(name, output, input)?)),
        }
    }

    /// The values of a tensor, kept on the host.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.set.take_f32(&self.full(name), shape)
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}
