//! A SentencePiece file (`spiece.model`, a protocol buffer) as the text of a `tokenizer.json`.
//!
//! Of the message only what a unigram tokenizer needs is read; other fields are passed over.
//!
//! Source: `src/sentencepiece_model.proto` of <https://github.com/google/sentencepiece>; the wire format:
//! <https://protobuf.dev/programming-guides/encoding>.

use serde_json::Value;

use super::unigram::{NORMAL, Piece, Unigram};
use crate::error::{Error, Result};

/// `ModelProto`: the pieces, the trainer's and the normaliser's settings.
const PIECES: u64 = 1;
const TRAINER: u64 = 2;
const NORMALIZER: u64 = 3;
/// `TrainerSpec.model_type` of a unigram vocabulary.
const UNIGRAM: u64 = 1;

pub(super) fn to_json(bytes: &[u8]) -> Result<Value> {
    let mut pieces = Vec::new();
    let (mut kind, mut unknown, mut end, mut charsmap) = (UNIGRAM, 0, 2, Vec::new());
    let mut message = Message { bytes };
    while let Some((field, value)) = message.next()? {
        match (field, value) {
            (PIECES, Field::Bytes(bytes)) => pieces.push(piece(bytes)?),
            (TRAINER, Field::Bytes(bytes)) => {
                let mut trainer = Message { bytes };
                while let Some(entry) = trainer.next()? {
                    match entry {
                        (3, Field::Whole(value)) => kind = value,
                        (40, Field::Whole(value)) => unknown = value,
                        (42, Field::Whole(value)) => end = value,
                        _ => {}
                    }
                }
            }
            (NORMALIZER, Field::Bytes(bytes)) => {
                let mut normalizer = Message { bytes };
                while let Some(entry) = normalizer.next()? {
                    if let (2, Field::Bytes(bytes)) = entry {
                        charsmap = bytes.to_vec();
                    }
                }
            }
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err(Error::Tokenizer("the SentencePiece file holds no vocabulary".into()));
    }
    if kind != UNIGRAM {
        return Err(Error::Tokenizer(format!("the SentencePiece model must be unigram (type 1), got type {kind}")));
    }
    Unigram { pieces, end, unknown, charsmap }.to_json()
}

/// `SentencePiece`: text, score, kind.
fn piece(bytes: &[u8]) -> Result<Piece<'_>> {
    let mut out = Piece { text: "", score: 0.0, kind: NORMAL };
    let mut message = Message { bytes };
    while let Some(entry) = message.next()? {
        match entry {
            (1, Field::Bytes(text)) => {
                out.text = std::str::from_utf8(text).map_err(|_| broken("a piece that is not UTF-8"))?;
            }
            (2, Field::Four(bits)) => out.score = f64::from(f32::from_le_bytes(bits)),
            (3, Field::Whole(kind)) => out.kind = kind,
            _ => {}
        }
    }
    match out.score.is_finite() {
        true => Ok(out),
        false => Err(broken("a score that is not finite")),
    }
}

fn broken(what: &str) -> Error {
    Error::Tokenizer(format!("a SentencePiece file is needed, found {what}"))
}

/// A value of a message.
enum Field<'a> {
    Whole(u64),
    Four([u8; 4]),
    Bytes(&'a [u8]),
    /// Eight bytes; no field that is read here has them.
    Other,
}

/// What is left of a message.
struct Message<'a> {
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The number and value of the next field; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Whole(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Other
            }
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let bits = self.take(4)?;
                Field::Four([bits[0], bits[1], bits[2], bits[3]])
            }
            other => return Err(broken(&format!("a field of wire type {other}"))),
        };
        Ok(Some((key >> 3, value)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let taken = usize::try_from(length).ok().and_then(|length| self.bytes.split_at_checked(length));
        let (taken, rest) = taken.ok_or_else(|| broken("a field that goes on behind the end"))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(broken("a number of more than 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value > 0x7F {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    fn whole(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    #[test]
    fn a_model_of_another_kind_and_a_damaged_one_are_told() {
        let text = |bytes: &[u8]| to_json(bytes).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text(b"").contains("no vocabulary"));
        assert!(text(b"<!doctype html>").contains("a SentencePiece file is needed"));
        let bpe = [bytes(1, &bytes(1, b"a")), bytes(2, &whole(3, 2))].concat();
        assert!(text(&bpe).contains("must be unigram (type 1), got type 2"));
        let short = [bytes(1, &bytes(1, b"a")), bytes(2, &whole(42, 7))].concat();
        assert!(text(&short).contains("the end token must be one of 1 tokens, got 7"));
    }
}
