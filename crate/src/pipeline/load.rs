//! From the files of a folder to a pipeline: which component is built when, and whether they belong together.

use std::rc::Rc;

use serde_json::Value;

use super::files::{CARD, LoraFile, ModelCard, ModelFiles};
use super::plan::{Plan, PlannedPart};
use super::stages::Stages;
use super::{Parts, Pipeline, TextStage};
use crate::config;
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::host::{Event, Host};
use crate::kernels::check::prepare;
use crate::models::family::{Component, Denoiser, Entry, Known};
use crate::models::names;
use crate::models::registry::{self, Registry};
use crate::nn::loader::Loader;
use crate::options::ModelDefaults;
use crate::schedulers::{CLASSES, Scheduler, SchedulerConfig};
use crate::tokenizer::Tokenizer;
use crate::weights::lora::Lora;
use crate::weights::{WeightFile, WeightSet};

/// Components of a folder, in loading order.
pub(super) const COMPONENTS: [&str; 4] = ["tokenizer", "text_encoder", "transformer", "vae"];
/// And one that only some models have.
pub(super) const IMAGE_ENCODER: &str = "image_encoder";

/// Those that a model of classes does without.
pub(super) const TEXT_COMPONENTS: [&str; 2] = ["tokenizer", "text_encoder"];

const INDEX: &str = "model_index.json";

/// FastVideo's pipeline for models distilled to three steps (FastWan).
const DMD: &str = "WanDMDPipeline";

/// Noise levels of FastVideo's models of three steps (`WanDMDPipeline`), shifted already.
pub const DMD_SIGMAS: [f64; 3] = [1.0, 0.757, 0.522];

/// Pipelines of diffusers whose folders can be run; what their parts are, the parts' own classes say.
const PIPELINES: [&str; 7] = [
    "WanPipeline",
    "WanVACEPipeline",
    "WanVideoToVideoPipeline",
    "WanImageToVideoPipeline",
    DMD,
    "AnyFlowPipeline",
    "DiTPipeline",
];

impl Pipeline {
    /// Builds every component of a folder, reading each tensor when its turn comes.
    ///
    /// # Errors
    /// [`Error::Fetch`] when a file is missing, [`Error::Weights`] and [`Error::Tokenizer`] when one does not fit,
    /// [`Error::OutOfMemory`] before any weights are read when the device cannot hold them, [`Error::Aborted`] from between
    /// the components.
    pub async fn load(files: &ModelFiles, compute: Compute, host: &dyn Host) -> Result<Self> {
        Self::load_with(&Registry::default(), files, compute, host).await
    }

    /// As [`Pipeline::load`], with the models of `registry`.
    ///
    /// # Errors
    /// As [`Pipeline::load`].
    pub async fn load_with(registry: &Registry, files: &ModelFiles, compute: Compute, host: &dyn Host) -> Result<Self> {
        Self::load_within(registry, files, compute, None, host).await
    }

