//! The command line beside files that are in its way: other weights in a part's folder, places that cannot be written, runs that are
//! stopped. What was made is not lost, and nothing half is left.

#[cfg(unix)]
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Output;
#[cfg(unix)]
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
#[cfg(unix)]
use tabreel_tests::tabreel_binary;
use tabreel_tests::{done, root, tabreel};
use tempfile::TempDir;

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A copy of the fixture's model in a folder.
fn copied_model(into: &Path) -> PathBuf {
    let (from, to) = (root().join("tests/fixtures/folder_t2v/model"), into.join("model"));
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        std::fs::create_dir_all(to.join(&folder)).expect("a folder");
        for entry in std::fs::read_dir(from.join(&folder)).expect("the fixture").flatten() {
            let inside = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(inside);
            } else {
                std::fs::copy(entry.path(), to.join(&inside)).expect("copied");
            }
        }
    }
    to
}

/// Flags of the smallest clip.
const SMALL: [&str; 14] = [
    "--seed",
    "3",
    "--prompt",
    "a red circle",
    "--width",
    "32",
    "--height",
    "32",
    "--frames",
    "5",
    "--guidance",
    "1",
    "--device",
    "cpu",
];

/// `tabreel generate` of a clip of one step.
fn generate(model: &Path, out: &Path, more: &[&str]) -> Output {
    let flags = ["generate", "--model", text(model), "--out", text(out), "--steps", "1"];
    tabreel(&flags.iter().chain(&SMALL).chain(more).copied().collect::<Vec<_>>())
}

/// Demands this exit code, and every word in what was printed to stderr.
fn refused(output: Output, code: i32, words: &[&str]) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    for word in words {
        assert!(err.contains(word), "{word:?} is not in: {err}");
    }
}

#[test]
fn of_a_part_given_by_its_folder_one_set_of_weights_is_taken_too() {
    let dir = temp();
    let model = copied_model(dir.path());
    let part = model.join("transformer");
    let clip = |more: &[&str]| {
        let out = dir.path().join("clip.y4m");
        done(generate(&model, &out, more));
        std::fs::read(out).expect("a clip")
    };
    let alone = clip(&[]);
    let told = done(tabreel(&["inspect", "--json", text(&model)]));
    for other in ["diffusion_pytorch_model.fp16.safetensors", "pytorch_lora_weights.safetensors", "old.gguf"] {
        std::fs::write(part.join(other), "not even weights").expect("a file");
    }
    assert_eq!(clip(&["--transformer", text(&part)]), alone);
    let tensors = |told: &str| {
        let told: Value = serde_json::from_str(told).expect("JSON");
        told["components"].as_array().into_iter().flatten().map(|part| part["tensors"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(tensors(&done(tabreel(&["inspect", "--json", text(&model)]))), tensors(&told));
    assert!(!done(tabreel(&["inspect", text(&part)])).contains("fp16"));
    done(tabreel(&["convert", text(&part), text(&dir.path().join("transformer.gguf")), "--type", "f16"]));
}

#[test]
fn a_lora_among_the_weights_of_a_part_is_named() {
    let dir = temp();
    let model = copied_model(dir.path());
    let part = model.join("transformer");
    // A name of nobody's, so that what lies beside it is taken too.
    std::fs::rename(part.join("diffusion_pytorch_model.safetensors"), part.join("wan.safetensors")).expect("renamed");
    let out = dir.path().join("clip.gif");
    done(generate(&model, &out, &[]));
    let tensor =
        |at: usize, shape: [usize; 2]| json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, at + 32] });
    let header = json!({
        "diffusion_model.blocks.0.self_attn.q.lora_A.weight": tensor(0, [1, 8]),
        "diffusion_model.blocks.0.self_attn.q.lora_B.weight": tensor(32, [8, 1]) })
    .to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 64]].concat();
    std::fs::write(part.join("style.safetensors"), file).expect("a LoRA");
    refused(generate(&model, &out, &[]), 4, &["transformer/style.safetensors", "a LoRA", "--lora"]);
}

#[test]
fn a_folder_in_the_place_of_converted_weights_is_told_before_anything_is_read() {
    let dir = temp();
    let out = dir.path().join("out.gguf");
    std::fs::create_dir(&out).expect("a folder");
    refused(tabreel(&["convert", "/nowhere/in.safetensors", text(&out)]), 3, &["out.gguf is a folder"]);
}

/// `tabreel generate` that has opened its device, and what it has yet to say.
#[cfg(unix)]
fn begun(out: &Path, steps: &str, scratch: &Path) -> (Child, BufReader<ChildStdout>) {
    let model = root().join("tests/fixtures/folder_t2v/model");
    let mut child = Command::new(tabreel_binary())
        .args(["generate", "--json", "--model", text(&model), "--steps", steps, "--out", text(out)])
        .args(SMALL)
        .env("TMPDIR", scratch)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a run");
    let mut said = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    while !line.contains("\"device\"") {
        line.clear();
        assert!(said.read_line(&mut line).expect("a line") > 0, "it ended before its device was open");
    }
    (child, said)
}

#[test]
#[cfg(unix)]
fn a_run_that_is_stopped_leaves_nothing_beside_its_target() {
    let (dir, scratch) = (temp(), temp());
    let (mut child, _said) = begun(&dir.path().join("clip.gif"), "200", scratch.path());
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
    assert!(!child.wait().expect("an end").success(), "it was done before it could be stopped");
    assert_eq!(std::fs::read_dir(dir.path()).expect("the folder").count(), 0);
}

#[test]
#[cfg(unix)]
fn a_clip_that_cannot_be_written_where_it_was_to_go_is_kept_elsewhere() {
    let (dir, scratch) = (temp(), temp());
    let folder = dir.path().join("clips");
    std::fs::create_dir(&folder).expect("a folder");
    let (mut child, said) = begun(&folder.join("ball.gif"), "20", scratch.path());
    std::fs::remove_dir_all(&folder).expect("removed");
    let lines: Vec<String> = said.lines().map(|line| line.expect("a line")).collect();
    assert_eq!(child.wait().expect("an end").code(), Some(3));
    let error: Value = serde_json::from_str(lines.last().expect("an error")).expect("JSON");
    let message = error["message"].as_str().expect("words");
    let (why, place) = message.split_once("; the clip is kept as ").expect(message);
    assert!(why.contains("ball.gif"), "{why}");
    assert!(place.ends_with("-ball.gif") && Path::new(place).starts_with(scratch.path()), "{place}");
    assert_eq!(&std::fs::read(place).expect("the clip")[..6], b"GIF89a");
}
