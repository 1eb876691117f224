//! Writing GGUF version 3, and which type each tensor of a model gets.
//!
//! Source: the format as in `gguf.rs`; the choice of types follows <https://github.com/city96/ComfyUI-GGUF>'s
//! `tools/convert.py`: matrices are quantised, everything small or delicate stays f32.

use std::collections::BTreeMap;
use std::io::Write;

use super::gguf::{DEFAULT_ALIGNMENT, MAGIC, MetaValue, Metadata};
use super::info::{StoredType, TensorInfo};
use super::quantize;
use super::set::WeightSet;
use crate::error::{Error, Result};

/// One tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name in the file to be written.
    pub name: String,
    /// Its name in the set it comes from.
    pub source: String,
    /// Row-major shape, torch order.
    pub shape: Vec<usize>,
    /// The type it gets.
    pub dtype: StoredType,
}

/// Decides types for a set under diffusers names, `target` for the matrices; `originals` are the names to write.
///
/// # Errors
/// [`Error::InvalidOptions`] if `target` cannot be written; [`Error::Weights`] for a tensor that holds a NaN or an
/// infinity.
pub fn plan(set: &WeightSet, target: StoredType, originals: &BTreeMap<String, String>) -> Result<Vec<Planned>> {
    quantize::encode(&[], target)?;
    let mut planned = Vec::with_capacity(set.len());
    for info in set.infos().filter(|info| !set.is_beside(&info.name)) {
        let values = set.take_f32(&info.name, &info.shape)?;
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let mut dtype = wanted_type(info, target);
        if largest > quantize::largest(dtype) {
            dtype = StoredType::F32; // an f16 value or scale would overflow
        }
        let name = originals.get(&info.name).unwrap_or(&info.name).clone();
        planned.push(Planned { name, source: info.name.clone(), shape: info.shape.clone(), dtype });
    }
    Ok(planned)
}

/// F32 for vectors, norms, tables and patch embeddings; `target` for matrices it fits; F16 for the rest.
fn wanted_type(info: &TensorInfo, target: StoredType) -> StoredType {
    const DELICATE: &[&str] =
        &["scale_shift_table", "patch_embedding", "pos_embed", "gamma", "relative_attention_bias"];
    let row = info.shape.last().copied().unwrap_or(1);
    if target == StoredType::F32 || info.shape.len() < 2 || DELICATE.iter().any(|d| info.name.contains(d)) {
        StoredType::F32
    } else if info.shape.len() == 2 && row % target.block_len() == 0 {
        target
    } else {
        StoredType::F16
    }
}

/// The metadata every converted file carries: the architecture, and the kind of file by llama.cpp's numbers.
pub fn metadata(set: &WeightSet, target: StoredType) -> Vec<(String, MetaValue)> {
    let has = |prefix: &str| set.names().any(|n| n.starts_with(prefix));
    let architecture = match (has("condition_embedder."), has("decoder.mid_block."), has("encoder.block.")) {
        (true, ..) => "wan",
        (_, true, _) => "wan-vae",
        (_, _, true) => "umt5",
        _ => "unknown",
    };
    let file_type = match target {
        StoredType::F16 => 1,
        StoredType::Q4_0 => 2,
        StoredType::Q8_0 => 7,
        _ => 0,
    };
    vec![
        ("general.architecture".into(), MetaValue::String(architecture.into())),
        ("general.quantization_version".into(), MetaValue::U32(2)),
        ("general.file_type".into(), MetaValue::U32(file_type)),
    ]
}

/// Writes a whole set as planned, one tensor in memory at a time. `progress` hears each tensor's index.
///
/// # Errors
/// [`Error::Fetch`] when writing fails; as [`WeightSet::take_f32`] and [`quantize::encode`] else.
pub fn write_set(
    out: &mut impl Write,
    metadata: &[(String, MetaValue)],
    set: &WeightSet,
    planned: &[Planned],
    mut progress: impl FnMut(usize),
) -> Result<()> {
    let tensors: Vec<(&str, &[usize], StoredType)> =
        planned.iter().map(|p| (p.name.as_str(), p.shape.as_slice(), p.dtype)).collect();
    write(out, metadata, &tensors, |i| {
        progress(i);
        let p = &planned[i];
        quantize::encode(&set.take_f32(&p.source, &p.shape)?, p.dtype)
    })
}

