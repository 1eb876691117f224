//! What only a GPU does: stored types, 16-bit tiles.

use pollster::block_on;
use std::rc::Rc;
use std::sync::OnceLock;

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use tabreel::kernels::attention::{Scores, attention, attention_plain};
use tabreel::kernels::channel_norm::channel_norm;
use tabreel::kernels::conv3d::{Form, conv3d};
use tabreel::kernels::gemm::{Epilogue, Matrix, linear, linear_plain};
use tabreel::kernels::launch::launches;
use tabreel::kernels::repack::Packing;
use tabreel::kernels::repack_gpu::{Stored, repack, sound, upload};
use tabreel::kernels::{Kernel, Switches, set_half_tiles, set_software_adapter};
use tabreel::nn::loader::Loader;
use tabreel::weights::{Bytes, StoredType, WeightSet, decode, gguf_write};
use tabreel_tests::{Array, fixtures, read_arrays};

use super::{Draw, agree};

/// The adapter as three devices, a flavour of the kernels each: tests beside each other never switch a device over.
struct Gpus {
    real: Device,
    software: Device,
    half: Device,
}

fn gpus() -> &'static Gpus {
    static GPUS: OnceLock<Gpus> = OnceLock::new();
    GPUS.get_or_init(|| {
        let options = || Device::wgpu_options().tasks_max(32);
        let (real, setup) = options().init_with_setup().expect("an adapter");
        // A device of Burn's own on the same handles.
        let another = || options().setup(setup.clone()).init().expect("a second device on the adapter");
        let gpus = Gpus { real, software: another(), half: another() };
        for kernel in Kernel::ALL {
            for device in [&gpus.real, &gpus.software, &gpus.half] {
                kernel.set(device, true);
            }
        }
        set_software_adapter(&gpus.software, true);
        set_half_tiles(&gpus.half, true);
        gpus
    })
}

/// [`super::compare`] for what only a GPU does.
pub fn compare_on_gpu(count: u64, case: impl Fn(&mut Draw, &Device, bool) -> Array) {
    agree(count, "GPU", &gpus().real, &case);
    agree(count, "software adapter", &gpus().software, &case);
}

#[test]
fn half_tiles_cost_little_accuracy_and_never_overflow() {
    let gpu = &gpus().half;
    for seed in 0..6 {
        let gemm = |device: &Device, plain: bool| {
            let mut d = Draw::new(seed);
            let (m, k, n) = (d.between(9, 90), 4 * d.between(3, 60), 4 * d.between(3, 40));
            let x = Tensor::<2>::from_data(d.data([m, k]), device);
            let weight = Tensor::<2>::from_data(d.data([k, n]), device);
            let bias = Tensor::<1>::from_data(d.data([n]), device);
            Array::from_tensor(match plain {
                true => linear_plain(x, &weight, Some(&bias), Epilogue::Gelu),
                false => linear(x, &Matrix::Plain(weight), Some(&bias), Epilogue::Gelu),
            })
        };
        let attend = |device: &Device, plain: bool| {
            let mut d = Draw::new(seed);
            let (l, s, k) = (d.between(1, 300), d.between(1, 90), d.one_of(&[32, 128, 160]));
            let q = Tensor::<4>::from_data(d.data([1, l, 2, k]), device);
            let key = Tensor::<4>::from_data(d.data([1, s, 2, k]), device);
            let value = Tensor::<4>::from_data(d.data([1, s, 2, k]), device);
            Array::from_tensor(match plain {
                true => attention_plain(q, key, value, Scores::default()),
                false => attention(q, key, value, Scores::default()),
            })
        };
        for case in [&gemm as &dyn Fn(&Device, bool) -> Array, &attend] {
            let apart = case(gpu, false).relative_l2(&case(&Device::flex(), true)).expect("numbers");
            assert!(apart <= 1e-2, "seed {seed}: off by {apart:.1e}");
            assert!(apart > 1e-6, "seed {seed}: off by {apart:.1e} only: not 16-bit tiles");
        }
    }
    let large = Tensor::<2>::full([40, 32], 1e6, gpu);
    let product = linear(large, &Matrix::Plain(Tensor::ones([32, 32], gpu)), None, Epilogue::Keep);
    let values = Array::from_tensor(product).values;
    assert!(values.iter().all(|v| *v == 32.0 * 65504.0), "cut off at the largest 16-bit number, got {}", values[0]);
}

/// What the kernel reads as it is stored.
const STORED: [StoredType; 10] = [
    StoredType::Q8_0,
    StoredType::Q4_0,
    StoredType::Q4_1,
    StoredType::Q5_0,
    StoredType::Q5_1,
    StoredType::Q4_K,
    StoredType::Q5_K,
    StoredType::Q6_K,
    StoredType::F16,
    StoredType::BF16,
];

#[test]
fn gemm_reads_stored_weights_exactly() {
    for stored in STORED {
        reads_exactly(stored);
    }
}

