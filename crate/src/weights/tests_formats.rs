//! PyTorch files, 8-bit floats and folded convolutions: files as torch and ComfyUI write them, and damaged ones.

use ::safetensors::tensor::{Dtype, TensorView};
use pollster::block_on;

use super::tests::fixture;
use super::*;

/// Written by torch 2.15: `torch.save` of an ordered state dict, with a view into a larger storage.
const TENSORS: [(&str, StoredType, &[usize], &[f32]); 5] = [
    (
        "net.blocks.0.weight",
        StoredType::F32,
        &[3, 4],
        &[0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.125, 1.25, 1.375],
    ),
    ("net.half", StoredType::F16, &[2, 3], &[-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]),
    ("net.brain", StoredType::BF16, &[4], &[0.5, 1.5, 2.5, 3.5]),
    ("net.view", StoredType::F32, &[2, 3], &[8.0, 9.0, 10.0, 11.0, 12.0, 13.0]),
    ("net.row", StoredType::F32, &[1, 1], &[20.0]),
];

#[test]
fn a_pytorch_file_holds_the_tensors_that_torch_saved() {
    // The second keeps them in a training checkpoint, beside an optimizer and weights that are not the averaged ones.
    for name in ["model.pt", "checkpoint.pth"] {
        let file = WeightFile::parse(fixture(&format!("pytorch/{name}")), name).unwrap();
        assert_eq!(file.format(), FileFormat::PyTorch);
        let set = WeightSet::new(vec![file]).unwrap();
        for (name, dtype, shape, values) in TENSORS {
            assert_eq!(set.get(name).map(|info| info.dtype), Some(dtype), "{name}");
            assert_eq!(set.take_f32(name, shape).unwrap(), values, "{name}");
        }
        assert_eq!(set.len(), TENSORS.len() + 1);
        assert_eq!(set.unused(), Vec::<String>::new()); // the training's counter is no weight
    }
}

#[test]
fn a_pytorch_file_may_hold_tensors_of_types_that_nothing_here_decodes() {
    // Written by torch 2.15, which puts the types of some beside a storage of bytes.
    let set = WeightSet::from_bytes(fixture("pytorch/types.pt"), "types.pt").unwrap();
    assert_eq!(set.take_f32("weight", &[2, 3]).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(set.take_f32("eight", &[3]).unwrap(), [1.0, -2.0, 448.0]);
    assert_eq!(set.take_f32("other_eight", &[1, 2]).unwrap(), [1.0, 57344.0]);
    for (name, shape, kind) in [
        ("bytes", &[2, 3][..], "CharStorage"),
        ("counter", &[4][..], "uint16"),
        ("complex", &[2][..], "ComplexFloatStorage"),
    ] {
        assert_eq!(set.get(name).map(|info| info.shape.as_slice()), Some(shape));
        let told = set.take_f32(name, shape).unwrap_err().to_string();
        assert_eq!(told, format!("{name}: expected a type that can be decoded here, found {kind}"));
    }
}

#[test]
fn what_a_pickle_must_not_do_is_refused_by_name() {
    let refusal = |bytes: Vec<u8>| WeightFile::parse(bytes, "a.pt").err().map(|e| e.to_string()).unwrap_or_default();
    let evil = refusal(fixture("pytorch/evil.pt"));
    assert!(evil.contains("one that asks for posix.system"), "{evil}");
    let strided = refusal(fixture("pytorch/strided.pt"));
    assert!(strided.starts_with("a: expected a tensor whose rows lie one after another"), "{strided}");
    let zip = refusal(b"PK\x03\x04 not much of a zip".to_vec());
    assert!(zip.contains("a whole zip archive, found no directory at the end"), "{zip}");
    let old = refusal(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec());
    assert!(old.contains("from before version 1.6"), "{old}");
}

#[test]
fn a_damaged_pytorch_file_is_an_error_and_never_a_panic() {
    let whole = fixture("pytorch/checkpoint.pth");
    for cut in (0..whole.len()).step_by(13) {
        assert!(WeightFile::parse(whole[..cut].to_vec(), "cut.pt").is_err());
    }
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..4000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        if let Ok(set) = WeightSet::from_bytes(bytes, "damaged.pt") {
            for name in set.names().map(str::to_owned).collect::<Vec<_>>() {
                let _ = set.f32(&name); // numbers, or an error
            }
        }
    }
}

