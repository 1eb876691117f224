//! Clips and pictures as a user hands them over (Y4M, GIF, PNG, JPEG, WebP, BMP), and the recipes in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tabreel::cli::{clips, recipe};
use tabreel_fuzz::{as_file, bounded, clear};

/// Anything else goes to ffmpeg, which is not fuzzed here.
const STARTS: [&[u8]; 6] = [b"YUV4MPEG2 ", b"GIF8", b"\x89PNG", b"\xff\xd8", b"RIFF", b"BM"];
const MOST_BYTES: u64 = 16 << 20;
/// A picture's pixels are not in proportion to its bytes: one run of one colour may be all of it. What decoders may take is
/// bounded by what they are given.
const PIXELS: usize = 3 * MOST_BYTES as usize;

fuzz_target!(|bytes: &[u8]| {
    if !STARTS.iter().any(|start| bytes.starts_with(start)) {
        return;
    }
    let path = as_file(bytes);
    bounded(bytes.len(), PIXELS, || {
        if let Some(clip) = clear(clips::read(path, 16.0, MOST_BYTES)) {
            assert!(!clip.frames.is_empty(), "a clip has frames");
        }
        clear(recipe::read(path));
    });
});
