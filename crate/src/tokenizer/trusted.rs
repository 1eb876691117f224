//! What the `tokenizers` crate trusts unread in a `tokenizer.json`, and would panic at; and kinds of normalizers that it does not
//! know, which it would refuse without naming them.
//!
//! Source: tokenizers 0.23.2 `normalizers/mod.rs` (`expect("Precompiled")`), `decoders/mod.rs` (`expect("Helper")`),
//! `processors/template.rs` (`apply_template`).

use serde::Deserialize;
use serde_json::Value;

use super::charsmap;
use super::unigram::base64;
use crate::error::{Error, Result};

/// The kinds of normalizers.
const NORMALIZERS: [&str; 15] = [
    "Bert",
    "BertNormalizer",
    "ByteLevel",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Replace",
    "Sequence",
    "Strip",
    "StripAccents",
];

/// # Errors
/// [`Error::Tokenizer`] when it is no JSON, or naming the part and what is wrong with it.
pub(super) fn check(json: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        normalizer: Value,
        #[serde(default)]
        post_processor: Value,
        /// Read whole, not looked at: the crate panics at one that it cannot read.
        #[serde(default, rename = "decoder")]
        _decoder: Value,
    }
    // What is skipped over is not looked into for this.
    let text = std::str::from_utf8(json).map_err(|e| wrong(e.to_string()))?;
    let file = serde_json::from_str::<File>(text).map_err(|e| wrong(e.to_string()))?;
    let File { normalizer, post_processor, .. } = file;
    each_object(&normalizer, |fields| {
        let kind = fields.get("type").and_then(Value::as_str).filter(|kind| !NORMALIZERS.contains(kind));
        if let Some(kind) = kind {
            let known = NORMALIZERS.join(", ");
            return Err(wrong(format!("its normalizer must be one of {known}, got {kind}")));
        }
        let text = fields.get("precompiled_charsmap");
        if text.is_none() && fields.get("type").is_none_or(|kind| kind != "Precompiled") {
            return Ok(());
        }
        let table = text.and_then(Value::as_str).and_then(|text| {
            // Only what is written as the crate would write it is read by it.
            charsmap::unbase64(text).filter(|table| base64(table) == text)
        });
        let checked = table.ok_or("it is no base64 text").and_then(|table| charsmap::check(&table));
        checked.map_err(|why| wrong(format!("precompiled_charsmap is damaged, {why}")))
    })?;
    each_object(&post_processor, |fields| {
        let pieces = fields.get("single").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for piece in pieces {
            let special = piece["SpecialToken"]["id"].as_str();
            if let Some(id) = special.filter(|id| fields.get("special_tokens").is_none_or(|all| all.get(id).is_none()))
            {
                return Err(wrong(format!("post_processor adds {id}, which is none of its special_tokens")));
            }
            if piece["Sequence"]["id"] == "B" {
                return Err(wrong("post_processor puts a second text after a single one".into()));
            }
        }
        Ok(())
    })
}

fn wrong(what: String) -> Error {
    Error::Tokenizer(format!("tokenizer.json cannot be used: {what}"))
}

/// Calls `check` for every object in a value, itself included.
fn each_object(value: &Value, check: impl Fn(&serde_json::Map<String, Value>) -> Result<()>) -> Result<()> {
    let mut todo = vec![value];
    while let Some(value) = todo.pop() {
        match value {
            Value::Array(items) => todo.extend(items),
            Value::Object(fields) => {
                check(fields)?;
                todo.extend(fields.values());
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &str) -> String {
        check(json.as_bytes()).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_damaged_table_in_a_tokenizer_file_is_named() {
        let nested = r#"{"normalizer":{"type":"Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":"/////w=="}]}}"#;
        assert!(told(nested).contains("its trie is longer than the table"), "{}", told(nested));
        for value in ["7", "\"AAA\"", "\"AAAAAA\"", "null"] {
            let json = format!("{{\"normalizer\":{{\"type\":\"Precompiled\",\"precompiled_charsmap\":{value}}}}}");
            assert!(told(&json).contains("no base64"), "{json}");
        }
        assert!(told(r#"{"normalizer":{"type":"Precompiled"}}"#).contains("no base64"));
        assert_eq!((told("{}"), told(r#"{"normalizer":null}"#)), Default::default());
    }

    #[test]
    fn a_normalizer_of_an_unknown_kind_is_named() {
        let of = |kind: &str| {
            told(&format!(r#"{{"normalizer":{{"type":"Sequence","normalizers":[{{"type":"{kind}"}}]}}}}"#))
        };
        assert!(of("Lower").ends_with("Strip, StripAccents, got Lower"), "{}", of("Lower"));
        assert_eq!(of("Lowercase"), "");
        // The crate knows some by their fields alone.
        assert_eq!(told(r#"{"normalizer":{"prepend":"a"}}"#), "");
    }

    #[test]
    fn what_is_no_json_is_told_before_the_crate_panics_at_it() {
        assert!(told("{").contains("EOF"));
        // Found by fuzzing: a control character in a decoder.
        assert!(told("{\"decoder\":{\"type\":\"\u{1}\"}}").contains("control character"));
        assert!(told(r#"{"decoder":1e999}"#).contains("out of range"));
        let latin = check(b"{\"model\":\"\xe9\"}").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(latin.contains("utf-8"), "{latin}");
    }

    #[test]
    fn a_template_that_names_what_is_not_there_is_told() {
        let with =
            |single: &str| format!(r#"{{"post_processor":{{"single":[{single}],"special_tokens":{{"</s>":{{}}}}}}}}"#);
        assert_eq!(told(&with(r#"{"SpecialToken":{"id":"</s>"}},{"Sequence":{"id":"A"}}"#)), "");
        assert!(told(&with(r#"{"SpecialToken":{"id":"x"}}"#)).contains("adds x, which is none"));
        assert!(told(&with(r#"{"Sequence":{"id":"B"}}"#)).contains("second text"));
        assert!(told(r#"{"post_processor":{"single":[{"SpecialToken":{"id":"x"}}]}}"#).contains("adds x"));
    }
}
