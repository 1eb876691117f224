//! What files make of a model, told before any weights are read: a model is built from zeros under the files' names and
//! shapes, so that what is missing or left over is what loading itself would say. Whatever its size, they take next to no memory.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;

use super::files::{LoraFile, ModelFiles, is_weight_file};
use super::load::{self, COMPONENTS, IMAGE_ENCODER, Opened, TEXT_COMPONENTS};
use super::plan::{Plan, TAB_MEMORY, bytes_on, in_words};
use super::{Parts, Pipeline, TextStage};
use crate::condition::Capabilities;
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::host::{Host, SilentHost};
use crate::models::family::{Component, Denoiser, Entry, ImageEncoder, VideoCodec};
use crate::models::names;
use crate::models::registry::{self, Registry};
use crate::nn::loader::Loader;
use crate::weights::{WeightFile, WeightSet, lora};

/// Where a file lies whose part its tensors are to tell: `loose/NAME`.
pub const LOOSE: &str = "loose";

/// What a set of files is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The parts that are there, in loading order; LoRAs and what nothing here knows at the end.
    pub parts: Vec<InspectedPart>,
    /// Parts that a model needs and these files lack.
    pub missing: Vec<String>,
    /// What it would take on the device; only of a whole model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub plan: Option<Plan>,
    /// The same on the CPU, where the device is a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub cpu_plan: Option<Plan>,
    /// True if the files are a whole model and its weights have room on this device.
    pub runs: bool,
    /// Why it runs, or why not, in words.
    pub reason: String,
    /// Of one that runs: why a clip of the size that it suggests may not, in words; missing where nothing speaks against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub caution: Option<String>,
    /// What the model can be given besides text; only of a whole model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub capabilities: Option<Capabilities>,
}

/// What is told of one part.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct InspectedPart {
    /// `tokenizer`, `text_encoder`, `transformer`, `vae`, `image_encoder`, `lora` or `unknown`.
    pub part: String,
    /// Its files, by their paths in the model.
    pub files: Vec<String>,
    /// What it is, in words; empty where nothing here knows it.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of values in them.
    pub parameters: u64,
    /// Bytes of the tensors of each stored type, also of those that nothing here decodes.
    pub types: BTreeMap<String, u64>,
    /// Bytes of its weights on this device, were they all kept.
    pub memory: u64,
    /// Tensors that the model has no use for, sorted.
    pub left_over: Vec<String>,
    /// What is missing or does not fit, in words; none where it can be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub problem: Option<String>,
}

