//! Folders whose configurations hold anything: what does not work is refused in words, what works makes a clip. Never a
//! panic, an abort, a hang, or memory beyond the files' size and 512 MB.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pollster::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};
use tabreel::device::Compute;
use tabreel::error::ErrorCode;
use tabreel::host::SilentHost;
use tabreel::options::GivenOptions;
use tabreel::pipeline::{Inputs, ModelFiles, Pipeline};
use tabreel_tests::counting::{Counting, held_by};
use tabreel_tests::root;
use tempfile::TempDir;

/// Bytes that may be held beyond the size of the files.
const ROOM: usize = 512 << 20;
/// Longest that a case may take; most take a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(120);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One case at a time, so that memory is one case's.
static TURN: Mutex<()> = Mutex::new(());

/// Repeatable choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// A copy of a model folder whose configurations can be replaced.
struct Folder {
    dir: TempDir,
    configs: Vec<(PathBuf, String)>,
    bytes: usize,
}

impl Folder {
    fn copy(from: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (mut configs, mut bytes) = (Vec::new(), 0);
        for part in ["", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"] {
            if !from.join(part).is_dir() {
                continue; // a model of classes has no text
            }
            std::fs::create_dir_all(dir.path().join(part)).expect("a folder");
            for entry in std::fs::read_dir(from.join(part)).expect("the model's folder") {
                let path = entry.expect("an entry").path();
                if !path.is_file() {
                    continue;
                }
                let to = dir.path().join(part).join(path.file_name().expect("a name"));
                bytes += std::fs::copy(&path, &to).expect("a copy") as usize;
                if to.extension().is_some_and(|end| end == "json") && !to.ends_with("special_tokens_map.json") {
                    configs.push((to, std::fs::read_to_string(&path).expect("text")));
                }
            }
        }
        configs.sort();
        Self { dir, configs, bytes }
    }

    /// Damages one to three places; returns what was done.
    fn damage(&self, dice: &mut Dice) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..1 + dice.below(3) {
            let (path, _) = &self.configs[dice.below(self.configs.len())];
            let name = path.strip_prefix(self.dir.path()).expect("inside").display().to_string();
            let text = std::fs::read_to_string(path).expect("text");
            let Ok(mut config) = serde_json::from_str::<Value>(&text) else { continue };
            done.push(format!("{name}: {}", damage(&mut config, dice)));
            let mut text = config.to_string();
            if dice.below(20) == 0 {
                // A key twice: what a careless editor leaves.
                text = text.replacen('{', "{\"eps\": 1, \"z_dim\": 3, \"d_model\": 7, \"eps\": 2,", 1);
                done.push(format!("{name}: keys twice"));
            }
            std::fs::write(path, text).expect("a config");
        }
        done
    }

    fn mend(&self) {
        for (path, text) in &self.configs {
            std::fs::write(path, text).expect("a config");
        }
    }
}

/// Where a value stands: keys and indices from the top.
type Place = Vec<String>;

fn places(value: &Value, at: &mut Place, out: &mut Vec<Place>) {
    let mut down = |key: String, value: &Value| {
        at.push(key);
        out.push(at.clone());
        places(value, at, out);
        at.pop();
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| down(key.clone(), value)),
        // Not every piece of a vocabulary.
        Value::Array(items) => items.iter().take(6).enumerate().for_each(|(i, value)| down(i.to_string(), value)),
        _ => {}
    }
}

fn pointer(place: &[String]) -> String {
    place.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect()
}

fn damage(config: &mut Value, dice: &mut Dice) -> String {
    let mut all = Vec::new();
    places(config, &mut Vec::new(), &mut all);
    if all.is_empty() {
        return "nothing to change".into();
    }
    let place = all[dice.below(all.len())].clone();
    let at = pointer(&place);
    match dice.below(10) {
        0 => {
            let other = pointer(&all[dice.below(all.len())]);
            let values = [&at, &other].map(|at| config.pointer(at).cloned().unwrap_or_default());
            for (at, value) in [&at, &other].into_iter().zip(values.iter().rev()) {
                if let Some(found) = config.pointer_mut(at) {
                    *found = value.clone();
                }
            }
            format!("{at} and {other} swapped")
        }
        1 => {
            let parent = config.pointer_mut(&pointer(&place[..place.len() - 1]));
            let key = place.last().expect("at least one key");
            match parent {
                Some(Value::Object(fields)) => drop(fields.remove(key)),
                Some(Value::Array(items)) => items.truncate(key.parse().unwrap_or(0)),
                _ => {}
            }
            format!("{at} removed")
        }
        2 => {
            if let Some(Value::Array(items)) = config.pointer_mut(&at) {
                let twice = items.clone();
                items.extend(twice);
            }
            format!("{at} doubled")
        }
        _ => {
            let value = edge(dice);
            let told = format!("{at} = {value}");
            if let Some(found) = config.pointer_mut(&at) {
                *found = value;
            }
            told
        }
    }
}

