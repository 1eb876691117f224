//! The files of a model folder, by their path in it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config;
use crate::error::{Error, Result};
use crate::models::names;
use crate::options::ModelDefaults;
use crate::weights::{ShardIndex, WeightFile, WeightSet};

/// Files handed over before a load. Weight files are released as soon as their tensors are built.
#[derive(Debug, Default)]
pub struct ModelFiles {
    files: BTreeMap<String, Vec<u8>>,
}

impl ModelFiles {
    /// Adds or replaces a file; `path` is relative to the folder, with forward slashes.
    pub fn insert(&mut self, path: impl Into<String>, bytes: Vec<u8>) {
        self.files.insert(path.into(), bytes);
    }

    /// True if there is such a file.
    pub fn contains(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The bytes of a file that the folder must have.
    ///
    /// # Errors
    /// [`Error::Fetch`] when it is missing.
    pub fn require(&self, path: &str) -> Result<&[u8]> {
        self.files.get(path).map(Vec::as_slice).ok_or_else(|| Error::Fetch(format!("the model folder has no {path}")))
    }

    /// All weights of a component, under diffusers names, taken out of the folder.
    ///
    /// # Errors
    /// [`Error::Fetch`] when the component has no weight file, [`Error::Weights`] when one is damaged or a shard is missing.
    pub fn take_weights(&mut self, component: &str) -> Result<WeightSet> {
        let prefix = format!("{component}/");
        let paths: Vec<String> =
            self.files.keys().filter(|p| p.starts_with(&prefix) && is_weight_file(p)).cloned().collect();
        if paths.is_empty() {
            return Err(Error::Fetch(format!(
                "the model folder has no weights in {component}/ (.safetensors or .gguf)"
            )));
        }
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            if let Some(bytes) = self.files.remove(&path) {
                files.push(WeightFile::parse(bytes, &path)?);
            }
        }
        let set = WeightSet::new(files)?;
        for (path, bytes) in self.files.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix)) {
            if path.ends_with(".index.json") {
                let json = std::str::from_utf8(bytes).map_err(|e| Error::weights(path, "UTF-8 text", e.to_string()))?;
                ShardIndex::parse(json, path)?.check(&set)?;
            }
        }
        names::to_diffusers(set)
    }

    /// Reads a model folder from disk: configurations, tokenizer and weights; other files are left out.
    ///
    /// # Errors
    /// [`Error::Fetch`] when the folder or a file cannot be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_dir(folder: &std::path::Path) -> Result<Self> {
        let mut out = Self::default();
        for name in folder_files(folder)? {
            let path = folder.join(&name);
            let bytes = std::fs::read(&path).map_err(|e| Error::Fetch(format!("{}: {e}", path.display())))?;
            out.insert(name, bytes);
        }
        Ok(out)
    }
}

/// The files of a model folder that a load needs: configurations, tokenizer and weights, by their paths in it, sorted.
///
/// # Errors
/// [`Error::Fetch`] when the folder cannot be read.
#[cfg(not(target_arch = "wasm32"))]
pub fn folder_files(folder: &std::path::Path) -> Result<Vec<String>> {
    let failed = |path: &std::path::Path, e: std::io::Error| Error::Fetch(format!("{}: {e}", path.display()));
    let mut out = Vec::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| failed(&dir, e))? {
            let path = entry.map_err(|e| failed(&dir, e))?.path();
            if path.is_dir() {
                todo.push(path);
                continue;
            }
            let inside = path.strip_prefix(folder).unwrap_or(&path);
            let name = inside.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
            if name.ends_with(".json") || is_weight_file(&name) {
                out.push(name);
            }
        }
    }
    out.sort();
    Ok(out)
}

fn is_weight_file(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".gguf")
}

/// Where a folder's card lies.
pub const CARD: &str = "tabreel.json";

/// Most tokens that a card may ask for: what umT5 was trained on, eight times.
const MOST_TOKENS: usize = 4096;

/// `tabreel.json`, the card of a model made for this project; every field has a default for folders without one.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ModelCard {
    /// Name to show.
    pub name: String,
    /// Tokens the prompt is padded (and cut) to, 1…4096.
    pub max_sequence_length: usize,
    /// Settings to start from.
    pub default: ModelDefaults,
}

impl Default for ModelCard {
    fn default() -> Self {
        // 512 is the default of diffusers' WanPipeline.
        Self { name: String::new(), max_sequence_length: 512, default: ModelDefaults::default() }
    }
}

impl ModelCard {
    /// The card of a folder, or what stands in for it.
    ///
    /// # Errors
    /// [`Error::Weights`] when the card does not parse, or suggests what no clip can have.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        if !files.contains(CARD) {
            return Ok(Self::default());
        }
        let card: Self = config::parse(files.require(CARD)?, CARD, &["model card"])?;
        if !(1..=MOST_TOKENS).contains(&card.max_sequence_length) {
            let found = card.max_sequence_length.to_string();
            return Err(Error::weights(CARD, format!("max_sequence_length 1 to {MOST_TOKENS} tokens"), found));
        }
        card.default.check().map_err(|e| Error::weights(CARD, "a sound default", e.to_string()))?;
        Ok(card)
    }
}
