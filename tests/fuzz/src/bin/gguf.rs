//! GGUF files: header, metadata, every tensor, and the tokenizer in the metadata.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tabreel::tokenizer::Tokenizer;
use tabreel_fuzz::{bounded, clear, read_weights};

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes.len(), 0, || {
        let Some(file) = read_weights(bytes) else { return };
        let Some(tokenizer) = clear(Tokenizer::from_gguf(file.metadata())) else { return };
        clear(tokenizer.encode("A red ball rolls left.", 32));
    });
});
