//! What the fuzz targets share: above all the rule that memory stays in proportion to the input.
//!
//! Run them by `npm run fuzz` (`tools/fuzz.mjs`): libFuzzer with our own crates instrumented, on stable Rust.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tabreel::error::{Error, ErrorCode};
use tabreel::weights::{WeightFile, WeightSet};
use tabreel_tests::counting::{Counting, held_by};

/// Bytes that may be held for each byte of input: a JSON value takes 32 for the two of "0,".
const PER_BYTE: usize = 64;
/// Bytes that may be held whatever the input.
const ROOM: usize = 32 << 20;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs one case and checks that it held no more memory than its `bytes` of input allow. `extra` bytes may be held besides:
/// what a target reads of its own.
///
/// # Panics
/// When it held more.
pub fn bounded(bytes: usize, extra: usize, case: impl FnOnce()) {
    let ((), held) = held_by(case);
    let most = bytes * PER_BYTE + ROOM + extra;
    assert!(held <= most, "{bytes} bytes of input took {held} bytes of memory, {most} at most are allowed");
}

/// An error must be a clear one: of a kind that tells the user what is wrong with the input.
///
/// # Panics
/// When it is the program's own fault, or has no words.
pub fn clear<T>(result: Result<T, Error>) -> Option<T> {
    use ErrorCode::{Fetch, InvalidOptions, OutOfMemory, Tokenizer, Weights};
    result
        .map_err(|error| {
            let (code, words) = (error.code(), error.to_string());
            let fits = [Fetch, InvalidOptions, OutOfMemory, Tokenizer, Weights].contains(&code);
            assert!(fits && !words.is_empty(), "ended as {code:?}: {words}");
        })
        .ok()
}

/// Opens a weight file and reads everything in it, as loading a model would.
pub fn read_weights(bytes: &[u8]) -> Option<WeightFile> {
    let file = clear(WeightFile::parse(bytes.to_vec(), "fuzz"))?;
    if let Some(set) = clear(WeightSet::new(vec![file.clone()])) {
        for info in set.infos() {
            let values = clear(set.f32(&info.name));
            assert!(values.is_none_or(|values| values.len() == info.len()), "{}", info.name);
        }
    }
    for value in file.metadata().values() {
        assert!(value.summary().len() < 4096, "a summary is short");
    }
    Some(file)
}

/// A safetensors file from text that libFuzzer can change: a header, a line feed, the data; the header's length is put before.
/// Bytes that begin with 0xFF are the file as it is, behind that byte.
pub fn safetensors_of(bytes: &[u8]) -> Vec<u8> {
    if let [0xff, raw @ ..] = bytes {
        return raw.to_vec();
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, data) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Puts the input where a reader of files finds it.
///
/// # Panics
/// When the temporary folder cannot be written.
pub fn as_file(bytes: &[u8]) -> &'static Path {
    static PLACE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PLACE.get_or_init(|| {
        let memory = Path::new("/dev/shm"); // no disk is worn
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder");
        let path = folder.path().join("input");
        (folder, path)
    });
    let mut file = std::fs::File::create(path).expect("a temporary file");
    file.write_all(bytes).expect("room for the input");
    path
}
