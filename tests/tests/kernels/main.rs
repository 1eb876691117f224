//! Every kernel beside its plain-tensor twin, at random shapes: the CPU's own, and with the feature `gpu` the flavour
//! for software adapters and the one for real GPUs. A failure prints the seed; `TABREEL_SEED=n` runs that case alone.

#[cfg(feature = "gpu")]
mod on_gpu;

use burn::tensor::{Device, Tensor, TensorData};
use pollster::block_on;
use tabreel::device::Compute;
use tabreel::kernels::Kernel;
use tabreel::kernels::attention::{Scores, attention, attention_plain};
use tabreel::kernels::channel_norm::{channel_norm, channel_norm_plain};
use tabreel::kernels::check::{Finding, prepare, trust};
use tabreel::kernels::conv3d::{Form, Precision, Weights, conv3d, conv3d_plain};
use tabreel::kernels::gemm::{Epilogue, Matrix, linear, linear_plain};
use tabreel::kernels::launch::launches;
use tabreel::kernels::norm_modulate::{norm_affine, norm_affine_plain, norm_modulate, norm_modulate_plain};
use tabreel::kernels::repack::Packing;
use tabreel::kernels::rms_rope::{rms, rms_plain, rms_rope, rms_rope_plain};
use tabreel::weights::StoredType;
use tabreel_tests::Array;

/// Relative L2 that a kernel may differ from its twin by.
const TOLERANCE: f64 = 1e-4;

/// Repeatable numbers and choices.
struct Draw {
    state: u64,
}

impl Draw {
    fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.state >> 33
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() as usize % choices.len()]
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.next() as usize % (high - low + 1)
    }

    fn yes(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next() as f32 / (1u64 << 30) as f32 - 1.0).collect()
    }

    fn data<const D: usize>(&mut self, shape: [usize; D]) -> TensorData {
        TensorData::new(self.values(shape.iter().product()), shape)
    }
}

/// Runs `case` for `count` seeds on the CPU and, where tests have one, on the GPU in both flavours. It draws its
/// inputs on the device it is given; the last argument says whether the twin is wanted.
fn compare(count: u64, case: impl Fn(&mut Draw, &Device, bool) -> Array) {
    agree(count, "CPU", &Device::flex(), &case);
    #[cfg(feature = "gpu")]
    on_gpu::compare_on_gpu(count, case);
}

fn agree(count: u64, flavour: &str, device: &Device, case: &impl Fn(&mut Draw, &Device, bool) -> Array) {
    let chosen = std::env::var("TABREEL_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    for seed in (0..count).filter(|seed| chosen.is_none_or(|chosen| chosen == *seed)) {
        let before = launches();
        let expected = case(&mut Draw::new(seed), &Device::flex(), true);
        assert_eq!(launches(), before, "TABREEL_SEED={seed}: the twin must not use the kernel");
        let found = case(&mut Draw::new(seed), device, false);
        assert!(launches() > before, "TABREEL_SEED={seed}, {flavour}: the kernel did not run");
        let apart = found.relative_l2(&expected).unwrap_or_else(|why| panic!("TABREEL_SEED={seed}: {why}"));
        assert!(apart <= TOLERANCE, "TABREEL_SEED={seed}, {flavour}: off by {apart:.1e}");
    }
}

#[test]
fn gemm_agrees_with_its_twin() {
    compare(24, |d, device, plain| {
        let (k, n) = (d.one_of(&[1, 7, 32, 36, 100, 192]), d.one_of(&[1, 3, 8, 28, 64, 130]));
        let rows = d.one_of(&[1, 2, 5, 8, 9, 37, 80]);
        let x = Tensor::<3>::from_data(d.data([1, rows, k]), device);
        let weight = Tensor::<2>::from_data(d.data([k, n]), device);
        let bias = Tensor::<1>::from_data(d.data([n]), device);
        let residual = Tensor::<3>::from_data(d.data([1, rows, n]), device);
        let gate_rows = d.one_of(&[1, rows]);
        let gate = Tensor::<3>::from_data(d.data([1, gate_rows, n]), device);
        let (epilogue, bias) = match d.between(0, 5) {
            0 => (Epilogue::Keep, None),
            1 => (Epilogue::Keep, Some(&bias)),
            2 => (Epilogue::Gelu, Some(&bias)),
            3 => (Epilogue::Silu, Some(&bias)),
            4 => (Epilogue::Add(residual), Some(&bias)),
            _ => (Epilogue::GatedAdd(gate, residual), Some(&bias)),
        };
        Array::from_tensor(match plain {
            true => linear_plain(x, &weight, bias, epilogue),
            false => linear(x, &Matrix::Plain(weight), bias, epilogue),
        })
    });
}

