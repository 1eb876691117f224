//! Clips and pictures as a user hands them over (Y4M, GIF, PNG, JPEG, WebP, BMP), and the recipes in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tabreel::cli::{clips, recipe};
use tabreel_fuzz::{as_file, bounded, clear};

/// Anything else goes to ffmpeg, which is not fuzzed here.
const STARTS: [&[u8]; 6] = [b"YUV4MPEG2 ", b"GIF8", b"\x89PNG", b"\xff\xd8", b"RIFF", b"BM"];
const MOST_BYTES: u64 = 16 << 20;
/// A picture's pixels are not in proportion to its bytes: one run of one colour may be all of it. What decoders may take is
/// bounded by what they are given, except that `image-webp` 0.2 believes the size in a moving picture's VP8 frame before it
/// compares it with the picture's: 16,383 px a side in 4:2:0 at most.
const PIXELS: usize = 3 * MOST_BYTES as usize;
const VP8_PIXELS: usize = 16_383 * 16_383 / 2 * 3;

fuzz_target!(|bytes: &[u8]| {
    if !STARTS.iter().any(|start| bytes.starts_with(start)) {
        return;
    }
    let path = as_file(bytes);
    let extra = if bytes.starts_with(b"RIFF") { PIXELS + VP8_PIXELS } else { PIXELS };
    bounded(bytes.len(), extra, || {
        if let Some(clip) = clear(clips::read(path, 16.0, MOST_BYTES)) {
            assert!(!clip.frames.is_empty(), "a clip has frames");
        }
        clear(recipe::read(path));
    });
});
