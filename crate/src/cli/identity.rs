//! Which model made a clip: its name, and a hash over the list of its files. `modelHash` of pkg/src/recipe.ts has the same
//! rule; tests/fixtures/model_hash.json holds both to it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::pipeline::{CARD, ModelCard, ModelFiles};

/// What recipes say of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The name on its card, else that of its folder or of the transformer's file.
    pub name: String,
    /// SHA-256 over the list of its files, hexadecimal.
    pub hash: String,
}

/// A file as a model's list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    /// In the model's folder, with forward slashes.
    path: String,
    bytes: u64,
    /// As the model's card says; it is not computed, which would take as long as reading the model.
    sha256: Option<String>,
}

impl Listed {
    /// The part of the model that it belongs to.
    fn part(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    fn line(&self) -> String {
        format!("{} {} {}\n", self.path, self.bytes, self.sha256.as_deref().unwrap_or_default())
    }
}

impl Identity {
    /// A model of these files.
    ///
    /// # Errors
    /// [`crate::error::Error::Fetch`] when its card cannot be read.
    pub async fn of(name: String, files: &ModelFiles) -> Result<Self> {
        let promised = match files.contains(CARD) {
            true => promised(&files.require(CARD).await?),
            false => Vec::new(),
        };
        let own = files.lengths().map(|(path, bytes)| Listed { path: path.to_owned(), bytes, sha256: None });
        // As the package places them: the strength is part of what the model is.
        let loras = files.loras().iter().enumerate().map(|(i, lora)| {
            let name = lora.label.rsplit(['/', '\\']).next().unwrap_or_default();
            let path = format!("loras/{}/{name}={}", i + 1, lora.strength);
            Listed { path, bytes: lora.source.len(), sha256: None }
        });
        Ok(Self { name, hash: hash(&own.chain(loras).collect::<Vec<_>>(), &promised) })
    }

    /// The model in a folder.
    ///
    /// # Errors
    /// [`crate::error::Error::Fetch`] when the folder or its card cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let files = ModelFiles::read_dir(folder)?;
        pollster::block_on(async {
            // What is wrong with a card, its loading says.
            let card = ModelCard::read(&files).await.unwrap_or_default();
            let name = match card.name.as_str() {
                "" => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                name => name.to_owned(),
            };
            Self::of(name, &files).await
        })
    }

    /// What is to be said where a recipe names another model; `None` where it names this one, or nobody can tell. `made` is the
    /// recipe's `model`. Hashes go before names.
    pub fn differs(&self, made: &Value) -> Option<String> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        // Earlier recipes of the command line had the name alone.
        let name = text(&made["name"]).or_else(|| text(made));
        let same = match text(&made["hash"]) {
            Some(hash) => hash == self.hash,
            None => name.as_ref().is_none_or(|name| *name == self.name),
        };
        let what = match name {
            _ if same => return None,
            Some(name) if name == self.name => format!("another version of {name}"),
            Some(name) => format!("another model, {name}"),
            None => "another model, without a name".to_owned(),
        };
        Some(format!("made with {what}: with {} the result will differ", self.name))
    }
}

/// The files that a card lists; what is of another form is left out, its loading says it.
fn promised(card: &[u8]) -> Vec<Listed> {
    let card: Value = serde_json::from_slice(card).unwrap_or_default();
    let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let listed = |file: &Value| {
        let sha256 = file["sha256"].as_str().filter(|text| is_hash(text)).map(str::to_lowercase);
        Some(Listed { path: file["path"].as_str()?.to_owned(), bytes: file["bytes"].as_u64()?, sha256 })
    };
    card["files"].as_array().into_iter().flatten().filter_map(listed).collect()
}

/// SHA-256 over the paths, lengths and hashes of a model's files, in whatever order. Beside `model_index.json` only the folders of
/// its parts count. A part that has all that the card `promised` of it is what the card says, whatever else lies beside; of any
/// other, what is there counts.
fn hash(files: &[Listed], promised: &[Listed]) -> String {
    let files: Vec<&Listed> =
        files.iter().filter(|file| file.path.contains('/') || file.path == "model_index.json").collect();
    let is_there = |one: &Listed| files.iter().any(|file| file.path == one.path && file.bytes == one.bytes);
    let parts: BTreeSet<&str> = files.iter().copied().map(Listed::part).collect();
    let mut lines = Vec::new();
    for part in parts {
        let of_card: Vec<&Listed> = promised.iter().filter(|file| file.part() == part).collect();
        let whole = !of_card.is_empty() && of_card.iter().all(|one| is_there(one));
        let counted = if whole { of_card } else { files.iter().copied().filter(|file| file.part() == part).collect() };
        lines.extend(counted.into_iter().map(Listed::line));
    }
    lines.sort();
    Sha256::digest(lines.concat().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_package() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/model_hash.json");
        let cases: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let cases = cases.as_array().filter(|cases| !cases.is_empty()).unwrap().clone();
        for case in cases {
            let listed = promised(case.to_string().as_bytes());
            assert_eq!(listed.len(), case["files"].as_array().unwrap().len(), "{case}");
            let card = promised(case["card"].to_string().as_bytes());
            assert_eq!(hash(&listed, &card), case["hash"].as_str().unwrap(), "{}", case["name"]);
        }
    }

    #[test]
    fn files_count_with_the_hashes_that_their_card_promises() {
        let mut files = ModelFiles::default();
        files.insert("model_index.json", b"{}".to_vec());
        files.insert("vae/a.gguf", vec![0; 5]);
        let of = |files: &ModelFiles| pollster::block_on(Identity::of("a".into(), files)).unwrap().hash;
        let plain = of(&files);
        let card = |bytes: u64| {
            let file = serde_json::json!({ "path": "vae/a.gguf", "bytes": bytes, "sha256": "AB".repeat(32) });
            serde_json::json!({ "files": [file] }).to_string().into_bytes()
        };
        files.insert(CARD, card(6));
        assert_eq!(of(&files), plain, "a file of another length is not the one that was promised");
        files.insert(CARD, card(5));
        let promised = of(&files);
        assert_ne!(promised, plain);
        files.insert("vae/beside.json", vec![0; 9]);
        assert_eq!(of(&files), promised, "the part is what the card says");
        let source = std::rc::Rc::new(crate::weights::source::Memory::new(vec![0; 3]));
        files.add_lora(crate::pipeline::LoraFile { label: "styles/b.safetensors".into(), source, strength: 0.5 });
        assert_ne!(of(&files), promised);
    }

    #[test]
    fn a_recipe_of_another_model_is_told_by_hash_and_else_by_name() {
        let own = Identity { name: "tiny".into(), hash: "ab".into() };
        let words = |made: Value| own.differs(&made).unwrap_or_default();
        for same in [r#"{"name":"tiny","hash":"ab"}"#, r#"{"name":"renamed","hash":"ab"}"#, r#"{"name":"tiny"}"#, "{}"]
        {
            assert_eq!(words(serde_json::from_str(same).unwrap()), "", "{same}");
        }
        assert_eq!(words("tiny".into()), "", "as recipes had it before there was a hash");
        let with = "with tiny the result will differ";
        let version = words(serde_json::json!({ "name": "tiny", "hash": "cd" }));
        assert_eq!(version, format!("made with another version of tiny: {with}"));
        assert_eq!(words("large".into()), format!("made with another model, large: {with}"));
        let nameless = words(serde_json::json!({ "hash": "cd" }));
        assert_eq!(nameless, format!("made with another model, without a name: {with}"));
    }
}