    /// As [`Pipeline::load_with`], with weights of at most `budget` bytes on the device at once where that can be done:
    /// what does not fit is streamed.
    ///
    /// # Errors
    /// As [`Pipeline::load`].
    pub async fn load_within(
        registry: &Registry,
        files: &ModelFiles,
        compute: Compute,
        budget: Option<u64>,
        host: &dyn Host,
    ) -> Result<Self> {
        let index = model_index(files, registry).await?;
        let outline = Outline::of(registry, files).await?;
        let card = card_beside(files, &outline).await?;
        let needs_text = outline.needs_text;
        let usual = outline.known.and_then(|known| known.scheduler);
        let found = scheduler(files, usual.clone()).await?;
        // Before any weights: convolutions pack theirs for the kernel that will run.
        for finding in prepare(&compute).await.iter().filter(|finding| !finding.passed()) {
            host.event(Event::warning(format!("on this GPU {finding}: a slower one is used instead")));
        }
        let image_encoder = match files.part_bytes(IMAGE_ENCODER) {
            0 => None,
            _ => Some(Opened::new(files, IMAGE_ENCODER, &registry.image_encoders).await?),
        };
        let steps: Vec<&'static str> =
            COMPONENTS.into_iter().chain(image_encoder.as_ref().map(|_| IMAGE_ENCODER)).collect();
        let progress = async |done: usize| {
            host.event(Event::Loading { loaded: done, total: steps.len(), what: steps[done.min(steps.len() - 1)] });
            host.tick().await;
            if host.aborted() { Err(Error::Aborted) } else { Ok(()) }
        };
        let text_encoder = match needs_text {
            true => Some(Opened::new(files, "text_encoder", &registry.text_encoders).await?),
            false => None,
        };
        let transformer = Opened::with_loras(files, "transformer", &registry.denoisers, host).await?;
        let vae = Opened::new(files, "vae", &registry.codecs).await?;
        let none = WeightSet::default();
        let text_weights = text_encoder.as_ref().map_or(&none, |opened| &opened.set);
        let looked = image_encoder.as_ref().map(|part| part.set.as_ref());
        let sets = [text_weights, transformer.set.as_ref(), vae.set.as_ref()];
        let building = Building { compute: &compute, index: &index, host };
        let mut plan = Plan::new(&compute, budget, sets, looked);
        if compute.is_gpu() {
            let parts = (text_encoder.as_ref(), image_encoder.as_ref(), &transformer, &vae);
            let choices = Plan::choices(&compute, budget, sets, looked);
            // What is wrong with a part, its own loading says.
            plan = building.roomiest(registry, parts, &choices, &card).await.ok().flatten().unwrap_or(plan);
        }
        // Of the files no more than headers has been read.
        plan.check(&compute, budget, host.free_memory())?;

        progress(0).await?;
        let mut text = None;
        if let Some(text_encoder) = text_encoder {
            let tokenizer = tokenizer(files).await?;
            progress(1).await?;
            let encoder = building.component(text_encoder, plan.text_encoder, &registry.text_encoders).await?;
            text = Some(TextStage { tokenizer, encoder });
        }
        progress(2).await?;
        let denoiser = building.component(transformer, plan.transformer, &registry.denoisers).await?;
        progress(3).await?;
        let codec = building.component(vae, plan.vae, &registry.codecs).await?;
        progress(4).await?;
        let mut image = None;
        match (image_encoder, plan.image_encoder) {
            (Some(part), Some(planned)) if denoiser.looks() => {
                image = Some(building.component(part, planned, &registry.image_encoders).await?);
                progress(5).await?;
            }
            // Some folders bring one that their model has no use for.
            _ => plan = plan.without_image(),
        }

        let scheduler = suited(found, usual, denoiser.as_ref())?;
        let mut pipeline = Self::new(compute, Parts { text, image, denoiser, codec, scheduler, card })?;
        pipeline.plan = Some(plan);
        pipeline.plan_clip();
        pipeline.memory.loaded(&pipeline.compute, host);
        Ok(pipeline)
    }
}

/// What a model's transformer and index tell of it before any weights are read.
pub(super) struct Outline {
    /// What it is, read off its tensors, where no config.json says so.
    pub known: Option<Known>,
    /// What such a model suggests where its card does not.
    pub usual: ModelDefaults,
    /// How its pipeline samples, where it has a way of its own.
    pub sampling: Option<ModelDefaults>,
    /// Whether its tokenizer and its text encoder are to be read.
    pub needs_text: bool,
}

impl Outline {
    /// # Errors
    /// [`Error::Weights`] when nothing in `registry` knows a transformer without a configuration, or that is broken.
    pub async fn of(registry: &Registry, files: &ModelFiles) -> Result<Self> {
        const FILE: &str = "transformer/config.json";
        let sampling = sampling_of(files).await?;
        let needs_text = !files.leaves_text();
        let mut out = Self { known: None, usual: ModelDefaults::default(), sampling, needs_text };
        // A folder without a transformer is no set of loose files; what it lacks, its loading says.
        if files.part_bytes("transformer") == 0 {
            return Ok(out);
        }
        if !files.contains(FILE) {
            let known = registry::configure(&registry.denoisers, &files.weights("transformer").await?, FILE)?;
            out.usual = known.defaults.clone();
            out.known = Some(known);
            return Ok(out);
        }
        let json = files.require(FILE).await?;
        let class = config::class(&json, FILE)?;
        let set = if class.is_empty() { files.weights("transformer").await? } else { WeightSet::default() };
        if let Some(entry) = registry::of_class(&registry.denoisers, &class, &set) {
            let codec =
                if files.contains("vae/config.json") { files.require("vae/config.json").await? } else { Vec::new() };
            out.usual = (entry.usual)(&json, &codec);
            out.needs_text &= entry.needs_text;
        }
        Ok(out)
    }
}

