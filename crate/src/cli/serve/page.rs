//! The page inside the program; empty unless it was built with `TABREEL_PAGE` (`crate/build.rs`).

use super::files::{Coding, Content, Files, Found, Version};

/// A file of the page, with its compressed siblings.
#[derive(Debug)]
pub struct Embedded {
    /// Below the page's folder, with `/`.
    pub path: &'static str,
    /// Of the file as it is; changes when the file does.
    pub hash: &'static str,
    /// As it is; `None` for a large one that a sibling stands for.
    pub plain: Option<&'static [u8]>,
    /// In brotli.
    pub br: Option<&'static [u8]>,
    /// In gzip.
    pub gzip: Option<&'static [u8]>,
}

/// Every file of the page.
pub const PAGE: Page = Page(include!(concat!(env!("OUT_DIR"), "/page.rs")));

/// Files inside the program.
#[derive(Debug)]
pub struct Page(pub &'static [Embedded]);

impl Files for Page {
    fn find(&self, path: &str) -> Option<Found> {
        let file = self.0.iter().find(|file| file.path == path)?;
        let all = [(Coding::Identity, file.plain), (Coding::Brotli, file.br), (Coding::Gzip, file.gzip)];
        let versions = all.into_iter().filter_map(|(coding, bytes)| {
            bytes.map(|bytes| Version { coding, content: Content::Memory(bytes), length: bytes.len() as u64 })
        });
        Some(Found { tag: file.hash.to_owned(), versions: versions.collect() })
    }
}
