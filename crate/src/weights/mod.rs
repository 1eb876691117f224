//! Weights as bytes: safetensors and GGUF files, dequantisation, and the names by which models ask for tensors.
//!
//! ```text
//! ByteSource → WeightFile (header read, data untouched) → WeightSet (one or more files) → rename::to_diffusers → fetch
//! ```
//!
//! Nothing here knows a model or a device: a model asks for a name and a shape and gets numbers or an error that
//! names the tensor, the rule and what was found.

mod adapted;
mod dequantize;
mod float8;
mod gguf;
pub mod gguf_write;
mod info;
pub mod lora;
mod pytorch;
pub mod quantize;
pub mod rename;
mod safetensors;
mod set;
pub mod source;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_formats;

use std::borrow::Cow;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub use dequantize::{decode, finite};
pub use gguf::{MetaValue, Metadata};
pub use info::{StoredType, TensorInfo};
pub use set::{ShardIndex, WeightSet};
pub use source::{ByteSource, Bytes};

use crate::config::foreign;
use crate::error::{Error, Result};

/// What is read of a file at first; nearly every safetensors header fits.
const FIRST_READ: u64 = 1 << 18;
/// Longest header that is read on for: 256 thousand vocabulary entries of a GGUF take some 10 MB.
const MOST_HEADER: u64 = 256 << 20;

/// The file formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Hugging Face safetensors.
    Safetensors,
    /// ggml's GGUF, version 2 or 3.
    Gguf,
    /// A zip archive of PyTorch's.
    PyTorch,
}

/// One weight file with its header read; the tensors' data stay where they are.
#[derive(Debug, Clone)]
pub struct WeightFile {
    label: String,
    format: FileFormat,
    source: Rc<dyn ByteSource>,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

/// What the beginning of a file told.
enum Parsed {
    Header(Metadata, Vec<TensorInfo>),
    /// The header goes on behind what was given: so many bytes of the file are needed at least.
    Needs(u64),
}

impl WeightFile {
    /// Reads the header of a safetensors, GGUF or PyTorch file, told apart by its first bytes, and no more than that.
    ///
    /// `label` (a file name) stands in error messages.
    ///
    /// # Errors
    /// [`Error::Weights`] when the file is neither, is truncated, or its header contradicts itself or the file's
    /// length; [`Error::Fetch`] when it cannot be read.
    pub async fn open(source: Rc<dyn ByteSource>, label: &str) -> Result<Self> {
        let mut take = FIRST_READ.min(source.len());
        loop {
            let start = source.read(0..take).await?.here();
            if start.starts_with(pytorch::MAGIC) {
                let (metadata, tensors) = pytorch::open(&source, label).await?;
                let (label, format) = (label.to_owned(), FileFormat::PyTorch);
                drop(start);
                return Ok(Self { label, format, source, metadata, tensors });
            }
            match Self::parse_start(&start, source.clone(), label)? {
                Ok(file) => return Ok(file),
                Err(needed) => take = next_read(take, needed, source.len(), label)?,
            }
        }
    }

    /// As [`WeightFile::open`] for a file that can be read at once: one in memory or on a disk.
    ///
    /// # Errors
    /// As [`WeightFile::open`]; [`Error::Internal`] for a source that must be waited for.
    pub fn open_now(source: Rc<dyn ByteSource>, label: &str) -> Result<Self> {
        // A source that can be read at once never waits.
        let mut opening = std::pin::pin!(Self::open(source, label));
        match opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(file) => file,
            Poll::Pending => Err(not_here()),
        }
    }

    /// As [`WeightFile::open`] for bytes in memory.
    ///
    /// # Errors
    /// As [`WeightFile::open`].
    pub fn parse(bytes: Vec<u8>, label: &str) -> Result<Self> {
        Self::open_now(Rc::new(source::Memory::new(bytes)), label)
    }

    /// The file, or how many bytes of it are needed to read its header.
    fn parse_start(start: &[u8], source: Rc<dyn ByteSource>, label: &str) -> Result<std::result::Result<Self, u64>> {
        let (format, parsed) = if start.starts_with(gguf::MAGIC) {
            (FileFormat::Gguf, gguf::parse(start, source.len(), label)?)
        } else if start.get(8) == Some(&b'{') {
            (FileFormat::Safetensors, safetensors::parse(start, source.len(), label)?)
        } else {
            return Err(Error::weights(label, "a safetensors, GGUF or PyTorch file", what_it_is(start, source.len())));
        };
        Ok(match parsed {
            Parsed::Header(metadata, tensors) => {
                Ok(Self { label: label.to_owned(), format, source, metadata, tensors })
            }
            Parsed::Needs(bytes) => Err(bytes),
        })
    }

    /// The name given at opening.
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

    /// The stored bytes of a tensor of this file.
    ///
    /// # Errors
    /// [`Error::Fetch`] when they cannot be read, [`Error::Weights`] when nothing here decodes their type.
    pub async fn read(&self, info: &TensorInfo) -> Result<Bytes<'_>> {
        info.check_type()?;
        self.source.read(info.range.clone()).await
    }

    /// The stored bytes of a tensor of a file that can be read at once.
    ///
    /// # Errors
    /// As [`WeightFile::read`]; [`Error::Internal`] when they must be waited for.
    pub fn read_now(&self, info: &TensorInfo) -> Result<Cow<'_, [u8]>> {
        info.check_type()?;
        self.source.read_now(info.range.clone())?.ok_or_else(not_here)
    }

    /// The same header over zeros.
    pub fn blank(self) -> Self {
        let source = Rc::new(source::Zeros(self.source.len()));
        Self { source, ..self }
    }

    /// Length of the whole file, bytes.
    pub fn len_bytes(&self) -> u64 {
        self.source.len()
    }
}

/// How much of the file is read next; what is not a header, or damaged, may ask for all of a file of any length.
fn next_read(taken: u64, needed: u64, len: u64, label: &str) -> Result<u64> {
    let next = needed.max(taken.saturating_mul(4)).min(len).min(MOST_HEADER);
    match next > taken && next >= needed {
        true => Ok(next),
        false => Err(Error::weights(
            label,
            format!("a header of at most {MOST_HEADER} bytes that ends within the file"),
            format!("one that goes on to byte {needed} of {len} (truncated or damaged?)"),
        )),
    }
}

fn not_here() -> Error {
    Error::Internal("bytes were asked for at once that must be waited for".into())
}

/// What lies in place of weights, in words.
fn what_it_is(start: &[u8], len: u64) -> String {
    if let Some(what) = foreign(start) {
        return what.into();
    }
    if start.starts_with(b"\x80\x02\x8a") {
        return "a PyTorch file from before version 1.6: it has to be saved anew with a later one".into();
    }
    let first: Vec<String> = start.iter().take(9).map(|b| format!("{b:02x}")).collect();
    format!("{len} bytes that begin with [{}]", first.join(" "))
}