/// A safetensors file of tensors given by their bytes.
fn set(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> WeightSet {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    WeightSet::from_bytes(::safetensors::serialize(views, None).unwrap(), "fp8.safetensors").unwrap()
}

#[test]
fn eight_bit_floats_are_multiplied_by_the_scale_beside_them() {
    let scale = 0.3f32.to_le_bytes();
    let rows = [2.0f32, 0.5].map(f32::to_le_bytes).concat();
    let set = set(&[
        ("a.weight", Dtype::F8_E4M3, &[2, 2], &[0x38, 0xb8, 0x7e, 0x01]),
        ("a.scale_weight", Dtype::F32, &[1], &scale),
        ("b.weight", Dtype::F8_E5M2, &[2, 2], &[0x3c, 0x3d, 0xbc, 0x00]),
        ("b.weight_scale", Dtype::F32, &[2, 1], &rows),
        ("c.weight", Dtype::F8_E4M3, &[1, 2], &[0x38, 0x39]),
        ("scaled_fp8", Dtype::F8_E4M3, &[0], &[]),
    ]);
    let a = [0.3, -0.3, 448.0 * 0.3, 0.3 / 512.0];
    assert_eq!(set.take_f32("a.weight", &[2, 2]).unwrap(), a);
    assert_eq!(block_on(set.fetch_f32("a.weight", &[2, 2])).unwrap(), a);
    assert_eq!(block_on(set.fetch_row("a.weight", [2, 2], 1)).unwrap(), a[2..]);
    assert_eq!(block_on(set.fetch_f32("b.weight", &[2, 2])).unwrap(), [2.0, 2.5, -0.5, 0.0]);
    for (row, wanted) in [[2.0, 2.5], [-0.5, 0.0]].into_iter().enumerate() {
        assert_eq!(block_on(set.fetch_row("b.weight", [2, 2], row)).unwrap(), wanted);
    }
    // A kernel gets what it reads: f16, within its rounding where there is a scale, exact where there is none.
    let (dtype, bytes) = block_on(set.fetch("a.weight", &[2, 2])).unwrap();
    for (found, wanted) in decode(dtype, &bytes.here()).iter().zip(a) {
        assert!((found - wanted).abs() <= wanted.abs() * 0.000_5, "{found} for {wanted}");
    }
    let (dtype, bytes) = block_on(set.fetch("c.weight", &[1, 2])).unwrap();
    assert_eq!((dtype, decode(dtype, &bytes.here())), (StoredType::F16, vec![1.0, 1.125]));
    assert_eq!(set.unused(), Vec::<String>::new());
}

/// A safetensors file of a header and the bytes behind it.
fn raw(header: &str, data: &[u8]) -> Result<WeightSet> {
    let length = (header.len() as u64).to_le_bytes();
    WeightSet::from_bytes([&length[..], header.as_bytes(), data].concat(), "raw.safetensors")
}

#[test]
fn a_safetensors_file_may_hold_tensors_of_types_that_nothing_here_decodes() {
    let header = r#"{"a.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "counter":{"dtype":"U64","shape":[],"data_offsets":[4,12]},
        "x":{"dtype":"F3_E1M1","shape":[2,8],"data_offsets":[12,18]},
        "mask":{"dtype":"BOOL","shape":[2],"data_offsets":[18,20]}}"#;
    let set = raw(header, &[0; 20]).unwrap();
    assert_eq!(set.take_f32("a.weight", &[1]).unwrap(), [0.0]);
    assert_eq!(set.take_f32("mask", &[2]).unwrap(), [0.0, 0.0]);
    let named = |name: &str| set.get(name).map(|info| (info.dtype, info.type_name(), info.stored_bytes()));
    assert_eq!(named("counter"), Some((StoredType::Unknown, "U64", 8)));
    assert_eq!(named("x"), Some((StoredType::Unknown, "F3_E1M1", 6)));
    assert_eq!(set.unused(), ["counter", "x"]);
    let told = [
        set.f32("x").unwrap_err(),
        set.take_f32("x", &[2, 8]).unwrap_err(),
        block_on(set.fetch("x", &[2, 8])).unwrap_err(),
        block_on(set.fetch_part("x", [2, 8], 0..1)).unwrap_err(),
        block_on(set.fetch_f32("x", &[2, 8])).unwrap_err(),
        block_on(set.fetch_row("x", [2, 8], 1)).unwrap_err(),
        block_on(set.fetch_rows("x", &[2, 8], 0..1)).unwrap_err(),
    ];
    for told in told.map(|why| why.to_string()) {
        assert_eq!(told, "x: expected a type that can be decoded here, found F3_E1M1");
    }
    // No type packs so many into so few bytes.
    let told = raw(&header.replace("[2,8]", "[2,80]"), &[0; 20]).unwrap_err().to_string();
    assert_eq!(told, "x: expected F3_E1M1 data of shape [2, 80], found 6 bytes");
}

#[test]
fn a_scale_that_fits_neither_the_tensor_nor_its_rows_is_refused() {
    let three = [1.0f32; 3].map(f32::to_le_bytes).concat();
    let set = set(&[("a.weight", Dtype::F8_E4M3, &[2, 2], &[0; 4]), ("a.scale_weight", Dtype::F32, &[3], &three)]);
    let message = block_on(set.fetch("a.weight", &[2, 2])).unwrap_err().to_string();
    assert!(message.starts_with("a.scale_weight: expected one scale, or one for each row"), "{message}");
}

#[test]
fn a_convolution_folded_to_four_dimensions_is_taken_as_five() {
    let values: Vec<u8> = (0..2 * 3 * 4).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let set = set(&[("conv.weight", Dtype::F32, &[6, 1, 2, 2], &values)]);
    assert_eq!(set.take_f32("conv.weight", &[2, 3, 1, 2, 2]).unwrap().len(), 24);
    for wrong in [vec![3, 2, 2, 1, 2], vec![24], vec![6, 4, 1, 1]] {
        assert!(set.take_f32("conv.weight", &wrong).is_err(), "{wrong:?}");
    }
}
