//! A unigram vocabulary as the text of a `tokenizer.json`.
//!
//! Source: the pipeline of parts is what transformers 5.23 saves for a `T5Tokenizer`.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Kind of a piece that text is cut into.
pub(super) const NORMAL: u64 = 1;
/// Kinds that are matched as whole words and never split: unknown, control, user-defined.
const SPECIAL: [u64; 3] = [2, 3, 4];

/// One piece of the vocabulary; its id is its place.
pub(super) struct Piece<'a> {
    pub text: &'a str,
    /// Logarithm of its probability.
    pub score: f64,
    /// By SentencePiece's numbers, which are llama.cpp's too.
    pub kind: u64,
}

/// What makes a tokenizer.
pub(super) struct Unigram<'a> {
    pub pieces: Vec<Piece<'a>>,
    /// Id of the end token.
    pub end: u64,
    /// Id of what no piece covers.
    pub unknown: u64,
    /// SentencePiece's compiled normalisation table; empty for none.
    pub charsmap: Vec<u8>,
}

impl Unigram<'_> {
    /// # Errors
    /// [`Error::Tokenizer`] when the end token or the unknown one is none of the pieces.
    pub fn to_json(&self) -> Result<Value> {
        let piece = |what: &str, id: u64| {
            let found = usize::try_from(id).ok().and_then(|i| self.pieces.get(i)).map(|piece| piece.text);
            let count = self.pieces.len();
            found.ok_or_else(|| Error::Tokenizer(format!("the {what} token must be one of {count} tokens, got {id}")))
        };
        let (end, _) = (piece("end", self.end)?, piece("unknown", self.unknown)?);
        let vocab: Vec<Value> = self.pieces.iter().map(|piece| json!([piece.text, piece.score])).collect();
        let special = self.pieces.iter().enumerate().filter(|(_, piece)| SPECIAL.contains(&piece.kind));
        let added: Vec<Value> = special
            .map(|(i, piece)| {
                json!({ "id": i, "content": piece.text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
            })
            .collect();
        let charsmap = (!self.charsmap.is_empty()).then(|| base64(&self.charsmap));
        let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": charsmap.map(|map| json!({ "type": "Precompiled", "precompiled_charsmap": map })),
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, metaspace] },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": end, "type_id": 0 } }],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
                "special_tokens": { end: { "id": end, "ids": [self.end], "tokens": [end] } }
            },
            "decoder": metaspace,
            "model": { "type": "Unigram", "unk_id": self.unknown, "vocab": vocab, "byte_fallback": false }
        }))
    }
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
mod tests {
    use super::super::charsmap::unbase64;
    use super::*;

    #[test]
    fn base64_is_padded_to_groups_of_four() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(unbase64(coded).as_deref(), Some(plain.as_bytes()));
        }
    }
}
