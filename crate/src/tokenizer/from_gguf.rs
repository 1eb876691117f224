//! The `tokenizer.ggml.*` metadata of a T5 GGUF file as the text of a `tokenizer.json`.
//!
//! Source: llama.cpp `convert_hf_to_gguf.py`, `T5Model.set_vocab`.

use serde_json::Value;

use super::unigram::{NORMAL, Piece, Unigram};
use crate::error::{Error, Result};
use crate::weights::{MetaValue, Metadata};

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
    let kinds = metadata.get("tokenizer.ggml.token_type").and_then(MetaValue::as_array).unwrap_or_default();
    let kinds = kinds.iter().map(|kind| kind.as_u64().unwrap_or(NORMAL)).chain(std::iter::repeat(NORMAL));
    let pieces = pieces.iter().zip(scores).zip(kinds).map(|((piece, score), kind)| {
        let text = piece.as_str().ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        let score = score.as_f64().ok_or_else(|| missing("tokenizer.ggml.scores"))?;
        Ok(Piece { text, score, kind })
    });
    Unigram {
        pieces: pieces.collect::<Result<_>>()?,
        end: id("tokenizer.ggml.eos_token_id", 1)?,
        unknown: id("tokenizer.ggml.unknown_token_id", 2)?,
        charsmap: charsmap(metadata),
    }
    .to_json()
}

/// The normalisation table.
fn charsmap(metadata: &Metadata) -> Vec<u8> {
    let table = metadata.get("tokenizer.ggml.precompiled_charsmap").and_then(MetaValue::as_bytes);
    table.unwrap_or_default().to_vec()
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
}
