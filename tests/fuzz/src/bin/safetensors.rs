//! safetensors files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tabreel_fuzz::{bounded, read_weights, safetensors_of};

fuzz_target!(|bytes: &[u8]| {
    let file = safetensors_of(bytes);
    bounded(bytes.len(), 0, || drop(read_weights(&file)));
});
