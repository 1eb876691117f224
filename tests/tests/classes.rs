//! A model of classes, from the fixture's folder: pictures by number and by name, what it refuses, what it says of itself.

use std::path::{Path, PathBuf};
use std::process::Output;

use pollster::block_on;
use serde_json::Value;
use tabreel::condition::Condition;
use tabreel::contract::EngineModel;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::models::registry::Registry;
use tabreel::options::GivenOptions;
use tabreel::pipeline::{ModelFiles, Pipeline, inspect};
use tabreel_tests::{Array, read_arrays, root, tabreel};

fn model() -> PathBuf {
    root().join("tests/fixtures/pipe_dit/model")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn generate(out: &Path, more: &[&str]) -> Output {
    let model = model();
    let usual = ["generate", "--model", text(&model), "--out", text(out), "--steps", "2", "--device", "cpu"];
    tabreel(&usual.iter().chain(more).copied().collect::<Vec<_>>())
}

/// What was refused, in words, with exit code 2.
fn refusal(more: &[&str]) -> String {
    let output = generate(&std::env::temp_dir().join("tabreel-no-picture.png"), more);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{more:?}: {words}");
    words
}

#[test]
fn a_class_makes_a_png_of_the_size_that_the_model_was_trained_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("dog.png");
    let made = generate(&out, &["--class", "golden retriever", "--seed", "3"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let picture = image::open(&out).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (16, 16));
    let recipe = tabreel(&["inspect", "--json", text(&out)]);
    let recipe: Value = serde_json::from_slice(&recipe.stdout).expect("JSON");
    let recipe = &recipe["recipe"];
    assert_eq!(
        (&recipe["task"], &recipe["options"]["classLabel"]),
        (&"class-to-image".into(), &"golden retriever".into())
    );
}

#[test]
fn a_number_and_a_name_make_the_same_picture_and_another_class_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let frames = |name: &str, class: &str| -> Array {
        let out = folder.path().join(name);
        let made = generate(&out, &["--class", class, "--seed", "3"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        read_arrays(&out).expect("a safetensors file")["frames"].clone()
    };
    let named = frames("a.safetensors", "Golden Retriever");
    assert_eq!(named, frames("b.safetensors", "207"));
    assert_ne!(named, frames("c.safetensors", "208"));
}

#[test]
fn what_a_model_of_classes_cannot_take_is_refused_in_words() {
    for (more, words) in [
        (
            &["--prompt", "a dog"][..],
            "this model shows classes and reads no prompt: class_label must be given, 0 to 999",
        ),
        (&["--prompt", "a dog", "--class", "207"], "prompt and class_label do not go together"),
        (&[], "prompt must not be empty (a model of classes takes class_label instead)"),
        (&["--class", "1000"], "class_label must be 0 to 999 for this model, got 1000"),
        (&["--class", "retriever"], "near it: 207 (golden retriever), 208 (Labrador retriever)"),
        (&["--class", "crane"], "names 134 (crane), 517 (crane): give a number"),
        (&["--class", "207", "--negative", "fog"], "reads no negative prompt"),
        (&["--class", "207", "--frames", "5"], "single pictures: num_frames must be 1, got 5 frames"),
        (&["--class", "207", "--width", "18"], "width must be a multiple of 4 px, got 18 px"),
        (&["--class", "207", "--sampler", "euler"], "sampler is for flow models"),
        (&["--class", "207", "--shift", "3"], "flow_shift is for flow models"),
        (&["--class", "207", "--sigmas", "1,0.5"], "sigmas is for flow models"),
    ] {
        let found = refusal(more);
        assert!(found.contains(words), "{more:?}: {found}");
    }
}

#[test]
fn a_model_of_text_refuses_a_class() {
    let model = root().join("models/small-world");
    let out = std::env::temp_dir().join("tabreel-no-picture.png");
    let asked = ["generate", "--model", text(&model), "--class", "207", "--out", text(&out), "--device", "cpu"];
    let output = tabreel(&asked);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("this model reads a prompt, got class 207"), "{words}");
}

#[test]
fn it_says_what_it_is_and_suggests_its_own_size() {
    let files = ModelFiles::read_dir(&model()).expect("the folder");
    let pipeline = block_on(Pipeline::load(&files, Compute::cpu(), &SilentHost)).expect("a sound folder");
    let said = EngineModel::new(&pipeline);
    assert_eq!(
        (said.capabilities.classes, said.capabilities.picture_only, said.capabilities.text),
        (1000, true, false)
    );
    assert_eq!((said.labels.len(), said.labels[207].as_str(), said.labels[1].as_str()), (1000, "golden retriever", ""));
    assert_eq!((said.width_multiple, said.frame_multiple), (4, 1));
    assert_eq!(
        (said.defaults.width, said.defaults.num_frames, said.defaults.guidance_scale),
        (Some(16), Some(1), Some(4.0))
    );
    let given = GivenOptions { class_label: Some("207".into()), ..GivenOptions::default() };
    assert!(pipeline.check(&given.settle(&pipeline.card().default), &Condition::default()).is_ok());

    let found = block_on(inspect(&Registry::default(), &files, &Compute::cpu(), None)).expect("a report");
    assert!(found.runs && found.missing.is_empty() && found.plan.is_some(), "{found:?}");
    let parts: Vec<(&str, usize)> = found.parts.iter().map(|part| (part.part.as_str(), part.left_over.len())).collect();
    assert_eq!(parts, [("transformer", 0), ("vae", 0)]);
}

/// Layers that are read again for each step give the same picture, and a folder without its VAE says what it lacks.
#[test]
fn it_is_streamed_where_it_does_not_fit() {
    let files = ModelFiles::read_dir(&model()).expect("the folder");
    let made = |budget: Option<u64>| {
        let registry = Registry::default();
        let loaded = block_on(Pipeline::load_within(&registry, &files, Compute::cpu(), budget, &SilentHost));
        let pipeline = loaded.expect("a sound folder");
        let given = GivenOptions { class_label: Some("0".into()), num_steps: Some(2), ..GivenOptions::default() };
        let options = given.settle(&pipeline.card().default);
        let clip = block_on(pipeline.generate(&options, &Default::default(), &SilentHost)).expect("a picture");
        (clip.latents, pipeline.plan().expect("a plan").transformer.streamed)
    };
    let (whole, streamed) = (made(None), made(Some(1)));
    assert_eq!((whole.1, streamed.1), (false, true));
    assert_eq!(whole.0, streamed.0);

    let mut files = files.clone();
    files.clear_part("vae");
    let found = block_on(inspect(&Registry::default(), &files, &Compute::cpu(), None)).expect("a report");
    assert_eq!(found.reason, "still missing: vae");
}
