//! Several clips of text at once, by the pipeline and by `tabreel generate --batch`: each is what it is alone.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

use pollster::block_on;
use serde_json::Value;
use tabreel::device::Compute;
use tabreel::error::Error;
use tabreel::host::{Event, Host, SilentHost};
use tabreel::options::{GenerateOptions, GivenOptions, ModelDefaults};
use tabreel::pipeline::{Clip, Inputs, Pipeline};
use tabreel_tests::folders::ModelFolder;
use tabreel_tests::{Array, read_arrays, root, small_clip, tabreel};
use tempfile::TempDir;

/// As of the models' packed passes.
const TOLERANCE: f64 = 1e-4;

fn load(folder: &ModelFolder) -> Pipeline {
    block_on(Pipeline::load(&folder.files(), Compute::cpu(), &SilentHost)).expect("a sound folder")
}

/// Clips of different sizes, prompts and seeds; of different steps, guidance and shift too.
fn asked() -> Vec<GenerateOptions> {
    let settle = |given: GivenOptions| given.settle(&ModelDefaults::default());
    vec![
        settle(GivenOptions { guidance_scale: Some(3.0), ..small_clip() }),
        settle(GivenOptions {
            prompt: Some("A blue cube rises.".into()),
            width: Some(32),
            num_frames: Some(1),
            seed: Some(4),
            guidance_scale: Some(3.0),
            ..small_clip()
        }),
        settle(GivenOptions {
            height: Some(64),
            num_frames: Some(9),
            num_steps: Some(3),
            guidance_scale: Some(1.0),
            flow_shift: Some(2.0),
            sampler: Some("stochastic".into()),
            ..small_clip()
        }),
    ]
}

/// Keeps frames, steps and which clips it hears about, and cancels once so many blocks are done.
#[derive(Default)]
struct Watcher {
    about: RefCell<Vec<(usize, usize)>>,
    frames: RefCell<Vec<Vec<u8>>>,
    steps: RefCell<Vec<(usize, usize)>>,
    asked: Cell<usize>,
    patience: Option<usize>,
    free_memory: Option<u64>,
}

impl Host for Watcher {
    fn event(&self, event: Event) {
        match event {
            Event::Frame { index, rgba, .. } => {
                assert_eq!(index, self.frames.borrow().len());
                self.frames.borrow_mut().push(rgba);
            }
            Event::Step { step, num_steps, .. } => self.steps.borrow_mut().push((step, num_steps)),
            Event::Clips { first, count } => self.about.borrow_mut().push((first, count)),
            _ => {}
        }
    }
    fn aborted(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.patience.is_some_and(|patience| self.asked.get() > patience)
    }
    fn free_memory(&self) -> Option<u64> {
        self.free_memory
    }
}

type Made = (Clip, Vec<Vec<u8>>);

fn together(pipeline: &Pipeline, clips: &[GenerateOptions], host: &Watcher) -> Result<Vec<Made>, Error> {
    let mut made = Vec::new();
    let mut keep = |place: usize, clip: Clip| -> Result<(), Error> {
        assert_eq!(place, made.len(), "in the order that was asked for");
        made.push((clip, host.frames.take()));
        Ok(())
    };
    block_on(pipeline.generate_packed(clips, host, &mut keep))?;
    Ok(made)
}

/// How many clips there are in each pack.
fn packs(pipeline: &Pipeline, clips: &[GenerateOptions], host: &dyn Host) -> Vec<usize> {
    pipeline.packs(clips, host).into_iter().map(|pack| pack.len()).collect()
}

fn alone(pipeline: &Pipeline, options: &GenerateOptions) -> Made {
    let host = Watcher::default();
    let clip = block_on(pipeline.generate(options, &Inputs::default(), &host)).expect("a clip");
    (clip, host.frames.take())
}

fn assert_same((clip, frames): &Made, (other, other_frames): &Made, which: &str) {
    let array = |clip: &Clip| Array { shape: clip.latents_shape.to_vec(), values: clip.latents.clone() };
    let off = array(clip).relative_l2(&array(other)).expect("the same shape");
    assert!(off <= TOLERANCE, "{which}: {off:.1e}");
    assert_eq!(frames.len(), other_frames.len(), "{which}");
    for (frame, other) in frames.iter().flatten().zip(other_frames.iter().flatten()) {
        assert!(frame.abs_diff(*other) <= 1, "{which}: {frame} and {other}");
    }
    assert_eq!(clip.tokens, other.tokens, "{which}");
    assert_eq!(clip.timings.keys().collect::<Vec<_>>(), other.timings.keys().collect::<Vec<_>>(), "{which}");
}

