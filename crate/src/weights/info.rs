//! What a weight file says about one tensor: name, shape, stored type, where its bytes lie.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md> (type numbers and block sizes) and
//! <https://github.com/huggingface/safetensors#format>.

use std::ops::Range;

use crate::error::{Error, Result};

/// How the elements of a tensor are stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)] // the names are the format's own and say all there is to say
pub enum StoredType {
    F32,
    F16,
    BF16,
    F64,
    I64,
    I32,
    U8,
    Bool,
    F8_E4M3,
    F8_E5M2,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    /// One that nothing here decodes: [`TensorInfo::unknown`] has its name.
    Unknown,
}

/// One row per type: the type, its name, its GGUF number, elements per block, bytes per block.
const TYPES: &[(StoredType, &str, Option<u32>, usize, usize)] = &[
    (StoredType::F32, "F32", Some(0), 1, 4),
    (StoredType::F16, "F16", Some(1), 1, 2),
    (StoredType::BF16, "BF16", Some(30), 1, 2),
    (StoredType::F64, "F64", Some(28), 1, 8),
    (StoredType::I64, "I64", Some(27), 1, 8),
    (StoredType::I32, "I32", Some(26), 1, 4),
    (StoredType::U8, "U8", None, 1, 1),
    (StoredType::Bool, "BOOL", None, 1, 1),
    (StoredType::F8_E4M3, "F8_E4M3", None, 1, 1),
    (StoredType::F8_E5M2, "F8_E5M2", None, 1, 1),
    (StoredType::Q4_0, "Q4_0", Some(2), 32, 18),
    (StoredType::Q4_1, "Q4_1", Some(3), 32, 20),
    (StoredType::Q5_0, "Q5_0", Some(6), 32, 22),
    (StoredType::Q5_1, "Q5_1", Some(7), 32, 24),
    (StoredType::Q8_0, "Q8_0", Some(8), 32, 34),
    (StoredType::Q2_K, "Q2_K", Some(10), 256, 84),
    (StoredType::Q3_K, "Q3_K", Some(11), 256, 110),
    (StoredType::Q4_K, "Q4_K", Some(12), 256, 144),
    (StoredType::Q5_K, "Q5_K", Some(13), 256, 176),
    (StoredType::Q6_K, "Q6_K", Some(14), 256, 210),
    (StoredType::IQ4_NL, "IQ4_NL", Some(20), 32, 18),
    (StoredType::IQ4_XS, "IQ4_XS", Some(23), 256, 136),
    (StoredType::Unknown, "unknown", None, 1, 1),
];

/// Types of GGUF files that nothing here decodes, for their names.
const UNDECODED: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// What a GGUF type that nothing here decodes is called.
pub(super) fn gguf_name(number: u32) -> String {
    let known = UNDECODED.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("GGUF type {number}"), |(_, name)| (*name).to_owned())
}

/// Whether so many elements may lie in these bytes, whatever their type: none takes less than a bit.
pub(super) fn may_hold(bytes: u64, shape: &[usize]) -> bool {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    count.is_some_and(|count| count as u64 / 8 <= bytes)
}

impl StoredType {
    fn row(self) -> &'static (Self, &'static str, Option<u32>, usize, usize) {
        // The table lists every variant (a test walks them), so the fallback row is never used.
        TYPES.iter().find(|r| r.0 == self).unwrap_or(&TYPES[0])
    }

    /// The format's own name of the type, as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Elements in one block; 1 for types that are not quantised.
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// True for the block-quantised GGUF types.
    pub fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// True for the 8-bit floats.
    pub fn is_float8(self) -> bool {
        matches!(self, Self::F8_E4M3 | Self::F8_E5M2)
    }

    /// The type's number in a GGUF file, if it has one.
    pub fn gguf_number(self) -> Option<u32> {
        self.row().2
    }

    /// The type with this GGUF number, if it can be decoded here.
    pub fn from_gguf_number(number: u32) -> Option<Self> {
        TYPES.iter().find(|r| r.2 == Some(number)).map(|r| r.0)
    }

    /// Bytes a tensor of this shape takes, or `None` if that overflows or a row is not whole blocks.
    pub fn bytes_for(self, shape: &[usize]) -> Option<u64> {
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64))?;
        let row = shape.last().copied().unwrap_or(1);
        if row % self.block_len() != 0 {
            return None;
        }
        (count / self.block_len() as u64).checked_mul(self.block_bytes() as u64)
    }
}

impl std::fmt::Display for StoredType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One tensor of a weight file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name.
    pub name: String,
    /// Row-major shape in torch order (outermost first); empty for a scalar.
    pub shape: Vec<usize>,
    /// How its elements are stored.
    pub dtype: StoredType,
    /// Where its bytes lie in the file.
    pub range: Range<u64>,
    /// The name of its type as the file has it, where that is [`StoredType::Unknown`].
    pub unknown: Option<String>,
}

impl TensorInfo {
    /// The format's own name of its type.
    pub fn type_name(&self) -> &str {
        self.unknown.as_deref().unwrap_or_else(|| self.dtype.name())
    }

    /// Refuses a tensor whose values nothing here can decode: a file may hold such, a model must not need them.
    ///
    /// # Errors
    /// [`Error::Weights`] naming it and its type.
    pub fn check_type(&self) -> Result<()> {
        match self.dtype {
            StoredType::Unknown => Err(Error::weights(&self.name, "a type that can be decoded here", self.type_name())),
            _ => Ok(()),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes that it takes in the file.
    pub fn stored_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// True if it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_row_of_its_own() {
        for row in TYPES {
            assert_eq!(row.0.name(), row.1);
            if let Some(n) = row.2 {
                assert_eq!(StoredType::from_gguf_number(n), Some(row.0));
            }
        }
        assert_eq!(TYPES.len(), StoredType::Unknown as usize + 1);
        let both = UNDECODED.iter().filter(|(number, _)| StoredType::from_gguf_number(*number).is_some());
        assert_eq!(both.count(), 0);
        assert_eq!([16, 99].map(gguf_name), ["IQ2_XXS", "GGUF type 99"]);
    }

    #[test]
    fn elements_of_any_type_take_a_bit_at_least() {
        assert!(may_hold(2, &[2, 8]) && may_hold(0, &[]) && may_hold(0, &[0, 9]));
        assert!(!may_hold(1, &[2, 8]) && !may_hold(u64::MAX, &[usize::MAX, 2]));
    }

    #[test]
    fn a_row_that_is_not_whole_blocks_has_no_size() {
        assert_eq!(StoredType::Q8_0.bytes_for(&[2, 64]), Some(2 * 2 * 34));
        assert_eq!(StoredType::Q8_0.bytes_for(&[64, 2]), None);
        assert_eq!(StoredType::F32.bytes_for(&[usize::MAX, 2]), None);
        assert_eq!(StoredType::F32.bytes_for(&[]), Some(4));
    }
}
