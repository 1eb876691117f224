//! The directory of a zip archive, read by range.
//!
//! Source: PKWARE APPNOTE 6.3.10, §4.3 and §4.5.3 (files of more than 4 GiB).

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::weights::source::ByteSource;

/// Longest directory that is read, and longest end record: 22 bytes and a comment.
const MOST_DIRECTORY: u64 = 64 << 20;
const MOST_END: u64 = 22 + 0xFFFF + 20;

/// An archive's entries by name.
pub(super) struct Archive<'a> {
    source: &'a dyn ByteSource,
    label: &'a str,
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    compressed: bool,
    size: u64,
    /// Where its own header lies.
    header: u64,
}

impl<'a> Archive<'a> {
    /// # Errors
    /// [`Error::Weights`] when the directory is damaged; [`Error::Fetch`] when it cannot be read.
    pub async fn open(source: &'a dyn ByteSource, label: &'a str) -> Result<Self> {
        let broken = |found: &str| Error::weights(label, "a whole zip archive", found);
        let len = source.len();
        let tail_start = len.saturating_sub(MOST_END);
        let tail = source.read(tail_start..len).await?.here().into_owned();
        let at = (0..tail.len().saturating_sub(21)).rev().find(|&at| tail[at..].starts_with(b"PK\x05\x06"));
        let at = at.ok_or_else(|| broken("no directory at the end (truncated?)"))?;
        let end = &tail[at..];
        let (mut size, mut start) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
        if size == u64::from(u32::MAX) || start == u64::from(u32::MAX) || u16_at(end, 10) == u16::MAX {
            // The real numbers stand in a longer record, and where that is, just before this one.
            let locator = at.checked_sub(20).and_then(|at| tail.get(at..)).filter(|l| l.starts_with(b"PK\x06\x07"));
            let place = u64_at(locator.ok_or_else(|| broken("no locator of its 64-bit directory"))?, 8);
            let after = place.checked_add(56).filter(|end| *end <= len);
            let after = after.ok_or_else(|| broken("a 64-bit directory outside the file"))?;
            let record = source.read(place..after).await?.here().into_owned();
            if !record.starts_with(b"PK\x06\x06") {
                return Err(broken("no 64-bit directory where its locator points"));
            }
            (size, start) = (u64_at(&record, 40), u64_at(&record, 48));
        }
        let stop = start.checked_add(size).filter(|stop| *stop <= len && size <= MOST_DIRECTORY);
        let stop = stop.ok_or_else(|| broken("a directory outside the file"))?;
        let directory = source.read(start..stop).await?.here().into_owned();
        let mut entries = BTreeMap::new();
        let mut rest = directory.as_slice();
        while !rest.is_empty() {
            let header = rest.get(..46).filter(|h| h.starts_with(b"PK\x01\x02"));
            let header = header.ok_or_else(|| broken("a damaged directory"))?;
            let length = |at| usize::from(u16_at(header, at));
            let (name, extra, comment) = (length(28), length(30), length(32));
            let whole = 46 + name + extra + comment;
            let fields = rest.get(46..whole).ok_or_else(|| broken("a damaged directory"))?;
            let entry = entry(header, &fields[name..name + extra]).ok_or_else(|| broken("a damaged directory"))?;
            let name = String::from_utf8_lossy(&fields[..name]).into_owned();
            if entries.insert(name.clone(), entry).is_some() {
                return Err(broken(&format!("two entries {name}")));
            }
            rest = &rest[whole..];
        }
        Ok(Self { source, label, entries })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Where the bytes of an entry lie in the file.
    ///
    /// # Errors
    /// [`Error::Weights`] when there is no such entry, it is compressed, or lies outside the file.
    pub async fn place(&self, name: &str) -> Result<Range<u64>> {
        let wrong =
            |expected: &str, found: &str| Error::weights(format!("{} in {}", name, self.label), expected, found);
        let entry = self.entries.get(name).ok_or_else(|| wrong("it in the archive", "no such entry"))?;
        if entry.compressed {
            return Err(wrong("a stored entry, as torch.save writes it", "a compressed one"));
        }
        let outside = || wrong("an entry inside the file", "one that goes on behind its end");
        let after = entry.header.checked_add(30).filter(|end| *end <= self.source.len()).ok_or_else(outside)?;
        let header = self.source.read(entry.header..after).await?.here().into_owned();
        if !header.starts_with(b"PK\x03\x04") {
            return Err(wrong("an entry where the directory says", "something else"));
        }
        let start = after + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        match start.checked_add(entry.size) {
            Some(end) if end <= self.source.len() => Ok(start..end),
            _ => Err(outside()),
        }
    }

    /// The bytes of a small entry.
    ///
    /// # Errors
    /// As [`Archive::place`], and [`Error::Weights`] when it is longer than `most`.
    pub async fn read(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        let place = self.place(name).await?;
        let length = place.end - place.start;
        if length > most {
            return Err(Error::weights(name, format!("at most {most} bytes"), format!("{length} bytes")));
        }
        Ok(self.source.read(place).await?.here().into_owned())
    }
}

/// An entry from its header of 46 bytes in the directory and its extra fields.
fn entry(header: &[u8], mut extra: &[u8]) -> Option<Entry> {
    let (packed, mut size, mut place) =
        (u32_at(header, 20), u64::from(u32_at(header, 24)), u64::from(u32_at(header, 42)));
    while extra.len() >= 4 {
        let (kind, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let mut field = extra.get(4..4 + length)?;
        if kind == 1 {
            // What did not fit 32 bits stands here, in this order.
            let mut long = || field.split_at_checked(8).map(|(head, rest)| (field = rest, u64_at(head, 0)).1);
            if size == u64::from(u32::MAX) {
                size = long()?;
            }
            if packed == u32::MAX {
                long()?;
            }
            if place == u64::from(u32::MAX) {
                place = long()?;
            }
        }
        extra = &extra[4 + length..];
    }
    Some(Entry { compressed: u16_at(header, 10) != 0, size, header: place })
}

// Callers hand slices that are long enough; a short one reads as 0.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
