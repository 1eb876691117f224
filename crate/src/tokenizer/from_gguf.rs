//! The `tokenizer.ggml.*` metadata of a T5 GGUF file as the text of a `tokenizer.json`.
//!
//! Source: llama.cpp `convert_hf_to_gguf.py`, `T5Model.set_vocab`; the pipeline of parts is what transformers 5.23
//! saves for a `T5Tokenizer`.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::weights::{MetaValue, Metadata};

/// Piece kinds that are matched as whole words and never split: unknown, control, user-defined.
const SPECIAL: [u64; 3] = [2, 3, 4];

pub(super) fn to_json(metadata: &Metadata) -> Result<Value> {
    let missing = |key: &str| Error::Tokenizer(format!("the GGUF metadata have no {key} of the right type"));
    let array = |key: &str| metadata.get(key).and_then(MetaValue::as_array).ok_or_else(|| missing(key));
    let id =
        |key: &str, usual: u64| metadata.get(key).map_or(Some(usual), MetaValue::as_u64).ok_or_else(|| missing(key));

    if let Some(model) = metadata.get("tokenizer.ggml.model").and_then(MetaValue::as_str).filter(|m| *m != "t5") {
        return Err(Error::Tokenizer(format!("tokenizer.ggml.model must be t5 (unigram), got {model}")));
    }
    let (pieces, scores) = (array("tokenizer.ggml.tokens")?, array("tokenizer.ggml.scores")?);
    if pieces.len() != scores.len() {
        return Err(Error::Tokenizer(format!(
            "as many scores as tokens are needed, got {} and {}",
            scores.len(),
            pieces.len()
        )));
    }
    let mut vocab = Vec::with_capacity(pieces.len());
    for (piece, score) in pieces.iter().zip(scores) {
        let piece = piece.as_str().ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        vocab.push(json!([piece, score.as_f64().ok_or_else(|| missing("tokenizer.ggml.scores"))?]));
    }
    let kinds = metadata.get("tokenizer.ggml.token_type").and_then(MetaValue::as_array).unwrap_or_default();
    let added: Vec<Value> = pieces
        .iter()
        .zip(kinds)
        .enumerate()
        .filter(|(_, (_, kind))| kind.as_u64().is_some_and(|k| SPECIAL.contains(&k)))
        .map(|(i, (piece, _))| {
            json!({ "id": i, "content": piece.as_str(), "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
        })
        .collect();
    let eos = id("tokenizer.ggml.eos_token_id", 1)?;
    let eos_piece = usize::try_from(eos).ok().and_then(|i| pieces.get(i)).and_then(MetaValue::as_str);
    let eos_piece = eos_piece
        .ok_or_else(|| Error::Tokenizer(format!("the end token must be one of {} tokens, got {eos}", pieces.len())))?;
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": charsmap(metadata).map(|map| json!({ "type": "Precompiled", "precompiled_charsmap": map })),
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, metaspace] },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": eos_piece, "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { eos_piece: { "id": eos_piece, "ids": [eos], "tokens": [eos_piece] } }
        },
        "decoder": metaspace,
        "model": { "type": "Unigram", "unk_id": id("tokenizer.ggml.unknown_token_id", 2)?, "vocab": vocab, "byte_fallback": false }
    }))
}

/// The normalisation table, base64 as a `tokenizer.json` holds it.
fn charsmap(metadata: &Metadata) -> Option<String> {
    let bytes = metadata.get("tokenizer.ggml.precompiled_charsmap")?.as_bytes()?;
    (!bytes.is_empty()).then(|| base64(bytes))
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |g, b| (g << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::charsmap::unbase64;
    use super::*;

    /// What llama.cpp would write for the fixture's vocabulary.
    pub fn metadata(expected_json: &[u8], tokenizer_json: &[u8]) -> Metadata {
        let expected: Value = serde_json::from_slice(expected_json).unwrap();
        let tokenizer: Value = serde_json::from_slice(tokenizer_json).unwrap();
        let pieces = expected["pieces"].as_array().unwrap();
        let column =
            |kind: u32, f: &dyn Fn(&Value) -> MetaValue| MetaValue::Array(kind, pieces.iter().map(f).collect());
        let charsmap = unbase64(tokenizer["normalizer"]["precompiled_charsmap"].as_str().unwrap()).unwrap();
        Metadata::from([
            ("tokenizer.ggml.model".into(), MetaValue::String("t5".into())),
            ("tokenizer.ggml.tokens".into(), column(8, &|p| MetaValue::String(p[0].as_str().unwrap().into()))),
            ("tokenizer.ggml.scores".into(), column(6, &|p| MetaValue::F32(p[1].as_f64().unwrap() as f32))),
            ("tokenizer.ggml.token_type".into(), column(5, &|p| MetaValue::I32(p[2].as_i64().unwrap() as i32))),
            ("tokenizer.ggml.precompiled_charsmap".into(), MetaValue::Bytes(0, charsmap)),
            ("tokenizer.ggml.eos_token_id".into(), MetaValue::U32(1)),
        ])
    }

    #[test]
    fn base64_is_padded_to_groups_of_four() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(unbase64(coded).unwrap(), plain.as_bytes());
        }
    }
}
