//! `tokenizer.json` (what begins with a brace) and SentencePiece files, with prompts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tabreel::tokenizer::Tokenizer;
use tabreel_fuzz::{bounded, clear};

const PROMPTS: [&str; 4] =
    ["A red ball rolls left.", "", "  \u{3000}ﬁ\u{1f534}\u{200d} e\u{301} \0", "一个大红球在草地上弹跳"];

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes.len(), 0, || {
        let read = if bytes.first() == Some(&b'{') { Tokenizer::from_json } else { Tokenizer::from_sentencepiece };
        let Some(tokenizer) = clear(read(bytes)) else { return };
        for prompt in PROMPTS {
            for most in [1, 8, 512] {
                if let Some(encoded) = clear(tokenizer.encode(prompt, most)) {
                    assert!(encoded.ids.len() <= most, "{} ids, {most} at most were asked for", encoded.ids.len());
                }
            }
        }
    });
});
