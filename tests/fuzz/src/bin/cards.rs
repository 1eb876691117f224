//! A small model's folder in which one configuration is the input: its first byte chooses which.
#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::pipeline::{ModelFiles, Pipeline};
use tabreel_fuzz::{bounded, clear};
use tabreel_tests::root;

const CONFIGURATIONS: [&str; 7] = [
    "tabreel.json",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "vae/config.json",
];
/// What a small model may take when a size of its configuration is larger than its weights say, before that is noticed.
const MODEL: usize = 256 << 20;

thread_local! {
    static FOLDER: OnceCell<ModelFiles> = const { OnceCell::new() };
}

fn folder() -> ModelFiles {
    let read = || ModelFiles::read_dir(&root().join("tests/fixtures/folder_t2v/model")).expect("the fixture's folder");
    FOLDER.with(|folder| folder.get_or_init(read).clone())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    let mut files = folder();
    files.insert(CONFIGURATIONS[usize::from(*which) % CONFIGURATIONS.len()], text.to_vec());
    bounded(bytes.len(), MODEL, || {
        let Some(pipeline) = clear(pollster::block_on(Pipeline::load(&files, Compute::cpu(), &SilentHost))) else {
            return;
        };
        let rules = pipeline.rules();
        assert!(rules.width_multiple > 0 && rules.height_multiple > 0, "sizes have a step");
    });
});
