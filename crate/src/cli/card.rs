//! `tabreel card`: lists a model folder's files in its `tabreel.json`, so that a page knows what to fetch.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::models::registry;
use crate::pipeline::{CARD, ModelCard, folder_files};

/// Options of `card`.
#[derive(Debug, Args)]
pub struct CardArgs {
    /// Model folder in diffusers layout. Its tabreel.json is written, or completed: what else stands in it is kept.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Runs `card`.
///
/// # Errors
/// [`Error::Fetch`] when the folder cannot be read or written, [`Error::Weights`] when it is no model folder or its
/// tabreel.json is not JSON.
pub fn run(args: CardArgs, json: bool) -> Result<()> {
    let target = args.folder.join(CARD);
    let mut card = existing(&target)?;
    let paths: Vec<String> = folder_files(&args.folder)?.into_iter().filter(|path| path != CARD).collect();
    if !paths.iter().any(|path| path == "model_index.json") {
        let found = format!("{} files without one", paths.len());
        return Err(Error::weights(args.folder.display().to_string(), "a model folder with model_index.json", found));
    }
    let mut total = 0;
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let full = args.folder.join(&path);
        let mut file = std::fs::File::open(&full).map_err(|e| failed(&full, &e))?;
        let mut hash = Sha256::new();
        let bytes = std::io::copy(&mut file, &mut hash).map_err(|e| failed(&full, &e))?;
        let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        total += bytes;
        files.push(json!({ "path": path, "bytes": bytes, "sha256": sha256 }));
    }
    if !card.contains_key("name") {
        let name = args.folder.canonicalize().ok().and_then(|f| Some(f.file_name()?.to_string_lossy().into_owned()));
        card.insert("name".into(), name.unwrap_or_default().into());
    }
    if let Some([frames, height, width]) = multiples(&args.folder) {
        card.insert("multiples".into(), json!({ "width": width, "height": height, "frames": frames }));
    }
    let count = files.len();
    card.insert("files".into(), Value::Array(files));
    let text = serde_json::to_string_pretty(&card).map_err(|e| Error::Internal(format!("{e}")))? + "\n";
    // What a load would refuse is not written.
    let presets = ModelCard::parse(text.as_bytes())?.presets;
    // Beside its place and renamed, so that an interrupted run leaves the old card.
    let partial = target.with_extension("json.partial");
    std::fs::write(&partial, text).map_err(|e| failed(&partial, &e))?;
    std::fs::rename(&partial, &target).map_err(|e| failed(&target, &e))?;
    super::inspect::print(&match json {
        true => json!({ "type": "done", "out": target.to_string_lossy(), "files": count, "bytes": total,
            "presets": presets.keys().collect::<Vec<_>>() })
        .to_string(),
        false => {
            let told = super::catalogue::words(&presets);
            format!("{} ({count} files, {:.1} MB)\n{told}", target.display(), total as f64 / 1e6)
        }
    })
}

/// So that a page knows the steps of its fields before it fetches the model.
fn multiples(folder: &Path) -> Option<[usize; 3]> {
    let read = |part: &str| std::fs::read(folder.join(part).join("config.json")).ok();
    registry::multiples(&read("transformer")?, &read("vae")?)
}

/// The card that is there already.
fn existing(target: &Path) -> Result<Map<String, Value>> {
    let text = match std::fs::read(target) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(failed(target, &e)),
    };
    serde_json::from_slice(&text)
        .map_err(|e| Error::weights(target.display().to_string(), "a JSON object", format!("{e}")))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Fetch(format!("{}: {error}", path.display()))
}
