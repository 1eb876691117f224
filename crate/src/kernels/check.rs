//! Before a model is loaded, each kernel is run once beside its twin: a driver that gets one wrong loses that kernel,
//! not the picture.

use burn::tensor::{Device, Tensor, TensorData};

use super::attention::{Scores, attention, attention_plain};
use super::channel_norm::{channel_norm, channel_norm_plain};
use super::conv3d::{Form, Weights, conv3d, conv3d_plain};
use super::gemm::{Epilogue, Matrix, linear, linear_plain};
use super::norm_modulate::{norm_modulate, norm_modulate_plain};
use super::rms_rope::{rms_rope, rms_rope_plain};
use super::{Kernel, set_software_adapter};
use crate::device::Compute;

/// Relative L2 that a kernel may differ from its twin by.
const TOLERANCE: f64 = 1e-4;

/// What the check of a kernel found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which kernel.
    pub kernel: Kernel,
    /// Relative L2 between kernel and twin; infinite where the kernel gave something that is not a number or nothing.
    pub error: f64,
}

impl Finding {
    /// True if the kernel is used.
    pub fn passed(&self) -> bool {
        self.error <= TOLERANCE
    }
}

/// Switches the kernels on for a GPU, those that agree with their twins; on a CPU there is nothing to do.
pub async fn prepare(compute: &Compute) -> Vec<Finding> {
    if !compute.is_gpu() {
        return Vec::new();
    }
    set_software_adapter(compute.is_software());
    let mut findings = Vec::with_capacity(Kernel::ALL.len());
    for kernel in Kernel::ALL {
        kernel.set(true);
        let finding = Finding { kernel, error: check(kernel, compute.device()).await };
        if !finding.passed() {
            kernel.set(false);
            log::warn!("kernel {} differs from its twin by {:.1e}: the twin is used", kernel.name(), finding.error);
        }
        findings.push(finding);
    }
    findings
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

    fn tensor<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let values = self.values(shape.iter().product());
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }
}

async fn check(kernel: Kernel, device: &Device) -> f64 {
    let cpu = Device::flex();
    let (found, expected) = match kernel {
        Kernel::Gemm => (gemm(device, false), gemm(&cpu, true)),
        Kernel::Attention => (attend(device, false), attend(&cpu, true)),
        Kernel::Conv3d => (convolve(device, false), convolve(&cpu, true)),
        Kernel::NormModulate => (modulate(device, false), modulate(&cpu, true)),
        Kernel::RmsRope => (turn(device, false), turn(&cpu, true)),
        Kernel::ChannelNorm => (normalise(device, false), normalise(&cpu, true)),
    };
    distance(found, expected).await.unwrap_or(f64::INFINITY)
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
    flat(match plain {
        true => linear_plain(x, &weight, Some(&bias), epilogue),
        false => linear(x, &Matrix::Plain(weight), Some(&bias), epilogue),
    })
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
    let (values, bias) = (n.values(7 * 5 * 27), n.tensor([7]));
    if plain {
        let weight = Tensor::from_data(TensorData::new(values, [7, 5, 3, 3, 3]), device);
        return flat(conv3d_plain(x, Some(past), 2, &weight, &bias, form, Some(residual)));
    }
    let weights = Weights::new(values, [7, 5], form, bias, device);
    flat(conv3d(x, Some(past), 2, &weights, Some(residual)))
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
