//! Before a model is loaded, each kernel is run once beside its twin: a driver that gets one wrong loses that kernel,
//! not the picture.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::attention::{Scores, attention, attention_plain};
use super::channel_norm::{channel_norm, channel_norm_plain};
use super::conv3d::{Form, Precision, Weights, conv3d, conv3d_plain};
use super::gemm::{Epilogue, Matrix, linear, linear_plain};
use super::norm_modulate::{norm_modulate, norm_modulate_plain};
use super::per_device::PerDevice;
use super::repack::Packing;
use super::repack_gpu::{Stored, repack, sound, upload};
use super::rms_rope::{rms_rope, rms_rope_plain};
use super::{Kernel, set_software_adapter};
use crate::device::Compute;
use crate::host::{Host, SilentHost};
use crate::weights::{Bytes, StoredType, decode};

/// Relative L2 that a kernel may differ from its twin by.
const TOLERANCE: f64 = 1e-4;

/// What the check of a kernel found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Which kernel.
    pub kernel: Kernel,
    /// Relative L2 between kernel and twin; `None` where the kernel gave something that is not a number, or nothing.
    pub error: Option<f64>,
}

impl Finding {
    /// True if the kernel is used.
    pub fn passed(&self) -> bool {
        self.error.is_some_and(|error| error <= TOLERANCE)
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error {
            Some(error) => write!(f, "kernel {} differs from its twin by {error:.1e}", self.kernel.name()),
            None => write!(f, "kernel {} gave no numbers", self.kernel.name()),
        }
    }
}

/// What was found on each GPU of this process.
static FINDINGS: PerDevice<Vec<Finding>> = PerDevice::new();

/// Changes whenever a kernel's text or its check does: findings of another revision say nothing.
pub const REVISION: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    hash = fnv(hash, include_bytes!("attention.rs"));
    hash = fnv(hash, include_bytes!("attention_gpu.wgsl"));
    hash = fnv(hash, include_bytes!("attention_software.wgsl"));
    hash = fnv(hash, include_bytes!("channel_norm.rs"));
    hash = fnv(hash, include_bytes!("channel_norm.wgsl"));
    hash = fnv(hash, include_bytes!("check.rs"));
    hash = fnv(hash, include_bytes!("conv3d.rs"));
    hash = fnv(hash, include_bytes!("conv3d_gpu.wgsl"));
    hash = fnv(hash, include_bytes!("conv3d_software.wgsl"));
    hash = fnv(hash, include_bytes!("gemm.rs"));
    hash = fnv(hash, include_bytes!("gemm.wgsl"));
    hash = fnv(hash, include_bytes!("launch.rs"));
    hash = fnv(hash, include_bytes!("mod.rs"));
    hash = fnv(hash, include_bytes!("norm_modulate.rs"));
    hash = fnv(hash, include_bytes!("norm_modulate.wgsl"));
    hash = fnv(hash, include_bytes!("ops.rs"));
    hash = fnv(hash, include_bytes!("repack.rs"));
    hash = fnv(hash, include_bytes!("repack.wgsl"));
    hash = fnv(hash, include_bytes!("repack_gpu.rs"));
    hash = fnv(hash, include_bytes!("rms_rope.rs"));
    hash = fnv(hash, include_bytes!("rows.rs"));
    hash = fnv(hash, include_bytes!("rows.wgsl"));
    hash = fnv(hash, include_bytes!("switch.rs"));
    fnv(hash, include_bytes!("rms_rope.wgsl"))
};

/// FNV-1a.
const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Switches the kernels on for a GPU, those that agree with their twins; on a CPU there is nothing to do. They are run
/// once for a device.
pub async fn prepare(compute: &Compute) -> Vec<Finding> {
    prepare_with(compute, &SilentHost).await
}

