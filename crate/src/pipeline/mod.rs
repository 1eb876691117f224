//! The order of the walk: what is loaded, what runs when, what the caller hears of it.

mod clock;
mod denoise;
mod files;
mod preview;

use std::cell::RefCell;
use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::Deserialize;

use clock::StageClock;
pub use denoise::{AsyncStep, Conditioning, Denoise, NoStep, draw_noise};
pub use files::{ModelFiles, Sidecar};
use preview::Preview;

use crate::config;
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::host::{Event, Host, Quiet, Stage};
use crate::kernels::check::prepare;
use crate::memory::{StageMemory, buffer_of};
use crate::models::umt5::{Umt5Config, Umt5Encoder};
use crate::models::wan::condition::{Known, vace_control};
use crate::models::wan::{Control, TransformerConfig, Vae, VaeConfig, WanTransformer};
use crate::nn::loader::Loader;
use crate::noise::TorchRng;
use crate::options::GenerateOptions;
use crate::pace::Pace;
use crate::pixels;
use crate::schedulers::{Scheduler, SchedulerConfig};
use crate::tokenizer::Tokenizer;
use crate::weights::WeightSet;

/// Components of a folder, in loading order.
const COMPONENTS: [&str; 4] = ["tokenizer", "text_encoder", "transformer", "vae"];

/// `model_index.json`, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
struct ModelIndex {
    #[serde(default)]
    boundary_ratio: Option<f64>,
}

/// A loaded model folder, ready to generate.
pub struct Pipeline {
    compute: Compute,
    tokenizer: Tokenizer,
    text_encoder: Umt5Encoder,
    transformer: WanTransformer,
    vae: Vae,
    scheduler: SchedulerConfig,
    sidecar: Sidecar,
    /// Control latents of "nothing given" for the size used last: encoding a grey clip costs as much as two steps.
    nothing_given: RefCell<Option<([usize; 3], Tensor<5>)>>,
    memory: StageMemory,
}

/// What is given of a clip besides the text.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Known pixels and their mask.
    pub known: Option<Known>,
    /// Pictures of what should appear, `[1, 3, 1, H, W]` in −1…1.
    pub references: Vec<Tensor<5>>,
    /// Noisy latents to start from instead of noise from the seed, `[1, z, F, H, W]`.
    pub latents: Option<Tensor<5>>,
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
    /// Seconds spent, by stage.
    pub timings: BTreeMap<&'static str, f64>,
}

