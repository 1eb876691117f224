//! What a result was made from, kept in the file itself: JSON in a PNG's international text, a GIF's comment, the tags of an MP4 or
//! WebM, or the metadata of a safetensors file.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::identity::Identity;
use crate::error::{Error, Result};
use crate::options::GenerateOptions;

/// The text's keyword, and the field that says that a JSON object is a recipe.
pub const KEY: &str = "tabreel";

/// A recipe: the engine's version, the model's name and hash, the task, what was asked for with nothing left open, and which files
/// were given, by flag.
pub fn write(model: &Identity, task: &str, options: &GenerateOptions, given: &Value) -> String {
    let mut settings = json!(options);
    if let Some(settings) = settings.as_object_mut() {
        settings.remove("preview");
    }
    json!({ KEY: env!("CARGO_PKG_VERSION"), "model": model, "task": task, "options": settings, "given": given })
        .to_string()
}

/// The recipe that a file carries, the page's MP4 and WebM too; `None` for a file of another kind, or without one.
///
/// # Errors
/// [`Error::Fetch`] when the file cannot be read.
pub fn read(path: &Path) -> Result<Option<Value>> {
    let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", path.display()));
    let mut head = Vec::new();
    // A GIF's comment stands before its first frame.
    File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut head)).map_err(failed)?;
    let text = match head.get(..4) {
        Some(b"\x89PNG") => png_text(File::open(path).map_err(failed)?),
        Some(b"GIF8") => gif_comment(&head),
        Some(_) if super::video::begins(&head) => super::video::comment(path),
        // A safetensors file: eight bytes of length, then a JSON header.
        Some(_) if head.get(8) == Some(&b'{') => tensors_text(File::open(path).map_err(failed)?),
        _ => None,
    };
    let recipe = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    Ok(recipe.filter(|recipe| recipe.get(KEY).is_some()))
}

fn png_text(file: File) -> Option<String> {
    let reader = png::Decoder::new(BufReader::new(file)).read_info().ok()?;
    let info = reader.info();
    let long = info.utf8_text.iter().find(|text| text.keyword == KEY).and_then(|text| text.get_text().ok());
    long.or_else(|| info.uncompressed_latin1_text.iter().find(|text| text.keyword == KEY).map(|text| text.text.clone()))
}

/// Only the header is read: the file may be a model's weights.
fn tensors_text(mut file: File) -> Option<String> {
    const LONGEST: u64 = 1 << 26;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = Some(u64::from_le_bytes(length)).filter(|length| *length <= LONGEST)?;
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    Some(header["__metadata__"][KEY].as_str()?.to_owned())
}

/// The comments before the first frame.
fn gif_comment(bytes: &[u8]) -> Option<String> {
    const EXTENSION: u8 = 0x21;
    const COMMENT: u8 = 0xfe;
    let flags = *bytes.get(10)?;
    let table = if flags & 0x80 != 0 { 3usize << ((flags & 7) + 1) } else { 0 };
    let mut rest = bytes.get(13 + table..)?;
    while let [EXTENSION, label, blocks @ ..] = rest {
        let mut text = Vec::new();
        rest = blocks;
        loop {
            let (length, after) = rest.split_first()?;
            let (block, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            if block.is_empty() {
                break;
            }
            text.extend_from_slice(block);
        }
        if *label == COMMENT {
            return String::from_utf8(text).ok();
        }
    }
    None
}
