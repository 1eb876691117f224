//! [`Packing::repack`](super::repack::Packing::repack) on the GPU: stored bytes are uploaded as they lie in the file and
//! rearranged there, so that large weights need not pass through this memory.

use std::cell::RefCell;

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_cubecl::tensor::CubeTensor;
use cubecl::wgpu::{AutoCompiler, WgpuServer};

use super::launch::{Shader, Template, fill, fold, on_gpu, tensor, words_on_gpu};
use super::repack::Packing;
use crate::error::{Error, Result};
use crate::weights::Bytes;

const TEMPLATE: Template = Template(include_str!("repack.wgsl"));

/// Stored bytes of a matrix `[n, k]` on a GPU, as 32-bit words.
pub struct Stored<'a> {
    /// The bytes, little endian, padded to whole words.
    pub words: &'a Tensor<1, Int>,
    /// Rows (outputs).
    pub n: usize,
    /// Columns (inputs).
    pub k: usize,
    /// `[1]`, 0 before; 1 after if a value or scale is infinite or not a number.
    pub unsound: &'a Tensor<1, Int>,
}

/// The words that the matrix product reads; `None` where `stored` lies on no GPU.
pub fn repack(packing: Packing, stored: &Stored<'_>, device: &Device) -> Option<Tensor<1, Int>> {
    let length = packing.words(stored.n, stored.k);
    let words = device.memory_persistent_allocations((), |()| Tensor::<1, Int>::empty([length], device));
    run(Some(packing), stored, &words_on_gpu(&words)?, length)?;
    Some(words)
}

/// f32 values turned: `[k, n]`.
pub fn turn_f32(stored: &Stored<'_>, device: &Device) -> Option<Tensor<2>> {
    let Stored { n, k, .. } = *stored;
    let out = device.memory_persistent_allocations((), |()| Tensor::<2>::empty([k, n], device));
    let out = on_gpu(&out)?;
    run(None, stored, &out, n * k)?;
    Some(tensor(out))
}

fn run(packing: Option<Packing>, stored: &Stored<'_>, out: &CubeTensor, length: usize) -> Option<()> {
    const THREADS: u32 = 64;
    let key = packing.map_or("F32".to_owned(), |packing| format!("{packing:?}"));
    let shader = Shader { name: "repack", key, source: Box::new(move || text(packing)), threads: THREADS };
    let buffers = [&words_on_gpu(stored.words)?, out, &words_on_gpu(stored.unsound)?];
    let sizes = [stored.n as u32, stored.k as u32, length as u32];
    shader.launch(&buffers, &sizes, fold(length.div_ceil(THREADS as usize)));
    Some(())
}

fn text(packing: Option<Packing>) -> String {
    let section = |name| TEMPLATE.section(name);
    let kernel = section("kernel");
    let Some(packing) = packing else { return fill(kernel, &[("layout", section("f32"))]) };
    let halves = |exponent| fill(kernel, &[("layout", section("halves")), ("exponent", exponent)]);
    // Scale's place, elements a word of high bits, a minimum, small scales; the bits' section, nibbles and fifth bits.
    let (scale, high, minimum, small, bits, nibbles, fifth) = match packing {
        Packing::F16 => return halves("0x7c00u"),
        Packing::BF16 => return halves("0x7f80u"),
        Packing::Q8_0 => (0, 0, 0, "small.none", "bits.q8_0", 0, 0),
        Packing::Q4_0 => (0, 0, 0, "small.none", "bits.nibbles", 2, 0),
        Packing::Q4_1 => (0, 0, 1, "small.none", "bits.nibbles", 4, 0),
        Packing::Q5_0 => (0, 8, 0, "small.none", "bits.nibbles", 6, 2),
        Packing::Q5_1 => (0, 8, 1, "small.none", "bits.nibbles", 8, 4),
        Packing::Q4K => (0, 0, 1, "small.pairs", "bits.k", 16, 0),
        Packing::Q5K => (0, 8, 1, "small.pairs", "bits.k", 48, 0),
        Packing::Q6K => (208, 4, 0, "small.bytes", "bits.q6_k", 0, 0),
    };
    let (length, size) = packing.block();
    let numbers = [length, size, scale, high, minimum, nibbles, fifth].map(|number: usize| number.to_string());
    let [length, size, scale, high, minimum, nibbles, fifth] = &numbers;
    let bits = format!("{}\n{}", section(bits), section(small));
    fill(
        kernel,
        &[
            ("layout", section("quantized")),
            ("bits", &bits),
            ("length", length),
            ("size", size),
            ("scale", scale),
            ("high", high),
            ("minimum", minimum),
            ("nibbles", nibbles),
            ("fifth", fifth),
        ],
    )
}

