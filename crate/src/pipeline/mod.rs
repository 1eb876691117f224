//! The order of the walk: what runs when, what is freed when, what the caller hears of it.

mod clock;
mod embedded;
mod files;
mod inspect;
mod load;
mod packed;
mod plan;
mod preview;
mod stages;
mod subject;
mod walk;

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use clock::StageClock;
use embedded::Embedded;
pub use files::{CARD, LoraFile, MOST_TEXT_BYTES, ModelCard, ModelFiles, WEIGHT_STEMS, WEIGHTS};
#[cfg(not(target_arch = "wasm32"))]
pub use files::{folder_files, part_files};
pub use inspect::{InspectedPart, Inspection, LOOSE, draft, inspect};
pub use load::{DMD_SIGMAS, card_of};
pub use plan::{BINDINGS, LEAST_BUDGET, MOST_BUDGET, Plan, PlannedPart, StagePeaks, TAB_BUDGET, TAB_MEMORY, bytes_on};
use stages::{Stages, Work};

use crate::condition::{Capabilities, Condition, Timeline};
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::host::{Event, Host, Quiet, Stage};
use crate::memory::{StageMemory, buffer_of};
use crate::models::classes::Classes;
use crate::models::family::{Denoiser, ImageEncoder, Prepared, Room, TextEncoder, VideoCodec};
use crate::models::footage::Pictures;
use crate::noise::TorchRng;
use crate::options::{GenerateOptions, GivenOptions, ModelDefaults, Rules};
use crate::pace::Pace;
use crate::pixels;
use crate::sampling::{Sampling, draw_noise};
use crate::schedulers::{Sampler, Scheduler, SchedulerConfig};
use crate::size::ClipSize;
use crate::tokenizer::Tokenizer;

/// A loaded model, ready to generate.
pub struct Pipeline {
    compute: Compute,
    parts: Parts,
    memory: StageMemory,
    plan: Option<Plan>,
    embedded: Embedded,
}

/// What a pipeline is made of.
pub struct Parts {
    /// Without it only given prompt embeddings can be used, or a class by a model that shows classes.
    pub text: Option<TextStage>,
    /// Pictures to tokens; for denoisers that look.
    pub image: Option<Box<dyn ImageEncoder>>,
    /// Noise to latents.
    pub denoiser: Box<dyn Denoiser>,
    /// Latents to frames.
    pub codec: Box<dyn VideoCodec>,
    /// Which scheduler, and how it is set.
    pub scheduler: SchedulerConfig,
    /// The folder's card.
    pub card: ModelCard,
}

/// Words to embeddings.
pub struct TextStage {
    /// Words to tokens.
    pub tokenizer: Tokenizer,
    /// Tokens to embeddings.
    pub encoder: Box<dyn TextEncoder>,
}

/// What a clip is made from besides the options.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// What is known of it.
    pub condition: Condition,
    /// Latents to start from in place of noise from the seed, `[1, z, f, h, w]`; with a source clip they are its noised
    /// latents already.
    pub latents: Option<Tensor<5>>,
    /// Embeddings in place of the prompt's.
    pub prompt_embeds: Option<PromptEmbeds>,
}

/// Prompts as the denoiser reads them, `[1, Lt, D_text]`.
#[derive(Debug, Clone)]
pub struct PromptEmbeds {
    /// Of the prompt.
    pub prompt: Tensor<3>,
    /// Of the negative prompt; needed when guidance is above 1.
    pub negative: Option<Tensor<3>>,
}

/// What a generation leaves besides the frames, which went to the host one by one.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Latents as the scheduler leaves them, `latents_shape` row-major, still normalised.
    pub latents: Vec<f32>,
    /// `[1, C, F, H, W]`
    pub latents_shape: [usize; 5],
    /// Tokens of the prompt that were used, and that it had.
    pub tokens: (usize, usize),
    /// Bytes that the GPU was planned to hold at most; `None` on the CPU.
    pub planned_bytes: Option<u64>,
    /// Seconds spent, by stage.
    pub timings: BTreeMap<&'static str, f64>,
}

