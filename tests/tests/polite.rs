//! A running generation is polite: it yields after every block, a cancel lands at the next one, and it reads and holds no more
//! than it needs.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;

use pollster::block_on;
use tabreel::condition::{Picture, Values};
use tabreel::device::Compute;
use tabreel::error::{Error, Result};
use tabreel::host::{Event, Host};
use tabreel::models::registry::Registry;
use tabreel::options::GenerateOptions;
use tabreel::pipeline::{Inputs, ModelFiles, Pipeline, draft};
use tabreel::size::ClipSize;
use tabreel::tasks::{self, Beside, Task};
use tabreel::weights::ByteSource;
use tabreel::weights::source::Memory;
use tabreel_tests::{read_arrays, root, safetensors_file};

/// Counts the turns it is given and cancels after some of them.
#[derive(Default)]
struct Impatient {
    turns: Cell<usize>,
    patience: Option<usize>,
    free_memory: Option<u64>,
    seen: RefCell<Vec<String>>,
}

impl Host for Impatient {
    fn event(&self, event: Event) {
        let word = match event {
            Event::Stage { stage } => stage.name().to_string(),
            Event::Step { step, num_steps, .. } => format!("step {step}/{num_steps}"),
            Event::Preview { step, width, height, rgba } => {
                assert_eq!(rgba.len(), width * height * 4);
                format!("preview {step}")
            }
            Event::Frame { index, .. } => format!("frame {index}"),
            Event::Warning { message } => message,
            Event::Loading { .. } | Event::Clips { .. } => return,
        };
        self.seen.borrow_mut().push(word);
    }
    fn aborted(&self) -> bool {
        self.patience.is_some_and(|patience| self.turns.get() >= patience)
    }
    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.turns.set(self.turns.get() + 1);
        Box::pin(std::future::ready(()))
    }
    fn now_secs(&self) -> f64 {
        0.0
    }
    fn free_memory(&self) -> Option<u64> {
        self.free_memory
    }
}

fn pipeline() -> Pipeline {
    let files = ModelFiles::read_dir(&root().join("tests/fixtures/folder_t2v/model")).expect("the committed folder");
    block_on(Pipeline::load(&files, Compute::cpu(), &Impatient::default())).expect("a sound folder")
}

#[test]
fn a_model_that_is_streamed_gives_the_same_clip() {
    let folder = root().join("models/small-world");
    let files = ModelFiles::read_dir(&folder).expect("the default model");
    let options = GenerateOptions { width: 64, height: 64, num_frames: 5, ..options() };
    let latents = |budget: Option<u64>| {
        let host = Impatient::default();
        let registry = Registry::default();
        let pipeline = block_on(Pipeline::load_within(&registry, &files, Compute::cpu(), budget, &host));
        let pipeline = pipeline.expect("a sound folder");
        let plan = *pipeline.plan().expect("a plan");
        let clip = block_on(pipeline.generate(&options, &Inputs::default(), &host)).expect("a clip");
        assert!(host.seen.borrow().iter().all(|seen| !seen.contains("not used")), "{:?}", host.seen.borrow());
        (plan.text_encoder.streamed, plan.transformer.streamed, clip.latents)
    };
    let kept = latents(None);
    assert_eq!((kept.0, kept.1), (false, false));
    let streamed = latents(Some(1));
    assert_eq!((streamed.0, streamed.1), (true, true));
    assert!(kept.2 == streamed.2);
}

/// A file that counts the bytes that are read of it.
#[derive(Debug)]
struct Counted {
    file: Memory,
    read: Rc<Cell<u64>>,
}

impl ByteSource for Counted {
    fn len(&self) -> u64 {
        self.file.len()
    }
    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        self.read.set(self.read.get() + (range.end - range.start));
        self.file.read_now(range)
    }
}

