//! Every Wan fixture again from the files that people have: the original names under each tool's prefix, and GGUF of each type.
//!
//! What a file holds must be what the model computes with, so each is compared with the same model from plain f32 values: those
//! of the fixture for original names, those that the blocks stand for with GGUF. On the CPU the two are equal bit by bit. That
//! the values of each type are decoded as the `gguf` package does it, the parity case `gguf` shows.
//!
//! `TABREEL_TEST_DEVICE=gpu` computes through WebGPU, where packed weights go through a kernel of their own: eight minutes on
//! llvmpipe, so `npm test` runs it on the CPU.

#[path = "formats/blocks.rs"]
mod blocks;
#[path = "formats/scene.rs"]
mod scene;

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, TensorView};
use scene::{Scene, tolerance};
use tabreel::models::names;
use tabreel::weights::gguf_write;
use tabreel::weights::{StoredType, decode};
use tabreel_tests::pytorch::pytorch_file;
use tabreel_tests::{Array, float8_file, safetensors_file};

/// Fixtures of transformers.
const TRANSFORMERS: [&str; 5] = ["wan_t2v", "wan_ti2v", "wan_flf2v", "wan_vace", "anyflow"];
/// Fixtures of VAEs.
const VAES: [&str; 2] = ["wan_vae21", "wan_vae22"];
/// None, ComfyUI's, and that of Wan's few-step offspring (rCM).
const PREFIXES: [&str; 3] = ["", "model.diffusion_model.", "net."];

/// The tensors under their original names, as a tool with this prefix writes them.
fn original(arrays: &BTreeMap<String, Array>, prefix: &str) -> BTreeMap<String, Array> {
    let names = names::to_original(arrays.keys().map(String::as_str));
    arrays.iter().map(|(name, array)| (format!("{prefix}{}", names[name]), array.clone())).collect()
}

/// Fails unless two outputs are as close as the device allows.
fn same(what: &str, found: &Array, expected: &Array) {
    let off = found.relative_l2(expected).expect(what);
    assert!(off <= tolerance(), "{what}: {off:.1e}");
}

#[test]
fn every_case_from_original_names_equals_diffusers_names() {
    for case in TRANSFORMERS.into_iter().chain(VAES) {
        let scene = Scene::of(case, false);
        let expected = scene.run(safetensors_file(&scene.tensors));
        for prefix in PREFIXES {
            let mut renamed = original(&scene.tensors, prefix);
            assert!(case.contains("vae") || renamed.contains_key(&format!("{prefix}blocks.0.self_attn.q.weight")));
            assert!(!renamed.keys().any(|name| name.contains("scale_shift_table") || name.contains("to_out")));
            // The norm before cross-attention is 3 there, and the only one that has weights.
            assert!(!renamed.contains_key(&format!("{prefix}blocks.0.norm2.weight")), "{case}");
            if let Some(patch) =
                renamed.get_mut(&format!("{prefix}patch_embedding.weight")).filter(|_| prefix == "net.")
            {
                patch.shape = vec![patch.shape[0], patch.shape[1..].iter().product()]; // a linear layer there
            }
            let found = scene.run(safetensors_file(&renamed));
            assert_eq!(found, expected, "{case} with the prefix {prefix:?}");
        }
    }
}

/// The GGUF file of a set, its matrices in `target`, and the values that it stands for.
fn gguf(arrays: &BTreeMap<String, Array>, target: StoredType) -> (Vec<u8>, BTreeMap<String, Array>) {
    let names = names::to_original(arrays.keys().map(String::as_str));
    let (mut planned, mut stored, mut values, mut packed) = (Vec::new(), Vec::new(), BTreeMap::new(), 0);
    for (seed, (name, array)) in arrays.iter().enumerate() {
        let dtype = blocks::type_of(name, &array.shape, target);
        packed += usize::from(dtype == target);
        let bytes = blocks::encode(&array.values, dtype, seed as u64);
        values.insert(name.clone(), Array { shape: array.shape.clone(), values: decode(dtype, &bytes) });
        planned.push((names[name].as_str(), array.shape.as_slice(), dtype));
        stored.push(bytes);
    }
    assert!(packed > 12, "{packed} of {} tensors are {target}", arrays.len());
    let mut file = Vec::new();
    gguf_write::write(&mut file, &[], &planned, |i| Ok(stored[i].clone())).expect("a file");
    (file, values)
}

