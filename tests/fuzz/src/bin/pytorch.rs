//! PyTorch's zips and the pickles in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tabreel_fuzz::{bounded, read_weights};

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes.len(), 0, || drop(read_weights(bytes)));
});
