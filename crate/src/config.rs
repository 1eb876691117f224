//! Reading the `config.json` files of a diffusers folder; what stands in them is known by the models.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Parses a configuration and checks its `_class_name` (or transformers' `architectures`).
///
/// # Errors
/// [`Error::Weights`] naming `file` when the JSON is broken or the class is not one of `classes`.
pub fn parse<T: DeserializeOwned>(json: &[u8], file: &str, classes: &[&str]) -> Result<T> {
    let value = read(json, file)?;
    let class = class_of(&value);
    if !class.is_empty() && !classes.contains(&class) {
        return Err(Error::weights(file, format!("class {}", classes.join(" or ")), format!("class {class}")));
    }
    serde_json::from_value(value)
        .map_err(|e| Error::weights(file, format!("a {} configuration", classes[0]), format!("{e}")))
}

/// The class that a configuration names; empty when it names none.
///
/// # Errors
/// [`Error::Weights`] naming `file` when the JSON is broken.
pub fn class(json: &[u8], file: &str) -> Result<String> {
    Ok(class_of(&read(json, file)?).to_owned())
}

/// Most that a width, a count of channels or of positions may be: far above any published model, and small enough that a product
/// of two of them and a kernel's cells fits 64 bits, and one with a kernel's cells the 32 of wasm.
pub const MOST_WIDE: usize = 1 << 16;

/// Most layers, heads or blocks.
pub const MOST_LAYERS: usize = 1 << 10;

/// The rules for the numbers of one configuration file; what breaks one is told by file and field.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a str);

impl Fields<'_> {
    /// # Errors
    /// [`Error::Weights`] always: `field` should be `expected`, and is `found`.
    pub fn refuse(self, field: &str, expected: impl Into<String>, found: impl std::fmt::Display) -> Result<()> {
        Err(Error::weights(format!("{}: {field}", self.0), expected, found.to_string()))
    }

    /// # Errors
    /// [`Error::Weights`] when a size lies outside the range.
    pub fn within(self, field: &str, value: usize, range: RangeInclusive<usize>) -> Result<()> {
        match range.contains(&value) {
            true => Ok(()),
            false => self.refuse(field, format!("{} to {}", range.start(), range.end()), value),
        }
    }

    /// # Errors
    /// [`Error::Weights`] when a number lies outside the range, or is none.
    pub fn between(self, field: &str, value: f64, range: RangeInclusive<f64>) -> Result<()> {
        match range.contains(&value) {
            true => Ok(()),
            false => self.refuse(field, format!("{} to {}", range.start(), range.end()), value),
        }
    }

    /// # Errors
    /// [`Error::Weights`] unless the number is finite.
    pub fn finite(self, field: &str, value: f64) -> Result<()> {
        if value.is_finite() { Ok(()) } else { self.refuse(field, "a finite number", value) }
    }

    /// # Errors
    /// [`Error::Weights`] unless the number is finite and above 0, also as the f32 that the models compute with.
    pub fn positive(self, field: &str, value: f64) -> Result<()> {
        let computed = value as f32;
        match computed.is_finite() && computed > 0.0 {
            true => Ok(()),
            false => self.refuse(field, "a finite number above 0 (as f32)", value),
        }
    }
}

/// What stands in place of a model's file when a download went wrong in a usual way, by its first bytes.
pub fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let begins = |with: &[u8]| start.get(..with.len()).is_some_and(|found| found.eq_ignore_ascii_case(with));
    if begins(b"version https://git-lfs.github.com/") {
        return Some("a Git LFS pointer, not the file itself: fetch it with `git lfs pull`");
    }
    if begins(b"<!doctype html") || begins(b"<html") {
        return Some("a web page, not the file itself: its address needs a login or leads elsewhere");
    }
    if begins(b"<?xml") {
        return Some("an XML document, such as a store answers with when it refuses a download");
    }
    if begins(b"PK\x03\x04") {
        return Some("a PyTorch or zip file: convert it to safetensors first");
    }
    None
}

fn read(json: &[u8], file: &str) -> Result<serde_json::Value> {
    if let Some(what) = foreign(json) {
        return Err(Error::weights(file, "valid JSON", what));
    }
    serde_json::from_slice(json).map_err(|e| Error::weights(file, "valid JSON", format!("{e}")))
}

fn class_of(value: &serde_json::Value) -> &str {
    value["_class_name"].as_str().or_else(|| value["architectures"][0].as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_download_leaves_is_named() {
        for (bytes, words) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00"[..], "Git LFS pointer"),
            (b"\n<!DOCTYPE html><title>Sign in</title>", "web page"),
            (b"<?xml version=\"1.0\"?><Error/>", "XML"),
            (b"PK\x03\x04", "PyTorch"),
        ] {
            let told = class(bytes, "vae/config.json").err().map(|e| e.to_string()).unwrap_or_default();
            assert!(told.contains("vae/config.json") && told.contains(words), "{told}");
        }
        assert_eq!(foreign(b"{}"), None);
    }

    #[test]
    fn a_wrong_class_is_named() {
        let e = parse::<serde_json::Value>(
            br#"{"_class_name":"FluxTransformer2DModel"}"#,
            "transformer/config.json",
            &["WanTransformer3DModel"],
        );
        let text = e.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains("FluxTransformer2DModel") && text.contains("WanTransformer3DModel"), "{text}");
    }
}
