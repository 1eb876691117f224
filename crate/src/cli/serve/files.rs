//! Where served files come from: the program itself, and folders on the disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::error::{Error, Result};

/// How the bytes of a file are packed for the way; the order is the server's preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coding {
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
    /// As they are.
    Identity,
}

impl Coding {
    /// The name in `content-encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }
}

/// The bytes of an answer.
#[derive(Debug)]
pub enum Content {
    /// In the program.
    Memory(&'static [u8]),
    /// Words to a client.
    Words(String),
    /// On the disk, open.
    Disk(File),
}

/// A file in one coding.
#[derive(Debug)]
pub struct Version {
    /// Its coding.
    pub coding: Coding,
    /// Its bytes.
    pub content: Content,
    /// How many, in this coding.
    pub length: u64,
}

/// A file, in each coding there is of it.
#[derive(Debug)]
pub struct Found {
    /// Changes when the file does; letters, digits and dashes.
    pub tag: String,
    /// At least one.
    pub versions: Vec<Version>,
}

/// A source of files. `path` has been checked: parts that are not empty, `.` or `..`, between single slashes.
pub trait Files: Sync {
    /// The file, or `None` when there is none (or none that may be shown).
    fn find(&self, path: &str) -> Option<Found>;
}

/// A folder on the disk under a prefix such as `models/`. What a link leads to outside of the folder is not shown.
#[derive(Debug)]
pub struct Folder {
    prefix: String,
    root: PathBuf,
}

impl Folder {
    /// # Errors
    /// [`Error::Fetch`] when it is not a folder.
    pub fn open(prefix: &str, path: &Path) -> Result<Self> {
        let failed = |why: String| Error::Fetch(format!("{}: {why}", path.display()));
        let root = path.canonicalize().map_err(|e| failed(e.to_string()))?;
        if !root.is_dir() {
            return Err(failed("expected a folder of models, found a file".into()));
        }
        Ok(Self { prefix: prefix.to_owned(), root })
    }
}

impl Files for Folder {
    fn find(&self, path: &str) -> Option<Found> {
        let path = self.root.join(path.strip_prefix(&self.prefix)?).canonicalize().ok()?;
        // A pipe or a device is not opened: it would wait, or never end.
        if !path.starts_with(&self.root) || !path.is_file() {
            return None;
        }
        let file = File::open(path).ok()?;
        let meta = file.metadata().ok()?;
        let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        let tag = format!("{:x}-{changed:x}", meta.len());
        let version = Version { coding: Coding::Identity, content: Content::Disk(file), length: meta.len() };
        Some(Found { tag, versions: vec![version] })
    }
}

/// Several sources; the first that has a file gives it.
pub struct Layers<'a>(pub Vec<&'a dyn Files>);

impl Files for Layers<'_> {
    fn find(&self, path: &str) -> Option<Found> {
        self.0.iter().find_map(|files| files.find(path))
    }
}