fn edge(dice: &mut Dice) -> Value {
    let numbers = [
        0,
        1,
        2,
        3,
        5,
        7,
        8,
        31,
        64,
        255,
        512,
        4095,
        65_536,
        1 << 20,
        1 << 31,
        (1 << 32) + 2,
        1 << 53,
        1 << 62,
        u64::MAX,
    ];
    let others = [
        json!(-1),
        json!(i64::MIN),
        json!(0.5),
        json!(-1e-6),
        json!(1e-60),
        json!(1e39),
        json!(f64::MAX),
        json!(true),
        json!(false),
        json!(null),
        json!(""),
        json!("x"),
        json!("cosine"),
        json!([]),
        json!([0]),
        json!([1, 1, 1]),
        json!([0, 1, 1, 2]),
        json!({}),
        json!([1u64 << 62, 2, 2]),
    ];
    match dice.below(2) {
        0 => json!(numbers[dice.below(numbers.len())]),
        _ => others[dice.below(others.len())].clone(),
    }
}

/// Loads a folder and makes the smallest clip with it.
fn try_clip(folder: &Path) -> Result<(), (ErrorCode, String)> {
    let failed = |error: tabreel::error::Error| (error.code(), error.to_string());
    let files = ModelFiles::read_dir(folder).map_err(failed)?;
    let pipeline = block_on(Pipeline::load(&files, Compute::cpu(), &SilentHost)).map_err(failed)?;
    let (rules, shows_classes) = (pipeline.rules(), pipeline.capabilities().classes > 0);
    let given = GivenOptions {
        prompt: Some("a red ball rolls".into()).filter(|_| !shows_classes),
        class_label: Some("0".into()).filter(|_| shows_classes),
        seed: Some(1),
        width: Some(rules.width_multiple),
        height: Some(rules.height_multiple),
        num_frames: Some(1),
        num_steps: Some(2),
        ..GivenOptions::default()
    };
    let options = given.settle(&pipeline.card().default);
    block_on(pipeline.generate(&options, &Inputs::default(), &SilentHost)).map_err(failed).map(drop)
}

fn check(folder: &Folder, seed: u64) -> Result<(), TestCaseError> {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    folder.mend();
    let done = folder.damage(&mut Dice(seed));
    // What an abort would leave no time to tell.
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join("malformed-case.txt");
    std::fs::write(note, done.join("\n")).expect("a note");
    let began = Instant::now();
    let (result, held) = held_by(|| try_clip(folder.dir.path()));
    prop_assert!(began.elapsed() < PATIENCE, "{done:?} took {:?}", began.elapsed());
    prop_assert!(held < folder.bytes + ROOM, "{done:?} took {held} bytes, the files have {}", folder.bytes);
    if let Err((code, message)) = result {
        use ErrorCode::{Fetch, InvalidOptions, OutOfMemory, Tokenizer, Weights};
        let clear = [Weights, Tokenizer, Fetch, InvalidOptions, OutOfMemory].contains(&code);
        prop_assert!(clear && !message.is_empty(), "{done:?} ended as {code:?}: {message}");
    }
    Ok(())
}

/// How many folders are tried; `TABREEL_CASES` for a long run.
fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("TABREEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    // Every case says in words what it did: nothing to shrink, nothing to keep.
    ProptestConfig { cases, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn no_configuration_of_a_small_folder_does_worse_than_a_clear_error() {
    let folder = Folder::copy(&root().join("tests/fixtures/folder_t2v/model"));
    proptest!(cases(400), |(seed: u64)| check(&folder, seed)?);
}

#[test]
fn no_configuration_of_a_model_of_classes_does_worse_than_a_clear_error() {
    let folder = Folder::copy(&root().join("tests/fixtures/pipe_dit/model"));
    proptest!(cases(400), |(seed: u64)| check(&folder, seed)?);
}

#[test]
fn no_configuration_of_the_default_model_does_worse_than_a_clear_error() {
    let folder = Folder::copy(&root().join("models/small-world"));
    proptest!(cases(60), |(seed: u64)| check(&folder, seed)?);
}