#[test]
fn every_transformer_from_gguf_of_each_type_equals_its_values_in_f32() {
    for case in TRANSFORMERS {
        let scene = Scene::of(case, true);
        let plain = scene.run(safetensors_file(&scene.tensors));
        for target in blocks::TYPES {
            let (file, values) = gguf(&scene.tensors, target);
            let found = scene.run(file);
            same(&format!("{case} from {target}"), &found, &scene.run(safetensors_file(&values)));
            // Types that are made from the values, not from random blocks, stay near what they are made from.
            if let Some(near) = blocks::precision(target) {
                let off = found.relative_l2(&plain).expect(case);
                assert!(off <= near, "{case} from {target} is {off:.1e} from f32");
                assert_eq!(off == 0.0, target == StoredType::F32, "{case} from {target}: {off:.1e}");
            }
        }
    }
}

#[test]
fn every_transformer_from_8_bit_floats_with_scales_equals_its_values_in_f32() {
    for case in TRANSFORMERS {
        let scene = Scene::of(case, false);
        for prefix in ["", "model.diffusion_model."] {
            let tensors = original(&scene.tensors, prefix);
            let (file, values) = float8_file(&tensors);
            let expected = scene.run(safetensors_file(&values));
            same(&format!("{case} from 8-bit floats with the prefix {prefix:?}"), &scene.run(file), &expected);
            assert!(scene.run(safetensors_file(&tensors)) != expected, "{case}: rounding shows");
        }
    }
}

#[test]
fn every_vae_from_gguf_equals_its_values_in_f32() {
    for case in VAES {
        let scene = Scene::of(case, false);
        for target in [StoredType::F32, StoredType::F16, StoredType::BF16] {
            let (file, values) = gguf(&scene.tensors, target);
            let expected = scene.run(safetensors_file(&values));
            same(&format!("{case} from {target}"), &scene.run(file), &expected);
        }
    }
}

#[test]
fn a_lora_from_8_bit_floats_and_from_a_pytorch_file_equals_its_values_in_f32() {
    let scene = Scene::of("wan_t2v", false);
    let (mut lora, mut stored) = (BTreeMap::new(), Vec::new());
    for (nth, layer) in ["blocks.0.self_attn.q", "blocks.1.cross_attn.v"].into_iter().enumerate() {
        for (part, shape) in [("lora_down", [3, 48]), ("lora_up", [48, 3])] {
            // From 0.25 to 0.94, every third below zero.
            let code = |i: usize| (0x28 + (7 * i + nth) % 16) as u8 | if i.is_multiple_of(3) { 0x80 } else { 0 };
            let codes: Vec<u8> = (0..shape[0] * shape[1]).map(code).collect();
            let name = format!("diffusion_model.{layer}.{part}.weight");
            let values = decode(StoredType::F8_E4M3, &codes);
            lora.insert(name.clone(), Array { shape: shape.to_vec(), values });
            stored.push((name, shape.to_vec(), codes));
        }
    }
    let views = stored.iter().map(|(name, shape, codes)| {
        (name, TensorView::new(Dtype::F8_E4M3, shape.clone(), codes).expect("as many values as its shape says"))
    });
    let eight_bits = safetensors::serialize(views, None).expect("a file");

    let with = |lora: Vec<u8>| scene.run_adapted(safetensors_file(&scene.tensors), Some(lora));
    let expected = with(safetensors_file(&lora));
    assert!(scene.run(safetensors_file(&scene.tensors)) != expected, "the LoRA shows");
    same("a LoRA in 8-bit floats", &with(eight_bits), &expected);
    for dtype in [StoredType::F32, StoredType::F16, StoredType::BF16] {
        let (file, values) = pytorch_file(&lora, dtype);
        assert_eq!(values, lora, "8-bit floats are exact in {dtype}");
        same(&format!("a LoRA from a PyTorch file in {dtype}"), &with(file), &expected);
    }
}