/// Gets each clip, by its place in the order that was asked for, when its last frame has gone to the host.
pub type Made<'a> = dyn FnMut(usize, Clip) -> Result<()> + 'a;

/// A clip that can be made, and what is known of it.
struct Asked<'a> {
    options: &'a GenerateOptions,
    timeline: Timeline<'a>,
}

impl Pipeline {
    /// Puts loaded parts together.
    ///
    /// # Errors
    /// [`Error::Weights`] when they do not fit each other.
    pub fn new(compute: Compute, parts: Parts) -> Result<Self> {
        Scheduler::new(&parts.scheduler)?;
        let wrong = |expected: String, found: usize| {
            Err(Error::weights("transformer/config.json", expected, found.to_string()))
        };
        if let Some(text) = &parts.text
            && parts.denoiser.text_dim() != text.encoder.dim()
        {
            return wrong(format!("text_dim {}", text.encoder.dim()), parts.denoiser.text_dim());
        }
        let z = parts.codec.latent_channels();
        if parts.denoiser.latent_channels() != z {
            return wrong(format!("out_channels {z}"), parts.denoiser.latent_channels());
        }
        parts.denoiser.check_codec(parts.codec.as_ref())?;
        if let Some(encoder) = parts.image.as_ref().filter(|_| parts.denoiser.looks()) {
            parts.denoiser.check_image_encoder(encoder.as_ref())?;
        }
        if parts.denoiser.is_flow_map() && !parts.scheduler.is_flow_map() {
            return Err(Error::weights(
                "scheduler/scheduler_config.json",
                "class FlowMapEulerDiscreteScheduler, for a model that predicts a step's mean velocity",
                format!("class {}", parts.scheduler.class()),
            ));
        }
        Ok(Self { compute, parts, memory: StageMemory::default(), plan: None, embedded: Embedded::default() })
    }

    /// What of it stays on the device; `None` for parts put together by hand.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// What it computes on.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The folder's card.
    pub fn card(&self) -> &ModelCard {
        &self.parts.card
    }

    /// What a clip's size must keep to.
    pub fn rules(&self) -> Rules {
        let (stride, [frames, height, width]) = (self.parts.codec.stride(), self.parts.denoiser.patch());
        Rules {
            width_multiple: stride.space * width,
            height_multiple: stride.space * height,
            frame_multiple: stride.time * frames,
        }
    }

    /// What the model can be given besides text.
    pub fn capabilities(&self) -> Capabilities {
        match self.parts.denoiser.looks() && self.parts.image.is_none() {
            true => Capabilities {
                why: "it needs CLIP's view of the picture, and was loaded without its image_encoder/".into(),
                ..Capabilities::default()
            },
            false => self.parts.denoiser.capabilities(),
        }
    }

    /// The classes that the model shows in place of what a prompt says; `None` for a model of text.
    pub fn classes(&self) -> Option<&Classes> {
        self.parts.denoiser.classes()
    }

    /// Tokens a prompt may have; longer ones are cut with a warning.
    pub fn max_tokens(&self) -> usize {
        self.parts.card.max_sequence_length
    }

