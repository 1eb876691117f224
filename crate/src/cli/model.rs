//! Which files a model is made of, from the flags.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;

use crate::error::Result;
use crate::pipeline::{LoraFile, ModelFiles, part_files};
use crate::weights::source::DiskFile;

/// A folder, loose files, or a folder of which loose files replace parts.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model folder in diffusers layout.
    #[arg(long, value_name = "DIR", required_unless_present = "transformer")]
    model: Option<PathBuf>,
    /// Transformer in place of the folder's: a .safetensors, .gguf, .pt or .pth file in diffusers' or the original names, or
    /// a folder of shards.
    #[arg(long, value_name = "FILE|DIR")]
    transformer: Option<PathBuf>,
    /// Text encoder in place of the folder's (umT5: transformers', llama.cpp's or Wan's own names).
    #[arg(long, value_name = "FILE|DIR")]
    text_encoder: Option<PathBuf>,
    /// Tokenizer in place of the folder's or the text encoder's: tokenizer.json, or a SentencePiece file.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// VAE in place of the folder's: Wan's own, or a tiny one (TAEHV).
    #[arg(long, value_name = "FILE|DIR")]
    vae: Option<PathBuf>,
    /// Image encoder in place of the folder's, for models that look at the given picture (CLIP ViT-H).
    #[arg(long, value_name = "FILE|DIR")]
    image_encoder: Option<PathBuf>,
    /// LoRA for the transformer, and how strongly it is applied (1 if not given). Can be given several times.
    #[arg(long, value_name = "FILE[=STRENGTH]")]
    lora: Vec<String>,
}

impl ModelArgs {
    /// A name for the model: the folder's, or the transformer file's.
    pub fn name(&self) -> String {
        let path = self.transformer.as_ref().or(self.model.as_ref());
        path.and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The files; none is read.
    ///
    /// # Errors
    /// [`crate::error::Error::Fetch`] naming the path when one cannot be opened; as [`part_files`].
    pub fn files(&self) -> Result<ModelFiles> {
        let mut files = match &self.model {
            Some(folder) => ModelFiles::read_dir(folder)?,
            None => ModelFiles::default(),
        };
        let parts = [
            ("transformer", &self.transformer),
            ("text_encoder", &self.text_encoder),
            ("tokenizer", &self.tokenizer),
            ("vae", &self.vae),
            ("image_encoder", &self.image_encoder),
        ];
        for (part, path) in parts {
            if let Some(path) = path {
                replace(&mut files, part, path)?;
            }
        }
        for given in &self.lora {
            let (path, strength) = path_and_strength(given);
            let source = Rc::new(DiskFile::open(Path::new(path))?);
            files.add_lora(LoraFile { label: path.to_owned(), source, strength });
        }
        Ok(files)
    }
}

fn replace(files: &mut ModelFiles, part: &str, path: &Path) -> Result<()> {
    files.clear_part(part);
    if !path.is_dir() {
        return add(files, part, path);
    }
    part_files(path)?.iter().try_for_each(|name| add(files, part, &path.join(name)))
}

fn add(files: &mut ModelFiles, part: &str, path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A tokenizer's file may have any name: what it is decides under which it is looked for.
    let name = match (part, path.extension().and_then(|e| e.to_str())) {
        ("tokenizer", Some("json")) => "tokenizer.json".into(),
        _ => name,
    };
    files.add(format!("{part}/{name}"), Rc::new(DiskFile::open(path)?));
    Ok(())
}

/// `a.safetensors=0.5`; a name that only looks so is a name.
fn path_and_strength(given: &str) -> (&str, f32) {
    match given.rsplit_once('=') {
        Some((path, strength)) if !path.is_empty() => {
            strength.parse().map_or((given, 1.0), |strength| (path, strength))
        }
        _ => (given, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_follows_the_last_equals_sign() {
        assert_eq!(path_and_strength("a.safetensors"), ("a.safetensors", 1.0));
        assert_eq!(path_and_strength("a=b.safetensors=0.5"), ("a=b.safetensors", 0.5));
        assert_eq!(path_and_strength("a.safetensors=-1"), ("a.safetensors", -1.0));
        assert_eq!(path_and_strength("rank=32.safetensors"), ("rank=32.safetensors", 1.0));
    }
}
