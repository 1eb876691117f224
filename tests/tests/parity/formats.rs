//! The cases of single parts again, from files of other formats.
//!
//! What a file holds must be what the model computes with, so each is compared with the same model from plain f32 values, those
//! that the file stands for: the two are equal bit by bit. Wan's transformers and VAEs from GGUF and 8-bit floats are in
//! `tests/tests/formats.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use tabreel::device::Compute;
use tabreel::weights::gguf_write;
use tabreel::weights::{StoredType, decode, quantize};
use tabreel_tests::pytorch::pytorch_file;
use tabreel_tests::{Array, Case, float8_file_of, read_arrays, safetensors_file};

use crate::models::say;

type Arrays = BTreeMap<String, Array>;
/// The bytes of a file, and the values that it stands for.
type File = (Vec<u8>, Arrays);

/// Files of weights that a case may have.
const FILES: [&str; 2] = ["weights.safetensors", "weights22.safetensors"];

/// A format's name, and what writes it.
type Writer = (&'static str, fn(&Arrays) -> File);

const PYTORCH: [Writer; 3] = [
    ("PyTorch, f32", |arrays| pytorch_file(arrays, StoredType::F32)),
    ("PyTorch, f16", |arrays| pytorch_file(arrays, StoredType::F16)),
    ("PyTorch, bf16", |arrays| pytorch_file(arrays, StoredType::BF16)),
];

const OTHERS: [Writer; 3] = [
    ("GGUF, F16", |arrays| gguf(arrays, StoredType::F16)),
    ("GGUF, Q8_0", |arrays| gguf(arrays, StoredType::Q8_0)),
    // Convolutions too, of pictures and of clips.
    ("8-bit floats", |arrays| float8_file_of(arrays, 5)),
];

/// Runs the case in `dir` from each format; `None` where its kind has none here.
pub fn again(dir: &Path, compute: &Compute) -> Option<Result<(), String>> {
    let kind = Case::open(dir).ok()?.kind().to_owned();
    let formats = match kind.as_str() {
        "wan_t2v" | "wan_ti2v" | "wan_flf2v" | "wan_vace" | "anyflow" => PYTORCH.to_vec(),
        "wan_vae21" | "wan_vae22" => [&PYTORCH[..], &OTHERS[2..]].concat(),
        "taehv" | "taehv_super" | "umt5" | "clip_vision" | "dit" | "kl_vae" => [PYTORCH, OTHERS].concat(),
        _ => return None,
    };
    Some(
        formats
            .iter()
            .try_for_each(|(format, write)| compare(dir, compute, *write).map_err(|why| format!("{format}: {why}"))),
    )
}

fn compare(dir: &Path, compute: &Compute, write: fn(&Arrays) -> File) -> Result<(), String> {
    let (mut files, mut plain, mut rounded) = (BTreeMap::new(), BTreeMap::new(), false);
    for name in FILES.into_iter().filter(|name| dir.join(name).exists()) {
        let arrays = read_arrays(&dir.join(name))?;
        let (file, values) = write(&arrays);
        rounded |= values != arrays;
        files.insert(name, file);
        plain.insert(name, safetensors_file(&values));
    }
    let found = outputs(dir, &files, compute)?;
    let expected = outputs(dir, &plain, compute)?;
    if found.is_empty() || found != expected {
        let other = found.iter().find(|(name, array)| expected.get(*name) != Some(*array));
        return Err(format!(
            "{} is not what its values in f32 give",
            other.map_or("nothing", |(name, _)| name.as_str())
        ));
    }
    match rounded && found == outputs(dir, &BTreeMap::new(), compute)? {
        true => Err("rounded weights do not show".into()),
        false => Ok(()),
    }
}

/// What the case's model makes from these files, its own where there is none.
fn outputs(dir: &Path, files: &BTreeMap<&str, Vec<u8>>, compute: &Compute) -> Result<Arrays, String> {
    let folder = tempfile::tempdir().map_err(say)?;
    for name in ["config.json", "io.safetensors"].into_iter().chain(FILES) {
        let (from, to) = (dir.join(name), folder.path().join(name));
        match files.get(name) {
            Some(bytes) => std::fs::write(to, bytes).map_err(say)?,
            None if from.exists() => {
                std::fs::copy(from, to).map_err(say)?;
            }
            None => {}
        }
    }
    let mut case = Case::open(folder.path())?;
    crate::run(&mut case, compute).ok_or("a kind that is not known")??;
    Ok(case.made)
}

/// A GGUF file: all tensors in a type of single values, matrices of whole blocks in a quantized one.
fn gguf(arrays: &Arrays, target: StoredType) -> File {
    let (mut planned, mut stored, mut values) = (Vec::new(), Vec::new(), Arrays::new());
    for (name, array) in arrays {
        let whole = array.shape.len() == 2 && array.shape[1] % target.block_len() == 0;
        let dtype = if whole || !target.is_quantized() { target } else { StoredType::F32 };
        let bytes = quantize::encode(&array.values, dtype).expect("whole blocks");
        values.insert(name.clone(), Array { shape: array.shape.clone(), values: decode(dtype, &bytes) });
        planned.push((name.as_str(), array.shape.as_slice(), dtype));
        stored.push(bytes);
    }
    let mut file = Vec::new();
    gguf_write::write(&mut file, &[], &planned, |i| Ok(stored[i].clone())).expect("a file");
    (file, values)
}