/// Tells what files are and whether they can be run on `compute` with weights of at most `budget` bytes there at once. A file
/// under [`LOOSE`] is put where its tensors say. What is wrong with a file is in the report.
///
/// # Errors
/// [`crate::error::Error::Fetch`] when a loose file cannot be read, [`crate::error::Error::Weights`] when it is no weight file.
pub async fn inspect(
    registry: &Registry,
    files: &ModelFiles,
    compute: &Compute,
    budget: Option<u64>,
) -> Result<Inspection> {
    let (files, unknown) = placed(registry, files).await?;
    let mut look = Look::new(registry, &files, compute.is_gpu()).await;
    let Blank { needs_text, text, denoiser, codec, image } = look.all(registry).await;
    let (mut parts, sets) = (look.parts, look.sets);
    for lora in files.loras() {
        parts.push(lora_part(&files, registry, lora).await?);
    }
    for file in &unknown {
        let problem = Some("no model here has such tensors".to_owned());
        parts.push(InspectedPart { part: "unknown".into(), problem, ..told(std::slice::from_ref(file)) });
    }

    let has = |name: &str| parts.iter().any(|part| part.part == name);
    let looks = denoiser.as_ref().is_some_and(|denoiser| denoiser.looks()).then_some(IMAGE_ENCODER);
    let needed = COMPONENTS.into_iter().filter(|name| needs_text || !TEXT_COMPONENTS.contains(name)).chain(looks);
    let missing: Vec<String> = needed.filter(|name| !has(name)).map(str::to_owned).collect();
    let (mut plan, mut cpu_plan, mut caution, mut capabilities) = (None, None, None, None);
    let mut problem = parts.iter().find_map(|part| part.problem.as_ref().map(|why| format!("{}: {why}", part.part)));
    if let (Some(text), Some(denoiser), Some(codec)) = (text, denoiser, codec) {
        let none = Rc::new(WeightSet::default());
        let no_text = text.is_none().then_some(&none);
        let sets: Vec<&WeightSet> = no_text.into_iter().chain(&sets).map(AsRef::as_ref).collect();
        let looks = denoiser.looks();
        let weights = |compute: &Compute, budget: Option<u64>| match &sets[..] {
            [encoder, transformer, vae, rest @ ..] => {
                let image = rest.first().copied().filter(|_| looks);
                Plan::choices(compute, budget, [encoder, transformer, vae], image)
            }
            _ => Vec::new(),
        };
        let cpu = Some(Compute::cpu()).filter(|_| compute.is_gpu());
        let (choices, on_cpu) = (weights(compute, budget), cpu.as_ref().map(|cpu| weights(cpu, None)));
        (plan, cpu_plan) = (choices.first().copied(), on_cpu.as_ref().and_then(|choices| choices.first().copied()));
        match whole(registry, &files, compute.clone(), (text, image), denoiser, codec).await {
            Ok(mut pipeline) => {
                capabilities = Some(pipeline.capabilities());
                // Of the same zeros what it would take on each.
                cpu_plan = cpu.zip(on_cpu).and_then(|(cpu, choices)| pipeline.planned_on(cpu, &choices));
                plan = pipeline.planned_on(compute.clone(), &choices);
                caution = plan.and_then(|plan| doubt(&pipeline, &plan));
            }
            Err(why) => problem = problem.or_else(|| Some(why.to_string())),
        }
    }
    let refused = plan.and_then(|plan| plan.check(compute, budget, free_here(compute)).err());
    let (runs, reason) = verdict(&missing, problem, plan.as_ref(), refused);
    let caution = caution.filter(|_| runs);
    Ok(Inspection { parts, missing, plan, cpu_plan, runs, reason, caution, capabilities })
}

/// Bytes of main memory that a model and its clips can have, where that is known beforehand.
fn free_here(compute: &Compute) -> Option<u64> {
    (cfg!(target_arch = "wasm32") && !compute.is_gpu()).then_some(TAB_MEMORY)
}

/// Why a clip of the size that a model suggests may not fit beside its weights.
fn doubt(pipeline: &Pipeline, plan: &Plan) -> Option<String> {
    let size = pipeline.usual().size();
    let free = free_here(&pipeline.compute).map_or(u64::MAX, |bytes| bytes.saturating_sub(plan.resident_bytes));
    if let Err(why) = pipeline.check_within(size, free) {
        return Some(why.to_string());
    }
    let peak = plan.peak_bytes.filter(|&peak| pipeline.compute.is_gpu() && peak > plan.budget)?;
    Some(format!(
        "{} frames of {} × {} px take {} of GPU memory at most, {} are allowed: choose a smaller size or fewer frames if it fails",
        size.frames,
        size.width,
        size.height,
        in_words(peak),
        in_words(plan.budget)
    ))
}

/// A model of zeros under the files' names and shapes. It makes nothing, but tells before any weights are read what can be asked of
/// the model: its rules, what it can be given, what a clip takes of memory. Built in memory, for `compute`.
///
/// # Errors
/// As loading it, but for what only the weights tell.
pub async fn draft(registry: &Registry, files: &ModelFiles, compute: &Compute) -> Result<Pipeline> {
    let mut look = Look::new(registry, files, compute.is_gpu()).await;
    let Blank { text, denoiser, codec, image, .. } = look.all(registry).await;
    let (Some(text), Some(denoiser), Some(codec)) = (text, denoiser, codec) else {
        let problem = look.parts.into_iter().find_map(|part| Some((part.part, part.problem?)));
        let (part, found) = problem.unwrap_or_else(|| ("the model".into(), "parts are missing".into()));
        return Err(Error::weights(&part, "weights of a model", found));
    };
    whole(registry, files, compute.clone(), (text, image), denoiser, codec).await
}

