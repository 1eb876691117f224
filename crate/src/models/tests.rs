//! Names of every model's files, against the reference fixtures.

use std::path::PathBuf;

use super::names;
use crate::weights::quantize::encode;
use crate::weights::{StoredType, WeightFile, WeightSet, decode, gguf_write};

/// A file of `tests/fixtures` (written by `tests/reference/make_fixtures.py`).
pub(super) fn fixture(path: &str) -> Vec<u8> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path);
    std::fs::read(&full).unwrap_or_else(|e| panic!("{} is needed for this test: {e}", full.display()))
}

pub(super) fn set_of(path: &str) -> WeightSet {
    WeightSet::from_bytes(fixture(path), path).unwrap()
}

#[test]
fn a_gguf_with_original_names_has_the_keys_and_shapes_of_the_diffusers_file() {
    let reference = set_of("wan_gguf/weights.safetensors");
    let file = names::to_diffusers(set_of("wan_gguf/wan.gguf")).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), reference.names().collect::<Vec<_>>());
    for info in reference.infos() {
        let values = file.take_f32(&info.name, &info.shape).unwrap();
        assert_eq!(values, reference.f32(&info.name).unwrap(), "{}", info.name);
    }
    assert_eq!(file.unused(), Vec::<String>::new());
}

#[test]
fn converting_the_diffusers_file_gives_the_types_and_bytes_of_the_python_writer() {
    let set = set_of("wan_gguf/weights.safetensors"); // holds the values after quantisation
    let theirs = WeightFile::parse(fixture("wan_gguf/wan.gguf"), "wan.gguf").unwrap();
    let planned = gguf_write::plan(&set, StoredType::Q8_0, &names::to_original(set.names())).unwrap();
    let mut out = Vec::new();
    gguf_write::write_set(&mut out, &gguf_write::metadata(&set, StoredType::Q8_0), &set, &planned, |_| {}).unwrap();
    let ours = WeightFile::parse(out, "ours.gguf").unwrap();
    assert_eq!(ours.tensors().len(), theirs.tensors().len());
    for theirs_info in theirs.tensors() {
        let info = ours.tensors().iter().find(|t| t.name == theirs_info.name).unwrap();
        if info.name.starts_with("patch_embedding") || theirs_info.dtype == StoredType::Q8_0 || info.shape.len() < 2 {
            assert_eq!((info.dtype, &info.shape), (theirs_info.dtype, &theirs_info.shape), "{}", info.name);
        }
        assert_eq!(
            decode(info.dtype, &ours.read_now(info).unwrap()),
            decode(theirs_info.dtype, &theirs.read_now(theirs_info).unwrap()),
            "{}",
            info.name
        );
    }
}

#[test]
fn original_names_map_to_the_same_keys_and_values_for_every_model() {
    let cases = ["wan_t2v", "wan_vace", "wan_vae21", "wan_vae22"];
    for case in cases {
        let reference = set_of(&format!("{case}/weights.safetensors"));
        let original_file = set_of(&format!("{case}/weights_original.safetensors"));
        let there: Vec<String> = names::to_original(reference.names()).into_values().collect();
        let mut there: Vec<&str> = there.iter().map(String::as_str).collect();
        there.sort_unstable();
        assert_eq!(there, original_file.names().collect::<Vec<_>>(), "{case}");
        let back = names::to_diffusers(original_file).unwrap();
        assert_eq!(back.names().collect::<Vec<_>>(), reference.names().collect::<Vec<_>>(), "{case}");
        for info in reference.infos() {
            assert_eq!(
                back.take_f32(&info.name, &info.shape).unwrap(),
                reference.f32(&info.name).unwrap(),
                "{case} {}",
                info.name
            );
        }
    }
}

#[test]
fn image_to_video_names_go_there_and_back() {
    let reference = set_of("wan_flf2v/weights.safetensors");
    let pairs = names::to_original(reference.names());
    assert_eq!(pairs["condition_embedder.image_embedder.pos_embed"], "img_emb.emb_pos");
    assert_eq!(pairs["condition_embedder.image_embedder.ff.net.0.proj.weight"], "img_emb.proj.1.weight");
    assert_eq!(pairs["blocks.0.attn2.norm_added_k.weight"], "blocks.0.cross_attn.norm_k_img.weight");
    let mut out = Vec::new();
    let infos: Vec<_> = reference.infos().collect();
    let tensors: Vec<_> = infos.iter().map(|t| (pairs[&t.name].as_str(), t.shape.as_slice(), t.dtype)).collect();
    gguf_write::write(&mut out, &[], &tensors, |i| encode(&reference.f32(&infos[i].name)?, StoredType::F32)).unwrap();
    let back = names::to_diffusers(WeightSet::from_bytes(out, "flf2v.gguf").unwrap()).unwrap();
    assert_eq!(back.names().collect::<Vec<_>>(), reference.names().collect::<Vec<_>>());
}

#[test]
fn llama_cpp_names_of_a_t5_encoder_become_transformers_names() {
    let mut out = Vec::new();
    let shape: &[usize] = &[2, 2];
    let names =
        ["token_embd.weight", "enc.output_norm.weight", "enc.blk.11.attn_rel_b.weight", "enc.blk.0.ffn_gate.weight"];
    let tensors: Vec<_> = names.iter().map(|n| (*n, shape, StoredType::F32)).collect();
    gguf_write::write(&mut out, &[], &tensors, |_| encode(&[1.0; 4], StoredType::F32)).unwrap();
    let set = names::to_diffusers(WeightSet::from_bytes(out, "t5.gguf").unwrap()).unwrap();
    let got: Vec<&str> = set.names().collect();
    assert_eq!(
        got,
        [
            "encoder.block.0.layer.1.DenseReluDense.wi_0.weight",
            "encoder.block.11.layer.0.SelfAttention.relative_attention_bias.weight",
            "encoder.final_layer_norm.weight",
            "shared.weight"
        ]
    );
}

#[test]
fn a_prefix_and_a_flattened_patch_embedding_are_undone() {
    let mut out = Vec::new();
    let tensors: &[(&str, &[usize], StoredType)] = &[
        ("net.patch_embedding.weight", &[3, 8], StoredType::F32),
        ("net.time_embedding.0.bias", &[3], StoredType::F32),
    ];
    gguf_write::write(&mut out, &[], tensors, |i| encode(&vec![0.5; [24, 3][i]], StoredType::F32)).unwrap();
    let set = names::to_diffusers(WeightSet::from_bytes(out, "rcm.gguf").unwrap()).unwrap();
    assert_eq!(set.get("patch_embedding.weight").unwrap().shape, [3, 2, 1, 2, 2]);
    assert!(set.get("condition_embedder.time_embedder.linear_1.bias").is_some());
}
