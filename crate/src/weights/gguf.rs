//! GGUF headers, versions 2 and 3, little endian: typed metadata and where each tensor lies.
//!
//! Written so that no file, however damaged, makes it panic or allocate much more than the file is long: every length is
//! checked against the bytes that are left before anything is reserved, byte arrays stay bytes, and what takes more room
//! here than in the file (keys, items of arrays, tensors) is limited in number.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; five dimensions and
//! `comfy.gguf.orig_shape.*` as <https://github.com/city96/ComfyUI-GGUF> writes them.

mod place;

use std::collections::{BTreeMap, HashSet};

use super::Parsed;
use super::info::{StoredType, TensorInfo, gguf_name};
use crate::error::{Error, Result};

/// The first four bytes of every GGUF file.
pub const MAGIC: &[u8; 4] = b"GGUF";
/// Where tensor data start is rounded up to this many bytes unless `general.alignment` says otherwise.
pub const DEFAULT_ALIGNMENT: usize = 32;
/// ggml itself stops at 4; ComfyUI-GGUF writes the 5-D patch embedding of video models as it is.
const MAX_DIMS: usize = 5;
/// Deeper nesting of arrays than any writer produces; a guard against stack overflow.
const MAX_ARRAY_DEPTH: usize = 4;
/// Most keys and array items of a header, together: 32 bytes each, 128 MiB. umT5's has 770 thousand (a vocabulary of
/// 256 thousand, its scores and kinds).
const MAX_ITEMS: usize = 1 << 22;
/// Most tensors of a file; the largest video models have some two thousand.
const MAX_TENSORS: usize = 1 << 16;

/// A typed metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the names are the format's own
pub enum MetaValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// Element type number and elements.
    Array(u32, Vec<MetaValue>),
    /// An array of bytes: element type number (0 or 1) and the bytes.
    Bytes(u32, Vec<u8>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Metadata by key.
pub type Metadata = BTreeMap<String, MetaValue>;

impl MetaValue {
    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self { Some(s) } else { None }
    }

    /// Any non-negative integer value.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// Any number as f64.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            Self::I8(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::I64(v) => Some(v as f64),
            _ => self.as_u64().map(|v| v as f64),
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[MetaValue]> {
        if let Self::Array(_, items) = self { Some(items) } else { None }
    }

    /// The bytes of an array of them.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(_, bytes) = self { Some(bytes) } else { None }
    }

    /// A short text for tables: arrays by length, long strings cut.
    pub fn summary(&self) -> String {
        match self {
            Self::String(s) if s.chars().count() > 80 => {
                format!("{}… ({} bytes)", s.chars().take(77).collect::<String>(), s.len())
            }
            Self::String(s) => s.clone(),
            Self::Bool(b) => b.to_string(),
            Self::Bytes(_, bytes) if bytes.len() > 8 => format!("[{} bytes]", bytes.len()),
            Self::Bytes(_, bytes) => format!("{bytes:?}"),
            Self::Array(_, items) if items.len() > 8 => format!("[{} items]", items.len()),
            Self::Array(_, items) => format!("[{}]", items.iter().map(Self::summary).collect::<Vec<_>>().join(", ")),
            Self::U64(v) => v.to_string(),
            Self::F32(v) => v.to_string(),
            other => other.as_f64().map(|v| v.to_string()).unwrap_or_default(),
        }
    }
}

/// Reads the header of a GGUF file of `file_len` bytes, of which `bytes` are the first.
///
/// # Errors
/// [`Error::Weights`] naming `label` (or the tensor) for anything that breaks the format's rules.
pub(super) fn parse(bytes: &[u8], file_len: u64, label: &str) -> Result<Parsed> {
    let mut at = Reader { bytes, pos: 0, items: 0, label, file_len, needs: None };
    match (parse_header(&mut at), at.needs) {
        (Err(_), Some(needs)) => Ok(Parsed::Needs(needs)),
        (result, _) => result,
    }
}