#[test]
fn gemm_fills_every_workgroup_tile() {
    compare(3, |d, device, plain| {
        // Enough workgroups for the 64- and 128-row tiles, ragged at both edges.
        let [m, k, n] = [[450, 36, 520], [70, 20, 2500], [1500, 12, 1450]][d.between(0, 2)];
        let x = Tensor::<2>::from_data(d.data([m, k]), device);
        let weight = Tensor::<2>::from_data(d.data([k, n]), device);
        let bias = Tensor::<1>::from_data(d.data([n]), device);
        Array::from_tensor(match plain {
            true => linear_plain(x, &weight, Some(&bias), Epilogue::Gelu),
            false => linear(x, &Matrix::Plain(weight), Some(&bias), Epilogue::Gelu),
        })
    });
}

#[test]
fn attention_agrees_with_its_twin() {
    compare(12, |d, device, plain| {
        let [b, heads] = [d.between(1, 2), d.between(1, 3)];
        let (l, s, k) = (d.one_of(&[1, 5, 33, 80]), d.one_of(&[1, 3, 32, 77]), d.one_of(&[16, 20, 32, 128, 160]));
        let q = Tensor::<4>::from_data(d.data([b, l, heads, k]), device);
        let key = Tensor::<4>::from_data(d.data([b, s, heads, k]), device);
        let value = Tensor::<4>::from_data(d.data([b, s, heads, k]), device);
        let scale = d.one_of(&[None, Some(1.0)]);
        let bias_batch = d.one_of(&[1, b]);
        let bias = Tensor::<4>::from_data(d.data([bias_batch, heads, l, s]), device);
        // The first key of every row counts.
        let seen: Vec<f32> = (0..b * s).map(|i| if i % s == 0 || d.yes() { 1.0 } else { 0.0 }).collect();
        let seen = Tensor::<2>::from_data(TensorData::new(seen, [b, s]), device);
        let scores = Scores { scale, bias: d.yes().then_some(bias), seen: d.yes().then_some(seen) };
        let run = if plain { attention_plain } else { attention };
        Array::from_tensor(run(q, key, value, scores))
    });
}

#[test]
fn attention_of_long_clips_agrees_with_its_twin() {
    compare(1, |d, device, plain| {
        let mut part = |tokens| Tensor::<4>::from_data(d.data([1, tokens, 1, 32]), device);
        let (q, key, value) = (part(300), part(333), part(333));
        let run = if plain { attention_plain } else { attention };
        Array::from_tensor(run(q, key, value, Scores::default()))
    });
}

#[test]
fn conv3d_agrees_with_its_twin() {
    compare(48, |d, device, plain| {
        let b = d.between(1, 2);
        let (input, output) = (d.one_of(&[1, 3, 12, 16, 24]), d.one_of(&[2, 12, 24, 32, 64]));
        let (f, h, w) = (d.one_of(&[1, 2, 4]), d.one_of(&[2, 4, 6, 10]), d.one_of(&[2, 4, 8, 12]));
        let plain_form = Form::plain;
        let (form, lead, past_frames) = match d.between(0, 6) {
            0 => (plain_form([1, 1, 1]), 0, 0),
            1 => (plain_form([1, 3, 3]), 0, 0),
            2 => (Form { halved: true, ..plain_form([1, 3, 3]) }, 0, 0),
            3 => (Form { doubled: true, ..plain_form([1, 3, 3]) }, 0, 0),
            4 => (Form { time_stride: 2, ..plain_form([3, 1, 1]) }, 1, 1),
            5 => (Form { split: true, ..plain_form([3, 1, 1]) }, 2, d.between(0, 2)),
            _ => (plain_form([3, 3, 3]), 2, d.between(0, 2)),
        };
        let f = if form.time_stride == 2 { 2 * f } else { f };
        let x = Tensor::<5>::from_data(d.data([b, input, f, h, w]), device);
        let past = (past_frames > 0).then(|| Tensor::<5>::from_data(d.data([b, input, past_frames, h, w]), device));
        let [t, kh, kw] = form.kernel;
        let mut values = d.values(output * input * t * kh * kw);
        // As a file would hold them: what the precision cannot say is cut off.
        let stored = d.one_of(&[StoredType::F32, StoredType::F16, StoredType::BF16]);
        for value in &mut values {
            *value = match stored {
                StoredType::F16 => f32::from_bits(value.to_bits() & !0x1fff),
                StoredType::BF16 => f32::from_bits(value.to_bits() & !0xffff),
                _ => *value,
            };
        }
        let precision = Precision::of(stored, form);
        let bias = Tensor::<1>::from_data(d.data([output]), device);
        let weight = TensorData::new(values.clone(), [output, input, t, kh, kw]);
        let run = |residual| match plain {
            true => {
                let weight = Tensor::<5>::from_data(weight.clone(), device);
                conv3d_plain(x.clone(), past.clone(), lead, &weight, &bias, form, residual)
            }
            false => {
                let weights = Weights::new(values.clone(), [output, input], form, precision, bias.clone(), device);
                conv3d(x.clone(), past.clone(), lead, &weights, residual)
            }
        };
        let first = run(None);
        if d.yes() {
            return Array::from_tensor(first);
        }
        let residual = Tensor::<5>::from_data(d.data(first.dims()), device);
        Array::from_tensor(run(Some(residual)))
    });
}

