//! The files of a model folder, by their path in it.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Deserializer};

use crate::config;
use crate::error::{Error, Result};
use crate::models::names;
use crate::options::{GivenOptions, ModelDefaults, Presets};
#[cfg(not(target_arch = "wasm32"))]
use crate::weights::source::DiskFile;
use crate::weights::source::{ByteSource, Memory};
use crate::weights::{ShardIndex, WeightFile, WeightSet, lora};

/// The files of a model, by their paths in its folder; they stay where they are and are read by range.
#[derive(Debug, Default, Clone)]
pub struct ModelFiles {
    files: BTreeMap<String, Rc<dyn ByteSource>>,
    loras: Vec<LoraFile>,
    /// Prompts are handed in as embeddings.
    textless: bool,
}

/// A LoRA for the transformer.
#[derive(Debug, Clone)]
pub struct LoraFile {
    /// Its name, for messages.
    pub label: String,
    /// Where it is.
    pub source: Rc<dyn ByteSource>,
    /// Factor of its difference; 1 is as it was trained.
    pub strength: f32,
}

/// Longest configuration, card or tokenizer that is read, bytes: umT5's `tokenizer.json` takes 17 million.
pub const MOST_TEXT_BYTES: u64 = 64 << 20;

impl ModelFiles {
    /// Adds or replaces a file in memory; `path` is relative to the folder, with forward slashes.
    pub fn insert(&mut self, path: impl Into<String>, bytes: Vec<u8>) {
        self.add(path, Rc::new(Memory::new(bytes)));
    }

    /// Adds or replaces a file that lies elsewhere.
    pub fn add(&mut self, path: impl Into<String>, source: Rc<dyn ByteSource>) {
        self.files.insert(path.into(), source);
    }

    /// Puts a loose file in the place of a whole part (`transformer`, `text_encoder`, `tokenizer`, `vae` or `image_encoder`): what the folder
    /// had there, its configuration too, is taken out, and the part is told by its tensors.
    pub fn replace_part(&mut self, part: &str, name: &str, source: Rc<dyn ByteSource>) {
        self.clear_part(part);
        self.add(format!("{part}/{name}"), source);
    }

    /// Takes a whole part out.
    pub fn clear_part(&mut self, part: &str) {
        let prefix = format!("{part}/");
        self.files.retain(|path, _| !path.starts_with(&prefix));
    }

    /// Leaves the tokenizer and the text encoder unread, or missing: prompts are to be handed in as embeddings
    /// ([`super::Inputs::prompt_embeds`]).
    pub fn leave_text(&mut self) {
        self.textless = true;
    }

    /// True if [`ModelFiles::leave_text`] was called.
    pub fn leaves_text(&self) -> bool {
        self.textless
    }

    /// Adds a LoRA for the transformer; several add up.
    pub fn add_lora(&mut self, lora: LoraFile) {
        self.loras.push(lora);
    }

