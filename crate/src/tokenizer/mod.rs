//! Prompt → token ids, as the tokenizer of a text encoder's folder does it.
//!
//! The models here use SentencePiece unigram vocabularies (umT5, T5): NFKC-like normalisation, a `▁` before each
//! word, the end token `</s>` after the text, nothing before it. The `tokenizers` crate does the work, and what a
//! `tokenizer.json` says is done: `T5Tokenizer` of transformers 5 passes over a normalizer that is no `Precompiled`
//! (`Lowercase`, …), which version 4 and `PreTrainedTokenizerFast` obey.
//!
//! Source: transformers 5.23 `T5Tokenizer`; diffusers 0.42.1 `WanPipeline._get_t5_prompt_embeds`.

mod charsmap;
mod from_gguf;
mod from_sentencepiece;
mod prompt;
mod trusted;
mod unigram;

pub use prompt::clean;

use crate::config::foreign;
use crate::error::{Error, Result};
use crate::weights::Metadata;

/// A prompt as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The ids kept, the end token included; no padding.
    pub ids: Vec<u32>,
    /// How many ids were kept.
    pub kept: usize,
    /// How many ids the whole prompt has; more than `kept` if it was cut.
    pub total: usize,
}

/// The tokenizer of one model.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when it is not one that the `tokenizers` crate understands, or adds no end token.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if let Some(what) = foreign(json) {
            return Err(Error::Tokenizer(format!("tokenizer.json cannot be used: it is {what}")));
        }
        trusted::check(json)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|e| Error::Tokenizer(format!("tokenizer.json cannot be used: {e}")))?;
        // Cutting and padding are done here, where what was cut can be told.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::Tokenizer(format!("tokenizer.json cannot be used: {e}")))?;
        let nothing =
            inner.encode("", true).map_err(|e| Error::Tokenizer(format!("tokenizer.json cannot be used: {e}")))?;
        if nothing.get_ids().is_empty() {
            let rule = "tokenizer.json must add an end token (post_processor): a prompt without words would be nothing";
            return Err(Error::Tokenizer(rule.into()));
        }
        Ok(Self { inner })
    }

    /// Builds the tokenizer that a T5 text encoder's GGUF file carries in its metadata.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the metadata hold no unigram vocabulary.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        Self::from_json(from_gguf::to_json(metadata)?.to_string().as_bytes())
    }

    /// Builds the tokenizer of a SentencePiece file (`spiece.model`) with a unigram vocabulary.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when it is none, or is damaged.
    pub fn from_sentencepiece(bytes: &[u8]) -> Result<Self> {
        Self::from_json(from_sentencepiece::to_json(bytes)?.to_string().as_bytes())
    }

    /// Checks what a `tokenizer_config.json` beside the tokenizer would change: transformers lets it choose the end token and the
    /// side of the padding, which here are the one that the tokenizer adds, and the right.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] naming the setting, or when it is no JSON.
    pub fn check_settings(&self, json: &[u8]) -> Result<()> {
        let wrong = |what: String| Error::Tokenizer(format!("tokenizer_config.json cannot be used: {what}"));
        if let Some(what) = foreign(json) {
            return Err(wrong(format!("it is {what}")));
        }
        let settings: serde_json::Value = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
        let side = &settings["padding_side"];
        if !side.is_null() && side != "right" {
            return Err(wrong(format!("padding_side must be \"right\", got {side}")));
        }
        // A word, or an object that says more about it.
        let end = &settings["eos_token"];
        let end = end.get("content").unwrap_or(end);
        let added = self.inner.encode("", true).ok().and_then(|all| all.get_ids().last().copied());
        let added = added.and_then(|id| self.inner.id_to_token(id)).unwrap_or_default();
        if !end.is_null() && end != added.as_str() {
            return Err(wrong(format!("eos_token must be \"{added}\", which tokenizer.json adds, got {end}")));
        }
        Ok(())
    }

    /// Ids in the vocabulary, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Cleans a prompt ([`clean`]) and turns it into at most `max_tokens` ids that end with the end token.
    ///
    /// A longer prompt loses its last words, never what the tokenizer adds before or behind them, as in transformers.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] if `max_tokens` leaves no room for what is added; [`Error::Tokenizer`] if the vocabulary cannot
    /// express the text.
    pub fn encode(&self, prompt: &str, max_tokens: usize) -> Result<Encoded> {
        let whole = self.inner.encode(clean(prompt).as_str(), true);
        let whole = whole.map_err(|e| Error::Tokenizer(format!("the prompt cannot be tokenized: {e}")))?;
        let total = whole.len();
        // 1 for what the tokenizer adds; not for a special token that the prompt spells out.
        let added = whole.get_special_tokens_mask().iter().filter(|bit| **bit == 1).count();
        let mut room = max_tokens.checked_sub(added).ok_or_else(|| {
            Error::InvalidOptions(format!(
                "max_tokens must be at least {added}, the end token's room, got {max_tokens}"
            ))
        })?;
        let mut ids = Vec::with_capacity(total.min(max_tokens));
        for (id, bit) in whole.get_ids().iter().zip(whole.get_special_tokens_mask()) {
            if *bit == 0 {
                let Some(left) = room.checked_sub(1) else { continue };
                room = left;
            }
            ids.push(*id);
        }
        Ok(Encoded { kept: ids.len(), ids, total })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tokenizer").join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{} is needed for this test: {e}", path.display()))
    }

    fn expected() -> Vec<(String, Vec<u32>)> {
        let json: serde_json::Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
        let texts: Vec<String> = serde_json::from_value(json["texts"].clone()).unwrap();
        let ids: Vec<Vec<u32>> = serde_json::from_value(json["ids_transformers"].clone()).unwrap();
        texts.into_iter().zip(ids).collect()
    }

    #[test]
    fn ids_are_those_of_transformers() {
        let tokenizer = Tokenizer::from_json(&fixture("tokenizer.json")).unwrap();
        for (text, ids) in expected() {
            let got = tokenizer.encode(&text, 512).unwrap();
            assert_eq!(got, Encoded { kept: ids.len(), total: ids.len(), ids }, "{text:?}");
        }
    }

    #[test]
    fn a_long_prompt_is_cut_and_keeps_its_end_token() {
        let tokenizer = Tokenizer::from_json(&fixture("tokenizer.json")).unwrap();
        let (text, ids) = &expected()[0];
        let got = tokenizer.encode(text, 5).unwrap();
        let mut want = ids[..4].to_vec();
        want.push(1);
        assert_eq!(got, Encoded { ids: want, kept: 5, total: ids.len() });
        assert_eq!(tokenizer.encode(text, 1).unwrap().ids, [1]);
        assert!(tokenizer.encode(text, 0).unwrap_err().to_string().contains("max_tokens must be at least 1"));
    }

    #[test]
    fn what_a_tokenizer_adds_before_the_text_stays_too() {
        let mut json: serde_json::Value = serde_json::from_slice(&fixture("tokenizer.json")).unwrap();
        let single = &mut json["post_processor"]["single"];
        let start = serde_json::json!({ "SpecialToken": { "id": "<pad>", "type_id": 0 } });
        single.as_array_mut().unwrap().insert(0, start);
        json["post_processor"]["special_tokens"]["<pad>"] =
            serde_json::json!({ "id": "<pad>", "ids": [0], "tokens": ["<pad>"] });
        let tokenizer = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
        let (text, ids) = &expected()[0];
        let got = tokenizer.encode(text, 6).unwrap();
        assert_eq!(got, Encoded { ids: [&[0][..], &ids[..4], &[1]].concat(), kept: 6, total: ids.len() + 1 });
        assert_eq!(tokenizer.encode(text, 2).unwrap().ids, [0, 1]);
        assert!(tokenizer.encode(text, 1).unwrap_err().to_string().contains("max_tokens must be at least 2"));
        // A special token in the text is text.
        let told = tokenizer.encode("a </s> </s> a", 4).unwrap();
        assert_eq!((told.ids.len(), told.ids[0], told.ids[3], told.total > 4), (4, 0, 1, true));
    }

    #[test]
    fn normalizers_make_the_ids_that_the_library_makes() {
        let own: serde_json::Value = serde_json::from_slice(&fixture("tokenizer.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fixture("normalizers.json")).unwrap();
        let texts: Vec<String> = serde_json::from_value(json["texts"].clone()).unwrap();
        let cases = json["cases"].as_array().unwrap();
        assert!(cases.len() > 5);
        for case in cases {
            // A table in one is the file's own.
            let normalizer = case["normalizer"].to_string();
            let table = own["normalizer"].to_string();
            let normalizer = normalizer.replace(r#"{"type":"Precompiled"}"#, &table);
            let mut whole = own.clone();
            whole["normalizer"] = serde_json::from_str(&normalizer).unwrap();
            let tokenizer = Tokenizer::from_json(whole.to_string().as_bytes()).unwrap();
            let ids: Vec<Vec<u32>> = serde_json::from_value(case["ids"].clone()).unwrap();
            for (text, ids) in texts.iter().zip(ids) {
                assert_eq!(tokenizer.encode(text, 512).unwrap().ids, ids, "{text:?} with {}", case["normalizer"]);
            }
        }
    }

    #[test]
    fn the_vocabulary_in_gguf_metadata_gives_the_same_ids() {
        let tokenizer =
            Tokenizer::from_gguf(&from_gguf::tests::metadata(&fixture("expected.json"), &fixture("tokenizer.json")))
                .unwrap();
        for (text, ids) in expected() {
            assert_eq!(tokenizer.encode(&text, 512).unwrap().ids, ids, "{text:?}");
        }
    }

    #[test]
    fn a_sentencepiece_file_gives_the_same_ids() {
        let bytes = fixture("spiece.model");
        let tokenizer = Tokenizer::from_sentencepiece(&bytes).unwrap();
        for (text, ids) in expected() {
            assert_eq!(tokenizer.encode(&text, 512).unwrap().ids, ids, "{text:?}");
        }
        for cut in (0..bytes.len()).step_by(97) {
            let _ = Tokenizer::from_sentencepiece(&bytes[..cut]); // an error or a shorter vocabulary, no panic
        }
    }

    #[test]
    fn a_tokenizer_that_adds_no_end_token_is_refused_when_it_is_read() {
        let text_alone = serde_json::json!([{ "Sequence": { "id": "A", "type_id": 0 } }]);
        let template = serde_json::json!({
            "type": "TemplateProcessing", "single": text_alone, "pair": text_alone, "special_tokens": {} });
        for post_processor in [serde_json::Value::Null, template] {
            let mut json: serde_json::Value = serde_json::from_slice(&fixture("tokenizer.json")).unwrap();
            json["post_processor"] = post_processor;
            let told = Tokenizer::from_json(json.to_string().as_bytes()).unwrap_err().to_string();
            assert!(told.contains("must add an end token (post_processor)"), "{told}");
        }
    }

    #[test]
    fn settings_that_would_make_other_tokens_are_named() {
        let tokenizer = Tokenizer::from_json(&fixture("tokenizer.json")).unwrap();
        let told =
            |json: &str| tokenizer.check_settings(json.as_bytes()).err().map(|e| e.to_string()).unwrap_or_default();
        for fine in [
            "{}",
            r#"{"eos_token":"</s>","padding_side":"right","model_max_length":1000000000000000019884624838656}"#,
            r#"{"eos_token":{"content":"</s>","lstrip":true},"padding_side":null}"#,
        ] {
            assert_eq!(told(fine), "", "{fine}");
        }
        assert!(told(r#"{"padding_side":"left"}"#).contains("padding_side must be \"right\", got \"left\""));
        for other in [r#"{"eos_token":"<unk>"}"#, r#"{"eos_token":{"content":"<unk>"}}"#, r#"{"eos_token":7}"#] {
            assert!(told(other).contains("eos_token must be \"</s>\", which tokenizer.json adds"), "{}", told(other));
        }
        assert!(told("{").contains("tokenizer_config.json cannot be used"));
    }

    #[test]
    fn a_broken_tokenizer_file_is_an_error() {
        let whole = fixture("tokenizer.json");
        for bad in [&b""[..], b"{}", b"[1, 2]", &whole[..whole.len() / 2]] {
            assert!(matches!(Tokenizer::from_json(bad), Err(Error::Tokenizer(_))));
        }
        assert!(matches!(Tokenizer::from_gguf(&Metadata::new()), Err(Error::Tokenizer(_))));
    }
}
