//! A small model's folder in which one configuration is the input: its first byte chooses the folder and which.
#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::pipeline::{CARD, ModelFiles, Pipeline};
use tabreel_fuzz::{bounded, clear};
use tabreel_tests::folders::ModelFolder;

/// What a small model may take when a size of its configuration is larger than its weights say, before that is noticed.
const MODEL: usize = 256 << 20;

/// A folder of each kind with one of its configurations, which the input replaces.
type Choices = Vec<(ModelFiles, String)>;

thread_local! {
    static CHOICES: OnceCell<Choices> = const { OnceCell::new() };
}

/// By kind in the order of [`ModelFolder::all`], then the card and the configurations by their paths: the corpus counts on it.
fn choices() -> Choices {
    let mut out = Choices::new();
    for (_, folder) in ModelFolder::all() {
        let files = folder.files();
        let paths = folder.configurations().into_iter().map(|(path, _)| path);
        // The tokenizer's own file is a target of its own.
        let paths = std::iter::once(CARD).chain(paths).filter(|path| !path.ends_with("tokenizer.json"));
        out.extend(paths.map(|path| (files.clone(), path.to_owned())));
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    let (mut files, path) = CHOICES.with(|made| {
        let all = made.get_or_init(choices);
        all[usize::from(*which) % all.len()].clone()
    });
    files.insert(path, text.to_vec());
    bounded(bytes.len(), MODEL, || {
        let Some(pipeline) = clear(pollster::block_on(Pipeline::load(&files, Compute::cpu(), &SilentHost))) else {
            return;
        };
        let rules = pipeline.rules();
        assert!(rules.width_multiple > 0 && rules.height_multiple > 0, "sizes have a step");
    });
});