/// The buffer through which one tensor after another reaches a GPU: made once, as large as the largest needs it. A write
/// waits in the queue for what was submitted before it, so the next tensor may follow at once.
#[derive(Debug, Default)]
pub struct Staging {
    words: RefCell<Option<Tensor<1, Int>>>,
}

impl Staging {
    /// Puts bytes there as words; up to 3 bytes of padding and what a longer tensor left follow. What is read from them must
    /// be queued before the next upload. `most` is how many bytes the largest upload has.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the GPU takes no data.
    pub fn upload(
        &self,
        bytes: Bytes<'_>,
        most: usize,
        device: &Device,
        queue: &wgpu::Queue,
    ) -> Result<Tensor<1, Int>> {
        let needed = bytes.len().div_ceil(size_of::<u32>());
        let known = self.words.borrow().clone().filter(|words| words.dims()[0] >= needed);
        let words = known.unwrap_or_else(|| {
            let length = needed.max(most.div_ceil(size_of::<u32>()));
            device.memory_persistent_allocations((), |()| Tensor::empty([length], device))
        });
        *self.words.borrow_mut() = Some(words.clone());
        let (buffer, offset) = place(words_on_gpu(&words).as_ref())?;
        match bytes {
            Bytes::Elsewhere(bytes) => bytes.write_to(&buffer, queue, offset)?,
            Bytes::Here(bytes) => {
                let whole = bytes.len() / size_of::<u32>() * size_of::<u32>();
                queue.write_buffer(&buffer, offset, &bytes[..whole]);
                if whole < bytes.len() {
                    let mut last = [0; size_of::<u32>()];
                    last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
                    queue.write_buffer(&buffer, offset + whole as u64, &last);
                }
            }
        }
        Ok(words)
    }
}

/// Puts bytes on a GPU as words, padded with zeros.
pub fn upload(bytes: Bytes<'_>, device: &Device) -> Tensor<1, Int> {
    let bytes = bytes.here();
    let word = |four: &[u8]| {
        let mut whole = [0; 4];
        whole[..four.len()].copy_from_slice(four);
        i32::from_le_bytes(whole)
    };
    let words: Vec<i32> = bytes.chunks(4).map(word).collect();
    let length = words.len();
    Tensor::from_data(TensorData::new(words, [length]), device)
}

/// Where a tensor lies that is about to be written to from the queue.
fn place(primitive: Option<&CubeTensor>) -> Result<(wgpu::Buffer, u64)> {
    let lost = |e: String| Error::DeviceLost(format!("the GPU has no buffer for weights: {e}"));
    let primitive = primitive.ok_or_else(|| lost("no GPU".into()))?;
    // Work queued on the buffer's last tenant must be submitted before it is written to.
    primitive.client.flush().map_err(|e| lost(format!("{e:?}")))?;
    let resource = primitive.client.get_resource::<WgpuServer<AutoCompiler>>(primitive.handle.clone());
    let resource = resource.map_err(|e| lost(format!("{e:?}")))?;
    let place = resource.resource();
    Ok((place.buffer.clone(), place.offset))
}

/// Writes whole words into a tensor, from byte `at` on.
///
/// # Errors
/// [`Error::DeviceLost`] when it lies in no GPU's buffer.
pub fn write_words(tensor: Option<&CubeTensor>, queue: &wgpu::Queue, at: u64, bytes: &[u8]) -> Result<()> {
    let (buffer, offset) = place(tensor)?;
    queue.write_buffer(&buffer, offset + at, bytes);
    Ok(())
}

/// A word that the kernels set where something is unsound, 0. It takes none of the buffers that are free between two layers: it
/// would hold a whole one, as large as a clip's tensors, until it is looked at.
pub fn sound(device: &Device) -> Tensor<1, Int> {
    device.memory_persistent_allocations((), |()| Tensor::zeros([1], device))
}