#[test]
fn of_a_large_table_of_tokens_the_prompts_rows_alone_are_read() {
    let folder = root().join("tests/fixtures/folder_t2v/model");
    let whole = ModelFiles::read_dir(&folder).expect("the committed folder");
    let mut arrays = read_arrays(&folder.join("text_encoder/model.safetensors")).expect("its text encoder");
    let table = arrays.get_mut("shared.weight").expect("a table");
    let columns = table.shape[1];
    // More than 32 MiB; a row that no prompt asks for may hold anything.
    let rows = (32 << 20) / (4 * columns) + 1;
    table.shape[0] = rows;
    table.values.resize(rows * columns, f32::NAN);
    let read = Rc::<Cell<u64>>::default();
    let file = Counted { file: Memory::new(safetensors_file(&arrays)), read: read.clone() };
    let length = file.len();
    let config = std::fs::read(folder.join("text_encoder/config.json")).expect("its configuration");
    let mut config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    config["vocab_size"] = rows.into();
    let mut large = whole.clone();
    large.add("text_encoder/model.safetensors", Rc::new(file));
    large.insert("text_encoder/config.json", config.to_string().into_bytes());

    let options = GenerateOptions { num_frames: 1, num_steps: 1, ..options() };
    let latents = |files: &ModelFiles| {
        let host = Impatient::default();
        let pipeline = block_on(Pipeline::load(files, Compute::cpu(), &host)).expect("a sound folder");
        block_on(pipeline.generate(&options, &Inputs::default(), &host)).expect("a clip").latents
    };
    assert!(latents(&large) == latents(&whole));
    assert!(read.get() < 1 << 20, "{} of {length} bytes were read", read.get());
}

fn options() -> GenerateOptions {
    GenerateOptions {
        prompt: "A red circle moves left.".into(),
        class_label: None,
        negative_prompt: String::new(),
        width: 48,
        height: 32,
        num_frames: 9,
        fps: 16.0,
        num_steps: 3,
        guidance_scale: 4.0,
        seed: 1,
        preset: None,
        flow_shift: None,
        sampler: None,
        sigmas: None,
        preview: true,
    }
}

#[test]
fn a_generation_tells_its_stages_steps_previews_and_frames_in_order() {
    let host = Impatient::default();
    block_on(pipeline().generate(&options(), &Inputs::default(), &host)).expect("a clip");
    let expected = [
        "tokenize",
        "encode-text",
        "condition",
        "denoise",
        "preview 1",
        "step 1/3",
        "preview 2",
        "step 2/3",
        "step 3/3",
        "decode",
        "frame 0",
        "frame 1",
        "frame 2",
        "frame 3",
        "frame 4",
        "frame 5",
        "frame 6",
        "frame 7",
        "frame 8",
    ];
    assert_eq!(*host.seen.borrow(), expected);
}

#[test]
fn a_cancel_lands_at_the_next_block_wherever_it_comes() {
    let pipeline = pipeline();
    let calm = Impatient::default();
    block_on(pipeline.generate(&options(), &Inputs::default(), &calm)).expect("a clip");
    let blocks = calm.turns.get();
    assert!(blocks > 20, "only {blocks} turns were given in a whole generation");
    for patience in 1..blocks {
        let host = Impatient { patience: Some(patience), ..Impatient::default() };
        let result = block_on(pipeline.generate(&options(), &Inputs::default(), &host));
        assert!(matches!(result, Err(Error::Aborted)), "cancelled after {patience} of {blocks} turns");
        assert_eq!(host.turns.get(), patience, "work went on after the cancel");
    }
    // Nothing of the cancelled runs is left behind.
    let again = Impatient::default();
    let clip = block_on(pipeline.generate(&options(), &Inputs::default(), &again)).expect("a clip");
    let first = block_on(pipeline.generate(&options(), &Inputs::default(), &Impatient::default())).expect("a clip");
    assert_eq!(clip.latents, first.latents);
}

#[test]
fn a_prompt_that_is_too_long_is_cut_and_the_tokens_kept_are_told() {
    let host = Impatient::default();
    let long = GenerateOptions { prompt: "red circle ".repeat(600), num_steps: 1, ..options() };
    let clip = block_on(pipeline().generate(&long, &Inputs::default(), &host)).expect("a clip");
    assert_eq!(clip.tokens.0, 512);
    assert!(clip.tokens.1 > 512);
    let told = format!("the prompt is too long: 512 of its {} tokens were kept", clip.tokens.1);
    assert!(host.seen.borrow().contains(&told), "{:?}", host.seen.borrow());
}