/// What [`Look`] builds of each part; `None` for one that is not there or cannot be built.
struct Blank {
    needs_text: bool,
    /// Outer: whether the parts that are needed for it are there.
    text: Option<Option<TextStage>>,
    denoiser: Option<Box<dyn Denoiser>>,
    codec: Option<Box<dyn VideoCodec>>,
    image: Option<Box<dyn ImageEncoder>>,
}

/// The parts, each sound by itself, as one model, if they belong together.
async fn whole(
    registry: &Registry,
    files: &ModelFiles,
    compute: Compute,
    (text, image): (Option<TextStage>, Option<Box<dyn ImageEncoder>>),
    denoiser: Box<dyn Denoiser>,
    codec: Box<dyn VideoCodec>,
) -> Result<Pipeline> {
    load::model_index(files, registry).await?;
    let outline = load::Outline::of(registry, files).await?;
    let card = load::card_beside(files, &outline).await?;
    let usual = outline.known.and_then(|known| known.scheduler);
    let found = load::scheduler(files, usual.clone()).await?;
    let scheduler = load::suited(found, usual, denoiser.as_ref())?;
    Pipeline::new(compute, Parts { text, image, denoiser, codec, scheduler, card })
}

fn verdict(missing: &[String], problem: Option<String>, plan: Option<&Plan>, refused: Option<Error>) -> (bool, String) {
    if let Some(problem) = problem {
        return (false, problem);
    }
    if !missing.is_empty() {
        return (false, format!("still missing: {}", missing.join(", ")));
    }
    let Some(plan) = plan else { return (false, "no whole model".into()) };
    let resident = plan.resident_bytes;
    if let Some(why) = refused {
        return (false, why.to_string());
    }
    if resident > plan.budget {
        let allowed = in_words(plan.budget);
        return (false, format!("needs {} for its weights, this device allows {allowed}", in_words(resident)));
    }
    let image = plan.image_encoder.map(|part| ("image encoder", part));
    let streamed: Vec<&str> = [("text encoder", plan.text_encoder), ("transformer", plan.transformer)]
        .iter()
        .chain(&image)
        .filter(|(_, part)| part.streamed)
        .map(|(name, _)| *name)
        .collect();
    let rest = match streamed.is_empty() {
        true => String::new(),
        false => format!("; layers of the {} are read when their turn comes", streamed.join(" and the ")),
    };
    let of = if plan.budget == u64::MAX { String::new() } else { format!(" of {}", in_words(plan.budget)) };
    (true, format!("{}{of} for the weights that stay on the device{rest}", in_words(resident)))
}

/// The files with the loose ones where they belong, and those that nothing here knows.
async fn placed(registry: &Registry, files: &ModelFiles) -> Result<(ModelFiles, Vec<WeightFile>)> {
    let (mut out, mut unknown) = (files.clone(), Vec::new());
    for (path, source) in files.of_part(LOOSE) {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        out.remove(&path);
        if !is_weight_file(&name) {
            out.add(format!("tokenizer/{name}"), source);
            continue;
        }
        let file = WeightFile::open(source.clone(), &name).await?;
        if lora::downs(&file).next().is_some() {
            out.add_lora(LoraFile { label: name, source, strength: 1.0 });
            continue;
        }
        let set = names::to_diffusers(WeightSet::new(vec![file.clone()])?)?;
        // What tells its sizes may be missing: then it is still known by whose tensors the rest are.
        match registry.role(&set) {
            Some(role) => out.add(format!("{}/{name}", role.part()), source),
            None => unknown.push(file),
        }
    }
    Ok((out, unknown))
}

