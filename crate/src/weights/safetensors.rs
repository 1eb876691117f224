//! Safetensors headers, read by the `safetensors` crate; the data are not touched.

use ::safetensors::Dtype;
use ::safetensors::tensor::Metadata as Header;

use super::Parsed;
use super::gguf::MetaValue;
use super::info::{StoredType, TensorInfo};
use crate::error::{Error, Result};

/// Bytes of the length field that a file begins with.
const LENGTH_BYTES: usize = 8;

/// Reads the header of a safetensors file of `file_len` bytes, of which `bytes` are the first.
///
/// # Errors
/// [`Error::Weights`] when the header is damaged, does not cover the file exactly, or a tensor has a type that
/// no model here uses.
pub(super) fn parse(bytes: &[u8], file_len: u64, label: &str) -> Result<Parsed> {
    let broken = |found: String| Error::weights(label, "a whole safetensors file", found);
    let cut = || broken(format!("a header that does not end within {file_len} bytes (truncated?)"));
    let length = bytes.first_chunk::<LENGTH_BYTES>().map(|b| u64::from_le_bytes(*b)).ok_or_else(cut)?;
    let data_start = length.checked_add(LENGTH_BYTES as u64).filter(|end| *end <= file_len).ok_or_else(cut)?;
    let json = usize::try_from(data_start).ok().and_then(|end| bytes.get(LENGTH_BYTES..end));
    let Some(json) = json else { return Ok(Parsed::Needs(data_start)) };
    // The crate checks that the tensors lie one after another and are as long as type and shape say.
    let header: Header = serde_json::from_slice(json).map_err(|e| broken(format!("a bad header: {e}")))?;
    if data_start.checked_add(header.data_len() as u64) != Some(file_len) {
        let found =
            format!("{file_len} bytes where the header promises {data_start} + {} (truncated?)", header.data_len());
        return Err(broken(found));
    }
    let mut tensors = Vec::with_capacity(header.tensors().len());
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let dtype = stored_type(info.dtype).ok_or_else(|| {
            Error::weights(&name, "F32, F16, BF16, F64, I64, I32, U8, BOOL, F8_E4M3 or F8_E5M2", info.dtype.to_string())
        })?;
        let range = data_start + info.data_offsets.0 as u64..data_start + info.data_offsets.1 as u64;
        if dtype.bytes_for(&info.shape) != Some(range.end - range.start) {
            return Err(Error::weights(
                &name,
                format!("{dtype} data of shape {:?}", info.shape),
                format!("{} bytes", range.end - range.start),
            ));
        }
        tensors.push(TensorInfo { name, shape: info.shape.clone(), dtype, range });
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), MetaValue::String(v.clone()))).collect();
    Ok(Parsed::Header(metadata, tensors))
}

fn stored_type(dtype: Dtype) -> Option<StoredType> {
    Some(match dtype {
        Dtype::F32 => StoredType::F32,
        Dtype::F16 => StoredType::F16,
        Dtype::BF16 => StoredType::BF16,
        Dtype::F64 => StoredType::F64,
        Dtype::I64 => StoredType::I64,
        Dtype::I32 => StoredType::I32,
        Dtype::U8 => StoredType::U8,
        Dtype::BOOL => StoredType::Bool,
        Dtype::F8_E4M3 => StoredType::F8_E4M3,
        Dtype::F8_E5M2 => StoredType::F8_E5M2,
        _ => return None,
    })
}
