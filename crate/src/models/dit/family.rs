//! DiT behind the door: a class in place of a prompt, and for the most part one frame in place of a clip.
//!
//! Source: diffusers 0.42.1 `pipelines/dit/pipeline_dit.py`.

use burn::tensor::Tensor;

use super::config::{CLASSES, DitConfig};
use super::transformer::{Dit, Fixed};
use crate::condition::Capabilities;
use crate::config;
use crate::error::Result;
use crate::models::classes::Classes;
use crate::models::family::{
    Component, Denoiser, Entry, Interval, Prepared, Prompts, Request, Room, VideoCodec, needs_config,
};
use crate::models::strides;
use crate::options::ModelDefaults;
use crate::pace::{Later, Pace};
use crate::size::{ClipSize, Stride};

/// DiT and its likes.
pub const ENTRY: Entry<dyn Denoiser> = Entry {
    classes: CLASSES,
    owns: |set| set.get("transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight").is_some(),
    needs_text: false,
    configure: needs_config,
    usual,
    load,
};

/// The size it was trained on, and the settings of diffusers' pipeline.
fn usual(json: &[u8], codec: &[u8]) -> ModelDefaults {
    // Of Stable Diffusion's VAE, which it was trained with.
    let Stride { time, space } = strides::of_codec(codec).unwrap_or(Stride { time: 1, space: 8 });
    let config: Option<DitConfig> = config::parse(json, "", CLASSES).ok();
    let side = config.as_ref().map(|c| c.sample_size.saturating_mul(space));
    let frames = config.map_or(1, |c| c.sample_frames.saturating_sub(1).saturating_mul(time).saturating_add(1));
    ModelDefaults {
        width: side,
        height: side,
        num_frames: Some(frames),
        num_steps: Some(50),
        guidance_scale: Some(4.0),
        ..ModelDefaults::default()
    }
}

fn load<'a>(component: &'a Component<'a>) -> Later<'a, Box<dyn Denoiser>> {
    Box::pin(async move {
        let config: DitConfig = config::parse(component.config, component.file, CLASSES)?;
        // Loading checks the configuration: only then is there a list of as many names.
        let transformer = Dit::load(&component.loader, &config).await?;
        let classes = Classes::new(config.num_embeds_ada_norm, component.index);
        Ok(Box::new(DitDenoiser::new(transformer, classes)) as Box<dyn Denoiser>)
    })
}

/// A transformer and the names of its classes.
pub struct DitDenoiser {
    transformer: Dit,
    classes: Classes,
}

impl DitDenoiser {
    /// `classes`: as many as the transformer's configuration says.
    pub fn new(transformer: Dit, classes: Classes) -> Self {
        Self { transformer, classes }
    }

    /// Tokens of a picture of so many latent cells.
    fn tokens(&self, [frames, height, width]: [usize; 3]) -> usize {
        let patch = self.transformer.config().patch_size;
        frames * (height / patch) * (width / patch)
    }

    /// Values that one token of one row holds at most: stream, norm, query, key, value and result; or stream, norm and hidden
    /// layer of the feed-forward part.
    fn width(&self) -> usize {
        6 * self.transformer.config().hidden_dim()
    }
}

impl Denoiser for DitDenoiser {
    fn latent_channels(&self) -> usize {
        self.transformer.config().in_channels
    }

    fn patch(&self) -> [usize; 3] {
        let side = self.transformer.config().patch_size;
        [1, side, side]
    }

    fn text_dim(&self) -> usize {
        self.transformer.config().hidden_dim()
    }

    fn classes(&self) -> Option<&Classes> {
        Some(&self.classes)
    }

    fn embed_class(&self, class: Option<usize>) -> Later<'_, Tensor<3>> {
        Box::pin(self.transformer.embed_class(class))
    }

    fn capabilities(&self) -> Capabilities {
        let pictures = self.transformer.config().sample_frames == 1;
        let what = if pictures { "single pictures" } else { "clips" };
        let why = format!("it makes {what} of its classes and takes nothing else");
        Capabilities::of_classes(self.classes.labels().len(), pictures, why)
    }

    fn check_codec(&self, _: &dyn VideoCodec) -> Result<()> {
        Ok(())
    }

    fn prepare<'a>(&'a self, request: Request<'a>, _: &'a Pace<'_>) -> Later<'a, Box<dyn Prepared + 'a>> {
        Box::pin(async move {
            let cells = request.codec.stride().cells(request.timeline.size)?;
            let rows = request.prompts.len();
            let passes = if request.batched { vec![Tensor::cat(request.prompts, 0)] } else { request.prompts };
            let fixed = self.transformer.prepare(cells)?;
            let prepared: Box<dyn Prepared + 'a> =
                Box::new(DitPrepared { transformer: &self.transformer, passes, rows, fixed });
            Ok(prepared)
        })
    }

    fn least_bytes(&self, size: ClipSize, stride: Stride) -> u64 {
        let tokens = stride.cells(size).map_or(0, |cells| self.tokens(cells));
        4 * (tokens as u64).saturating_mul(self.width() as u64)
    }

    fn largest_bytes(&self, size: ClipSize, stride: Stride) -> u64 {
        // The stream.
        let tokens = stride.cells(size).map_or(0, |cells| self.tokens(cells));
        (tokens as u64).saturating_mul(4 * self.transformer.config().hidden_dim() as u64)
    }

    fn peak_bytes(&self, size: ClipSize, codec: &dyn VideoCodec, _: Room, prompts: Prompts, _: bool) -> u64 {
        let Ok(cells) = codec.stride().cells(size) else { return 0 };
        // The positions too stay; latents and predictions are small beside them.
        let values = self.tokens(cells) * (prompts.rows * self.width() + self.transformer.config().hidden_dim());
        4 * values as u64
    }
}

struct DitPrepared<'a> {
    transformer: &'a Dit,
    /// Classes of each pass of a step: all in one, or one each.
    passes: Vec<Tensor<3>>,
    /// Classes in all.
    rows: usize,
    fixed: Fixed,
}

impl Prepared for DitPrepared<'_> {
    fn velocity<'a>(&'a self, latents: &'a Tensor<5>, step: Interval, pace: &'a Pace<'_>) -> Later<'a, Vec<Tensor<5>>> {
        Box::pin(async move {
            let mut out = Vec::with_capacity(self.rows);
            for classes in &self.passes {
                let noise = self.transformer.forward(latents.clone(), &[step.from], classes, &self.fixed, pace).await?;
                out.extend((0..noise.dims()[0]).map(|row| noise.clone().narrow(0, row, 1)));
            }
            Ok(out)
        })
    }
}
