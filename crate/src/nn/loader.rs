//! From stored weights to tensors on a device, by dotted name.

use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::Result;
use crate::kernels::Kernel;
use crate::kernels::gemm::Matrix;
use crate::kernels::launch::is_gpu;
use crate::kernels::repack::Packing;
use crate::memory::stay;
use crate::weights::{WeightSet, decode, finite};

/// A place in a checkpoint: hands out tensors below a name prefix.
#[derive(Debug, Clone)]
pub struct Loader {
    set: Rc<WeightSet>,
    device: Device,
    prefix: String,
}

impl Loader {
    /// The root of a checkpoint.
    pub fn new(set: &Rc<WeightSet>, device: &Device) -> Self {
        Self { set: set.clone(), device: device.clone(), prefix: String::new() }
    }

    /// The place `name` below this one.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.full(&name.to_string()), ..self.clone() }
    }

    /// Where tensors go.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The whole checkpoint.
    pub fn set(&self) -> &WeightSet {
        &self.set
    }

    /// True if the checkpoint has a tensor of this name here.
    pub fn has(&self, name: &str) -> bool {
        self.set.get(&self.full(name)).is_some()
    }

    /// A tensor of exactly this shape, as f32 whatever its stored type.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when it is missing, mis-shaped or holds values that are not finite;
    /// [`crate::error::Error::Fetch`] when it cannot be read.
    pub async fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        let values = self.set.fetch_f32(&self.full(name), &shape).await?;
        Ok(stay(TensorData::new(values, shape), &self.device, |data, device| Tensor::from_data(data, device)))
    }

    /// The weights of a linear layer, stored `[output, input]`: on a GPU as small as they are stored where the kernel
    /// reads their type, else as f32.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub async fn matrix(&self, name: &str, output: usize, input: usize) -> Result<Matrix> {
        let full = self.full(name);
        let (stored, bytes) = self.set.fetch(&full, &[output, input]).await?;
        match Packing::of(stored).filter(|_| Kernel::Gemm.is_on(&self.device) && is_gpu(&self.device)) {
            Some(packing) => {
                let words = packing.repack(&full, &bytes.here(), output, input)?;
                Ok(Matrix::packed(words, packing, [output, input], &self.device))
            }
            None => {
                let values = finite(&full, decode(stored, &bytes.here()))?;
                Ok(Matrix::Plain(self.transposed(&values, output, input)))
            }
        }
    }

    /// `[rows, columns]` as `[columns, rows]` in memory order.
    fn transposed(&self, values: &[f32], rows: usize, columns: usize) -> Tensor<2> {
        let mut turned = vec![0.0f32; values.len()];
        for (r, row) in values.chunks_exact(columns.max(1)).enumerate() {
            for (c, v) in row.iter().enumerate() {
                turned[c * rows + r] = *v;
            }
        }
        stay(TensorData::new(turned, [columns, rows]), &self.device, |data, device| Tensor::from_data(data, device))
    }

    /// The values of a tensor, kept on the host.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub async fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.set.fetch_f32(&self.full(name), shape).await
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}