/// Writes a GGUF file: header, metadata in the order given, tensors in the order given with their stored bytes.
///
/// # Errors
/// [`Error::Fetch`] when writing fails; [`Error::Weights`] when `data` gives the wrong number of bytes for a tensor.
pub fn write(
    out: &mut impl Write,
    metadata: &[(String, MetaValue)],
    tensors: &[(&str, &[usize], StoredType)],
    mut data: impl FnMut(usize) -> Result<Vec<u8>>,
) -> Result<()> {
    let lookup: Metadata = metadata.iter().cloned().collect();
    let alignment =
        lookup.get("general.alignment").and_then(MetaValue::as_u64).map_or(DEFAULT_ALIGNMENT, |a| a as usize).max(1);
    let mut header = Vec::new();
    header.extend(MAGIC);
    header.extend(3u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_string(&mut header, key);
        header.extend(type_number(value).to_le_bytes());
        put_value(&mut header, value);
    }
    let mut offset = 0u64;
    let mut sizes = Vec::with_capacity(tensors.len());
    for &(name, shape, dtype) in tensors {
        let number = dtype.gguf_number().zip(dtype.bytes_for(shape));
        let (number, size) = number.ok_or_else(|| {
            Error::weights(name, format!("a shape and type that GGUF can hold ({dtype})"), format!("{shape:?}"))
        })?;
        put_string(&mut header, name);
        header.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&d| header.extend((d as u64).to_le_bytes()));
        header.extend(number.to_le_bytes());
        header.extend(offset.to_le_bytes());
        let size = usize::try_from(size)
            .map_err(|_| Error::weights(name, "a tensor that fits in memory", format!("{size} bytes")))?;
        sizes.push(size);
        offset += size.next_multiple_of(alignment) as u64;
    }
    header.resize(header.len().next_multiple_of(alignment), 0);
    put(out, &header)?;
    for (i, (&(name, ..), size)) in tensors.iter().zip(sizes).enumerate() {
        let mut bytes = data(i)?;
        if bytes.len() != size {
            return Err(Error::weights(name, format!("{size} bytes"), format!("{} bytes", bytes.len())));
        }
        bytes.resize(size.next_multiple_of(alignment), 0);
        put(out, &bytes)?;
    }
    Ok(())
}

fn put(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|e| Error::Fetch(format!("could not write the GGUF file: {e}")))
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn type_number(value: &MetaValue) -> u32 {
    match value {
        MetaValue::U8(_) => 0,
        MetaValue::I8(_) => 1,
        MetaValue::U16(_) => 2,
        MetaValue::I16(_) => 3,
        MetaValue::U32(_) => 4,
        MetaValue::I32(_) => 5,
        MetaValue::F32(_) => 6,
        MetaValue::Bool(_) => 7,
        MetaValue::String(_) => 8,
        MetaValue::Array(..) | MetaValue::Bytes(..) => 9,
        MetaValue::U64(_) => 10,
        MetaValue::I64(_) => 11,
        MetaValue::F64(_) => 12,
    }
}

fn put_value(out: &mut Vec<u8>, value: &MetaValue) {
    match value {
        MetaValue::U8(v) => out.extend(v.to_le_bytes()),
        MetaValue::I8(v) => out.extend(v.to_le_bytes()),
        MetaValue::U16(v) => out.extend(v.to_le_bytes()),
        MetaValue::I16(v) => out.extend(v.to_le_bytes()),
        MetaValue::U32(v) => out.extend(v.to_le_bytes()),
        MetaValue::I32(v) => out.extend(v.to_le_bytes()),
        MetaValue::F32(v) => out.extend(v.to_le_bytes()),
        MetaValue::Bool(v) => out.push(u8::from(*v)),
        MetaValue::String(v) => put_string(out, v),
        MetaValue::Array(kind, items) => {
            out.extend(kind.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|v| put_value(out, v));
        }
        MetaValue::Bytes(kind, bytes) => {
            out.extend(kind.to_le_bytes());
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(bytes);
        }
        MetaValue::U64(v) => out.extend(v.to_le_bytes()),
        MetaValue::I64(v) => out.extend(v.to_le_bytes()),
        MetaValue::F64(v) => out.extend(v.to_le_bytes()),
    }
}
