//! Safetensors headers; the data are not touched. The `safetensors` crate's own reader keeps offsets as `usize`, which in a tab
//! has 32 bits: a file of more than 4 GiB could not be opened there.
//!
//! Source: the format as safetensors 0.8 describes it, which asks for tensors one after another, without gaps.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Parsed;
use super::gguf::MetaValue;
use super::info::{StoredType, TensorInfo, may_hold};
use crate::error::{Error, Result};

/// Bytes of the length field that a file begins with.
const LENGTH_BYTES: usize = 8;
/// The header's entry that is no tensor.
const METADATA: &str = "__metadata__";

/// What a header says of a tensor.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    /// First byte, and the byte behind the last, counted from the end of the header.
    data_offsets: (u64, u64),
}

/// Reads the header of a safetensors file of `file_len` bytes, of which `bytes` are the first.
///
/// # Errors
/// [`Error::Weights`] when the header is damaged or does not cover the file exactly.
pub(super) fn parse(bytes: &[u8], file_len: u64, label: &str) -> Result<Parsed> {
    let broken = |found: String| Error::weights(label, "a whole safetensors file", found);
    let cut = || broken(format!("a header that does not end within {file_len} bytes (truncated?)"));
    let length = bytes.first_chunk::<LENGTH_BYTES>().map(|b| u64::from_le_bytes(*b)).ok_or_else(cut)?;
    let data_start = length.checked_add(LENGTH_BYTES as u64).filter(|end| *end <= file_len).ok_or_else(cut)?;
    let json = usize::try_from(data_start).ok().and_then(|end| bytes.get(LENGTH_BYTES..end));
    let Some(json) = json else { return Ok(Parsed::Needs(data_start)) };
    let bad = |e: serde_json::Error| broken(format!("a bad header: {e}"));
    let mut header: Map<String, Value> = serde_json::from_slice(json).map_err(bad)?;
    let metadata = match header.remove(METADATA) {
        Some(strings) => Map::deserialize(strings).map_err(bad)?,
        None => Map::new(),
    };
    let entry = |(name, value)| Entry::deserialize(value).map(|entry| (name, entry)).map_err(bad);
    let mut entries = header.into_iter().map(entry).collect::<Result<Vec<(String, Entry)>>>()?;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut tensors = Vec::with_capacity(entries.len());
    let mut data_len = 0;
    for (name, Entry { dtype, shape, data_offsets: (start, end) }) in entries {
        if start != data_len || end < start {
            return Err(broken(format!("{name} at bytes {start} to {end} where {data_len} are due")));
        }
        data_len = end;
        let stored = stored_type(&dtype);
        let fits = match stored {
            StoredType::Unknown => may_hold(end - start, &shape),
            known => known.bytes_for(&shape) == Some(end - start),
        };
        if !fits {
            let found = format!("{} bytes", end - start);
            return Err(Error::weights(&name, format!("{dtype} data of shape {shape:?}"), found));
        }
        let range = data_start.saturating_add(start)..data_start.saturating_add(end);
        let unknown = (stored == StoredType::Unknown).then_some(dtype);
        tensors.push(TensorInfo { name, shape, dtype: stored, range, unknown });
    }
    if data_start.checked_add(data_len) != Some(file_len) {
        let found = format!("{file_len} bytes where the header promises {data_start} + {data_len} (truncated?)");
        return Err(broken(found));
    }
    let metadata =
        metadata.into_iter().filter_map(|(key, value)| Some((key, MetaValue::String(value.as_str()?.to_owned()))));
    Ok(Parsed::Header(metadata.collect(), tensors))
}

fn stored_type(dtype: &str) -> StoredType {
    match dtype {
        "F32" => StoredType::F32,
        "F16" => StoredType::F16,
        "BF16" => StoredType::BF16,
        "F64" => StoredType::F64,
        "I64" => StoredType::I64,
        "I32" => StoredType::I32,
        "U8" => StoredType::U8,
        "BOOL" => StoredType::Bool,
        "F8_E4M3" => StoredType::F8_E4M3,
        "F8_E5M2" => StoredType::F8_E5M2,
        // Integers among them: where weights are stored so, there is a scale somewhere that nothing here knows.
        _ => StoredType::Unknown,
    }
}