#[test]
fn a_clip_that_cannot_fit_is_refused_before_anything_is_computed_and_what_would_fit_is_told() {
    let pipeline = pipeline();
    let long = GenerateOptions { num_frames: 81, num_steps: 1, ..options() };
    let refusal = |free: u64| {
        let host = Impatient { free_memory: Some(free), ..Impatient::default() };
        let result = block_on(pipeline.generate(&long, &Inputs::default(), &host));
        assert!(host.turns.get() == 0 || result.is_ok(), "work was done before the refusal");
        match result {
            Ok(_) => String::new(),
            Err(Error::OutOfMemory(message)) => message,
            Err(other) => panic!("{other:?}"),
        }
    };
    let size = |frames| ClipSize { frames, height: long.height, width: long.width };
    let (needed, shorter) = (pipeline.least_bytes(size(81)), pipeline.least_bytes(size(41)));
    assert!(shorter < needed, "{shorter} {needed}");
    assert_eq!(refusal(needed), "");
    let told = refusal(shorter);
    assert!(
        told.starts_with("81 frames of 48 × 32 px take at least") && told.ends_with("41 frames of this size might fit"),
        "{told}"
    );
    assert!(refusal(0).ends_with("choose a smaller size"));
}

#[test]
fn a_draft_tells_before_any_weights_are_read_what_the_model_tells_after() {
    let folder = root().join("models/small-world");
    let files = ModelFiles::read_dir(&folder).expect("the default model");
    let registry = Registry::default();
    let drafted = block_on(draft(&registry, &files, &Compute::cpu())).expect("a sound folder");
    let loaded = block_on(Pipeline::load(&files, Compute::cpu(), &Impatient::default())).expect("a sound folder");
    let size = options().size();
    assert_eq!(drafted.least_bytes(size), loaded.least_bytes(size));
    assert_eq!((drafted.rules(), drafted.capabilities()), (loaded.rules(), loaded.capabilities()));
    let host = Impatient { free_memory: Some(0), ..Impatient::default() };
    assert!(matches!(drafted.check_room(size, &host), Err(Error::OutOfMemory(_))));
}

/// A file of which no more than its beginning may be read.
#[derive(Debug)]
struct Beginning(Vec<u8>);

impl ByteSource for Beginning {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        const HEADER: u64 = 1 << 19;
        if range.end > HEADER {
            return Err(Error::Fetch(format!("bytes {range:?} are weights")));
        }
        Ok(Some(Cow::Borrowed(&self.0[range.start as usize..range.end as usize])))
    }
}

#[test]
fn weights_that_cannot_fit_are_refused_before_any_is_read() {
    let folder = root().join("models/small-world");
    let mut files = ModelFiles::read_dir(&folder).expect("the default model");
    let parts: Vec<_> = ["text_encoder", "transformer", "vae"].iter().flat_map(|part| files.of_part(part)).collect();
    for (path, _) in parts {
        if !path.ends_with(".json") {
            let bytes = std::fs::read(folder.join(&path)).expect("the default model");
            files.add(path, Rc::new(Beginning(bytes)));
        }
    }
    let load = |free_memory: Option<u64>| {
        let host = Impatient { free_memory, ..Impatient::default() };
        let result = block_on(Pipeline::load(&files, Compute::cpu(), &host));
        assert!(host.turns.get() == 0 || free_memory.is_none(), "work was done before the refusal");
        result.err().expect("it cannot be loaded")
    };
    match load(Some(1_000_000)) {
        Error::OutOfMemory(told) => {
            let start = "the model's weights take at least ";
            assert!(told.starts_with(start) && told.contains(", 1.0 MB are free: "), "{told}");
        }
        other => panic!("{other:?}"),
    }
    // With room for them they would have been read.
    assert!(matches!(load(None), Error::Fetch(told) if told.contains("are weights")));
}

#[test]
fn a_task_of_several_windows_that_cannot_fit_is_refused_too() {
    let folder = root().join("models/small-world");
    let files = ModelFiles::read_dir(&folder).expect("the default model");
    let pipeline = block_on(Pipeline::load(&files, Compute::cpu(), &Impatient::default())).expect("a sound folder");
    let host = Impatient { free_memory: Some(0), ..Impatient::default() };
    let options = GenerateOptions { width: 64, height: 64, ..options() };
    let clip = vec![Picture::new(1, 1, Values::Rgba(vec![0, 0, 255, 255])).expect("a picture")];
    let task = Task::Extend { clip, by: 4, backward: false, overlap: None };
    let made = block_on(tasks::run(&pipeline, &options, &task, &Beside::default(), &host));
    assert!(matches!(made, Err(Error::OutOfMemory(_))), "{:?}", made.err());
}
