//! Weights as bytes: safetensors and GGUF files, dequantisation, and the names by which models ask for tensors.
//!
//! ```text
//! bytes → WeightFile (header read, data untouched) → WeightSet (one or more files) → rename::to_diffusers → take_f32
//! ```
//!
//! Nothing here knows a model or a device: a model asks for a name and a shape and gets numbers or an error that
//! names the tensor, the rule and what was found.

mod dequantize;
mod gguf;
pub mod gguf_write;
mod info;
pub mod quantize;
pub mod rename;
mod safetensors;
mod set;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use dequantize::decode;
pub use gguf::{MetaValue, Metadata};
pub use info::{StoredType, TensorInfo};
pub use set::{ShardIndex, WeightSet};

use crate::error::{Error, Result};

/// The two file formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Hugging Face safetensors.
    Safetensors,
    /// ggml's GGUF, version 2 or 3.
    Gguf,
}

/// One weight file in memory with its header read; the tensor data stay where they are.
#[derive(Debug, Clone)]
pub struct WeightFile {
    label: String,
    format: FileFormat,
    bytes: Arc<Vec<u8>>,
    file_len: usize,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

impl WeightFile {
    /// Reads the header of a safetensors or GGUF file, told apart by its first bytes.
    ///
    /// `label` (a file name) stands in error messages.
    ///
    /// # Errors
    /// [`Error::Weights`] when the file is neither, is truncated, or its header contradicts itself or the file's
    /// length.
    pub fn parse(bytes: impl Into<Arc<Vec<u8>>>, label: &str) -> Result<Self> {
        let bytes = bytes.into();
        let file_len = bytes.len();
        Self::parse_header(bytes, file_len, label)
    }

    /// As [`WeightFile::parse`] for a file of `file_len` bytes of which only the beginning is given: enough to see
    /// what is in it. Tensors that lie beyond have no [`WeightFile::data`].
    ///
    /// # Errors
    /// As [`WeightFile::parse`], and when the header does not end within what is given.
    pub fn parse_header(bytes: impl Into<Arc<Vec<u8>>>, file_len: usize, label: &str) -> Result<Self> {
        let bytes = bytes.into();
        let (format, metadata, tensors) = if bytes.starts_with(gguf::MAGIC) {
            let header = gguf::parse(&bytes, file_len, label)?;
            (FileFormat::Gguf, header.metadata, header.tensors)
        } else if bytes.get(8) == Some(&b'{') {
            let (metadata, tensors) = safetensors::parse(&bytes, file_len, label)?;
            (FileFormat::Safetensors, metadata, tensors)
        } else {
            let start: Vec<String> = bytes.iter().take(9).map(|b| format!("{b:02x}")).collect();
            let found = format!("{} bytes that begin with [{}]", bytes.len(), start.join(" "));
            return Err(Error::weights(label, "a safetensors or GGUF file", found));
        };
        Ok(Self { label: label.to_owned(), format, bytes, file_len, metadata, tensors })
    }

    /// The name given at parsing.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Which format it is.
    pub fn format(&self) -> FileFormat {
        self.format
    }

    /// File metadata; safetensors hold strings only.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The stored bytes of a tensor of this file; empty if they were not given or `info` belongs to another file.
    pub fn data(&self, info: &TensorInfo) -> &[u8] {
        self.bytes.get(info.range.clone()).unwrap_or_default()
    }

    /// Length of the whole file, bytes.
    pub fn len_bytes(&self) -> usize {
        self.file_len
    }
}