/// A folder's card, with what its makers suggest where it says nothing.
///
/// # Errors
/// As [`ModelCard::read`]; [`Error::Weights`] when nothing in `registry` knows the transformer.
pub async fn card_of(registry: &Registry, files: &ModelFiles) -> Result<ModelCard> {
    card_beside(files, &Outline::of(registry, files).await?).await
}

pub(super) async fn card_beside(files: &ModelFiles, outline: &Outline) -> Result<ModelCard> {
    let mut card = match &outline.known {
        // A loose file's own suggestions go with no other card's.
        Some(known) if !files.contains(CARD) => ModelCard { name: known.name.clone(), ..ModelCard::default() },
        Some(_) => return ModelCard::read(files).await,
        None => ModelCard::read(files).await?,
    };
    // Half of one way and half of another would be neither.
    if let (Some(sampling), None, None, None) =
        (&outline.sampling, card.default.num_steps, &card.default.sampler, &card.default.sigmas)
    {
        card.default = card.default.or(sampling);
    }
    card.default = card.default.or(&outline.usual);
    Ok(card)
}

/// How a folder's pipeline samples where diffusers has no scheduler for it: FastVideo's `WanDMDPipeline` goes to the clean estimate and
/// back to the next of three levels without guidance (its `dmd_denoising_steps`, 1000, 757, 522), whatever `scheduler/` says.
async fn sampling_of(files: &ModelFiles) -> Result<Option<ModelDefaults>> {
    if !files.contains(INDEX) {
        return Ok(None);
    }
    Ok((config::class(&files.require(INDEX).await?, INDEX)? == DMD).then(|| ModelDefaults {
        sampler: Some("stochastic".into()),
        sigmas: Some(DMD_SIGMAS.to_vec()),
        guidance_scale: Some(1.0),
        ..ModelDefaults::default()
    }))
}

/// The folder's `model_index.json`; a pipeline class that nothing here can run is refused.
pub(super) async fn model_index(files: &ModelFiles, registry: &Registry) -> Result<Value> {
    if !files.contains(INDEX) && !files.contains("transformer/config.json") {
        return Ok(Value::Null); // loose files
    }
    let json = &files.require(INDEX).await?;
    let index: Value = config::parse(json, INDEX, &[config::class(json, INDEX)?.as_str()])?;
    let class = index["_class_name"].as_str().unwrap_or_default();
    // A pipeline of another name will do where its parts are known: `"transformer": ["diffusers", "<class>"]`.
    let part = index["transformer"][1].as_str().unwrap_or_default();
    let known = registry.denoisers.iter().any(|entry| entry.classes.contains(&part));
    if !class.is_empty() && !PIPELINES.contains(&class) && !known {
        return Err(Error::weights(INDEX, format!("class {}", PIPELINES.join(" or ")), format!("class {class}")));
    }
    if !index["boundary_ratio"].is_null() {
        return Err(Error::weights(INDEX, "one transformer", "two experts (boundary_ratio is set)"));
    }
    Ok(index)
}

/// The class that the index names for a part; none for a folder without an index, or one that names none.
async fn named_class(files: &ModelFiles, part: &str) -> Result<Option<String>> {
    if !files.contains(INDEX) {
        return Ok(None);
    }
    // What is wrong with it, its own reading says.
    let index: Value = serde_json::from_slice(&files.require(INDEX).await?).unwrap_or_default();
    Ok(index[part][1].as_str().filter(|class| !class.is_empty()).map(str::to_owned))
}

/// diffusers builds each part of the class that the index names, whatever the part's own configuration says: where they differ,
/// another model would be run here than there. Classes of `family` differ in their configurations alone.
async fn check_class(files: &ModelFiles, part: &str, file: &str, class: &str, family: &[&str]) -> Result<()> {
    match named_class(files, part).await? {
        Some(named) if named != class && !family.contains(&named.as_str()) => {
            Err(Error::weights(file, format!("class {named}, as {INDEX} has it"), format!("class {class}")))
        }
        _ => Ok(()),
    }
}