/// As [`prepare`]; the host has its turn after each kernel, whose shaders may take a slow compiler many seconds.
pub async fn prepare_with(compute: &Compute, host: &dyn Host) -> Vec<Finding> {
    if !compute.is_gpu() {
        return Vec::new();
    }
    let device = compute.device();
    if let Some(known) = FINDINGS.get(device) {
        return known;
    }
    set_software_adapter(device, compute.is_software());
    let mut findings = Vec::with_capacity(Kernel::ALL.len());
    for kernel in Kernel::ALL {
        kernel.set(device, true);
        let finding = Finding { kernel, error: check(kernel, device).await };
        if !finding.passed() {
            log::warn!("{finding}: the twin is used");
        }
        kernel.set(device, finding.passed());
        findings.push(finding);
        host.tick().await;
    }
    FINDINGS.update(device, |_| findings.clone());
    findings
}

/// Takes the findings of an earlier process on the same adapter ([`REVISION`] must be the same) instead of checking, if
/// there is one for each kernel. On a CPU there is nothing to do.
pub fn trust(compute: &Compute, findings: Vec<Finding>) {
    let about = |kernel: Kernel| findings.iter().filter(|finding| finding.kernel == kernel).count() == 1;
    if !compute.is_gpu() || findings.len() != Kernel::ALL.len() || !Kernel::ALL.into_iter().all(about) {
        return;
    }
    let device = compute.device();
    set_software_adapter(device, compute.is_software());
    for finding in &findings {
        finding.kernel.set(device, finding.passed());
    }
    FINDINGS.update(device, |_| findings);
}

/// Repeatable numbers in −1…1, the same on every device.
struct Numbers<'a> {
    state: u64,
    device: &'a Device,
}

