//! `tabreel generate`.

use std::cell::RefCell;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::catalogue;
use super::compare;
use super::given::{Arranged, GivenArgs};
use super::identity::Identity;
use super::model::ModelArgs;
use super::options::OptionArgs;
use super::output::{self, recipe};
use super::room;
use super::vocabulary::Vocabulary;
use crate::contract::EngineResult;
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::host::{Event, Host};
use crate::models::registry::Registry;
use crate::options::{GenerateOptions, GivenOptions, ModelDefaults, Presets, Rules, suggested};
use crate::pipeline::{Inputs, ModelFiles, Pipeline, card_of, draft};
use crate::tasks;
use crate::weights::WeightSet;

/// Options of `generate`. Sizes, steps and the like default to what the model's `tabreel.json` says.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    options: OptionArgs,
    #[command(flatten)]
    given: GivenArgs,
    /// Start from the tensor `latents` [1, C, F, H, W] of this .safetensors file instead of noise from the seed.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "task")]
    latents: Option<PathBuf>,
    /// Say the prompt in the words that a small model was trained on and fill in, by the seed, what it leaves open.
    #[arg(long)]
    suggest: bool,
    /// Make the clip once with each of these numbers of steps and lay them side by side.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', conflicts_with_all = ["task", "latents"])]
    compare_steps: Vec<usize>,
    /// Megabytes that the weights may take at once; what does not fit is read from its file again and again.
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    memory: Option<u64>,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceArg::Auto)]
    device: DeviceArg,
    /// Output file: .gif, .mp4 or .webm (through ffmpeg), .png or .jpg (contact sheet), .y4m or .safetensors (`frames` and
    /// `latents`).
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum DeviceArg {
    /// A real GPU if there is one, else the CPU.
    Auto,
    /// Burn's CPU backend.
    Cpu,
    /// The best adapter wgpu finds.
    Gpu,
}

/// Runs `generate`.
///
/// # Errors
/// As [`GivenArgs::read`], [`Pipeline::load`], [`Pipeline::generate`] and [`tasks::run`]; [`Error::Fetch`] when the output
/// cannot be written.
pub fn run(args: GenerateArgs, json: bool) -> Result<()> {
    let out = output::Partial::create(&args.out)?;
    let host = TerminalHost::new(json);
    pollster::block_on(async {
        let files = args.model.files()?;
        let mut card = card_of(&Registry::default(), &files).await?;
        let mut asked = args.options.0.clone();
        if let Some(preset) = asked.preset.take() {
            let presets = catalogue::presets_of(&Registry::default(), &files, &card).await?;
            card.default = suggested(&card.default, &presets, Some(&preset))?;
            let sizes = presets.get(&preset).and_then(|preset| preset.sizes.clone());
            card.sizes = sizes.filter(|sizes| !sizes.is_empty()).unwrap_or(card.sizes);
            check_lora(&presets, &preset, &files)?;
        }
        let seed = *asked.seed.get_or_insert_with(random_seed);
        let vocabulary = Vocabulary::of(&files).await?;
        if args.suggest {
            let prompt = asked.prompt.as_deref().unwrap_or_default();
            asked.prompt = Some(suggestion(vocabulary.as_ref(), prompt, seed)?);
        }
        check_before_loading(&asked, &card.default)?;
        // The files are looked at before the model is loaded, which takes longer.
        let given = args.given.read(asked.clone().settle(&card.default).fps)?;
        let compute = args.device.open().await?;
        host.say("device", &compute.describe());
        if !compute.is_gpu() {
            room::check_model(&files)?;
        }
        // On the CPU weights beyond what is free are streamed, not asked for.
        let usual = if compute.is_gpu() { None } else { room::for_weights() };
        let (registry, budget) = (Registry::default(), args.memory.map(|mb| mb << 20).or(usual));
        let load = |compute: Compute| Pipeline::load_within(&registry, &files, compute, budget, &host);
        let chosen = asked.num_steps.is_some() || asked.sigmas.is_some();
        let draft = match draft(&registry, &files, &compute).await {
            Ok(draft) => draft,
            // What is wrong with a folder, its loading says better.
            Err(error) => return load(compute).await.and(Err(error)),
        };
        // What the model refuses, and a clip that does not fit, are told before gigabytes are read.
        let (arranged, mut options, notes) = given.arrange(asked, &card, &draft)?;
        let each = match args.compare_steps.as_slice() {
            [] => vec![options.clone()],
            steps => compare::each(&options, steps, chosen)?,
        };
        each.iter().try_for_each(|options| arranged.check(&draft, options, &host))?;
        drop(draft);
        let pipeline = load(compute).await?;
        notes.iter().for_each(|note| host.event(Event::warning(note)));
        host.tell_prompt(&options.prompt, vocabulary.as_ref(), args.suggest);
        let name = match card.name.as_str() {
            "" => args.model.name(),
            name => name.to_owned(),
        };
        let model = Identity::of(name, &files).await?;
        let mut beside = args.given.recipe(&arranged);
        if !args.compare_steps.is_empty() {
            beside["compare-steps"] = args.compare_steps.clone().into();
        }
        let recipe = recipe::write(&model, args.given.task_name(&arranged, &options), &options, &beside);
        let frames;
        let (clip, latents) = match arranged {
            Arranged::Clip(condition) => {
                host.set_steps(each.iter().map(|options| options.num_steps).sum());
                let mut inputs = Inputs { condition, ..Inputs::default() };
                if let Some(path) = &args.latents {
                    inputs.latents = Some(read_latents(path, pipeline.compute())?);
                }
                let (mut clips, mut last) = (Vec::with_capacity(each.len()), None);
                for options in &each {
                    last = Some(pipeline.generate(options, &inputs, &host).await?);
                    clips.push(host.take_frames());
                }
                frames = Frames::beside(clips, options.width);
                let last = last.ok_or_else(|| Error::Internal("no clip was asked for".into()))?;
                (last, each.len() == 1)
            }
            Arranged::Task(task, beside) => {
                let windows = task.windows(options.num_frames, tasks::way_of(&pipeline))?;
                host.set_steps(windows * options.num_steps);
                let made = tasks::run(&pipeline, &options, &task, &beside, &host).await?;
                frames = host.take_frames();
                (made.last, false)
            }
        };
        options.num_frames = frames.count;
        options.width *= each.len();
        // Of several windows or clips the last one's latents alone would say little.
        let latents = latents.then_some((clip.latents.as_slice(), clip.latents_shape));
        let size = [options.num_frames, options.height, options.width];
        output::write(out, &frames.rgb, size, options.fps, latents, Some(&recipe))?;
        host.finish(&args.out, &EngineResult::new(&clip, &options, pipeline.compute()))
    })
}

