//! Which model a folder holds. To add a family: its folder, and its lines in [`Registry::default`].

use super::family::{Component, Denoiser, Entry, TextEncoder, VideoCodec};
use super::{umt5, wan};
use crate::config;
use crate::error::{Error, Result};

/// All models that are known.
pub struct Registry {
    /// Text encoders.
    pub text_encoders: Vec<Entry<dyn TextEncoder>>,
    /// Denoisers.
    pub denoisers: Vec<Entry<dyn Denoiser>>,
    /// Video codecs.
    pub codecs: Vec<Entry<dyn VideoCodec>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { text_encoders: vec![umt5::ENTRY], denoisers: vec![wan::TRANSFORMER_ENTRY], codecs: vec![wan::VAE_ENTRY] }
    }
}

/// Builds a component with the entry that its configuration, or else its weights, name.
///
/// # Errors
/// [`Error::Weights`] when nothing here knows it, or as the entry's `load`.
pub async fn load<T: ?Sized>(entries: &[Entry<T>], component: &Component<'_>) -> Result<Box<T>> {
    let class = config::class(component.config, component.file)?;
    let entry = match class.as_str() {
        "" => entries.iter().find(|entry| (entry.owns)(component.loader.set())),
        class => entries.iter().find(|entry| entry.classes.contains(&class)),
    };
    match entry {
        Some(entry) => (entry.load)(component).await,
        None => {
            let known: Vec<&str> = entries.iter().flat_map(|entry| entry.classes).copied().collect();
            let found = if class.is_empty() {
                "no class, and weights of another model".into()
            } else {
                format!("class {class}")
            };
            Err(Error::weights(component.file, format!("class {}", known.join(" or ")), found))
        }
    }
}

/// What a clip's frames (less one), height and width must be multiples of, read from the configurations of a denoiser and a
/// codec without loading them; `None` when nothing here knows them.
pub fn multiples(denoiser: &[u8], codec: &[u8]) -> Option<[usize; 3]> {
    wan::config::multiples(denoiser, codec)
}
