//! From stored weights to tensors on a device, by dotted name.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::kernels::Kernel;
use crate::kernels::conv3d::{Form, Parts, Precision, Weights};
use crate::kernels::gemm::Matrix;
use crate::kernels::launch::is_gpu;
use crate::kernels::repack::Packing;
use crate::kernels::repack_gpu::{self, Staging, Stored};
use crate::memory::{hollow, stay};
use crate::weights::lora::LowRank;
use crate::weights::{Bytes, StoredType, TensorInfo, WeightSet, decode, finite};

/// A place in a checkpoint: hands out tensors below a name prefix.
#[derive(Debug, Clone)]
pub struct Loader {
    set: Rc<WeightSet>,
    device: Device,
    queue: Option<wgpu::Queue>,
    streamed: bool,
    /// Bytes that one tensor may have on the device.
    largest: u64,
    prefix: String,
    uploads: Rc<Uploads>,
}

/// What was uploaded and not yet looked after.
#[derive(Debug, Default)]
struct Uploads {
    bytes: Cell<usize>,
    /// Bytes of the largest matrix.
    most: Cell<usize>,
    staging: Staging,
    unsound: RefCell<Vec<(String, Tensor<1, Int>)>>,
}

/// Bytes that may be on their way to the GPU at once.
const MOST_IN_FLIGHT: usize = 64 << 20;

/// True for a table of embeddings, which is read by rows.
pub fn is_table(info: &TensorInfo) -> bool {
    info.name == "shared.weight"
        || ["embed_tokens.weight", "embedding_table.weight"].iter().any(|end| info.name.ends_with(end))
}

/// Bytes of the largest matrix of a set that is uploaded as it is stored.
pub fn largest_upload(set: &WeightSet) -> u64 {
    let matrix = |info: &&TensorInfo| info.shape.len() == 2 && !is_table(info);
    let bytes = |info: &TensorInfo| if info.dtype.is_float8() { 2 * info.len() as u64 } else { info.stored_bytes() };
    set.infos().filter(matrix).map(bytes).max().unwrap_or(0)
}

impl Loader {
    /// The root of a checkpoint.
    pub fn new(set: &Rc<WeightSet>, device: &Device) -> Self {
        let uploads = Rc::<Uploads>::default();
        uploads.most.set(largest_upload(set) as usize);
        Self {
            set: set.clone(),
            device: device.clone(),
            queue: None,
            streamed: false,
            largest: u64::MAX,
            prefix: String::new(),
            uploads,
        }
    }

    /// The same with the queue of its GPU, through which what the host holds is uploaded without a copy here.
    pub fn with_queue(self, queue: Option<&wgpu::Queue>) -> Self {
        Self { queue: queue.cloned(), ..self }
    }

    /// The same for a device whose tensors may have so many bytes: larger ones are split by their outputs.
    pub fn with_largest(self, bytes: u64) -> Self {
        Self { largest: bytes, ..self }
    }

