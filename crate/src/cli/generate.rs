//! `tabreel generate`.

mod batch;
mod terminal;

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use clap::Args;

use super::catalogue;
use super::compare;
use super::embeds;
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
use crate::pipeline::{Inputs, ModelCard, ModelFiles, Pipeline, card_of, draft};
use crate::tasks;
use crate::weights::WeightSet;
use terminal::{Frames, TerminalHost};

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
    /// Keep the prompt, and with guidance the negative prompt, in this file as the model reads them.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with_all = ["task", "embeds"])]
    save_embeds: Option<PathBuf>,
    /// Take the prompts from a file of --save-embeds: the text encoder is not read, and need not be there. --prompt then only
    /// says what they are.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "task")]
    embeds: Option<PathBuf>,
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
    #[arg(long, required_unless_present = "batch")]
    out: Option<PathBuf>,
    /// Make a clip of text of each line of a file, of any sizes, several in one pass of the model. A line is a prompt, or a JSON
    /// object with the names of these flags: {"prompt": "a red fox", "width": 192, "frames": 25, "seed": 7, "out": "fox.gif"}.
    /// What it leaves out is as the flags say for all; without an "out" of its own, clip 3 of --out clip.gif is clip-3.gif.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["GivenArgs", "latents", "compare_steps", "embeds", "save_embeds"])]
    batch: Option<PathBuf>,
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

/// A model that was asked for, before its weights are read.
struct Asked {
    registry: Registry,
    files: ModelFiles,
    card: ModelCard,
}

/// The same, and where it will compute.
struct Opened<'a> {
    model: &'a Asked,
    compute: Compute,
    /// Bytes that its weights may take, where somebody says.
    budget: Option<u64>,
}

impl GenerateArgs {
    /// The model's files and its card, with the preset that `asked` names in the card's defaults.
    async fn choose(&self, asked: &mut GivenOptions) -> Result<Asked> {
        let (registry, mut files) = (Registry::default(), self.model.files()?);
        if self.embeds.is_some() {
            files.leave_text();
        }
        let mut card = card_of(&registry, &files).await?;
        if let Some(preset) = asked.preset.take() {
            let presets = catalogue::presets_of(&registry, &files, &card).await?;
            card.default = suggested(&card.default, &presets, Some(&preset))?;
            let sizes = presets.get(&preset).and_then(|preset| preset.sizes.clone());
            card.sizes = sizes.filter(|sizes| !sizes.is_empty()).unwrap_or(card.sizes);
            check_lora(&presets, &preset, &files)?;
        }
        Ok(Asked { registry, files, card })
    }

    /// The device, which is said.
    async fn open<'a>(&self, model: &'a Asked, host: &TerminalHost) -> Result<Opened<'a>> {
        let compute = self.device.open().await?;
        host.say("device", &compute.describe());
        if !compute.is_gpu() {
            room::check_model(&model.files)?;
        }
        // On the CPU weights beyond what is free are streamed, not asked for.
        let usual = if compute.is_gpu() { None } else { room::for_weights() };
        Ok(Opened { model, compute, budget: self.memory.map(|mb| mb << 20).or(usual) })
    }
}

impl Opened<'_> {
    async fn load(&self, host: &TerminalHost) -> Result<Pipeline> {
        let Asked { registry, files, .. } = self.model;
        Pipeline::load_within(registry, files, self.compute.clone(), self.budget, host).await
    }

    /// What can be asked of it, before its weights are read.
    async fn draft(&self, host: &TerminalHost) -> Result<Pipeline> {
        let Asked { registry, files, .. } = self.model;
        match draft(registry, files, &self.compute).await {
            Ok(draft) => Ok(draft),
            // What is wrong with a folder, its loading says better.
            Err(error) => self.load(host).await.and(Err(error)),
        }
    }

    /// What recipes say of it.
    async fn identity(&self, args: &GenerateArgs) -> Result<Identity> {
        let name = match self.model.card.name.as_str() {
            "" => args.model.name(),
            name => name.to_owned(),
        };
        Identity::of(name, &self.model.files).await
    }
}

/// Runs `generate`.
///
/// # Errors
/// As [`GivenArgs::read`], [`Pipeline::load`], [`Pipeline::generate`] and [`tasks::run`]; [`Error::Fetch`] when the output
/// cannot be written.
pub fn run(args: GenerateArgs, json: bool) -> Result<()> {
    if let Some(file) = &args.batch {
        return batch::run(&args, file, json);
    }
    let target = args.out.as_deref().unwrap_or(Path::new(""));
    let out = output::Partial::create(target)?;
    let host = TerminalHost::new(json);
    pollster::block_on(async {
        let mut asked = args.options.0.clone();
        let model = args.choose(&mut asked).await?;
        let card = &model.card;
        let seed = *asked.seed.get_or_insert_with(random_seed);
        let vocabulary = Vocabulary::of(&model.files).await?;
        if args.suggest {
            let prompt = asked.prompt.as_deref().unwrap_or_default();
            asked.prompt = Some(suggestion(vocabulary.as_ref(), prompt, seed)?);
        }
        check_before_loading(&asked, &card.default)?;
        // The files are looked at before the model is loaded, which takes longer.
        let given = args.given.read(asked.clone().settle(&card.default).fps)?;
        let opened = args.open(&model, &host).await?;
        let prompts = args.embeds.as_deref().map(|path| embeds::read(path, &opened.compute)).transpose()?;
        let chosen = asked.num_steps.is_some() || asked.sigmas.is_some();
        let draft = opened.draft(&host).await?;
        // What the model refuses, and a clip that does not fit, are told before gigabytes are read.
        let (arranged, mut options, notes) = given.arrange(asked, card, &draft)?;
        let each = match args.compare_steps.as_slice() {
            [] => vec![options.clone()],
            steps => compare::each(&options, steps, chosen)?,
        };
        each.iter().try_for_each(|options| arranged.check(&draft, options, &host))?;
        drop(draft);
        let pipeline = opened.load(&host).await?;
        notes.iter().for_each(|note| host.event(Event::warning(note)));
        host.tell_prompt(&options.prompt, vocabulary.as_ref(), args.suggest);
        let identity = opened.identity(&args).await?;
        let mut beside = args.given.recipe(&arranged);
        if !args.compare_steps.is_empty() {
            beside["compare-steps"] = args.compare_steps.clone().into();
        }
        let recipe = recipe::write(&identity, args.given.task_name(&arranged, &options), &options, &beside);
        let frames;
        let (clip, latents) = match arranged {
            Arranged::Clip(condition) => {
                host.set_steps(each.iter().map(|options| options.num_steps).sum());
                let mut inputs = Inputs { condition, prompt_embeds: prompts, ..Inputs::default() };
                if let Some(path) = &args.save_embeds {
                    let made = pipeline.embed_prompts(&options, &host).await?;
                    embeds::write(path, &made).await?;
                    inputs.prompt_embeds = Some(made);
                }
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
        host.finish();
        host.tell_made(target, &EngineResult::new(&clip, &options, pipeline.compute()));
        Ok(())
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