/// How the folder's scheduler is set, tried on a grid of two steps: what cannot make one is the file's fault, not the caller's.
pub(super) async fn scheduler(files: &ModelFiles, usual: Option<Value>) -> Result<SchedulerConfig> {
    const FILE: &str = "scheduler/scheduler_config.json";
    let json = match usual {
        Some(usual) if !files.contains(FILE) => usual.to_string().into_bytes(),
        _ => files.require(FILE).await?,
    };
    let config: SchedulerConfig = config::parse(&json, FILE, &CLASSES)?;
    if files.contains(FILE) {
        check_class(files, "scheduler", FILE, config.class(), &[]).await?;
    }
    Scheduler::new(&config)
        .and_then(|mut scheduler| scheduler.set_timesteps(2))
        .map_err(|e| Error::weights(FILE, "settings that can be sampled with", e.to_string()))?;
    Ok(config)
}

/// The scheduler for this denoiser: one told by its tensors brings its usual one where the folder's is for another kind.
pub(super) fn suited(found: SchedulerConfig, usual: Option<Value>, denoiser: &dyn Denoiser) -> Result<SchedulerConfig> {
    match usual {
        Some(usual) if denoiser.is_flow_map() && !found.is_flow_map() => SchedulerConfig::from_json(&usual.to_string()),
        _ => Ok(found),
    }
}

/// A component whose files' headers have been read.
pub(super) struct Opened {
    pub name: &'static str,
    /// Where its configuration lies.
    pub file: String,
    pub config: Vec<u8>,
    pub set: Rc<WeightSet>,
}

impl Opened {
    pub async fn new<T: ?Sized>(files: &ModelFiles, name: &'static str, entries: &[Entry<T>]) -> Result<Self> {
        let file = format!("{name}/config.json");
        let set = files.weights(name).await?;
        let config = match files.contains(&file) {
            true => {
                let config = files.require(&file).await?;
                let class = config::class(&config, &file)?;
                // One that nothing here knows is told when it is built.
                if let Some(entry) = entries.iter().find(|entry| entry.classes.contains(&class.as_str())) {
                    check_class(files, name, &file, &class, entry.classes).await?;
                }
                config
            }
            false => registry::configure(entries, &set, &file)?.config.to_string().into_bytes(),
        };
        Ok(Self { name, file, config, set: Rc::new(set) })
    }

    /// The same with the LoRAs laid over its tensors.
    pub async fn with_loras<T: ?Sized>(
        files: &ModelFiles,
        name: &'static str,
        entries: &[Entry<T>],
        host: &dyn Host,
    ) -> Result<Self> {
        let mut opened = Self::new(files, name, entries).await?;
        let shared = || Error::Internal("a set of weights that is in use before it is built from".into());
        let set = Rc::get_mut(&mut opened.set).ok_or_else(shared)?;
        for LoraFile { label, source, strength } in files.loras() {
            let file = WeightFile::open(source.clone(), label).await?;
            let applied = names::apply_lora(set, Lora { file, strength: *strength }).await?;
            if let Some(first) = applied.unmatched.first() {
                host.event(Event::warning(format!(
                    "{} tensors of {label} fit nothing in this model and were left out (the first: {first})",
                    applied.unmatched.len()
                )));
            }
        }
        Ok(opened)
    }
}

/// What is at hand while the components are built.
struct Building<'a> {
    compute: &'a Compute,
    index: &'a Value,
    host: &'a dyn Host,
}

/// The parts whose headers have been read: text encoder, image encoder, transformer and codec.
type Headers<'a> = (Option<&'a Opened>, Option<&'a Opened>, &'a Opened, &'a Opened);