fn parse_header(at: &mut Reader<'_>) -> Result<Parsed> {
    let (label, file_len) = (at.label, at.file_len);
    if at.take(4, "the magic \"GGUF\"")? != MAGIC {
        return Err(Error::weights(label, "a GGUF file (magic \"GGUF\")", "another magic"));
    }
    let version = at.u32("the version")?;
    if !(2..=3).contains(&version) {
        let found = if matches!(version.swap_bytes(), 1..=3) {
            "a big-endian file".into()
        } else {
            format!("version {version}")
        };
        return Err(Error::weights(label, "GGUF version 2 or 3, little endian", found));
    }
    let num_tensors = at.count("tensors", 24)?;
    at.limit("tensors", num_tensors, MAX_TENSORS)?;
    let num_keys = at.count("metadata entries", 13)?;
    at.add_items("metadata entries", num_keys)?;
    let metadata = read_metadata(at, num_keys)?;
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(v) => v
            .as_u64()
            .and_then(|a| usize::try_from(a).ok())
            .filter(|a| a.is_power_of_two() && *a <= 1 << 20)
            .ok_or_else(|| Error::weights(label, "general.alignment to be a power of two up to 1 MiB", v.summary()))?,
    };
    let mut tensors = Vec::with_capacity(num_tensors);
    let mut seen = HashSet::with_capacity(num_tensors);
    for _ in 0..num_tensors {
        let (info, offset) = read_tensor_info(at, &metadata)?;
        if !seen.insert(info.name.clone()) {
            return Err(Error::weights(&info.name, "each name once", format!("it twice in {label}")));
        }
        tensors.push((info, offset));
    }
    let data_start = (at.pos as u64).next_multiple_of(alignment as u64);
    let tensors = place::place(tensors, data_start, alignment, file_len, label)?;
    Ok(Parsed::Header(metadata, tensors))
}

fn read_metadata(at: &mut Reader<'_>, num_keys: usize) -> Result<Metadata> {
    let mut metadata = Metadata::new();
    for _ in 0..num_keys {
        let key = at.string("a metadata key")?;
        let kind = at.u32(&format!("the type of {key}"))?;
        let value = at.value(kind, &key, 0)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(Error::weights(at.label, "each metadata key once", format!("{key} twice")));
        }
    }
    Ok(metadata)
}

/// One tensor's entry, its range still empty, and the offset it states.
fn read_tensor_info(at: &mut Reader<'_>, metadata: &Metadata) -> Result<(TensorInfo, u64)> {
    let name = at.string("a tensor name")?;
    let num_dims = at.u32(&format!("the number of dimensions of {name}"))? as usize;
    if num_dims > MAX_DIMS {
        return Err(Error::weights(name, format!("at most {MAX_DIMS} dimensions"), format!("{num_dims}")));
    }
    let mut shape = Vec::with_capacity(num_dims);
    for _ in 0..num_dims {
        let dim = at.u64(&format!("the shape of {name}"))?;
        shape.push(
            usize::try_from(dim)
                .map_err(|_| Error::weights(&name, "a shape that fits in memory", format!("a dimension of {dim}")))?,
        );
    }
    shape.reverse(); // GGUF lists the innermost dimension first, torch the outermost
    let number = at.u32(&format!("the type of {name}"))?;
    let offset = at.u64(&format!("the offset of {name}"))?;
    let Some(dtype) = StoredType::from_gguf_number(number) else {
        // Nor is its size known: what lies before the next is taken for it.
        let (shape, unknown) = (original_shape(metadata, &name, shape)?, Some(gguf_name(number)));
        return Ok((TensorInfo { name, shape, dtype: StoredType::Unknown, range: 0..0, unknown }, offset));
    };
    // The size follows from the shape as written, the shape to give out may differ (more than 4 dimensions flattened).
    let size = dtype.bytes_for(&shape).ok_or_else(|| {
        Error::weights(
            &name,
            format!("rows of whole blocks of {} elements", dtype.block_len()),
            format!("shape {shape:?} in {dtype}"),
        )
    })?;
    let shape = original_shape(metadata, &name, shape)?;
    Ok((TensorInfo { name, shape, dtype, range: 0..size, unknown: None }, offset))
}

/// The torch shape where the writer had to flatten it (`comfy.gguf.orig_shape.NAME`).
fn original_shape(metadata: &Metadata, name: &str, stored: Vec<usize>) -> Result<Vec<usize>> {
    let Some(value) = metadata.get(&format!("comfy.gguf.orig_shape.{name}")) else { return Ok(stored) };
    let shape: Option<Vec<usize>> =
        value.as_array().and_then(|a| a.iter().map(|v| v.as_u64().and_then(|d| usize::try_from(d).ok())).collect());
    let count = |s: &[usize]| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    shape.filter(|s| count(s).is_some() && count(s) == count(&stored)).ok_or_else(|| {
        Error::weights(name, format!("an original shape of as many elements as {stored:?}"), value.summary())
    })
}