impl Pipeline {
    /// Builds every component of a folder, releasing each file once its tensors exist.
    ///
    /// # Errors
    /// [`Error::Fetch`] when a file is missing, [`Error::Weights`] and [`Error::Tokenizer`] when one does not fit,
    /// [`Error::Aborted`] from between the components.
    pub async fn load(files: &mut ModelFiles, compute: Compute, host: &dyn Host) -> Result<Self> {
        let index: ModelIndex = config::parse(
            files.require("model_index.json")?,
            "model_index.json",
            &["WanPipeline", "WanVACEPipeline", "WanVideoToVideoPipeline"],
        )?;
        if index.boundary_ratio.is_some() {
            return Err(Error::weights("model_index.json", "one transformer", "two experts (boundary_ratio is set)"));
        }
        let sidecar = match files.contains("tabreel.json") {
            true => config::parse(files.require("tabreel.json")?, "tabreel.json", &[""])?,
            false => Sidecar::default(),
        };
        let scheduler: SchedulerConfig = config::parse(
            files.require("scheduler/scheduler_config.json")?,
            "scheduler/scheduler_config.json",
            &["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"],
        )?;
        Scheduler::new(&scheduler)?;
        let device = compute.device().clone();
        // Before any weights: convolutions pack theirs for the kernel that will run.
        for finding in prepare(&compute).await.iter().filter(|finding| !finding.passed()) {
            host.event(Event::Warning(format!("on this GPU {finding}: a slower one is used instead")));
        }
        let progress = async |done: usize| {
            host.event(Event::Loading {
                loaded: done,
                total: COMPONENTS.len(),
                what: COMPONENTS[done.min(COMPONENTS.len() - 1)],
            });
            host.tick().await;
            if host.aborted() { Err(Error::Aborted) } else { Ok(()) }
        };

        progress(0).await?;
        let tokenizer = Tokenizer::from_json(files.require("tokenizer/tokenizer.json")?)?;

        progress(1).await?;
        let c: Umt5Config = config::parse(
            files.require("text_encoder/config.json")?,
            "text_encoder/config.json",
            &["UMT5EncoderModel"],
        )?;
        let set = files.take_weights("text_encoder")?;
        let text_encoder = Umt5Encoder::load(&Loader::new(&set, &device), &c)?;
        warn_of_unused(&set, "text_encoder", host);

        progress(2).await?;
        let c: TransformerConfig = config::parse(
            files.require("transformer/config.json")?,
            "transformer/config.json",
            &["WanTransformer3DModel", "WanVACETransformer3DModel"],
        )?;
        let set = files.take_weights("transformer")?;
        let transformer = WanTransformer::load(&Loader::new(&set, &device), &c)?;
        warn_of_unused(&set, "transformer", host);

        progress(3).await?;
        let c: VaeConfig = config::parse(files.require("vae/config.json")?, "vae/config.json", &["AutoencoderKLWan"])?;
        let set = files.take_weights("vae")?;
        let vae = Vae::load(&Loader::new(&set, &device), &c)?;
        warn_of_unused(&set, "vae", host);

        progress(4).await?;
        let (nothing_given, memory) = (RefCell::default(), StageMemory::default());
        let pipeline =
            Self { compute, tokenizer, text_encoder, transformer, vae, scheduler, sidecar, nothing_given, memory };
        pipeline.check_fit()?;
        pipeline.memory.loaded(&pipeline.compute, host);
        Ok(pipeline)
    }

    /// The components must agree on their widths.
    fn check_fit(&self) -> Result<()> {
        let (t, z) = (self.transformer.config(), self.vae.config().z_dim);
        if t.text_dim != self.text_encoder.dim() {
            return Err(Error::weights(
                "transformer/config.json",
                format!("text_dim {}", self.text_encoder.dim()),
                t.text_dim.to_string(),
            ));
        }
        if t.in_channels != z {
            return Err(Error::weights(
                "transformer/config.json",
                format!("in_channels {z} (text to video)"),
                t.in_channels.to_string(),
            ));
        }
        let side = self.vae.config().scale_factor_spatial;
        if !t.vace_layers.is_empty() && t.vace_in_channels != 2 * z + side * side {
            let expected = format!("vace_in_channels {}", 2 * z + side * side);
            return Err(Error::weights("transformer/config.json", expected, t.vace_in_channels.to_string()));
        }
        Ok(())
    }

    /// What it computes on.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The folder's sidecar.
    pub fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    /// Width and height must be multiples of this, pixels.
    pub fn size_multiple(&self) -> usize {
        let [_, ph, pw] = self.transformer.config().patch_size;
        self.vae.config().scale_factor_spatial * ph.max(pw)
    }

    /// Tokens a prompt may have; longer ones are cut with a warning.
    pub fn max_tokens(&self) -> usize {
        self.sidecar.max_sequence_length
    }