    /// The place `name` below this one.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.full(&name.to_string()), ..self.clone() }
    }

    /// The same for a part that the device cannot keep: its layers are to be streamed.
    pub fn streamed(self, streamed: bool) -> Self {
        Self { streamed, ..self }
    }

    /// True if layers are to be read when their turn comes, in each pass anew.
    pub fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Refuses a place that lacks a tensor that was read at `first`, or has it in another shape or in a type that nothing here
    /// decodes; marks it used.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the tensor.
    pub fn must_be_like(&self, first: &Self) -> Result<()> {
        for (name, shape) in self.set.used_below(&first.prefix) {
            let full = self.full(name);
            match self.set.get(&full) {
                Some(found) if found.shape == shape => found.check_type()?,
                found => {
                    let found = found.map_or("no such tensor".to_owned(), |info| format!("{:?}", info.shape));
                    return Err(Error::weights(full, format!("shape {shape:?}, as in {}", first.prefix), found));
                }
            }
        }
        self.set.mark_used(&self.prefix);
        Ok(())
    }

    /// Marks what lies here as used: the model has it, and nobody needs it.
    pub fn leave(&self) {
        self.set.mark_used(&self.prefix);
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

    /// The shape of a tensor here, if the checkpoint has it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.set.get(&self.full(name)).map(|info| info.shape.as_slice())
    }

    /// A tensor of exactly this shape, as f32 whatever its stored type.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when it is missing, mis-shaped or holds values that are not finite;
    /// [`crate::error::Error::Fetch`] when it cannot be read.
    pub async fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        if self.set.is_blank() {
            self.set.claim(&self.full(name), &shape)?;
            return Ok(hollow(shape, &self.device));
        }
        let values = self.set.fetch_f32(&self.full(name), &shape).await?;
        Ok(stay(TensorData::new(values, shape), &self.device, |data, device| Tensor::from_data(data, device)))
    }

    /// The weights of a linear layer, stored `[output, input]`: on a GPU as small as they are stored where the kernel
    /// reads their type, else as f32. On a GPU, [`Loader::settle`] tells whether their values are sound.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub async fn matrix(&self, name: &str, output: usize, input: usize) -> Result<Matrix> {
        let full = self.full(name);
        if self.set.is_blank() {
            self.set.claim(&full, &[output, input])?;
            return Ok(Matrix::Plain(hollow([input, output], &self.device)));
        }
        // As f32 it is twice as large as in 16 bits and up to eight times as large as quantized.
        let bytes = self.set.get(&full).map_or(0, |info| match Packing::of(info.dtype) {
            Some(_) if Kernel::Gemm.is_on(&self.device) => info.stored_bytes(),
            _ => 4 * info.len() as u64,
        });
        // Whole groups of four: the kernel keeps four outputs in a word.
        let rows = ((self.largest / bytes.div_ceil(output.max(1) as u64).max(1)) as usize / 4 * 4).max(4);
        if bytes <= self.largest || rows >= output || !is_gpu(&self.device) {
            let (stored, bytes) = self.set.fetch(&full, &[output, input]).await?;
            return self.laid_out(&full, stored, bytes, [output, input]).await;
        }
        let mut parts = Vec::new();
        for first in (0..output).step_by(rows) {
            let part = first..output.min(first + rows);
            let (stored, bytes) = self.set.fetch_part(&full, [output, input], part.clone()).await?;
            parts.push(self.laid_out(&full, stored, bytes, [part.len(), input]).await?);
        }
        Ok(Matrix::Split(parts))
    }

    /// Stored bytes of a matrix `[output, input]` as the device wants them.
    async fn laid_out(
        &self,
        full: &str,
        stored: StoredType,
        bytes: Bytes<'_>,
        [output, input]: [usize; 2],
    ) -> Result<Matrix> {
        let packing = Packing::of(stored).filter(|_| Kernel::Gemm.is_on(&self.device));
        if is_gpu(&self.device) && (packing.is_some() || stored == StoredType::F32) {
            if let Some(packing) = packing {
                packing.check(full, bytes.len(), output, input)?;
            }
            let matrix = self.rearranged(full, packing, bytes, [output, input])?;
            self.bound().await?;
            return Ok(matrix);
        }
        let values = finite(full, decode(stored, &bytes.here()))?;
        Ok(Matrix::Plain(self.transposed(&values, output, input)))
    }

    /// Uploads a matrix as it is stored and has the GPU rearrange it.
    fn rearranged(&self, name: &str, packing: Option<Packing>, bytes: Bytes<'_>, [n, k]: [usize; 2]) -> Result<Matrix> {
        self.uploads.bytes.set(self.uploads.bytes.get() + bytes.len());
        let unsound = repack_gpu::sound(&self.device);
        let words = match &self.queue {
            Some(queue) => self.staged(bytes, queue)?,
            None => repack_gpu::upload(bytes, &self.device),
        };
        let stored = Stored { words: &words, n, k, unsound: &unsound };
        let matrix = match packing {
            Some(packing) => {
                let words = repack_gpu::repack(packing, &stored, &self.device);
                words.map(|words| Matrix::Packed { words, packing, k, n })
            }
            None => repack_gpu::turn_f32(&stored, &self.device).map(Matrix::Plain),
        };
        self.uploads.unsound.borrow_mut().push((name.to_owned(), unsound));
        matrix.ok_or_else(|| Error::Internal("a GPU that is none".into()))
    }

    fn staged(&self, bytes: Bytes<'_>, queue: &wgpu::Queue) -> Result<Tensor<1, Int>> {
        let most = self.uploads.most.get().min(usize::try_from(self.largest).unwrap_or(usize::MAX));
        self.uploads.staging.upload(bytes, most, &self.device, queue)
    }

    /// Keeps the uploads that the GPU has not worked off below a bound: each is held twice until then.
    async fn bound(&self) -> Result<()> {
        if self.uploads.bytes.get() < MOST_IN_FLIGHT {
            return Ok(());
        }
        self.settle().await
    }

    /// Waits until the GPU has worked off what was uploaded, and says whether its values are sound. To be called when a
    /// component, or a part of it that is used at once, has been loaded.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the tensor that holds a value that is infinite or not a number;
    /// [`Error::DeviceLost`] when the GPU does not answer.
    pub async fn settle(&self) -> Result<()> {
        self.uploads.bytes.set(0);
        let checks = self.uploads.unsound.take();
        if checks.is_empty() {
            return Ok(());
        }
        let (names, words): (Vec<_>, Vec<_>) = checks.into_iter().unzip();
        let found = Tensor::cat(words, 0).into_data_async().await;
        let found = found.map_err(|e| Error::DeviceLost(format!("the GPU did not take the weights: {e:?}")))?;
        match names.iter().zip(found.iter::<i32>()).find(|(_, unsound)| *unsound != 0) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Error::weights(name, "finite values", "an infinite one or one that is not a number"))
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

    /// Weights of a convolution, stored `[output, input, …]`; a large one is laid out for a GPU part by part, so that it never
    /// lies in this memory whole.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub async fn convolution(&self, stored: &[usize], form: Form) -> Result<Weights> {
        const MOST_WHOLE: usize = 4 << 20; // values
        let (name, size, [output, input]) = ("weight", stored.iter().product::<usize>(), [stored[0], stored[1]]);
        let bias = self.tensor("bias", [output]).await?;
        if self.set.is_blank() {
            self.set.claim(&self.full(name), stored)?;
            return Ok(Weights::hollow([output, input], form, bias, &self.device));
        }
        let single = self.set.get(&self.full(name)).is_some_and(|info| !info.dtype.is_quantized());
        let precision = self.precision(name, form);
        let bytes = precision.bytes_of(stored, form) as u64;
        if bytes > self.largest && is_gpu(&self.device) && single && !form.split {
            // Whole tiles of output channels.
            let step = ((self.largest / (bytes / output as u64).max(1)) as usize / 64 * 64).max(64);
            let mut parts = Vec::new();
            for first in (0..output).step_by(step) {
                let rows = first..output.min(first + step);
                let (count, bias) = (rows.len(), bias.clone().narrow(0, first, rows.len()));
                let values = self.set.fetch_rows(&self.full(name), stored, rows).await?;
                parts.push(Weights::new(values, [count, input], form, precision, bias, &self.device));
            }
            return Ok(Weights::joined(parts, form, bias));
        }
        let parts = match &self.queue {
            Some(queue) if single && size > MOST_WHOLE => {
                Parts::new([output, input], form, precision, &self.device, queue)
            }
            _ => None,
        };
        let Some(parts) = parts else {
            let values = self.values(name, stored).await?;
            return Ok(Weights::new(values, [output, input], form, precision, bias, &self.device));
        };
        let step = parts.channels(MOST_WHOLE / (size / output));
        for first in (0..output).step_by(step) {
            let rows = first..output.min(first + step);
            parts.put(first, &self.set.fetch_rows(&self.full(name), stored, rows).await?)?;
        }
        Ok(parts.finish(bias))
    }

    /// What a GPU has to keep of each weight of a convolution; of one that is not here, everything.
    pub fn precision(&self, name: &str, form: Form) -> Precision {
        let stored = self.set.get(&self.full(name)).filter(|info| !self.set.is_adapted(&info.name));
        stored.map_or(Precision::F32, |info| Precision::of(info.dtype, form))
    }

    /// The values of one row of a table `[rows, columns]`, read alone.
    ///
    /// # Errors
    /// As [`Loader::tensor`].
    pub async fn row(&self, name: &str, table: [usize; 2], row: usize) -> Result<Vec<f32>> {
        self.set.fetch_row(&self.full(name), table, row).await
    }

    /// What LoRAs do to a weight beside its product.
    ///
    /// # Errors
    /// As [`WeightSet::low_rank`].
    pub async fn low_rank(&self, name: &str) -> Result<Option<LowRank>> {
        self.set.low_rank(&self.full(name)).await
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}