impl Numbers<'_> {
    fn values(&mut self, count: usize) -> Vec<f32> {
        let next = || {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    /// Blocks of a quantized type: any bytes are one, if their f16 scales are finite.
    fn blocks(&mut self, stored: StoredType, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            self.values(count * stored.block_bytes()).iter().map(|v| (v * 127.0) as i8 as u8).collect();
        for block in bytes.chunks_exact_mut(stored.block_bytes()) {
            for scale in block.iter_mut().take(4).skip(1).step_by(2) {
                *scale &= 0x37;
            }
        }
        bytes
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let values = self.values(shape.iter().product());
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }
}

async fn check(kernel: Kernel, device: &Device) -> Option<f64> {
    let cpu = Device::flex();
    let (found, expected) = match kernel {
        Kernel::Gemm => (gemm(device, false), gemm(&cpu, true)),
        Kernel::Attention => (attend(device, false), attend(&cpu, true)),
        Kernel::Conv3d => (convolve(device, false), convolve(&cpu, true)),
        Kernel::NormModulate => (modulate(device, false), modulate(&cpu, true)),
        Kernel::RmsRope => (turn(device, false), turn(&cpu, true)),
        Kernel::ChannelNorm => (normalise(device, false), normalise(&cpu, true)),
    };
    distance(found, expected).await
}

/// Relative L2 between two tensors of the same length; `None` when one cannot be read or is not finite.
async fn distance(found: Tensor<1>, expected: Tensor<1>) -> Option<f64> {
    let found = found.into_data_async().await.ok()?.try_into_vec::<f32>().ok()?;
    let expected = expected.into_data_async().await.ok()?.try_into_vec::<f32>().ok()?;
    if found.len() != expected.len() {
        return None;
    }
    let square = |x: f64| x * x;
    let apart: f64 = found.iter().zip(&expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let length: f64 = expected.iter().map(|x| square(f64::from(*x))).sum();
    let relative = (apart / length.max(f64::MIN_POSITIVE)).sqrt();
    relative.is_finite().then_some(relative)
}

fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.flatten(0, D - 1)
}

// Sizes that do not divide the tiles, and all that a variant can do at once.

fn gemm(device: &Device, plain: bool) -> Tensor<1> {
    let mut n = Numbers { state: 1, device };
    let (x, weight, bias) = (n.tensor([1, 21, 36]), n.tensor([36, 28]), n.tensor([28]));
    let epilogue = Epilogue::GatedAdd(n.tensor([1, 1, 28]), n.tensor([1, 21, 28]));
    let mut out = vec![flat(match plain {
        true => linear_plain(x, &weight, Some(&bias), epilogue),
        false => linear(x, &Matrix::Plain(weight), Some(&bias), epilogue),
    })];
    // The types that files use most, and one of bytes.
    for (stored, packing) in [(StoredType::Q8_0, Packing::Q8_0), (StoredType::Q4_K, Packing::Q4K)] {
        let (rows, k) = (6, 256);
        let bytes = n.blocks(stored, rows * k / stored.block_len());
        let x = n.tensor([5, k]);
        let matrix = match plain {
            true => None,
            false => rearranged(packing, &bytes, [rows, k], device),
        };
        out.push(flat(match matrix {
            Some(matrix) => linear(x, &matrix, None, Epilogue::Keep),
            None => {
                let weight = Tensor::<2>::from_data(TensorData::new(decode(stored, &bytes), [rows, k]), device);
                linear_plain(x, &weight.transpose(), None, Epilogue::Keep)
            }
        }));
    }
    Tensor::cat(out, 0)
}

/// Stored bytes as a load brings them to the device.
fn rearranged(packing: Packing, bytes: &[u8], [n, k]: [usize; 2], device: &Device) -> Option<Matrix> {
    let words = upload(Bytes::Here(bytes.into()), device);
    let words = repack(packing, &Stored { words: &words, n, k, unsound: &sound(device) }, device)?;
    Some(Matrix::Packed { words, packing, k, n })
}

fn attend(device: &Device, plain: bool) -> Tensor<1> {
    let mut n = Numbers { state: 2, device };
    let (q, k, v) = (n.tensor([1, 19, 2, 16]), n.tensor([1, 23, 2, 16]), n.tensor([1, 23, 2, 16]));
    let run = if plain { attention_plain } else { attention };
    flat(run(q, k, v, Scores::default()))
}

fn convolve(device: &Device, plain: bool) -> Tensor<1> {
    let mut n = Numbers { state: 3, device };
    let form = Form::plain([3, 3, 3]);
    let (x, past, residual) = (n.tensor([1, 5, 2, 5, 6]), n.tensor([1, 5, 1, 5, 6]), n.tensor([1, 7, 2, 5, 6]));
    let (values, bias): (Vec<f32>, _) = (n.values(7 * 5 * 27), n.tensor([7]));
    // Multiples of 1/128 from −1 to 1 are numbers of every precision.
    let values: Vec<f32> = values.iter().map(|value| (value * 128.0).round() / 128.0).collect();
    let out = [Precision::F32, Precision::F16, Precision::BF16].map(|precision| {
        let (x, past, residual) = (x.clone(), Some(past.clone()), Some(residual.clone()));
        flat(match plain {
            true => {
                let weight = Tensor::from_data(TensorData::new(values.clone(), [7, 5, 3, 3, 3]), device);
                conv3d_plain(x, past, 2, &weight, &bias, form, residual)
            }
            false => {
                let weights = Weights::new(values.clone(), [7, 5], form, precision, bias.clone(), device);
                conv3d(x, past, 2, &weights, residual)
            }
        })
    });
    Tensor::cat(out.to_vec(), 0)
}

fn modulate(device: &Device, plain: bool) -> Tensor<1> {
    let mut n = Numbers { state: 4, device };
    let (x, six) = (n.tensor([1, 5, 24]), n.tensor([1, 1, 6, 24]));
    let run = if plain { norm_modulate_plain } else { norm_modulate };
    flat(run(x, &six, 1, 0, 1e-6))
}

fn turn(device: &Device, plain: bool) -> Tensor<1> {
    let mut n = Numbers { state: 5, device };
    let (x, gain) = (n.tensor([1, 5, 24]), n.tensor([24]));
    let (cos, sin) = (n.tensor([1, 5, 1, 6]), n.tensor([1, 5, 1, 6]));
    let run = if plain { rms_rope_plain } else { rms_rope };
    flat(run(x, &gain, 1e-6, &cos, &sin))
}

fn normalise(device: &Device, plain: bool) -> Tensor<1> {
    let mut n = Numbers { state: 6, device };
    let (x, gain) = (n.tensor([1, 5, 2, 3, 5]), n.tensor([1, 5, 1, 1, 1]));
    let run = if plain { channel_norm_plain } else { channel_norm };
    flat(run(x, &gain, true))
}
