//! Which model a folder holds. To add a family: its folder, and its lines in [`Registry::default`].

use super::family::{Component, Denoiser, Entry, ImageEncoder, Known, TextEncoder, VideoCodec};
use super::{clip, dit, kl, strides, taehv, umt5, wan};
use crate::config;
use crate::error::{Error, Result};
use crate::weights::WeightSet;

/// All models that are known.
pub struct Registry {
    /// Text encoders.
    pub text_encoders: Vec<Entry<dyn TextEncoder>>,
    /// Image encoders.
    pub image_encoders: Vec<Entry<dyn ImageEncoder>>,
    /// Denoisers.
    pub denoisers: Vec<Entry<dyn Denoiser>>,
    /// Video codecs.
    pub codecs: Vec<Entry<dyn VideoCodec>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            text_encoders: vec![umt5::ENTRY],
            image_encoders: vec![clip::ENTRY],
            denoisers: vec![wan::TRANSFORMER_ENTRY, dit::ENTRY],
            codecs: vec![wan::VAE_ENTRY, taehv::ENTRY, kl::ENTRY],
        }
    }
}

/// What a part of a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Words to embeddings.
    TextEncoder,
    /// Pictures to tokens.
    ImageEncoder,
    /// Noise to latents.
    Denoiser,
    /// Latents to pixels.
    Codec,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::TextEncoder, Self::ImageEncoder, Self::Denoiser, Self::Codec];

    /// The folder of such a part in a model.
    pub fn part(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::ImageEncoder => "image_encoder",
            Self::Denoiser => "transformer",
            Self::Codec => "vae",
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::TextEncoder => "text encoder",
            Self::ImageEncoder => "image encoder",
            Self::Denoiser => "denoiser",
            Self::Codec => "video codec",
        }
    }
}

impl Registry {
    /// What a part with these tensors (diffusers names) does; `None` if nothing here knows them.
    pub fn role(&self, set: &WeightSet) -> Option<Role> {
        let denoiser = self.denoisers.iter().any(|entry| (entry.owns)(set)).then_some(Role::Denoiser);
        let encoder = || self.text_encoders.iter().any(|entry| (entry.owns)(set)).then_some(Role::TextEncoder);
        let looks = || self.image_encoders.iter().any(|entry| (entry.owns)(set)).then_some(Role::ImageEncoder);
        let codec = || self.codecs.iter().any(|entry| (entry.owns)(set)).then_some(Role::Codec);
        denoiser.or_else(encoder).or_else(looks).or_else(codec)
    }

    /// What a set of tensors (diffusers names) is, by its tensors alone; `None` if nothing here knows it.
    ///
    /// # Errors
    /// [`Error::Weights`] when it is known, and a tensor that tells its sizes is missing.
    pub fn identify(&self, set: &WeightSet) -> Result<Option<(Role, Known)>> {
        let Some(role) = self.role(set) else { return Ok(None) };
        let known = match role {
            Role::Denoiser => told(&self.denoisers, set),
            Role::TextEncoder => told(&self.text_encoders, set),
            Role::ImageEncoder => told(&self.image_encoders, set),
            Role::Codec => told(&self.codecs, set),
        };
        known.map(|known| Ok((role, known?))).transpose()
    }
}

/// What the first entry that knows the tensors says that they are; `None` if none does.
pub fn told<T: ?Sized>(entries: &[Entry<T>], set: &WeightSet) -> Option<Result<Known>> {
    entries.iter().find(|entry| (entry.owns)(set)).map(|entry| (entry.configure)(set))
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

/// The entry that a configuration's class names, or else the weights; `None` when nothing here knows it.
pub fn of_class<'a, T: ?Sized>(entries: &'a [Entry<T>], class: &str, set: &WeightSet) -> Option<&'a Entry<T>> {
    match class {
        "" => entries.iter().find(|entry| (entry.owns)(set)),
        class => entries.iter().find(|entry| entry.classes.contains(&class)),
    }
}

/// Builds a component with the entry that its configuration, or else its weights, name.
///
/// # Errors
/// [`Error::Weights`] when nothing here knows it, or as the entry's `load`.
pub async fn load<T: ?Sized>(entries: &[Entry<T>], component: &Component<'_>) -> Result<Box<T>> {
    let class = config::class(component.config, component.file)?;
    match of_class(entries, &class, component.loader.set()) {
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
    wan::config::multiples(denoiser, codec).or_else(|| dit::config::multiples(denoiser, strides::of_codec(codec)?))
}