#[test]
fn clips_made_together_are_what_they_are_alone() {
    for (which, folder) in [("text", ModelFolder::of_text()), ("control", ModelFolder::of_control())] {
        let (pipeline, clips, host) = (load(&folder), asked(), Watcher::default());
        assert_eq!(packs(&pipeline, &clips, &host), [3], "{which}");
        let made = together(&pipeline, &clips, &host).expect("clips");
        assert_eq!(made.len(), clips.len());
        for (options, made) in clips.iter().zip(&made) {
            assert_same(made, &alone(&pipeline, options), which);
        }
        // A step is one of the pack; clips of fewer are done earlier.
        assert_eq!(*host.steps.borrow(), [(1, 3), (2, 3), (3, 3)], "{which}");
        // Each is checked, then its prompt encoded; the steps are about all; each is decoded.
        let each = [(0, 1), (1, 1), (2, 1)];
        assert_eq!(*host.about.borrow(), [&each[..], &each, &[(0, 3)], &each].concat(), "{which}");
    }
}

#[test]
fn clips_are_made_one_by_one_where_the_model_or_the_memory_allows_no_more() {
    let pipeline = load(&ModelFolder::of_flow_map());
    let clips: Vec<_> = asked().into_iter().map(|clip| GenerateOptions { sampler: None, ..clip }).collect();
    assert_eq!(packs(&pipeline, &clips, &SilentHost), [1, 1, 1]);
    let made = together(&pipeline, &clips, &Watcher::default()).expect("clips");
    assert_same(&made[1], &alone(&pipeline, &clips[1]), "flow map");

    let pipeline = load(&ModelFolder::of_text());
    let clips = asked();
    let least = clips.iter().map(|options| pipeline.least_bytes(options.size())).max().expect("clips");
    let host = Watcher { free_memory: Some(least), ..Watcher::default() };
    assert_eq!(packs(&pipeline, &clips, &host), [1, 1, 1]);
    assert_eq!(together(&pipeline, &clips, &host).expect("clips").len(), 3);
    assert_eq!(host.steps.borrow().len(), 2 + 2 + 3);
    assert!(host.about.borrow().iter().all(|(_, count)| *count == 1), "{:?}", host.about.borrow());
}

