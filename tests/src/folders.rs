//! Model folders of the fixtures by their files, for tests that damage their configurations or store their weights anew.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tabreel::pipeline::ModelFiles;
use tabreel::weights::{StoredType, WeightSet, gguf_write};

use crate::{Array, Case, read_arrays, root, safetensors_file};

/// The parts of a model folder, and the folder itself.
const PARTS: [&str; 7] = ["", "image_encoder", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"];

/// What a load may read.
const READ: [&str; 4] = ["json", "model", "safetensors", "gguf"];

/// A model folder: its files by their paths in it.
#[derive(Debug, Clone, Default)]
pub struct ModelFolder(BTreeMap<String, Vec<u8>>);

impl ModelFolder {
    /// A folder on the disk.
    ///
    /// # Panics
    /// When a file in it cannot be read.
    pub fn read(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        for part in PARTS {
            // A model of classes has no text.
            let Ok(entries) = std::fs::read_dir(folder.join(part)) else { continue };
            for entry in entries {
                let path = entry.expect("an entry").path();
                let is_read = path.extension().is_some_and(|end| READ.iter().any(|read| end == *read));
                if is_read && path.is_file() {
                    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                    let name = if part.is_empty() { name } else { format!("{part}/{name}") };
                    files.insert(name, std::fs::read(&path).expect("a file"));
                }
            }
        }
        assert!(files.contains_key("model_index.json"), "{} is no model folder", folder.display());
        Self(files)
    }

    /// A small Wan.
    pub fn of_text() -> Self {
        Self::read(&root().join("tests/fixtures/folder_t2v/model"))
    }

    /// A small model of classes (DiT).
    pub fn of_classes() -> Self {
        Self::read(&root().join("tests/fixtures/pipe_dit/model"))
    }

    /// A small VACE.
    pub fn of_control() -> Self {
        Self::of_text().with("pipe_vace", "transformer", json!({ "_class_name": "WanVACEPipeline" }))
    }

    /// A small model that predicts a step's mean velocity (AnyFlow).
    pub fn of_flow_map() -> Self {
        let mut folder =
            Self::of_text().with("pipe_anyflow", "transformer", json!({ "_class_name": "AnyFlowPipeline" }));
        folder.put(
            "scheduler/scheduler_config.json",
            &json!({ "_class_name": "FlowMapEulerDiscreteScheduler", "shift": 5.0 }),
        );
        folder
    }

    /// A small model that looks at its first frame, as diffusers' `WanImageToVideoPipeline` saves one of Wan 2.1.
    pub fn of_pictures() -> Self {
        let index =
            json!({ "_class_name": "WanImageToVideoPipeline", "image_encoder": ["transformers", "CLIPVisionModel"] });
        let mut folder = Self::of_text().with("pipe_clip", "transformer_i2v", index);
        let case = case("pipe_clip");
        folder.put("image_encoder/config.json", &case.config["image_encoder"]);
        folder.0.insert("image_encoder/model.safetensors".into(), clip_weights(&case, 5));
        folder
    }

    /// Each of the small ones.
    pub fn all() -> [(&'static str, Self); 5] {
        [
            ("text", Self::of_text()),
            ("classes", Self::of_classes()),
            ("control", Self::of_control()),
            ("flow map", Self::of_flow_map()),
            ("pictures", Self::of_pictures()),
        ]
    }

    /// The same with transformer and VAE of a case, and an index.
    fn with(mut self, name: &str, transformer: &str, index: Value) -> Self {
        let case = case(name);
        self.put("model_index.json", &index);
        for (part, key) in [("transformer", transformer), ("vae", "vae")] {
            self.put(&format!("{part}/config.json"), &case.config[key]);
            let weights = std::fs::read(case.dir.join(format!("{key}.safetensors"))).expect("the case's weights");
            self.0.insert(format!("{part}/diffusion_pytorch_model.safetensors"), weights);
        }
        self
    }

    fn put(&mut self, path: &str, json: &Value) {
        self.0.insert(path.into(), json.to_string().into_bytes());
    }

    /// Paths and texts of its configurations, sorted; what nothing reads, and lists of shards, are none.
    pub fn configurations(&self) -> Vec<(&str, &str)> {
        let is_one = |path: &str| {
            path.ends_with(".json") && !path.ends_with("special_tokens_map.json") && !path.ends_with(".index.json")
        };
        let files = self.0.iter().filter(|(path, _)| is_one(path));
        files.map(|(path, text)| (path.as_str(), std::str::from_utf8(text).expect("text"))).collect()
    }

    /// The same as a pipeline reads it.
    pub fn files(&self) -> ModelFiles {
        let mut files = ModelFiles::default();
        self.0.iter().for_each(|(path, bytes)| files.insert(path.clone(), bytes.clone()));
        files
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// The same with each part's weights as f32 in two safetensors files, and a list of which holds what.
    pub fn in_shards(&self) -> Self {
        self.stored_anew(|part, arrays| {
            let shard = |odd: usize| format!("model-{:05}-of-00002.safetensors", odd + 1);
            let mut halves = [BTreeMap::new(), BTreeMap::new()];
            let mut map = serde_json::Map::new();
            for (nth, (name, array)) in arrays.into_iter().enumerate() {
                map.insert(name.clone(), shard(nth % 2).into());
                halves[nth % 2].insert(name, array);
            }
            let index = json!({ "weight_map": map }).to_string().into_bytes();
            let mut files = vec![(format!("{part}/model.safetensors.index.json"), index)];
            for (odd, half) in halves.iter().enumerate() {
                files.push((format!("{part}/{}", shard(odd)), safetensors_file(half)));
            }
            files
        })
    }

    /// The same with each part's weights as a GGUF file of f32.
    pub fn in_gguf(&self) -> Self {
        self.stored_anew(|part, arrays| {
            let tensors: Vec<_> =
                arrays.iter().map(|(name, array)| (name.as_str(), array.shape.as_slice(), StoredType::F32)).collect();
            let values: Vec<&Array> = arrays.values().collect();
            let mut file = Vec::new();
            gguf_write::write(&mut file, &[], &tensors, |i| {
                Ok(values[i].values.iter().flat_map(|v| v.to_le_bytes()).collect())
            })
            .expect("a file");
            vec![(format!("{part}/model.gguf"), file)]
        })
    }

    fn stored_anew(&self, write: impl Fn(&str, BTreeMap<String, Array>) -> Vec<(String, Vec<u8>)>) -> Self {
        let mut files = self.0.clone();
        for (path, bytes) in &self.0 {
            let Some((part, _)) =
                path.split_once('/').filter(|_| path.ends_with(".safetensors") || path.ends_with(".gguf"))
            else {
                continue;
            };
            let set = WeightSet::from_bytes(bytes.clone(), path).expect("sound weights");
            let arrays = set.infos().map(|info| {
                let values = set.f32(&info.name).expect("a tensor of the file");
                (info.name.clone(), Array { shape: info.shape.clone(), values })
            });
            files.remove(path);
            files.extend(write(part, arrays.collect()));
        }
        Self(files)
    }
}

fn case(name: &str) -> Case {
    Case::open(&root().join("tests/fixtures").join(name)).expect("a committed fixture")
}

/// The image encoder's weights of `pipe_clip` under the names of transformers 4, as they are published, with positions for so
/// many tokens.
///
/// # Panics
/// When the fixture has fewer.
pub fn clip_weights(case: &Case, tokens: usize) -> Vec<u8> {
    let mut arrays = read_arrays(&case.dir.join("image_encoder.safetensors")).expect("the fixture");
    let positions = arrays.get_mut("embeddings.position_embedding.weight").expect("positions");
    assert!(positions.shape[0] >= tokens, "{} positions", positions.shape[0]);
    positions.values.truncate(tokens * positions.shape[1]);
    positions.shape[0] = tokens;
    let named = arrays.into_iter().map(|(name, array)| (format!("vision_model.{name}"), array));
    safetensors_file(&named.collect())
}