#[test]
fn stored_weights_are_rearranged_on_the_gpu_as_by_the_twin() {
    let gpu = &gpus().real;
    let mut d = Draw::new(7);
    for packing in STORED.map(|stored| (stored, Packing::of(stored).expect("a type the kernel reads"))) {
        for (n, k) in [(5, 256), (12, 512), (34, 256)] {
            let bytes = sound_blocks(&mut d, packing.0, n * k / packing.0.block_len());
            let expected = packing.1.repack("weight", &bytes, n, k).expect("sound blocks");
            let (words, unsound) = on_gpu(packing.1, &bytes, [n, k], gpu);
            assert!(words == expected, "{:?} [{n}, {k}]", packing.0);
            assert_eq!(unsound, 0, "{:?}", packing.0);
        }
        // A scale (or value) that is infinite, in the last block.
        let (n, k) = (6, 256);
        let mut bytes = sound_blocks(&mut d, packing.0, n * k / packing.0.block_len());
        let last = bytes.len() - packing.0.block_bytes();
        let at = last + if packing.0 == StoredType::Q6_K { 208 } else { 0 };
        bytes[at..at + 2].copy_from_slice(&[0x80, if packing.0 == StoredType::BF16 { 0x7f } else { 0x7c }]);
        assert_eq!(on_gpu(packing.1, &bytes, [n, k], gpu).1, 1, "{:?}", packing.0);
    }
}

fn on_gpu(packing: Packing, bytes: &[u8], [n, k]: [usize; 2], gpu: &Device) -> (Vec<u32>, i32) {
    let words = upload(Bytes::Here(bytes.into()), gpu);
    let unsound = sound(gpu);
    let words = repack(packing, &Stored { words: &words, n, k, unsound: &unsound }, gpu).expect("a GPU");
    let read = |tensor: Tensor<1, Int>| tensor.into_data().try_to_vec::<i32>().expect("words");
    (read(words).into_iter().map(|word| word as u32).collect(), read(unsound)[0])
}

/// Any bytes are a block, as long as its f16 scales are finite.
fn sound_blocks(d: &mut Draw, stored: StoredType, blocks: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..blocks * stored.block_bytes()).map(|_| d.next() as u8).collect();
    for block in bytes.chunks_exact_mut(stored.block_bytes()) {
        let halves: &[usize] = match stored {
            StoredType::Q6_K => &[208],
            StoredType::Q4_1 | StoredType::Q5_1 | StoredType::Q4_K | StoredType::Q5_K => &[0, 2],
            _ => &[0],
        };
        for at in halves {
            block[at + 1] &= if stored == StoredType::BF16 { 0xbf } else { 0xb7 }; // small, some of them subnormal
        }
    }
    bytes
}

fn reads_exactly(stored: StoredType) {
    compare_on_gpu(2, |d, device, plain| {
        let (rows, n, k) = (d.one_of(&[1, 3, 20]), d.one_of(&[5, 12, 34]), d.one_of(&[256, 512]));
        let bytes = sound_blocks(d, stored, n * k / stored.block_len());
        let x = Tensor::<2>::from_data(d.data([rows, k]), device);
        if plain {
            let weight = Tensor::<2>::from_data(TensorData::new(decode(stored, &bytes), [n, k]), device);
            return Array::from_tensor(linear_plain(x, &weight.transpose(), None, Epilogue::Keep));
        }
        let packing = Packing::of(stored).expect("a type the kernel reads");
        let words = packing.repack("weight", &bytes, n, k).expect("sound blocks");
        Array::from_tensor(linear(x, &Matrix::packed(words, packing, [n, k], device), None, Epilogue::Keep))
    });
}

#[test]
fn stored_weights_come_out_of_the_kernel_bit_for_bit() {
    // One product with 1 and otherwise with 0 is the weight itself: what is left is the decoding.
    let folder = fixtures().join("gguf");
    let expected = read_arrays(&folder.join("io.safetensors")).expect("the fixture");
    let file = std::fs::read(folder.join("types.gguf")).expect("the fixture");
    let set = Rc::new(WeightSet::from_bytes(file, "types.gguf").expect("weights"));
    let mut packed = 0;
    for (flavour, gpu) in [("software adapter", &gpus().software), ("GPU", &gpus().real)] {
        for (name, weight) in &expected {
            let kind = name.trim_start_matches("out.").to_lowercase();
            let [n, k] = weight.shape[..] else { panic!("{name} is no matrix") };
            let matrix = block_on(Loader::new(&set, gpu).matrix(&format!("{kind}.weight"), n, k)).expect("a matrix");
            packed += usize::from(matches!(matrix, Matrix::Packed { .. }));
            let found = Array::from_tensor(linear(Tensor::<2>::eye(k, gpu), &matrix, None, Epilogue::Keep).transpose());
            assert_eq!(found.values, weight.values, "{kind}, {flavour}");
        }
    }
    assert_eq!(packed, 20, "ten types are read as they are stored, in both flavours");
}