#[test]
fn a_pack_is_checked_before_anything_is_made_and_can_be_cancelled() {
    let pipeline = load(&ModelFolder::of_text());
    let mut clips = asked();
    let host = Watcher { patience: Some(3), ..Watcher::default() };
    assert!(matches!(together(&pipeline, &clips, &host), Err(Error::Aborted)));
    assert!(host.frames.borrow().is_empty());
    // And the next is whole.
    let made = together(&pipeline, &clips, &Watcher::default()).expect("clips");
    assert_same(&made[0], &alone(&pipeline, &clips[0]), "after a cancel");
    clips[2].num_frames = 8;
    let host = Watcher::default();
    let why = together(&pipeline, &clips, &host).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(why.contains("num_frames must be 4n + 1") && host.steps.borrow().is_empty(), "{why}");
    assert_eq!(host.about.borrow().last(), Some(&(2, 1)), "the one that is refused was heard of last");
    assert!(together(&pipeline, &[], &host).expect("none").is_empty());
    let mut refuse = |_: usize, _: Clip| -> Result<(), Error> { Err(Error::Fetch("the disk is full".into())) };
    let ended = block_on(pipeline.generate_packed(&asked(), &SilentHost, &mut refuse));
    assert!(matches!(ended, Err(Error::Fetch(_))), "what the caller says ends it");
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// `tabreel generate` with the fixture's model in two steps.
fn generate(flags: &[&str]) -> Output {
    let model = root().join("tests/fixtures/folder_t2v/model");
    let mut args = vec!["generate", "--model", text(&model), "--device", "cpu", "--steps", "2"];
    args.extend(flags);
    tabreel(&args)
}

fn done(output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{out}{err}", output.status);
    out.into_owned()
}

fn batch(folder: &TempDir, lines: &str) -> PathBuf {
    let file = folder.path().join("batch.jsonl");
    std::fs::write(&file, lines).expect("a file");
    file
}

#[test]
fn a_batch_writes_what_its_lines_make_alone_each_with_its_recipe() {
    let folder = temp();
    let at = |name: &str| folder.path().join(name);
    let (ball, cube) = (at("ball.safetensors"), at("cube.safetensors"));
    let object = |prompt: &str, rest: &str, out: &Path| {
        format!(r#"{{"prompt": "{prompt}", "width": 48, "frames": 5, {rest}, "out": {}}}"#, Value::from(text(out)))
    };
    let mut lines = object("a red ball", r#""seed": 3"#, &ball) + "\n\n";
    writeln!(lines, "a green star").expect("a line");
    lines += &object("a blue cube", r#""seed": 4, "height": 64, "guidance": 1"#, &cube);
    let file = batch(&folder, &lines);
    let star = at("clip-2.safetensors");
    let common = ["--width", "32", "--height", "32", "--frames", "1", "--seed", "7", "--guidance", "3"];
    let flags = ["--json", "--batch", text(&file), "--out", text(&at("clip.safetensors"))].map(str::to_owned);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(common).collect();
    let printed = done(generate(&flags));
    let said: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let outs: Vec<&str> =
        said.iter().filter(|line| line["type"] == "done").filter_map(|line| line["out"].as_str()).collect();
    assert_eq!(outs, [text(&ball), text(&star), text(&cube)]);
    assert_eq!(said.iter().filter(|line| line["type"] == "step").count(), 2, "one pass for all");

    let cases: [(&Path, &str, &[&str]); 3] = [
        (&ball, "a red ball", &["--width", "48", "--height", "32", "--frames", "5", "--seed", "3", "--guidance", "3"]),
        (&star, "a green star", &common),
        (&cube, "a blue cube", &["--width", "48", "--height", "64", "--frames", "5", "--seed", "4", "--guidance", "1"]),
    ];
    for (file, prompt, flags) in cases {
        let single = at("single.safetensors");
        let flags: Vec<&str> = ["--prompt", prompt, "--out", text(&single)].iter().chain(flags).copied().collect();
        done(generate(&flags));
        let (found, wanted) = (read_arrays(file).expect("a clip"), read_arrays(&single).expect("a clip"));
        let off = found["latents"].relative_l2(&wanted["latents"]).expect("the same shape");
        assert!(off <= TOLERANCE, "{prompt}: {off:.1e}");
        let pixels = found["frames"].values.iter().zip(&wanted["frames"].values);
        assert!(pixels.into_iter().all(|(a, b)| (a - b).abs() <= 1.0), "{prompt}");
        let recipe = |file: &Path| -> Value {
            serde_json::from_str(&done(tabreel(&["inspect", "--json", text(file)]))).expect("JSON")
        };
        assert_eq!(recipe(file)["recipe"], recipe(&single)["recipe"], "{prompt}");
        assert_eq!(recipe(file)["recipe"]["options"]["prompt"], prompt);
    }
    let left = std::fs::read_dir(folder.path()).expect("the folder").flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("partial")));
}

#[test]
fn a_batch_that_cannot_be_made_is_refused_before_the_model_is_loaded() {
    let folder = temp();
    let out = folder.path().join("clip.gif");
    let refused = |lines: &str, flags: &[&str], code: i32, words: &[&str]| {
        let file = batch(&folder, lines);
        let flags: Vec<&str> = ["--batch", text(&file)].iter().chain(flags).copied().collect();
        let output = generate(&flags);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{err}");
        for word in words {
            assert!(err.contains(word), "{word:?} is not in: {err}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1, "nothing is left");
    };
    let all = ["--out", text(&out)];
    let size = r#""width": 48, "height": 32"#;
    refused(&format!("{{\"prompt\": \"a\", {size}, \"frames\": 8}}"), &all, 2, &["batch.jsonl, line 1", "4n + 1"]);
    refused("{\"width\": 48}", &all, 2, &["batch.jsonl, line 1", "prompt must not be empty"]);
    refused("a ball", &[], 2, &["line 1", "\"out\" must name the clip's file"]);
    refused("{\"prompt\": \"a\", \"out\": \"/nowhere/a.gif\"}", &[], 3, &["line 1", "/nowhere/a.gif"]);
    refused("", &all, 2, &["at least one line"]);
    refused("a ball", &["--out", text(&out), "--image", "a.png"], 2, &["--batch", "--image", "cannot be used with"]);
    refused("a ball", &["--out", text(&out), "--compare-steps", "1,2"], 2, &["cannot be used with"]);
    assert_eq!(generate(&["--prompt", "a ball"]).status.code(), Some(2), "one clip needs --out");
    assert_eq!(generate(&["--batch", "no-batch.jsonl", "--out", text(&out)]).status.code(), Some(3));
}