#[test]
fn norms_agree_with_their_twins() {
    compare(12, |d, device, plain| {
        let (b, l, heads, k) = (d.between(1, 2), d.one_of(&[1, 5, 70]), d.between(1, 3), d.one_of(&[4, 12, 32]));
        let width = heads * k;
        // Far from zero: a variance taken as E[x²] − E[x]² would show.
        let x = Tensor::<3>::from_data(d.data([b, l, width]), device) + d.one_of(&[0.0, 30.0]);
        let six_shape = [d.one_of(&[1, b]), d.one_of(&[1, l]), 6, width];
        let six = Tensor::<4>::from_data(d.data(six_shape), device);
        let gain = Tensor::<1>::from_data(d.data([width]), device);
        let shift = Tensor::<1>::from_data(d.data([width]), device);
        let cos = Tensor::<4>::from_data(d.data([1, l, 1, k / 2]), device);
        let sin = Tensor::<4>::from_data(d.data([1, l, 1, k / 2]), device);
        match (d.between(0, 3), plain) {
            (0, true) => Array::from_tensor(norm_modulate_plain(x, &six, 4, 3, 1e-6)),
            (0, false) => Array::from_tensor(norm_modulate(x, &six, 4, 3, 1e-6)),
            (1, true) => Array::from_tensor(norm_affine_plain(x, &gain, &shift, 1e-5)),
            (1, false) => Array::from_tensor(norm_affine(x, &gain, &shift, 1e-5)),
            (2, true) => Array::from_tensor(rms_plain(x, &gain, 1e-6)),
            (2, false) => Array::from_tensor(rms(x, &gain, 1e-6)),
            (_, true) => Array::from_tensor(rms_rope_plain(x, &gain, 1e-6, &cos, &sin)),
            (_, false) => Array::from_tensor(rms_rope(x, &gain, 1e-6, &cos, &sin)),
        }
    });
}

#[test]
fn channel_norm_agrees_with_its_twin() {
    compare(8, |d, device, plain| {
        let shape = [d.between(1, 2), d.one_of(&[1, 5, 24]), d.between(1, 3), d.between(1, 9), d.between(1, 9)];
        // Large ones too: SiLU's exponential must not overflow.
        let x = Tensor::<5>::from_data(d.data(shape), device) * d.one_of(&[1.0, 1e3]);
        let gain = Tensor::<5>::from_data(d.data([1, shape[1], 1, 1, 1]), device) * d.one_of(&[1.0, 200.0]);
        let silu = d.yes();
        let run = if plain { channel_norm_plain } else { channel_norm };
        Array::from_tensor(run(x, &gain, silu))
    });
}

#[test]
fn a_scale_that_is_not_finite_names_its_tensor() {
    let mut block = [0u8; 34];
    block[..2].copy_from_slice(&0x7c00u16.to_le_bytes());
    let why = Packing::Q8_0.repack("blocks.0.ffn", &block, 1, 32).expect_err("an infinite scale");
    assert!(why.to_string().contains("blocks.0.ffn"), "{why}");
    let why = Packing::Q8_0.repack("blocks.0.ffn", &block[1..], 1, 32).expect_err("a block cut short");
    assert!(why.to_string().contains("33 bytes"), "{why}");
}

#[test]
fn the_cpu_s_kernels_are_on_until_switched_off() {
    let device = Device::flex();
    assert!(Kernel::ALL.into_iter().all(|kernel| kernel.is_on(&device)));
    assert!(block_on(prepare(&Compute::cpu())).is_empty(), "a CPU has nothing to check");
    trust(&Compute::cpu(), vec![Finding { kernel: Kernel::Gemm, error: None }]);
    assert!(Kernel::Gemm.is_on(&device), "a GPU's findings say nothing about the CPU");
}
