//! Folders whose configurations hold anything: what does not work is refused in words, what works makes a clip. Never a
//! panic, an abort, a hang, or memory beyond the files' size and 512 MB. And a configuration means the same whatever the weights
//! are stored in, and whether they stay in memory or not: every other way to them is refused too, or makes the same clip byte for byte.
//! And a look at a model takes next to no memory, however large it is.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pollster::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};
use tabreel::condition::{Condition, Picture, Values};
use tabreel::device::Compute;
use tabreel::error::{ErrorCode, Result};
use tabreel::host::{Event, Host};
use tabreel::models::registry::Registry;
use tabreel::options::GivenOptions;
use tabreel::pipeline::{Inputs, ModelFiles, Pipeline, inspect};
use tabreel::weights::ByteSource;
use tabreel_tests::counting::{Counting, held_by};
use tabreel_tests::folders::ModelFolder;
use tabreel_tests::root;

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

/// One way to a model's weights.
struct Way {
    how: &'static str,
    files: ModelFiles,
    /// Bytes of weights that may stay in memory; everything without.
    budget: Option<u64>,
}

/// A model folder whose configurations can be replaced.
struct Folder {
    /// Paths and texts.
    configs: Vec<(String, String)>,
    bytes: usize,
    /// The folder as it is, then other ways to the same weights.
    ways: Vec<Way>,
}

impl Folder {
    fn of(folder: &ModelFolder) -> Self {
        let configs = folder.configurations().into_iter().map(|(path, text)| (path.to_owned(), text.to_owned()));
        let way = |how, files, budget| Way { how, files, budget };
        let files = folder.files();
        let ways = vec![
            way("as it is", files.clone(), None),
            way("a second time", files.clone(), None),
            way("streamed", files, Some(1)),
            way("from shards", folder.in_shards().files(), None),
            way("from GGUF", folder.in_gguf().files(), None),
        ];
        Self { configs: configs.collect(), bytes: folder.bytes(), ways }
    }