    /// The path of every file, sorted, and its length in bytes; LoRAs are not among them.
    pub fn lengths(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(path, source)| (path.as_str(), source.len()))
    }

    /// Bytes of the files of a part.
    pub fn part_bytes(&self, part: &str) -> u64 {
        let prefix = format!("{part}/");
        self.files.iter().filter(|(path, _)| path.starts_with(&prefix)).map(|(_, source)| source.len()).sum()
    }

    /// The files of a part with their paths, sorted by these.
    pub fn of_part(&self, part: &str) -> Vec<(String, Rc<dyn ByteSource>)> {
        let prefix = format!("{part}/");
        let inside = self.files.iter().filter(|(path, _)| path.starts_with(&prefix));
        inside.map(|(path, source)| (path.clone(), source.clone())).collect()
    }

    /// The LoRAs, in the order in which they were added.
    pub fn loras(&self) -> &[LoraFile] {
        &self.loras
    }

    /// The first file of a part whose name ends so.
    pub fn ending(&self, part: &str, end: &str) -> Option<&str> {
        let prefix = format!("{part}/");
        self.files.keys().map(String::as_str).find(|path| path.starts_with(&prefix) && path.ends_with(end))
    }

    /// The file with the weights of a part, if that is one GGUF or safetensors file.
    ///
    /// # Errors
    /// As [`WeightFile::open`].
    pub async fn weight_file(&self, part: &str) -> Result<Option<WeightFile>> {
        let prefix = format!("{part}/");
        let mut inside = self.files.iter().filter(|(path, _)| path.starts_with(&prefix) && is_weight_file(path));
        match (inside.next(), inside.next()) {
            (Some((path, source)), None) => Ok(Some(WeightFile::open(source.clone(), path).await?)),
            _ => Ok(None),
        }
    }

    /// Takes a file out again.
    pub fn remove(&mut self, path: &str) {
        self.files.remove(path);
    }

    /// True if there is such a file.
    pub fn contains(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The bytes of a small file that the folder must have.
    ///
    /// # Errors
    /// [`Error::Fetch`] when it is missing or cannot be read, [`Error::Weights`] when it is too long to be what it should.
    pub async fn require(&self, path: &str) -> Result<Vec<u8>> {
        let source = self.files.get(path).ok_or_else(|| Error::Fetch(format!("the model folder has no {path}")))?;
        let length = source.len();
        if length > MOST_TEXT_BYTES {
            return Err(Error::weights(path, format!("at most {MOST_TEXT_BYTES} bytes"), format!("{length} bytes")));
        }
        Ok(source.read(0..length).await?.here().into_owned())
    }

    /// All weights of a component, under diffusers names; only the files' headers are read.
    ///
    /// # Errors
    /// [`Error::Fetch`] when the component has no weight file or one cannot be read, [`Error::Weights`] when one is
    /// damaged or a LoRA, or a shard is missing.
    pub async fn weights(&self, component: &str) -> Result<WeightSet> {
        let prefix = format!("{component}/");
        let inside = || self.files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let mut files = Vec::new();
        for (path, source) in inside().filter(|(path, _)| is_weight_file(path)) {
            let file = WeightFile::open(source.clone(), path).await?;
            // As weights its tensors would be left over, and the clip made without it.
            if lora::downs(&file).next().is_some() {
                let found = "a LoRA, which is given beside the model (--lora, loras)";
                return Err(Error::weights(path, "the weights of a part of a model", found));
            }
            files.push(file);
        }
        if files.is_empty() {
            return Err(Error::Fetch(format!(
                "the model has no weights in {component}/ (.safetensors, .gguf, .pt or .pth)"
            )));
        }
        let set = WeightSet::new(files)?;
        for (path, _) in inside().filter(|(path, _)| path.ends_with(".index.json")) {
            let json = self.require(path).await?;
            let json = std::str::from_utf8(&json).map_err(|e| Error::weights(path, "UTF-8 text", e.to_string()))?;
            ShardIndex::parse(json, path)?.check(&set)?;
        }
        names::to_diffusers(set)
    }

    /// The files of a model folder on disk: configurations, tokenizer and weights; others are left out.
    ///
    /// # Errors
    /// [`Error::Fetch`] when the folder or a file cannot be opened.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_dir(folder: &std::path::Path) -> Result<Self> {
        let mut out = Self::default();
        for name in folder_files(folder)? {
            out.add(name.clone(), Rc::new(DiskFile::open(&folder.join(&name))?));
        }
        Ok(out)
    }
}

/// The folders of a model's components; nothing else below a model's folder is read, however large or deep it is.
#[cfg(not(target_arch = "wasm32"))]
const FOLDERS: [&str; 6] = ["image_encoder", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"];

/// The files of a model folder that a load needs: configurations, tokenizer and weights, by their paths in it, sorted.
///
/// # Errors
/// [`Error::Fetch`] when the folder cannot be read.
#[cfg(not(target_arch = "wasm32"))]
pub fn folder_files(folder: &std::path::Path) -> Result<Vec<String>> {
    let mut out = files_in(folder)?;
    for name in FOLDERS {
        let inside = folder.join(name);
        if inside.is_dir() {
            out.extend(part_files(&inside)?.into_iter().map(|file| format!("{name}/{file}")));
        }
    }
    out.sort();
    Ok(out)
}

/// The files of a part's own folder that a load needs, by their names, sorted: of several sets of weights one.
///
/// # Errors
/// [`Error::Fetch`] when the folder cannot be read, [`Error::Weights`] when its list of shards is damaged.
#[cfg(not(target_arch = "wasm32"))]
pub fn part_files(folder: &std::path::Path) -> Result<Vec<String>> {
    let mut out = one_set(folder, files_in(folder)?)?;
    out.sort();
    Ok(out)
}

/// Names of weights without an ending, as diffusers and transformers write them.
pub const WEIGHT_STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// Of a part's files those that are loaded, where several sets of weights lie beside each other (a `fp16` variant, another
/// format, shards of an earlier download): the shards that an index lists, else the file with diffusers' own name, safetensors
/// first. Names of nobody's are all taken. As `listFolder` of pkg/src/source/discover.ts has it.
#[cfg(not(target_arch = "wasm32"))]
fn one_set(folder: &std::path::Path, files: Vec<String>) -> Result<Vec<String>> {
    let has = |wanted: &str| files.iter().any(|name| name == wanted);
    let index = WEIGHT_STEMS.map(|stem| format!("{stem}.safetensors.index.json")).into_iter().find(|index| has(index));
    let chosen: Vec<String> = match index {
        Some(index) => {
            let path = folder.join(&index);
            let label = path.display().to_string();
            let json = std::fs::read_to_string(&path).map_err(|e| Error::Fetch(format!("{label}: {e}")))?;
            ShardIndex::parse(&json, &label)?.files().into_iter().map(str::to_owned).chain([index]).collect()
        }
        None => {
            let named =
                WEIGHT_STEMS.iter().flat_map(|stem| WEIGHTS.map(|end| format!("{stem}{end}"))).find(|name| has(name));
            let Some(named) = named else { return Ok(files) };
            vec![named]
        }
    };
    let is_other = |name: &String| (is_weight_file(name) || name.ends_with(".index.json")) && !chosen.contains(name);
    Ok(files.into_iter().filter(|name| !is_other(name)).collect())
}

/// The names of the configurations and weights that lie directly in a folder.
#[cfg(not(target_arch = "wasm32"))]
fn files_in(dir: &std::path::Path) -> Result<Vec<String>> {
    let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", dir.display()));
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_model_file(&name) && path.is_file() {
            out.push(name.into_owned());
        }
    }
    Ok(out)
}