/// What the headers of some files tell.
fn told(files: &[WeightFile]) -> InspectedPart {
    let mut out =
        InspectedPart { files: files.iter().map(|file| file.label().to_owned()).collect(), ..Default::default() };
    for file in files {
        out.bytes += file.len_bytes();
        out.tensors += file.tensors().len();
        for info in file.tensors() {
            out.parameters += info.len() as u64;
            *out.types.entry(info.type_name().to_owned()).or_insert(0) += info.stored_bytes();
        }
    }
    out
}

async fn lora_part(files: &ModelFiles, registry: &Registry, lora: &LoraFile) -> Result<InspectedPart> {
    let file = WeightFile::open(lora.source.clone(), &lora.label).await?;
    let mut ranks: Vec<usize> = lora::downs(&file).filter_map(|info| info.shape.first().copied()).collect();
    let layers = ranks.len();
    ranks.sort_unstable();
    ranks.dedup();
    let ranks: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    let mut part = told(std::slice::from_ref(&file));
    part.part = "lora".into();
    part.name = format!("LoRA of {layers} layers, rank {}", ranks.join(", "));
    // Only beside a transformer can be said what of it fits.
    if let Ok(mut opened) = Opened::new(files, "transformer", &registry.denoisers).await
        && let Some(set) = Rc::get_mut(&mut opened.set)
    {
        match names::apply_lora(set, lora::Lora { file, strength: lora.strength }).await {
            Ok(applied) => part.left_over = applied.unmatched,
            Err(why) => part.problem = Some(why.to_string()),
        }
    }
    Ok(part)
}

/// Looks at one part after the other.
struct Look<'a> {
    files: &'a ModelFiles,
    gpu: bool,
    index: Value,
    parts: Vec<InspectedPart>,
    sets: Vec<Rc<WeightSet>>,
}

impl<'a> Look<'a> {
    async fn new(registry: &Registry, files: &'a ModelFiles, gpu: bool) -> Self {
        // What is wrong with it, the whole says.
        let index = load::model_index(files, registry).await.unwrap_or_default();
        Self { files, gpu, index, parts: Vec::new(), sets: Vec::new() }
    }

    /// Every part that is there.
    async fn all(&mut self, registry: &Registry) -> Blank {
        // What is wrong with a configuration, its part says.
        let needs_text = load::Outline::of(registry, self.files).await.map_or(true, |outline| outline.needs_text);
        let mut text = Some(None);
        if needs_text {
            let tokenizer = load::tokenizer(self.files).await;
            self.tokenizer(tokenizer.as_ref().err().map(ToString::to_string));
            let encoder = self.component("text_encoder", &registry.text_encoders).await;
            text = tokenizer.ok().zip(encoder).map(|(tokenizer, encoder)| Some(TextStage { tokenizer, encoder }));
        }
        let denoiser = self.component("transformer", &registry.denoisers).await;
        let codec = self.component("vae", &registry.codecs).await;
        let image = self.component(IMAGE_ENCODER, &registry.image_encoders).await;
        Blank { needs_text, text, denoiser, codec, image }
    }

    /// The tokenizer may be in the text encoder's file.
    fn tokenizer(&mut self, problem: Option<String>) {
        let files = self.files.of_part("tokenizer");
        if files.is_empty() && problem.is_some() {
            return;
        }
        let bytes = files.iter().map(|(_, source)| source.len()).sum();
        let files = files.into_iter().map(|(path, _)| path).collect();
        let name = if problem.is_none() { "SentencePiece unigram" } else { "" }.to_owned();
        self.parts.push(InspectedPart { part: "tokenizer".into(), files, name, bytes, problem, ..Default::default() });
    }

