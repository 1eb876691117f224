//! Reading the `config.json` files of a diffusers folder; what stands in them is known by the models.

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

fn read(json: &[u8], file: &str) -> Result<serde_json::Value> {
    serde_json::from_slice(json).map_err(|e| Error::weights(file, "valid JSON", format!("{e}")))
}

fn class_of(value: &serde_json::Value) -> &str {
    value["_class_name"].as_str().or_else(|| value["architectures"][0].as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