    /// The configurations with one to three places damaged, and what was done.
    fn damage(&self, dice: &mut Dice) -> (Vec<(String, String)>, Vec<String>) {
        let (mut configs, mut done) = (self.configs.clone(), Vec::new());
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(configs.len());
            let (name, text) = &mut configs[at];
            let Ok(mut config) = serde_json::from_str::<Value>(text) else { continue };
            done.push(format!("{name}: {}", damage(&mut config, dice)));
            *text = config.to_string();
            if dice.below(20) == 0 {
                // A key twice: what a careless editor leaves.
                *text = text.replacen('{', "{\"eps\": 1, \"z_dim\": 3, \"d_model\": 7, \"eps\": 2,", 1);
                done.push(format!("{name}: keys twice"));
            }
        }
        (configs, done)
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

/// What a clip is made of.
#[derive(PartialEq)]
struct Made {
    latents: Vec<f32>,
    /// RGBA bytes of each.
    frames: Vec<Vec<u8>>,
}

/// Keeps the frames.
#[derive(Default)]
struct Frames(RefCell<Vec<Vec<u8>>>);

impl Host for Frames {
    fn event(&self, event: Event) {
        if let Event::Frame { rgba, .. } = event {
            self.0.borrow_mut().push(rgba);
        }
    }
}

/// Loads a folder and makes the smallest clip with it.
fn try_clip(way: &Way, configs: &[(String, String)]) -> Result<Made, (ErrorCode, String)> {
    let failed = |error: tabreel::error::Error| (error.code(), error.to_string());
    let (registry, host) = (Registry::default(), Frames::default());
    let mut files = way.files.clone();
    configs.iter().for_each(|(path, text)| files.insert(path.clone(), text.clone().into_bytes()));
    let loading = Pipeline::load_within(&registry, &files, Compute::cpu(), way.budget, &host);
    let pipeline = block_on(loading).map_err(failed)?;
    let (rules, can) = (pipeline.rules(), pipeline.capabilities());
    let (shows_classes, needs_picture) = (can.classes > 0, can.image && !can.text);
    let given = GivenOptions {
        prompt: Some("a red ball rolls".into()).filter(|_| !shows_classes),
        class_label: Some("0".into()).filter(|_| shows_classes),
        seed: Some(1),
        width: Some(rules.width_multiple),
        height: Some(rules.height_multiple),
        // What is given is not made: a frame more.
        num_frames: Some(if needs_picture { rules.frame_multiple.saturating_add(1) } else { 1 }),
        num_steps: Some(2),
        ..GivenOptions::default()
    };
    let options = given.settle(&pipeline.card().default);
    let mut inputs = Inputs::default();
    if needs_picture {
        let picture = Picture::new(2, 2, Values::Rgba([200, 30, 60, 255].repeat(4))).map_err(failed)?;
        inputs.condition = Condition::of_images(Some(picture), None);
    }
    let clip = block_on(pipeline.generate(&options, &inputs, &host)).map_err(failed)?;
    Ok(Made { latents: clip.latents, frames: host.0.take() })
}

fn check(folder: &Folder, seed: u64) -> Result<(), TestCaseError> {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dice = &mut Dice(seed);
    let (configs, done) = folder.damage(dice);
    // What an abort would leave no time to tell.
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join("malformed-case.txt");
    std::fs::write(note, done.join("\n")).expect("a note");
    let began = Instant::now();
    let (made, held) = held_by(|| try_clip(&folder.ways[0], &configs));
    prop_assert!(began.elapsed() < PATIENCE, "{done:?} took {:?}", began.elapsed());
    prop_assert!(held < folder.bytes + ROOM, "{done:?} took {held} bytes, the files have {}", folder.bytes);
    if let Err((code, message)) = &made {
        use ErrorCode::{Fetch, InvalidOptions, OutOfMemory, Tokenizer, Weights};
        let clear = [Weights, Tokenizer, Fetch, InvalidOptions, OutOfMemory].contains(code);
        prop_assert!(clear && !message.is_empty(), "{done:?} ended as {code:?}: {message}");
    }
    let other = &folder.ways[1 + dice.below(folder.ways.len() - 1)];
    let again = try_clip(other, &configs);
    match (&made, &again) {
        (Ok(made), Ok(again)) => prop_assert!(made == again, "{done:?}: another clip {}", other.how),
        (Err(_), Err(_)) => {}
        _ => {
            let [made, again] = [&made, &again].map(|made| made.as_ref().err());
            let told = format!("{done:?} ended as {made:?}, and {} as {again:?}", other.how);
            return Err(TestCaseError::fail(told));
        }
    }
    Ok(())
}

/// Tries a kind of folder; undamaged it makes the same clip in every way.
fn try_folder(folder: &ModelFolder, usual: u32) {
    let folder = Folder::of(folder);
    {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let clips: Vec<_> = folder.ways.iter().map(|way| (way.how, try_clip(way, &folder.configs))).collect();
        for (how, clip) in &clips {
            let told = clip.as_ref().err();
            assert!(told.is_none(), "the sound folder {how}: {told:?}");
            assert!(*clip == clips[0].1, "the sound folder makes another clip {how}");
        }
    }
    proptest!(cases(usual), |(seed: u64)| check(&folder, seed)?);
}

/// How many folders are tried; `TABREEL_CASES` for a long run.
fn cases(usual: u32) -> ProptestConfig {
    let cases = std::env::var("TABREEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    // Every case says in words what it did: nothing to shrink, nothing to keep.
    ProptestConfig { cases, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn no_configuration_of_a_small_folder_does_worse_than_a_clear_error() {
    try_folder(&ModelFolder::of_text(), 400);
}

#[test]
fn no_configuration_of_a_model_of_classes_does_worse_than_a_clear_error() {
    try_folder(&ModelFolder::of_classes(), 400);
}

#[test]
fn no_configuration_of_a_control_branch_does_worse_than_a_clear_error() {
    try_folder(&ModelFolder::of_control(), 80);
}

#[test]
fn no_configuration_of_a_flow_map_does_worse_than_a_clear_error() {
    try_folder(&ModelFolder::of_flow_map(), 80);
}

#[test]
fn no_configuration_of_a_model_that_looks_does_worse_than_a_clear_error() {
    try_folder(&ModelFolder::of_pictures(), 80);
}

#[test]
fn no_configuration_of_the_default_model_does_worse_than_a_clear_error() {
    try_folder(&ModelFolder::read(&root().join("models/small-world")), 60);
}

/// A file of which only the header is there; what else of it is asked for together with that, is zeros.
#[derive(Debug)]
struct Header {
    bytes: Vec<u8>,
    len: u64,
}

impl ByteSource for Header {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        let at = |offset: u64| (offset as usize).min(self.bytes.len());
        assert!(range.start < self.bytes.len() as u64, "bytes {range:?} are weights");
        let mut bytes = self.bytes[at(range.start)..at(range.end)].to_vec();
        bytes.resize((range.end - range.start) as usize, 0);
        Ok(Some(Cow::Owned(bytes)))
    }
}

/// Wan 2.1's VAE, f32, at a width that is published as 96: the fixture's, which diffusers wrote, with its channels scaled.
fn wan_vae(width: usize) -> Header {
    const FIXTURE_WIDTH: usize = 4;
    let file = std::fs::read(root().join("tests/fixtures/wan_vae21/weights.safetensors")).expect("a fixture");
    let length = u64::from_le_bytes(*file.first_chunk().expect("a length")) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&file[8..8 + length]).expect("a header");
    header.remove("__metadata__");
    let mut end = 0;
    for (name, tensor) in &mut header {
        // Channels of the latents do not grow with the width.
        let fixed = match name.trim_end_matches(".weight").trim_end_matches(".bias") {
            "quant_conv" => [Some(32), Some(32)],
            "post_quant_conv" => [Some(16), Some(16)],
            "encoder.conv_out" => [Some(32), None],
            "decoder.conv_in" => [None, Some(16)],
            _ => [None, None],
        };
        let scaled = |(i, side): (usize, usize)| match side {
            1 | 3 => side,
            _ if i > 1 => side,
            _ => fixed[i].unwrap_or(side / FIXTURE_WIDTH * width),
        };
        let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).expect("a shape");
        let shape: Vec<usize> = shape.into_iter().enumerate().map(scaled).collect();
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        *tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
    }
    let text = Value::Object(header).to_string().into_bytes();
    let bytes = [&(text.len() as u64).to_le_bytes()[..], &text].concat();
    Header { len: (bytes.len() + end) as u64, bytes }
}

#[test]
fn a_look_at_a_model_takes_next_to_no_memory() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (width, least) in [(96, 400_000_000), (320, 4_500_000_000)] {
        let mut files = ModelFiles::default();
        files.add("vae/vae.safetensors", Rc::new(wan_vae(width)));
        let look = || block_on(inspect(&Registry::default(), &files, &Compute::cpu(), None));
        let (found, held) = held_by(look);
        let found = found.expect("sound files");
        let [part] = &found.parts[..] else { panic!("{found:?}") };
        assert_eq!((part.problem.as_ref(), &part.left_over), (None, &Vec::new()), "{part:?}");
        assert!(part.memory > least, "{} bytes at width {width}", part.memory);
        assert!(held < 16 << 20, "{held} bytes were held to look at a part of {}", part.memory);
    }
}