    /// A part with weights, built from zeros if it is there and can be.
    async fn component<T: ?Sized>(&mut self, name: &'static str, entries: &[Entry<T>]) -> Option<Box<T>> {
        let inside = self.files.of_part(name);
        if !inside.iter().any(|(path, _)| is_weight_file(path)) {
            return None;
        }
        let mut part = InspectedPart { part: name.into(), bytes: self.files.part_bytes(name), ..Default::default() };
        let built = self.build(name, entries, &mut part).await;
        part.problem = built.as_ref().err().map(ToString::to_string);
        self.parts.push(part);
        built.ok()
    }

    async fn build<T: ?Sized>(
        &mut self,
        name: &'static str,
        entries: &[Entry<T>],
        part: &mut InspectedPart,
    ) -> Result<Box<T>> {
        let set = self.files.weights(name).await?;
        *part = InspectedPart { part: std::mem::take(&mut part.part), ..told(set.files()) };
        part.memory = bytes_on(self.gpu, &set);
        let opened = Opened::new(self.files, name, entries).await?;
        // A model whose tensors do not tell enough has a configuration, whose class is all that is known of it then.
        part.name = match registry::told(entries, &set) {
            Some(Ok(known)) => known.name,
            _ => crate::config::class(&opened.config, &opened.file)?,
        };
        self.sets.push(opened.set);
        let blank = Rc::new(set.blank());
        let compute = Compute::cpu();
        // Layers that are streamed are compared with the first.
        let loader = Loader::new(&blank, compute.device()).streamed(true);
        let component = Component { config: &opened.config, file: &opened.file, loader, index: &self.index };
        let built = registry::load(entries, &component).await?;
        SilentHost.tick().await;
        part.left_over = load::left_over(&blank);
        Ok(built)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pollster::block_on;
    use serde_json::json;

    use super::*;

    fn default_model() -> ModelFiles {
        ModelFiles::read_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/small-world")).unwrap()
    }

    /// The default model with a safetensors file whose header is changed, and 8 bytes behind its data.
    fn changed(path: &str, change: impl Fn(&mut serde_json::Map<String, Value>)) -> ModelFiles {
        let mut files = default_model();
        let file = block_on(files.require(path)).unwrap();
        let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
        let (header, data) = file[8..].split_at(length);
        let mut header: serde_json::Map<String, Value> = serde_json::from_slice(header).unwrap();
        header.insert(
            "beside".into(),
            json!({ "dtype": "U64", "shape": [1], "data_offsets": [data.len(), data.len() + 8] }),
        );
        change(&mut header);
        let header = serde_json::to_vec(&header).unwrap();
        let length = (header.len() as u64).to_le_bytes();
        files.insert(path, [&length[..], &header, data, &[0; 8]].concat());
        files
    }

    #[test]
    fn a_tensor_of_a_type_that_nothing_here_decodes_is_left_over_unless_the_model_needs_it() {
        const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
        const ENCODER: &str = "text_encoder/model.safetensors";
        let of = |files: &ModelFiles| block_on(inspect(&Registry::default(), files, &Compute::cpu(), None)).unwrap();
        let (plain, found) = (found_on(&Compute::cpu(), None), of(&changed(VAE, |_| {})));
        let vae = |found: &Inspection| found.parts.iter().find(|part| part.part == "vae").cloned().unwrap();
        assert!(found.runs, "{}", found.reason);
        assert_eq!((vae(&found).left_over, vae(&found).types["U64"]), (vec!["beside".to_owned()], 8));
        // It takes no memory.
        assert_eq!(found.plan, plain.plan);
        // Of a part whose layers are not read one by one, and of a later layer of one whose are.
        let second = "encoder.block.1.layer.0.SelfAttention.q.weight";
        for (path, name) in [(VAE, "decoder.conv_in.bias"), (ENCODER, second)] {
            let found = of(&changed(path, |header| header[name]["dtype"] = json!("I8")));
            let rule = format!("{name}: expected a type that can be decoded here, found I8");
            assert!(!found.runs && found.reason.ends_with(&rule), "{}", found.reason);
        }
    }

    fn found_on(compute: &Compute, budget: Option<u64>) -> Inspection {
        block_on(inspect(&Registry::default(), &default_model(), compute, budget)).unwrap()
    }

    #[test]
    fn headers_tell_what_a_load_and_a_clip_of_the_suggested_size_take_on_a_gpu_and_on_the_cpu() {
        let found = found_on(&Compute::pretended_gpu(128 << 20), None);
        let (gpu, cpu) = (found.plan.unwrap(), found.cpu_plan.unwrap());
        assert!(found.runs && found.caution.is_none(), "{} {:?}", found.reason, found.caution);
        assert_eq!(found.capabilities, Some(Capabilities::all()));
        for plan in [gpu, cpu] {
            let resident = plan.resident_bytes;
            assert!(resident < plan.load_bytes && plan.peak_bytes > Some(resident), "{plan:?}");
        }
        // There everything becomes f32.
        assert!(gpu.resident_bytes < cpu.resident_bytes, "{gpu:?} {cpu:?}");
        let alone = found_on(&Compute::cpu(), None);
        assert_eq!((alone.cpu_plan, alone.plan.map(|plan| plan.resident_bytes)), (None, Some(cpu.resident_bytes)));
    }

    #[test]
    fn what_is_told_of_a_file_is_what_its_loading_plans() {
        let loaded = block_on(Pipeline::load(&default_model(), Compute::cpu(), &SilentHost)).unwrap();
        assert_eq!(found_on(&Compute::cpu(), None).plan.as_ref(), loaded.plan());
    }

    #[test]
    fn a_clip_whose_tokens_fit_into_no_buffer_is_told_and_refused_with_what_would_fit() {
        let drafted = |largest: u64| {
            let compute = Compute::pretended_gpu(largest);
            block_on(draft(&Registry::default(), &default_model(), &compute)).unwrap()
        };
        let (ample, size) = (drafted(1 << 30), drafted(1 << 30).usual().size());
        let needed = ample.largest_bytes(size);
        assert!(needed > 0);
        assert!(ample.check_room(size, &SilentHost).is_ok());
        assert!(drafted(needed).check_room(size, &SilentHost).is_ok());
        let told = drafted(needed - 1).check_room(size, &SilentHost).unwrap_err().to_string();
        let frames = format!("{} frames of {} × {} px need a GPU buffer of ", size.frames, size.width, size.height);
        assert!(told.starts_with(&frames) && told.ends_with("frames of this size might fit"), "{told}");
        assert_eq!(found_on(&Compute::pretended_gpu(needed - 1), None).caution, Some(told));
    }

    #[test]
    fn layers_beside_which_the_suggested_clip_has_no_room_are_streamed() {
        let gpu = Compute::pretended_gpu(128 << 20);
        let planned = |budget| found_on(&gpu, budget).plan.unwrap();
        let peak = planned(None).peak_bytes.unwrap();
        assert!(!planned(None).streams() && !planned(Some(peak)).streams());
        // All weights have room, but not the clip beside them: first what is read once a clip gives way.
        let tight = planned(Some(peak - 1));
        assert!(tight.text_encoder.streamed && !tight.transformer.streamed, "{tight:?}");
        assert!(tight.peak_bytes.unwrap() < peak);
        assert!(planned(tight.peak_bytes.map(|peak| peak - 1)).transformer.streamed);
    }

    #[test]
    fn a_clip_that_takes_more_than_is_allowed_on_a_gpu_is_told() {
        let compute = Compute::pretended_gpu(128 << 20);
        let plan = found_on(&compute, None).plan.unwrap();
        let found = found_on(&compute, Some(plan.resident_bytes + (1 << 20)));
        let told = found.caution.unwrap();
        assert!(told.contains(" of GPU memory at most, ") && told.contains("choose a smaller size"), "{told}");
        assert!(found.runs, "{}", found.reason);
    }
}