/// The tensor `latents` of a file; its shape is checked where it is used.
fn read_latents(path: &Path, compute: &Compute) -> Result<Tensor<5>> {
    let bytes = std::fs::read(path).map_err(|e| Error::Fetch(format!("{}: {e}", path.display())))?;
    let set = WeightSet::from_bytes(bytes, &path.display().to_string())?;
    let shape = set.get("latents").map(|info| info.shape.clone()).unwrap_or_default();
    let Ok(shape) = <[usize; 5]>::try_from(shape.as_slice()) else {
        let found = if shape.is_empty() { "no such tensor".into() } else { format!("shape {shape:?}") };
        return Err(Error::weights("latents", format!("shape [1, C, F, H, W] in {}", path.display()), found));
    };
    let values = set.take_f32("latents", &shape)?;
    Ok(Tensor::from_data(TensorData::new(values, shape), compute.device()))
}

/// What the table alone can tell, before gigabytes are read; the model's own rules, and how long a clip may be, come after.
fn check_before_loading(asked: &GivenOptions, defaults: &ModelDefaults) -> Result<()> {
    let any = Rules { width_multiple: 1, height_multiple: 1, frame_multiple: 1 };
    GenerateOptions { num_frames: 1, ..asked.clone().settle(defaults) }.check(any)
}

/// A prompt in the model's own words.
fn suggestion(vocabulary: Option<&Vocabulary>, prompt: &str, seed: u64) -> Result<String> {
    let mut state = seed;
    // Knuth's generator; its upper bits are the good ones.
    let choose = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % count.max(1)
    };
    vocabulary
        .and_then(|vocabulary| vocabulary.suggest(prompt, choose))
        .ok_or_else(|| Error::options("--suggest needs a model whose card lists its words; this one's does not"))
}

/// A preset made for a LoRA would give noise without it; which file it is, only the caller knows.
fn check_lora(presets: &Presets, name: &str, files: &ModelFiles) -> Result<()> {
    match presets.get(name).and_then(|preset| preset.lora.as_ref()) {
        Some(lora) if files.loras().is_empty() => {
            Err(Error::options(format!("preset {name} needs the LoRA {lora}: give its file with --lora")))
        }
        _ => Ok(()),
    }
}

impl DeviceArg {
    async fn open(self) -> Result<Compute> {
        match self {
            Self::Cpu => Ok(Compute::cpu()),
            Self::Gpu => Compute::gpu().await,
            // A program that plays the GPU is slower than the CPU's own kernels.
            Self::Auto => Ok(Compute::gpu().await.ok().filter(|gpu| !gpu.is_software()).unwrap_or_else(Compute::cpu)),
        }
    }
}