/// True for the name of a file that a load may need.
#[cfg(not(target_arch = "wasm32"))]
fn is_model_file(name: &str) -> bool {
    name.ends_with(".json") || name.ends_with(".model") || WEIGHTS.iter().any(|end| name.ends_with(end))
}

/// Endings of weight files in a folder; what a file is, its first bytes say.
pub const WEIGHTS: [&str; 4] = [".safetensors", ".gguf", ".pt", ".pth"];

/// True for a file of a part that is neither a configuration nor a tokenizer: a loose file may have any name.
pub(super) fn is_weight_file(path: &str) -> bool {
    !path.ends_with(".json") && !path.ends_with(".model") && !path.ends_with(".txt")
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
    /// Settings that go together, by name.
    pub presets: Presets,
    /// Widths and heights that it was trained on, px, best first.
    #[serde(deserialize_with = "sizes")]
    pub sizes: Vec<[usize; 2]>,
}

/// Pairs of whole numbers above 0; others are left out: a model is not refused for its label.
fn sizes<'de, D: Deserializer<'de>>(json: D) -> std::result::Result<Vec<[usize; 2]>, D::Error> {
    let json = serde_json::Value::deserialize(json)?;
    let side = |value: &serde_json::Value| value.as_u64().and_then(|px| usize::try_from(px).ok()).filter(|px| *px > 0);
    let size = |pair: &serde_json::Value| Some([side(&pair[0])?, side(&pair[1])?]);
    Ok(json.as_array().into_iter().flatten().filter_map(size).collect())
}

impl Default for ModelCard {
    fn default() -> Self {
        // 512 is the default of diffusers' WanPipeline.
        Self {
            name: String::new(),
            max_sequence_length: 512,
            default: ModelDefaults::default(),
            presets: Presets::new(),
            sizes: Vec::new(),
        }
    }
}

impl ModelCard {
    /// The sizes that it was trained on, px, best first; where it says none, the one that it makes when none is asked for.
    pub fn trained_sizes(&self) -> Vec<[usize; 2]> {
        if !self.sizes.is_empty() {
            return self.sizes.clone();
        }
        let usual = GivenOptions::default().settle(&self.default);
        vec![[usual.width, usual.height]]
    }

    /// The card of a folder, or what stands in for it.
    ///
    /// # Errors
    /// [`Error::Weights`] when the card does not parse, or suggests what no clip can have.
    pub async fn read(files: &ModelFiles) -> Result<Self> {
        if !files.contains(CARD) {
            return Ok(Self::default());
        }
        Self::parse(&files.require(CARD).await?)
    }

    /// A card from its text.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut card: Self = config::parse(text, CARD, &["model card"])?;
        if !(1..=MOST_TOKENS).contains(&card.max_sequence_length) {
            let found = card.max_sequence_length.to_string();
            return Err(Error::weights(CARD, format!("max_sequence_length 1 to {MOST_TOKENS} tokens"), found));
        }
        card.default.trim();
        card.default.check().map_err(|e| Error::weights(CARD, "a sound default", e.to_string()))?;
        for (name, preset) in &card.presets {
            preset.check().map_err(|e| Error::weights(CARD, format!("a sound preset {name}"), e.to_string()))?;
        }
        Ok(card)
    }
}