    /// Runs every part once, so that shaders are compiled before somebody waits for a clip: at the model's default size
    /// where that is small, else at four tokens by four. Other sizes may need a few more variants.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub async fn warm_up(&self, host: &dyn Host) -> Result<()> {
        // What is streamed would be read whole for it.
        if !self.compute.is_gpu() || self.plan.is_some_and(|plan| plan.streams()) {
            return Ok(());
        }
        const SMALL: usize = 128 * 128 * 17; // pixels
        let (rules, default, can) = (self.rules(), &self.parts.card.default, self.capabilities());
        let small = match (default.width, default.height, default.num_frames) {
            (Some(width), Some(height), Some(frames)) if width * height * frames <= SMALL => default.clone(),
            // The VAE has a first and a later chunk.
            _ => ModelDefaults {
                width: Some(4 * rules.width_multiple),
                height: Some(4 * rules.height_multiple),
                num_frames: Some(if can.picture_only { 1 } else { rules.frame_multiple + 1 }),
                ..default.clone()
            },
        };
        let given = GivenOptions {
            prompt: Some("warm up".into()).filter(|_| can.classes == 0),
            class_label: Some("0".into()).filter(|_| can.classes > 0),
            // As many as the scheduler's memory is long, and one.
            num_steps: Some(3),
            guidance_scale: Some(2.0),
            ..GivenOptions::default()
        };
        let options = given.settle(&small);
        if can.text || can.classes > 0 {
            self.generate(&options, &Inputs::default(), &Quiet(host)).await?;
            self.parts.denoiser.forget();
        }
        Ok(())
    }

    /// Text, and what is known, to a clip. Frames go to the host as they are decoded.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] before anything is computed; [`Error::Aborted`] within one block of a cancel.
    pub async fn generate(&self, options: &GenerateOptions, inputs: &Inputs, host: &dyn Host) -> Result<Clip> {
        let asked = [self.asked(options, &inputs.condition, host)?];
        let mut made = None;
        let mut keep = |_: usize, clip: Clip| -> Result<()> {
            made = Some(clip);
            Ok(())
        };
        self.run(None, &asked, inputs, host, &mut keep).await?;
        made.ok_or_else(|| Error::Internal("no clip came of the walk".into()))
    }

    /// A clip that is checked before anything is computed.
    fn asked<'a>(&self, options: &'a GenerateOptions, condition: &'a Condition, host: &dyn Host) -> Result<Asked<'a>> {
        options.check(self.rules())?;
        self.check_room(options.size(), host)?;
        Ok(Asked { options, timeline: self.check(options, condition)? })
    }

    /// Whether a clip can be made so, without making it; what is known laid out.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming the rule, the value found and its unit.
    pub fn check<'c>(&self, options: &GenerateOptions, condition: &'c Condition) -> Result<Timeline<'c>> {
        options.check(self.rules())?;
        self.class_of(options)?;
        self.check_sampling(options)?;
        let size = options.size();
        self.parts.codec.stride().cells(size)?;
        // UniPC and fresh noise read a velocity as the one at the step's beginning.
        match options.sampler.as_deref() {
            Some(sampler) if self.parts.denoiser.is_flow_map() && sampler != "euler" => {
                return Err(Error::options(format!(
                    "sampler must be euler or left open for a flow-map model, got {sampler}"
                )));
            }
            _ => {}
        }
        condition.merge(size, &self.capabilities())
    }

    /// Bytes that the GPU holds at most while such a clip is made; `None` on the CPU, and for parts put together by hand.
    fn planned_bytes(&self, work: Work) -> Option<u64> {
        self.plan.as_ref().and_then(|plan| self.stages().peak(plan, work))
    }

    /// The parts as a plan sees them.
    fn stages(&self) -> Stages<'_> {
        let Parts { text, image, denoiser, codec, .. } = &self.parts;
        Stages {
            compute: &self.compute,
            text: text.as_ref().map(|text| text.encoder.as_ref()),
            image: image.as_deref(),
            denoiser: denoiser.as_ref(),
            codec: codec.as_ref(),
        }
    }

    /// What the device has left for a clip.
    fn room(&self) -> Room {
        self.stages().room(self.plan.as_ref())
    }

    /// Adds to the plan what a clip of the default size takes.
    fn plan_clip(&mut self) {
        let Some(mut plan) = self.plan else { return };
        let work = self.stages().usual(&self.parts.card);
        let least = || plan.resident_bytes.saturating_add(self.least_bytes(work.size));
        plan.peak_bytes = Some(self.planned_bytes(work).unwrap_or_else(least));
        self.plan = Some(plan);
    }

    /// What is asked for where nobody says anything.
    fn usual(&self) -> GenerateOptions {
        stages::usual(&self.parts.card)
    }

    /// As if it were on `compute`, whose weights are planned in one of these ways.
    fn planned_on(&mut self, compute: Compute, choices: &[Plan]) -> Option<Plan> {
        self.compute = compute;
        self.plan = self.stages().choose(choices, &self.parts.card);
        self.plan_clip();
        self.plan
    }

    /// Bytes of main memory that a clip must have at once: its frames, and on the CPU whichever stage needs most. Too few
    /// rather than too many: what passes may still not fit, what does not pass cannot.
    pub fn least_bytes(&self, size: ClipSize) -> u64 {
        let Parts { denoiser, codec, .. } = &self.parts;
        let stages = match self.compute.is_gpu() {
            true => 0,
            false => denoiser.least_bytes(size, codec.stride()).max(codec.least_bytes(size)),
        };
        stages.saturating_add(size.pixels().saturating_mul(3))
    }

    /// Bytes of the largest tensor that a clip of this size needs, one prompt at a time; too few rather than too many.
    fn largest_bytes(&self, size: ClipSize) -> u64 {
        self.parts.denoiser.largest_bytes(size, self.parts.codec.stride())
    }

    /// Bytes that one tensor may have.
    fn largest_allowed(&self) -> u64 {
        self.compute.adapter().map_or(u64::MAX, |adapter| adapter.max_storage_buffer_binding_bytes)
    }

    /// Whether the main memory that `host` has left, and the largest buffer of a GPU, suffice for a clip of this size.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the clip cannot fit, with the number of frames that would.
    pub fn check_room(&self, size: ClipSize, host: &dyn Host) -> Result<()> {
        self.check_within(size, host.free_memory().unwrap_or(u64::MAX))
    }

    /// The same where so many bytes of main memory are free.
    fn check_within(&self, size: ClipSize, free: u64) -> Result<()> {
        let largest = self.largest_allowed();
        let fits = |size: ClipSize| self.least_bytes(size) <= free && self.largest_bytes(size) <= largest;
        if fits(size) {
            return Ok(());
        }
        let step = self.rules().frame_multiple;
        let mut shorter = (0..size.frames / step).rev().map(|n| n * step + 1);
        let hint = match shorter.find(|&frames| fits(ClipSize { frames, ..size })) {
            Some(frames) => format!("{frames} frames of this size might fit"),
            None => "choose a smaller size".into(),
        };
        let ClipSize { frames, height, width } = size;
        let (gb, mb) = (|bytes: u64| bytes as f64 / 1e9, |bytes: u64| bytes as f64 / 1e6);
        let needed = self.least_bytes(size);
        let why = match needed <= free {
            true => format!(
                "need a GPU buffer of {:.1} MB, this GPU's largest has {:.1} MB",
                mb(self.largest_bytes(size)),
                mb(largest)
            ),
            false => format!("take at least {:.1} GB of memory, {:.1} GB are free", gb(needed), gb(free)),
        };
        Err(Error::OutOfMemory(format!("{frames} frames of {width} × {height} px {why}: {hint}")))
    }

    /// The prompt and, guided, the negative prompt (or a class and none) as embeddings; and how many tokens were used of how
    /// many.
    async fn embed(
        &self,
        options: &GenerateOptions,
        inputs: &Inputs,
        clock: &mut StageClock<'_>,
        pace: &Pace<'_>,
    ) -> Result<(Vec<Tensor<3>>, (usize, usize))> {
        let guided = options.guided();
        if let Some(given) = &inputs.prompt_embeds {
            let tokens = given.prompt.dims()[1];
            let mut prompts = vec![given.prompt.clone()];
            if guided {
                let missing = || Error::options("guidance above 1 needs embeddings of the negative prompt too");
                prompts.push(given.negative.clone().ok_or_else(missing)?);
            }
            return Ok((prompts, (tokens, tokens)));
        }
        if let Some(class) = self.class_of(options)? {
            clock.start(Stage::EncodeText);
            let mut prompts = vec![self.parts.denoiser.embed_class(Some(class)).await?];
            if guided {
                prompts.push(self.parts.denoiser.embed_class(None).await?);
            }
            return Ok((prompts, (0, 0)));
        }
        let text =
            self.parts.text.as_ref().ok_or_else(|| {
                Error::options("this model was loaded without a text encoder: hand in prompt embeddings")
            })?;
        clock.start(Stage::Tokenize);
        let prompt = text.tokenizer.encode(&options.prompt, self.max_tokens())?;
        if prompt.kept < prompt.total {
            pace.host().event(Event::warning(format!(
                "the prompt is too long: {} of its {} tokens were kept",
                prompt.kept, prompt.total
            )));
        }
        let negative = match guided {
            true => Some(text.tokenizer.encode(&options.negative_prompt, self.max_tokens())?),
            false => None,
        };
        clock.start(Stage::EncodeText);
        let mut prompts = vec![self.encode_text(text, &prompt.ids, pace).await?];
        if let Some(negative) = &negative {
            prompts.push(self.encode_text(text, &negative.ids, pace).await?);
        }
        pace.settle().await?;
        Ok((prompts, (prompt.kept, prompt.total)))
    }

    /// The prompts of such a clip as the denoiser reads them, to be handed in with clips to come ([`Inputs::prompt_embeds`]); the
    /// negative one where there is guidance.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn embed_prompts(&self, options: &GenerateOptions, host: &dyn Host) -> Result<PromptEmbeds> {
        let (mut clock, pace) = (StageClock::new(host), Pace::new(host, &self.compute));
        let (prompts, _) = self.embed(options, &Inputs::default(), &mut clock, &pace).await?;
        let mut prompts = prompts.into_iter();
        let prompt = prompts.next().ok_or_else(|| Error::Internal("a prompt without embeddings".into()))?;
        Ok(PromptEmbeds { prompt, negative: prompts.next() })
    }

    /// Embeds the real tokens only; the rest of the row is zeros, which still attend (as in the reference).
    async fn encode_text(&self, text: &TextStage, ids: &[u32], pace: &Pace<'_>) -> Result<Tensor<3>> {
        if let Some(embeds) = self.embedded.get(ids, self.compute.device()) {
            return Ok(embeds);
        }
        let embeds = self.padded(text.encoder.encode(ids, pace).await?);
        // An encoder that stays answers again sooner than its answer is read back.
        if self.plan.is_some_and(|plan| plan.text_encoder.streamed) {
            self.embedded.keep(ids, &embeds).await?;
        }
        Ok(embeds)
    }

    fn padded(&self, embeds: Tensor<3>) -> Tensor<3> {
        let [_, length, dim] = embeds.dims();
        match self.max_tokens().saturating_sub(length) {
            0 => embeds,
            missing => Tensor::cat(vec![embeds, Tensor::zeros([1, missing, dim], self.compute.device())], 1),
        }
    }

    /// The noise, or noised source, that sampling starts from.
    async fn start(
        &self,
        options: &GenerateOptions,
        inputs: &Inputs,
        timeline: &Timeline<'_>,
        prepared: &dyn Prepared,
        pace: &Pace<'_>,
    ) -> Result<Sampling> {
        let codec = self.parts.codec.as_ref();
        let [frames, height, width] = codec.stride().cells(timeline.size)?;
        let shape = [1, codec.latent_channels(), frames + prepared.lead_frames(), height, width];
        let mut config = self.parts.scheduler.clone();
        if let Some(shift) = options.flow_shift {
            config.set_shift(shift);
        }
        if let Some(sampler) = options.sampler.as_deref().and_then(Sampler::named) {
            config.set_sampler(sampler);
        }
        if options.sigmas.is_some() {
            config.clear_shift();
        }
        let mut scheduler = Scheduler::new(&config)?;
        match &options.sigmas {
            Some(sigmas) => scheduler.set_sigmas(sigmas, None)?,
            None => scheduler.set_timesteps(options.num_steps)?,
        }
        let mut rng = TorchRng::new(options.seed);
        let mut latents = match &inputs.latents {
            None => draw_noise(&mut rng, shape, self.compute.device()),
            Some(latents) if latents.dims() == shape => latents.clone(),
            Some(latents) => {
                let found = latents.dims();
                return Err(Error::options(format!("latents must be [1, C, F, H, W] = {shape:?}, got {found:?}")));
            }
        };
        // A grid that begins below 1 begins with less noise than that (rCM: 0.9877).
        if let (Some(first), None, None) =
            (options.sigmas.as_ref().and_then(|s| s.first()), &timeline.source, &inputs.latents)
        {
            latents = latents.mul_scalar(*first);
        }
        let mut start_step = 0;
        if let Some((source, strength)) = &timeline.source {
            // As diffusers' get_timesteps: whole steps, rounded down.
            let steps = scheduler.timesteps().len();
            let kept = ((steps as f64 * strength) as usize).min(steps);
            start_step = steps - kept;
            if kept == 0 {
                return Err(Error::options(format!(
                    "strength must keep at least one of {steps} steps, got {strength}"
                )));
            }
            if prepared.lead_frames() > 0 {
                return Err(Error::options("a source clip and reference pictures do not go together"));
            }
            if inputs.latents.is_none() {
                let source = Pictures { frames: source, size: timeline.size, device: self.compute.device() };
                let clean = codec.encode(&source, self.room(), pace).await?;
                latents = scheduler.add_noise(clean, latents, start_step)?;
            }
        }
        Ok(Sampling { latents, scheduler, start_step, rng, guidance_scale: options.guidance_scale })
    }

    /// Decodes a latent frame at a time and sends the frames on, with what is known in its place.
    async fn decode(&self, latents: Tensor<5>, timeline: &Timeline<'_>, pace: &Pace<'_>) -> Result<()> {
        let codec = &self.parts.codec;
        let tiles = codec.decode_tiles(latents.clone(), self.room(), pace).await?;
        let mut stream = tiles.unwrap_or_else(|| codec.decode_stream());
        let mut index = 0;
        for i in 0..latents.dims()[2] {
            let frames = stream.push(latents.clone().narrow(2, i, 1), pace).await?;
            let [_, _, _, height, width] = frames.dims();
            for mut rgba in pixels::to_rgba(frames).await? {
                timeline.paste(index, &mut rgba)?;
                pace.host().event(Event::Frame { index, width, height, rgba });
                index += 1;
            }
        }
        Ok(())
    }

    /// Returns the GPU memory of a stage; `live` are the buffers of what it leaves behind.
    fn end_stage(&self, inputs: &Inputs, host: &dyn Host, live: &[Option<wgpu::Buffer>]) {
        let mut live = live.to_vec();
        live.extend(self.parts.denoiser.kept().iter().map(buffer_of));
        live.extend(inputs.latents.iter().map(buffer_of));
        live.extend(
            inputs
                .prompt_embeds
                .iter()
                .flat_map(|given| std::iter::once(&given.prompt).chain(&given.negative).map(buffer_of)),
        );
        self.memory.stage_ended(&self.compute, host, &live);
    }
}

/// Latents on the host, looked at before they are decoded: pixels are clamped, and what is not finite would be a white or a black
/// clip.
async fn values_of(latents: &Tensor<5>) -> Result<Vec<f32>> {
    let data = latents
        .clone()
        .into_data_async()
        .await
        .map_err(|e| Error::DeviceLost(format!("latents could not be read back: {e}")))?;
    let values = data.try_to_vec_as::<f32>().map_err(|e| Error::Internal(format!("latents are not f32: {e:?}")))?;
    match values.iter().all(|v| v.is_finite()) {
        true => Ok(values),
        false => Err(Error::Internal("the latents are not finite".into())),
    }
}