/// A cursor that knows what it is reading, for the error message.
struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Keys and array items so far.
    items: usize,
    label: &'a str,
    file_len: u64,
    /// Set where reading ended for want of bytes that the file has: so many of its bytes are needed at least.
    needs: Option<u64>,
}

impl<'a> Reader<'a> {
    /// Bytes of the file that are left, given or not.
    fn left(&self) -> u64 {
        self.file_len.saturating_sub(self.pos as u64)
    }

    fn truncated(&mut self, what: &str, wanted: u64) -> Error {
        self.needs = (self.pos as u64).checked_add(wanted).filter(|end| *end <= self.file_len);
        let found = format!("{} bytes left at byte {} (truncated or damaged file)", self.left(), self.pos);
        Error::weights(self.label, format!("{what}, {wanted} bytes"), found)
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8]> {
        let end = self.pos.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.pos..end)) {
            Some(slice) => {
                self.pos += len;
                Ok(slice)
            }
            None => Err(self.truncated(what, len as u64)),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `min_bytes` each, so that it can be trusted for an allocation.
    fn count(&mut self, what: &str, min_bytes: usize) -> Result<usize> {
        let count = self.u64(&format!("the number of {what}"))?;
        let wanted = count.saturating_mul(min_bytes as u64);
        match usize::try_from(count) {
            Ok(n) if wanted <= (self.bytes.len() - self.pos) as u64 => Ok(n),
            _ => Err(self.truncated(&format!("{count} {what}"), wanted)),
        }
    }

    fn limit(&self, what: &str, found: usize, most: usize) -> Result<()> {
        match found <= most {
            true => Ok(()),
            false => Err(Error::weights(self.label, format!("at most {most} {what}"), found.to_string())),
        }
    }

    /// Counts what takes more room in memory than in the file.
    fn add_items(&mut self, what: &str, count: usize) -> Result<()> {
        self.items = self.items.saturating_add(count);
        self.limit(&format!("metadata entries and array items up to {what}"), self.items, MAX_ITEMS)
    }

    fn string(&mut self, what: &str) -> Result<String> {
        let len = self.count(&format!("bytes of {what}"), 1)?;
        let raw = self.take(len, what)?;
        let text = std::str::from_utf8(raw)
            .map_err(|e| Error::weights(self.label, format!("{what} in UTF-8"), e.to_string()))?;
        Ok(text.to_owned())
    }

    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Result<MetaValue> {
        Ok(match kind {
            0 => MetaValue::U8(u8::from_le_bytes(self.array(key)?)),
            1 => MetaValue::I8(i8::from_le_bytes(self.array(key)?)),
            2 => MetaValue::U16(u16::from_le_bytes(self.array(key)?)),
            3 => MetaValue::I16(i16::from_le_bytes(self.array(key)?)),
            4 => MetaValue::U32(u32::from_le_bytes(self.array(key)?)),
            5 => MetaValue::I32(i32::from_le_bytes(self.array(key)?)),
            6 => MetaValue::F32(f32::from_le_bytes(self.array(key)?)),
            7 => MetaValue::Bool(self.array::<1>(key)? != [0]),
            8 => MetaValue::String(self.string(key)?),
            9 => self.array_value(key, depth)?,
            10 => MetaValue::U64(u64::from_le_bytes(self.array(key)?)),
            11 => MetaValue::I64(i64::from_le_bytes(self.array(key)?)),
            12 => MetaValue::F64(f64::from_le_bytes(self.array(key)?)),
            _ => {
                return Err(Error::weights(
                    self.label,
                    format!("{key} to have a metadata type 0…12"),
                    format!("{kind}"),
                ));
            }
        })
    }

    fn array_value(&mut self, key: &str, depth: usize) -> Result<MetaValue> {
        if depth == MAX_ARRAY_DEPTH {
            return Err(Error::weights(self.label, format!("{key} nested at most {MAX_ARRAY_DEPTH} deep"), "more"));
        }
        let kind = self.u32(key)?;
        let min_bytes = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            9 => 12,
            _ => 8,
        };
        let len = self.count(&format!("items of {key}"), min_bytes)?;
        if kind <= 1 {
            return Ok(MetaValue::Bytes(kind, self.take(len, key)?.to_vec()));
        }
        self.add_items(key, len)?;
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.value(kind, key, depth + 1)?);
        }
        Ok(MetaValue::Array(kind, items))
    }
}