/// A seed below 2³², other at each call: the hasher of the standard library is seeded by the system.
fn random_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

/// Frames collected so far, RGB, `[F, H, W, 3]`.
#[derive(Debug, Default)]
struct Frames {
    rgb: Vec<u8>,
    count: usize,
}

impl Frames {
    /// Clips of the same size, so many pixels wide each, from left to right.
    fn beside(mut clips: Vec<Self>, width: usize) -> Self {
        if clips.len() == 1 {
            return clips.remove(0);
        }
        let count = clips.iter().map(|clip| clip.count).min().unwrap_or_default();
        let clips: Vec<Vec<u8>> = clips.into_iter().map(|clip| clip.rgb).collect();
        Self { rgb: compare::beside(&clips, 3 * width), count }
    }
}

/// Shows progress on a terminal, or prints JSON lines.
struct TerminalHost {
    json: bool,
    bar: ProgressBar,
    started: Instant,
    frames: RefCell<Frames>,
}

impl TerminalHost {
    fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        Self { json, bar, started: Instant::now(), frames: RefCell::default() }
    }

    fn say(&self, what: &str, words: &str) {
        match self.json {
            true => self.line(&serde_json::json!({ "type": what, what: words }).to_string()),
            false => self.note(&format!("{what}: {words}")),
        }
    }

    /// A line of output. A reader that has gone away must not cost the clip.
    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// A word to the person at the terminal, or to the log where there is no terminal to draw a bar on.
    fn note(&self, text: &str) {
        if self.bar.is_hidden() {
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Says what was made of the prompt, and the words of it that say nothing to a small model.
    fn tell_prompt(&self, prompt: &str, vocabulary: Option<&Vocabulary>, suggested: bool) {
        if suggested {
            self.say("prompt", prompt);
        }
        let unknown = vocabulary.map(|vocabulary| vocabulary.unknown(prompt)).unwrap_or_default();
        if !unknown.is_empty() {
            let words: Vec<String> = unknown.iter().map(|word| format!("“{word}”")).collect();
            self.event(Event::warning(format!("this small model does not know {}", words.join(", "))));
        }
    }

    fn set_steps(&self, steps: usize) {
        self.bar.set_length(steps as u64);
        self.bar.set_position(0);
    }

    fn take_frames(&self) -> Frames {
        self.frames.take()
    }

    fn finish(&self, out: &Path, clip: &EngineResult) -> Result<()> {
        self.bar.finish_and_clear();
        match self.json {
            true => {
                let mut line = serde_json::json!(clip);
                line["type"] = "done".into();
                line["out"] = out.to_string_lossy().into();
                self.line(&line.to_string());
            }
            false => {
                let total = clip.timings.get("total").copied().unwrap_or_default();
                let made = format!("{} frames, seed {}, {total:.1} s", clip.num_frames, clip.seed);
                self.line(&format!("{} ({made})", out.display()));
            }
        }
        Ok(())
    }
}

impl Host for TerminalHost {
    fn event(&self, event: Event) {
        if self.json && matches!(event, Event::Stage { .. } | Event::Step { .. } | Event::Warning { .. }) {
            self.line(&serde_json::json!(event).to_string());
        }
        match event {
            Event::Loading { loaded, total, what } => {
                self.bar.set_length(total as u64);
                self.bar.set_position(loaded as u64);
                self.bar.set_message(format!("load {what}"));
            }
            Event::Stage { stage } => self.bar.set_message(stage.name()),
            Event::Step { step, .. } => self.bar.set_position(step as u64),
            Event::Warning { message } if !self.json => self.note(&format!("warning: {message}")),
            Event::Warning { .. } => {}
            Event::Frame { index, rgba, .. } => {
                // Windows before a clip's start come last.
                let mut frames = self.frames.borrow_mut();
                let bytes = rgba.len() / 4 * 3;
                let end = (index + 1) * bytes;
                if frames.rgb.len() < end {
                    frames.rgb.resize(end, 0);
                }
                let rgb = rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]);
                frames.rgb[end - bytes..end].iter_mut().zip(rgb).for_each(|(into, value)| *into = value);
                frames.count = frames.count.max(index + 1);
            }
            Event::Preview { .. } => {}
        }
    }

    fn aborted(&self) -> bool {
        false
    }

    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(std::future::ready(()))
    }

    fn now_secs(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn free_memory(&self) -> Option<u64> {
        room::free()
    }
}