    /// Runs every part once, so that shaders are compiled before somebody waits for a clip: at the model's default size
    /// where that is small, else at four tokens by four. Other sizes may need a few more variants.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub async fn warm_up(&self, host: &dyn Host) -> Result<()> {
        if !self.compute.is_gpu() {
            return Ok(());
        }
        const SMALL: usize = 64 * 64 * 17; // pixels
        let default = |name: &str| self.sidecar.default.get(name).and_then(|v| v.as_u64()).map(|v| v as usize);
        let side = 4 * self.size_multiple();
        // Five frames: the VAE has a first and a later chunk.
        let [width, height, num_frames] = match [default("width"), default("height"), default("num_frames")] {
            [Some(width), Some(height), Some(frames)] if width * height * frames <= SMALL => [width, height, frames],
            _ => [side, side, 5],
        };
        let options = GenerateOptions {
            prompt: "warm up".into(),
            negative_prompt: String::new(),
            width,
            height,
            num_frames,
            fps: 16.0,
            // As many as the scheduler's memory is long, and one.
            num_steps: 3,
            guidance_scale: 2.0,
            seed: 0,
            flow_shift: None,
            preview: false,
        };
        self.generate(&options, &Given::default(), &Quiet(host)).await?;
        self.nothing_given.take();
        Ok(())
    }

    /// Text (and what is `given`) to a clip. Frames go to the host as they are decoded.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] before anything is computed; [`Error::Aborted`] within one block of a cancel.
    pub async fn generate(&self, options: &GenerateOptions, given: &Given, host: &dyn Host) -> Result<Clip> {
        options.check(self.size_multiple())?;
        let clip = self.run(options, given, host).await;
        self.end_stage(given, host, &[]);
        clip
    }

    async fn run(&self, options: &GenerateOptions, given: &Given, host: &dyn Host) -> Result<Clip> {
        let mut clock = StageClock::new(host);
        let pace = Pace::new(host, &self.compute);

        clock.start(Stage::Tokenize);
        let prompt = self.tokenizer.encode(&options.prompt, self.max_tokens())?;
        if prompt.kept < prompt.total {
            host.event(Event::Warning(format!(
                "the prompt is too long: {} of its {} tokens were kept",
                prompt.kept, prompt.total
            )));
        }
        let guided = options.guidance_scale > 1.0;
        let negative = match guided {
            true => Some(self.tokenizer.encode(&options.negative_prompt, self.max_tokens())?),
            false => None,
        };

        clock.start(Stage::EncodeText);
        let prompt_embeds = self.encode_text(&prompt.ids, &pace).await?;
        let negative_embeds = match &negative {
            Some(negative) => Some(self.encode_text(&negative.ids, &pace).await?),
            None => None,
        };
        pace.settle().await?;
        self.end_stage(given, host, &[buffer_of(&prompt_embeds), negative_embeds.as_ref().and_then(buffer_of)]);

        clock.start(Stage::Condition);
        let size = [options.num_frames, options.height, options.width];
        let conditioning = self.condition(size, given, &pace).await?;

        clock.start(Stage::Denoise);
        let side = self.vae.config().scale_factor_spatial;
        let latent_frames = (options.num_frames - 1) / 4 + 1 + given.references.len();
        let shape = [1, self.vae.config().z_dim, latent_frames, options.height / side, options.width / side];
        let mut rng = TorchRng::new(options.seed);
        let noise = match &given.latents {
            None => draw_noise(&mut rng, shape, self.compute.device()),
            Some(latents) if latents.dims() == shape => latents.clone(),
            Some(latents) => {
                let found = latents.dims();
                return Err(Error::options(format!("latents must be [1, C, F, H, W] = {shape:?}, got {found:?}")));
            }
        };
        let mut config = self.scheduler.clone();
        if let Some(shift) = options.flow_shift {
            config.set_shift(shift);
        }
        let mut scheduler = Scheduler::new(&config)?;
        scheduler.set_timesteps(options.num_steps)?;
        let mut denoise = Denoise {
            transformer: &self.transformer,
            scheduler: &mut scheduler,
            prompt_embeds,
            negative_embeds,
            guidance_scale: options.guidance_scale,
            conditioning: &conditioning,
            start_step: 0,
            rng: &mut rng,
        };
        let references = given.references.len();
        let mut preview = Preview { vae: &self.vae, pace: &pace, wanted: options.preview, references };
        let latents = denoise.run(noise, &pace, &mut preview).await?;
        drop(conditioning);
        pace.settle().await?;
        self.end_stage(given, host, &[buffer_of(&latents)]);

        clock.start(Stage::Decode);
        let shown = latents.clone().narrow(2, references, latent_frames - references);
        self.decode(shown, &pace).await?;
        let timings = clock.finish();

        let data = latents
            .into_data_async()
            .await
            .map_err(|e| Error::DeviceLost(format!("latents could not be read back: {e}")))?;
        let latents =
            data.try_to_vec_as::<f32>().map_err(|e| Error::Internal(format!("latents are not f32: {e:?}")))?;
        Ok(Clip { latents, latents_shape: shape, tokens: (prompt.kept, prompt.total), timings })
    }

    /// Returns the GPU memory of a stage; `live` are the buffers of what it leaves behind.
    fn end_stage(&self, given: &Given, host: &dyn Host, live: &[Option<wgpu::Buffer>]) {
        let mut live = live.to_vec();
        live.extend(self.nothing_given.borrow().iter().map(|(_, latents)| buffer_of(latents)));
        live.extend(given.known.iter().flat_map(|known| [buffer_of(&known.video), buffer_of(&known.mask)]));
        live.extend(given.references.iter().chain(&given.latents).map(buffer_of));
        self.memory.stage_ended(&self.compute, host, &live);
    }

    /// Embeds the real tokens only; the rest of the row is zeros, which still attend (as in the reference).
    async fn encode_text(&self, ids: &[u32], pace: &Pace<'_>) -> Result<Tensor<3>> {
        let embeds = self.text_encoder.forward(ids, &vec![1; ids.len()], 1, pace).await?;
        let [_, length, dim] = embeds.dims();
        Ok(match self.max_tokens().saturating_sub(length) {
            0 => embeds,
            missing => Tensor::cat(vec![embeds, Tensor::zeros([1, missing, dim], self.compute.device())], 1),
        })
    }

    async fn condition(&self, size: [usize; 3], given: &Given, pace: &Pace<'_>) -> Result<Conditioning> {
        let vace_blocks = self.transformer.config().vace_layers.len();
        if vace_blocks == 0 {
            if given.known.is_some() || !given.references.is_empty() {
                return Err(Error::options("this model has no control branch: it takes text only"));
            }
            return Ok(Conditioning::None);
        }
        let nothing = given.known.is_none() && given.references.is_empty();
        let kept = self.nothing_given.borrow().clone().filter(|(of, _)| nothing && *of == size);
        let latents = match kept {
            Some((_, latents)) => latents,
            None => vace_control(&self.vae, size, given.known.as_ref(), &given.references, pace).await?,
        };
        if nothing {
            *self.nothing_given.borrow_mut() = Some((size, latents.clone()));
        }
        Ok(Conditioning::Vace(Control { latents, scales: vec![1.0; vace_blocks] }))
    }

    /// Decodes a latent frame at a time and sends the frames on.
    async fn decode(&self, latents: Tensor<5>, pace: &Pace<'_>) -> Result<()> {
        let mut stream = self.vae.decode_stream();
        let mut index = 0;
        for i in 0..latents.dims()[2] {
            let latent = self.vae.denormalise(latents.clone().narrow(2, i, 1));
            let frames = stream.push(latent, pace).await?;
            let [_, _, _, height, width] = frames.dims();
            for rgba in pixels::to_rgba(frames).await? {
                pace.host().event(Event::Frame { index, width, height, rgba });
                index += 1;
            }
        }
        Ok(())
    }
}

/// Tensors that no part asked for mean that the configuration and the weights do not belong together.
fn warn_of_unused(set: &WeightSet, component: &str, host: &dyn Host) {
    // Copies of the embedding table and of keys that diffusers ignores too are no sign of that.
    let expected = |name: &String| name.ends_with("embed_tokens.weight") || name.contains("norm_added_q");
    let unused: Vec<String> = set.unused().into_iter().filter(|name| !expected(name)).collect();
    if let Some(first) = unused.first() {
        host.event(Event::Warning(format!(
            "{} tensors in {component}/ were not used (the first: {first})",
            unused.len()
        )));
    }
}
