//! Where the bytes of a file are: in this memory, on a disk, or with a host that hands them over by range.
//!
//! A weight file is never read whole: its header first, then each tensor when it is asked for. What a host reads (in a
//! browser an `ArrayBuffer`) need not pass through this memory on its way to a GPU ([`Elsewhere`]).

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::pace::Later;

/// A file that can be read by range. Offsets and lengths are in bytes; files may be longer than this memory can address.
pub trait ByteSource: Debug {
    /// Length of the file.
    fn len(&self) -> u64;

    /// True for a file of no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range within the file, if they can be had at once; `None` where they must be waited for.
    ///
    /// # Errors
    /// [`Error::Fetch`] when they cannot be read.
    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>>;

    /// The bytes of a range within the file.
    ///
    /// # Errors
    /// [`Error::Fetch`] when they cannot be read, [`Error::Aborted`] when the host stopped.
    fn read(&self, range: Range<u64>) -> Later<'_, Bytes<'_>> {
        Box::pin(async move {
            match self.read_now(range)? {
                Some(bytes) => Ok(Bytes::Here(bytes)),
                None => Err(Error::Internal("a source that can neither be read at once nor be waited for".into())),
            }
        })
    }
}

/// A file of zeros: what stands in for weights where only their names and shapes matter.
#[derive(Debug)]
pub struct Zeros(pub u64);

impl ByteSource for Zeros {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        Ok(Some(vec![0; (range.end.saturating_sub(range.start)) as usize].into()))
    }
}

/// What was read.
#[derive(Debug)]
pub enum Bytes<'a> {
    /// In this memory.
    Here(Cow<'a, [u8]>),
    /// With the host.
    Elsewhere(Box<dyn Elsewhere>),
}

/// Bytes that the host holds.
pub trait Elsewhere: Debug {
    /// How many.
    fn len(&self) -> usize;

    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies them into this memory.
    fn to_vec(&self) -> Vec<u8>;

    /// Writes them to a GPU buffer from `offset` (a multiple of 4) on, without a copy in this memory; up to 3 bytes of
    /// padding follow. The queue takes its copy before this returns.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the queue refuses.
    fn write_to(&self, buffer: &wgpu::Buffer, queue: &wgpu::Queue, offset: u64) -> Result<()>;
}

impl<'a> Bytes<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Elsewhere(bytes) => bytes.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in this memory.
    pub fn here(self) -> Cow<'a, [u8]> {
        match self {
            Self::Here(bytes) => bytes,
            Self::Elsewhere(bytes) => Cow::Owned(bytes.to_vec()),
        }
    }
}

/// A whole file in this memory.
#[derive(Debug)]
pub struct Memory(Vec<u8>);

impl Memory {
    /// A source of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl ByteSource for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        let part = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(start, end)| self.0.get(start..end));
        match part {
            Some(part) => Ok(Some(Cow::Borrowed(part))),
            None => Err(outside(range, self.len())),
        }
    }
}

/// A file on a disk, read at positions.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct DiskFile {
    file: std::fs::File,
    path: std::path::PathBuf,
    len: u64,
}

#[cfg(not(target_arch = "wasm32"))]
impl DiskFile {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error::Fetch`] naming the path when it cannot be opened.
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", path.display()));
        let file = std::fs::File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Ok(Self { file, path: path.to_owned(), len })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl ByteSource for DiskFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", self.path.display()));
        let length = range.end.checked_sub(range.start).filter(|_| range.end <= self.len);
        let length = length.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| outside(range.clone(), self.len))?;
        let mut bytes = vec![0; length];
        // A file cut short since it was opened ends here as an error, not as zeros.
        read_exact_at(&self.file, &mut bytes, range.start).map_err(failed)?;
        Ok(Some(Cow::Owned(bytes)))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &std::fs::File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(all(not(unix), not(target_arch = "wasm32")))]
fn read_exact_at(mut file: &std::fs::File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

fn outside(range: Range<u64>, len: u64) -> Error {
    Error::Fetch(format!("bytes {} to {} are outside a file of {len} bytes", range.start, range.end))
}
