//! Which model a folder holds. To add a family: its folder, and its lines in [`Registry::default`].

use super::family::{Component, Denoiser, Entry, Known, TextEncoder, VideoCodec};
use super::{taehv, umt5, wan};
use crate::config;
use crate::error::{Error, Result};
use crate::weights::WeightSet;

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
        Self {
            text_encoders: vec![umt5::ENTRY],
            denoisers: vec![wan::TRANSFORMER_ENTRY],
            codecs: vec![wan::VAE_ENTRY, taehv::ENTRY],
        }
    }
}

/// What a part of a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Words to embeddings.
    TextEncoder,
    /// Noise to latents.
    Denoiser,
    /// Latents to pixels.
    Codec,
}

impl Role {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::TextEncoder => "text encoder",
            Self::Denoiser => "denoiser",
            Self::Codec => "video codec",
        }
    }
}

impl Registry {
    /// What a set of tensors (diffusers names) is, by its tensors alone; `None` if nothing here knows it.
    ///
    /// # Errors
    /// [`Error::Weights`] when it is known, and a tensor that tells its sizes is missing.
    pub fn identify(&self, set: &WeightSet) -> Result<Option<(Role, Known)>> {
        let denoiser = self.denoisers.iter().find(|entry| (entry.owns)(set)).map(|e| (Role::Denoiser, e.configure));
        let encoder = self.text_encoders.iter().find(|e| (e.owns)(set)).map(|e| (Role::TextEncoder, e.configure));
        let codec = self.codecs.iter().find(|entry| (entry.owns)(set)).map(|e| (Role::Codec, e.configure));
        let Some((role, configure)) = denoiser.or(encoder).or(codec) else { return Ok(None) };
        Ok(Some((role, configure(set)?)))
    }
}

/// What a component is, read off its tensors where it has no config.json; `file` is where that would lie.
///
/// # Errors
/// [`Error::Weights`] naming `file` when nothing here knows the tensors, or they do not tell enough.
pub fn configure<T: ?Sized>(entries: &[Entry<T>], set: &WeightSet, file: &str) -> Result<Known> {
    match entries.iter().find(|entry| (entry.owns)(set)) {
        Some(entry) => (entry.configure)(set)
            .map_err(|why| Error::weights(file, "it, or tensors that say what it would", format!("neither ({why})"))),
        None => {
            let known: Vec<&str> = entries.iter().flat_map(|entry| entry.classes).copied().collect();
            let what = format!("{} tensors of another model", set.len());
            let rule = format!("{file}, or the tensors of {}", known.join(" or "));
            Err(Error::weights(file.split('/').next().unwrap_or(file), rule, what))
        }
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