impl Building<'_> {
    /// The first plan that leaves room for a clip as the card suggests it, asked of parts of zeros.
    async fn roomiest(
        &self,
        registry: &Registry,
        (text, image, transformer, vae): Headers<'_>,
        choices: &[Plan],
        card: &ModelCard,
    ) -> Result<Option<Plan>> {
        let text = match text {
            Some(part) => Some(self.blank(part, &registry.text_encoders).await?),
            None => None,
        };
        let image = match image {
            Some(part) => Some(self.blank(part, &registry.image_encoders).await?),
            None => None,
        };
        let denoiser = self.blank(transformer, &registry.denoisers).await?;
        let codec = self.blank(vae, &registry.codecs).await?;
        let stages = Stages {
            compute: self.compute,
            text: text.as_deref(),
            image: image.as_deref(),
            denoiser: denoiser.as_ref(),
            codec: codec.as_ref(),
        };
        Ok(stages.choose(choices, card))
    }

    /// A part of zeros under its files' names and shapes, which takes next to no memory.
    async fn blank<T: ?Sized>(&self, part: &Opened, entries: &[Entry<T>]) -> Result<Box<T>> {
        let (blank, compute) = (Rc::new(part.set.blank()), Compute::cpu());
        // Layers that are streamed are compared with the first.
        let loader = Loader::new(&blank, compute.device()).streamed(true);
        let component = Component { config: &part.config, file: &part.file, loader, index: self.index };
        let built = registry::load(entries, &component).await?;
        Ok(built)
    }

    async fn component<T: ?Sized>(&self, part: Opened, plan: PlannedPart, entries: &[Entry<T>]) -> Result<Box<T>> {
        let Opened { name, file, config, set } = part;
        let largest = self.compute.adapter().map_or(u64::MAX, |adapter| adapter.max_storage_buffer_binding_bytes);
        let loader = Loader::new(&set, self.compute.device()).with_queue(self.compute.queue()).with_largest(largest);
        let loader = loader.streamed(plan.streamed);
        let component = Component { config: &config, file: &file, loader, index: self.index };
        let built = registry::load(entries, &component).await?;
        component.loader.settle().await?;
        warn_of_unused(&set, name, self.host);
        Ok(built)
    }
}

/// Classes of transformers that read a T5's `tokenizer.json` as it is read here; others make other tokens of it.
const TOKENIZERS: [&str; 6] = [
    "T5Tokenizer",
    "T5TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
    "PreTrainedTokenizer",
    "AutoTokenizer",
];

/// The tokenizer, from the first of: tokenizer.json, a SentencePiece file, the text encoder's own file.
pub(super) async fn tokenizer(files: &ModelFiles) -> Result<Tokenizer> {
    const PARTS: [&str; 2] = ["tokenizer", "text_encoder"];
    if let Some(path) = PARTS.iter().find_map(|part| files.ending(part, "tokenizer.json")) {
        let tokenizer = Tokenizer::from_json(&files.require(path).await?)?;
        if let Some(other) =
            named_class(files, "tokenizer").await?.filter(|class| !TOKENIZERS.contains(&class.as_str()))
        {
            let rule = TOKENIZERS.join(", ");
            return Err(Error::Tokenizer(format!("{INDEX} must name one of the tokenizers {rule}, got {other}")));
        }
        let settings = path.replace("tokenizer.json", "tokenizer_config.json");
        if files.contains(&settings) {
            tokenizer.check_settings(&files.require(&settings).await?)?;
        }
        return Ok(tokenizer);
    }
    if let Some(path) = PARTS.iter().find_map(|part| files.ending(part, ".model")) {
        return Tokenizer::from_sentencepiece(&files.require(path).await?);
    }
    for part in PARTS {
        let Some(file) = files.weight_file(part).await? else { continue };
        if file.metadata().contains_key("tokenizer.ggml.tokens") {
            return Tokenizer::from_gguf(file.metadata());
        }
        // ComfyUI puts the SentencePiece file into the text encoder's, as a tensor of bytes.
        if let Some(info) = file.tensors().iter().find(|info| info.name.ends_with("spiece_model")) {
            return Tokenizer::from_sentencepiece(&file.read(info).await?.here());
        }
    }
    Err(Error::Fetch(
        "the model has no tokenizer: tokenizer/tokenizer.json, a SentencePiece file (spiece.model), or a text encoder's file \
         that brings one (GGUF, or ComfyUI's with spiece_model) is needed"
            .into(),
    ))
}

/// Tensors that no part asked for mean that the configuration and the weights do not belong together.
fn warn_of_unused(set: &WeightSet, component: &str, host: &dyn Host) {
    let unused = left_over(set);
    if let Some(first) = unused.first() {
        host.event(Event::warning(format!(
            "{} tensors in {component}/ were not used (the first: {first})",
            unused.len()
        )));
    }
}

/// Tensors that no part of a model asked for.
pub(super) fn left_over(set: &WeightSet) -> Vec<String> {
    // Copies of the embedding table and of keys that diffusers ignores too are no sign of a mistake.
    let expected = |name: &String| name.ends_with("embed_tokens.weight") || name.contains("norm_added_q");
    set.unused().into_iter().filter(|name| !expected(name)).collect()
}