#[test]
fn a_matrix_that_is_too_large_for_a_binding_is_split_and_stays_the_same() {
    const LARGEST: u64 = 5000;
    let ([n, k], mut d, gpu) = ([34, 256], Draw::new(3), &gpus().real);
    let shape = [n, k];
    let types = STORED.into_iter().chain([StoredType::F32]);
    let names: Vec<(String, StoredType)> = types.map(|stored| (format!("{stored:?}.weight"), stored)).collect();
    let tensors: Vec<(&str, &[usize], StoredType)> =
        names.iter().map(|(name, stored)| (name.as_str(), &shape[..], *stored)).collect();
    let mut file = Vec::new();
    let data = |index: usize| {
        let stored = names[index].1;
        Ok(match stored {
            StoredType::F32 => d.values(n * k).iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => sound_blocks(&mut d, stored, n * k / stored.block_len()),
        })
    };
    gguf_write::write(&mut file, &[], &tensors, data).expect("a file");
    let set = Rc::new(WeightSet::from_bytes(file, "types.gguf").expect("weights"));
    for (name, stored) in &names {
        let x = Tensor::<3>::from_data(d.data([1, 9, k]), gpu);
        let (bias, gate) = (Tensor::<1>::from_data(d.data([n]), gpu), Tensor::<3>::from_data(d.data([1, 1, n]), gpu));
        let residual = Tensor::<3>::from_data(d.data([1, 9, n]), gpu);
        let run = |largest: u64| {
            let matrix = block_on(Loader::new(&set, gpu).with_largest(largest).matrix(name, n, k)).expect("a matrix");
            let epilogue = Epilogue::GatedAdd(gate.clone(), residual.clone());
            let y = Array::from_tensor(linear(x.clone(), &matrix, Some(&bias), epilogue));
            (if let Matrix::Split(parts) = &matrix { parts.len() } else { 1 }, y)
        };
        let ((parts, found), (whole, expected)) = (run(LARGEST), run(u64::MAX));
        let bytes = n * k / stored.block_len() * stored.block_bytes();
        assert_eq!((parts > 1, whole), (bytes as u64 > LARGEST, 1), "{name}: {parts} parts of {bytes} bytes");
        let apart = found.relative_l2(&expected).expect("numbers");
        assert!(apart <= 1e-6, "{name}: off by {apart:.1e}");
    }
}

#[test]
fn a_convolution_that_is_too_large_for_a_binding_is_split_and_stays_the_same() {
    let (output, input) = (130, 8);
    let mut d = Draw::new(4);
    let halves = |values: Vec<f32>| values.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect();
    let tensors: [(&str, Vec<usize>, Vec<u8>); 2] = [
        ("weight", vec![output, input, 3, 3, 3], halves(d.values(output * input * 27))),
        ("bias", vec![output], halves(d.values(output))),
    ];
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::BF16, shape.clone(), bytes).expect("a tensor of its length"))
    });
    let file = safetensors::serialize(views, None).expect("a file");
    let set = Rc::new(WeightSet::from_bytes(file, "conv.safetensors").expect("weights"));
    for gpu in [&gpus().software, &gpus().real] {
        let x = Tensor::<5>::from_data(d.data([1, input, 2, 5, 6]), gpu);
        let residual = Tensor::<5>::from_data(d.data([1, output, 2, 5, 6]), gpu);
        let run = |largest| {
            let loader = Loader::new(&set, gpu).with_largest(largest);
            let form = Form::plain([3, 3, 3]);
            let weights = block_on(loader.convolution(&[output, input, 3, 3, 3], form)).expect("a convolution");
            let before = launches();
            let y = Array::from_tensor(conv3d(x.clone(), None, 2, &weights, Some(residual.clone())));
            (launches() - before, y)
        };
        let ((parts, found), (whole, expected)) = (run(30_000), run(u64::MAX));
        assert_eq!((parts, whole), (3, 1), "three parts of at most 64 output channels");
        let apart = found.relative_l2(&expected).expect("numbers");
        assert!(apart <= 1e-6, "off by {apart:.1e}");
    }
}

#[test]
fn a_clip_of_zeros_stays_finite() {
    let device = &gpus().software;
    let zeros = Tensor::<5>::zeros([1, 4, 1, 2, 2], device);
    let normed = Array::from_tensor(channel_norm(zeros, &Tensor::ones([1, 4, 1, 1, 1], device), true));
    assert!(normed.values.iter().all(|v| *v == 0.0), "{:?}", normed.values);
}

#[test]
fn a_switch_is_one_device_s_own() {
    let gpus = gpus();
    assert_ne!(gpus.real, gpus.software);
    let flavour = |device: &Device| {
        let switches = Switches::of(device);
        (switches.software, switches.half_tiles)
    };
    let flavours = [&gpus.real, &gpus.software, &gpus.half, &Device::flex()].map(flavour);
    assert_eq!(flavours, [(false, false), (true, false), (false, true), (false, false)]);
}
