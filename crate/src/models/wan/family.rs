//! Wan behind the door: how its checkpoints take what is known of a clip.
//!
//! Source: diffusers 0.42.1 `pipeline_wan.py`, `pipeline_wan_vace.py`, `pipeline_wan_i2v.py`.

use std::cell::RefCell;

use burn::tensor::{Tensor, TensorData};

use super::condition::{first_last_channels, vace_control};
use super::config::{FLOW_MAP_CLASS, SECOND_TIME, TRANSFORMER_CLASSES, TransformerConfig};
use super::configure;
use super::prepared::{Form, WanPacked, WanPrepared};
use super::rehearsal;
use super::transformer::WanTransformer;
use super::vace::Control;
use crate::condition::{Capabilities, Timeline};
use crate::config;
use crate::error::{Error, Result};
use crate::memory::pool::Pool;
use crate::models::family::{
    Component, Denoiser, Entry, ImageEncoder, Packed, Prepared, Prompts, Request, Room, VideoCodec, nothing_usual,
};
use crate::pace::{Later, Pace};
use crate::size::{ClipSize, Stride};

/// The transformers of Wan 2.1 and 2.2.
pub const TRANSFORMER_ENTRY: Entry<dyn Denoiser> = Entry {
    classes: TRANSFORMER_CLASSES,
    owns: |set| set.get("condition_embedder.time_proj.weight").is_some(),
    needs_text: true,
    configure: configure::transformer,
    usual: nothing_usual,
    load: load_denoiser,
};

fn load_denoiser<'a>(component: &'a Component<'a>) -> Later<'a, Box<dyn Denoiser>> {
    Box::pin(async move {
        let mut config: TransformerConfig = config::parse(component.config, component.file, TRANSFORMER_CLASSES)?;
        // Whatever the class says (it may say nothing): a second time embedding is there to be used.
        if component.loader.has(SECOND_TIME) {
            config.class = FLOW_MAP_CLASS.into();
        }
        // Wan 2.2 TI2V: the one checkpoint whose tokens have times of their own.
        let said = component.index["expand_timesteps"].as_bool();
        let clean_first = said.unwrap_or(config.expand_timesteps);
        let transformer = WanTransformer::load(&component.loader, &config).await?;
        Ok(Box::new(WanDenoiser::new(transformer, clean_first)) as Box<dyn Denoiser>)
    })
}

/// A transformer and the way in which it takes known pixels.
pub struct WanDenoiser {
    transformer: WanTransformer,
    entrance: Entrance,
    /// Control latents of "nothing given" for the size used last: encoding a grey clip costs as much as two steps.
    nothing_given: RefCell<Option<(ClipSize, Tensor<5>)>>,
}

/// By which of Wan's ways known pixels enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    /// Text only.
    None,
    /// The VACE control branch.
    Vace,
    /// Extra input channels beside the latents (I2V, first + last frame).
    Channels,
    /// A clean first latent frame with timestep 0 (TI2V).
    CleanFirst,
}

impl WanDenoiser {
    /// `clean_first`: the checkpoint was trained with a time for each token (`expand_timesteps` in model_index.json).
    pub fn new(transformer: WanTransformer, clean_first: bool) -> Self {
        let c = transformer.config();
        // A flow-map model is told one pair of times for all tokens.
        let clean_first = clean_first && !c.is_flow_map();
        let entrance = match (c.vace_layers.is_empty(), c.in_channels > c.out_channels(), clean_first) {
            (false, _, _) => Entrance::Vace,
            (true, true, _) => Entrance::Channels,
            (true, false, true) => Entrance::CleanFirst,
            (true, false, false) => Entrance::None,
        };
        Self { transformer, entrance, nothing_given: RefCell::default() }
    }

    /// The network itself.
    pub fn transformer(&self) -> &WanTransformer {
        &self.transformer
    }

    /// True if it was trained to see the last frame beside the first.
    fn looks_at_both(&self) -> bool {
        self.looks() && self.transformer.config().pos_embed_seq_len.is_some()
    }

    /// CLIP's view of the first and, in models that look at both, the last frame, at the clip's size: `[1 or 2, Li, D_image]`.
    async fn seen(
        &self,
        timeline: &Timeline<'_>,
        encoder: Option<&dyn ImageEncoder>,
        pace: &Pace<'_>,
    ) -> Result<Option<Tensor<3>>> {
        if !self.looks() {
            return Ok(None);
        }
        let encoder = encoder.ok_or_else(|| Error::options("this model needs an image encoder"))?;
        let last = if self.looks_at_both() { known_last(timeline)? } else { None };
        let size = [timeline.size.height, timeline.size.width];
        let mut views = Vec::new();
        for planes in known_frame(timeline, 0)?.iter().chain(&last) {
            views.push(encoder.encode(planes, size, pace).await?);
        }
        Ok((!views.is_empty()).then(|| Tensor::cat(views, 0)))
    }

    async fn form(&self, timeline: &Timeline<'_>, codec: &dyn VideoCodec, room: Room, pace: &Pace<'_>) -> Result<Form> {
        let ClipSize { frames, height, width } = timeline.size;
        let device = self.transformer.device();
        let picture =
            |values: &[f32]| Tensor::<5>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, height, width]), device);
        let frame = |at: usize| known_frame(timeline, at).map(|planes| planes.map(|planes| picture(&planes)));
        match self.entrance {
            Entrance::None => Ok(Form::None),
            Entrance::Vace => {
                let nothing = timeline.video.is_none() && timeline.references.is_empty();
                let kept = self.nothing_given.borrow().clone().filter(|(of, _)| nothing && *of == timeline.size);
                let latents = match kept {
                    Some((_, latents)) => latents,
                    None => {
                        let step = codec.stride().space;
                        let whole = timeline.references.iter().map(|reference| reference.on_white(height, width, step));
                        let references =
                            whole.map(|planes| planes.map(|planes| picture(&planes))).collect::<Result<Vec<_>>>()?;
                        vace_control(codec, timeline.size, timeline.video.as_ref(), &references, device, room, pace)
                            .await?
                    }
                };
                if nothing {
                    *self.nothing_given.borrow_mut() = Some((timeline.size, latents.clone()));
                }
                let scales = vec![timeline.control_scale; self.transformer.config().vace_layers.len()];
                Ok(Form::Vace(Control { latents, scales }))
            }
            Entrance::Channels => {
                let first =
                    frame(0)?.ok_or_else(|| Error::options("this model needs a picture for the first frame"))?;
                let last = known_last(timeline)?.map(|planes| picture(&planes));
                Ok(Form::Channels(first_last_channels(codec, frames, first, last, room, pace).await?))
            }
            Entrance::CleanFirst => match frame(0)? {
                Some(first) => Ok(Form::CleanFirst(codec.encode(&first, room, pace).await?)),
                None => Ok(Form::None),
            },
        }
    }
}

/// The planes `[3, H, W]` of a frame that is known whole.
fn known_frame(timeline: &Timeline<'_>, at: usize) -> Result<Option<Vec<f32>>> {
    let shown = timeline.video.as_ref().map(|video| video.frame(at)).transpose()?.flatten();
    Ok(shown.filter(|shown| shown.to_generate.iter().all(|open| *open <= 0.5)).map(|shown| shown.planes))
}

/// The last frame where it is another than the first and known.
fn known_last(timeline: &Timeline<'_>) -> Result<Option<Vec<f32>>> {
    match timeline.size.frames {
        1 => Ok(None),
        frames => known_frame(timeline, frames - 1),
    }
}

impl WanDenoiser {
    /// Does what does not change from step to step of a clip.
    async fn prepared<'a>(&'a self, request: Request<'a>, pace: &Pace<'_>) -> Result<WanPrepared<'a>> {
        let timeline = request.timeline;
        let form = self.form(timeline, request.codec, request.room, pace).await?;
        let lead = match self.entrance {
            Entrance::Vace => timeline.references.len(),
            _ => 0,
        };
        let [frames, height, width] = request.codec.stride().cells(timeline.size)?;
        let cells = [frames + lead, height, width];
        let control = match &form {
            Form::Vace(control) => Some(control),
            _ => None,
        };
        let rows = request.prompts.len();
        let seen = self.seen(timeline, request.image_encoder, pace).await?;
        let passes = match request.batched {
            true => vec![Tensor::cat(request.prompts, 0)],
            false => request.prompts,
        };
        let mut fixed = Vec::with_capacity(passes.len());
        for prompts in passes {
            let seen = seen.clone().map(|seen| seen.repeat_dim(0, prompts.dims()[0]));
            fixed.push(self.transformer.prepare(cells, prompts, seen, control)?);
        }
        Ok(WanPrepared { transformer: &self.transformer, form, fixed, rows, lead })
    }

    /// Tokens of a clip, or fewer: the first latent frame stands for one frame only.
    fn least_tokens(&self, size: ClipSize, stride: Stride) -> u64 {
        let cells = size.pixels() / (stride.time * stride.space * stride.space) as u64;
        cells / self.transformer.config().patch_size.iter().product::<usize>() as u64
    }
}

impl Denoiser for WanDenoiser {
    fn latent_channels(&self) -> usize {
        self.transformer.config().out_channels()
    }

    fn patch(&self) -> [usize; 3] {
        self.transformer.config().patch_size
    }

    fn text_dim(&self) -> usize {
        self.transformer.config().text_dim
    }

    fn capabilities(&self) -> Capabilities {
        match self.entrance {
            Entrance::Vace => Capabilities::all(),
            Entrance::CleanFirst => {
                Capabilities { image: true, ..Capabilities::text_only("it takes text and a first frame only") }
            }
            Entrance::None => Capabilities::text_only("it was trained on text alone and has no control branch"),
            Entrance::Channels => {
                // Without CLIP a last frame is one more known one; with CLIP its view stands beside the first one's.
                let needs_last_image = self.looks_at_both();
                let last_image = needs_last_image || !self.looks();
                let why = match (needs_last_image, last_image) {
                    (true, _) => "it was trained with a first and a last frame, and needs both",
                    (false, true) => "it was trained with a first frame, and takes a last one beside it",
                    (false, false) => "it was trained with a first frame",
                };
                Capabilities {
                    image: true,
                    last_image,
                    needs_last_image,
                    source: true,
                    why: why.to_owned(),
                    ..Capabilities::default()
                }
            }
        }
    }

    fn is_flow_map(&self) -> bool {
        self.transformer.config().is_flow_map()
    }

    fn looks(&self) -> bool {
        self.entrance == Entrance::Channels && self.transformer.config().image_dim.is_some()
    }

    fn check_image_encoder(&self, encoder: &dyn ImageEncoder) -> Result<()> {
        let c = self.transformer.config();
        for (field, found, expected) in [
            ("image_dim", c.image_dim, encoder.dim()),
            ("pos_embed_seq_len", c.pos_embed_seq_len, 2 * encoder.tokens()),
        ] {
            if let Some(found) = found.filter(|found| *found != expected) {
                let rule = format!("{field} {expected}, as the image encoder has it");
                return Err(Error::weights("transformer/config.json", rule, found.to_string()));
            }
        }
        Ok(())
    }

    fn check_codec(&self, codec: &dyn VideoCodec) -> Result<()> {
        let (c, z, Stride { time, space }) = (self.transformer.config(), codec.latent_channels(), codec.stride());
        let wrong = |expected: String, found: usize| {
            Err(Error::weights("transformer/config.json", expected, found.to_string()))
        };
        let expected = if self.entrance == Entrance::Channels { 2 * z + time } else { z };
        if c.in_channels != expected {
            return wrong(format!("in_channels {expected} for {z} latent channels"), c.in_channels);
        }
        let expected = 2 * z + space * space;
        if self.entrance == Entrance::Vace && c.vace_in_channels != expected {
            return wrong(format!("vace_in_channels {expected}"), c.vace_in_channels);
        }
        Ok(())
    }

    fn prepare<'a>(&'a self, request: Request<'a>, pace: &'a Pace<'_>) -> Later<'a, Box<dyn Prepared + 'a>> {
        Box::pin(async move {
            let prepared: Box<dyn Prepared + 'a> = Box::new(self.prepared(request, pace).await?);
            Ok(prepared)
        })
    }

    fn packs(&self) -> bool {
        // A flow-map model is told one pair of times for all tokens.
        !self.is_flow_map()
    }

    fn prepare_packed<'a>(&'a self, requests: Vec<Request<'a>>, pace: &'a Pace<'_>) -> Later<'a, Box<dyn Packed + 'a>> {
        Box::pin(async move {
            let mut clips = Vec::with_capacity(requests.len());
            for request in requests {
                clips.push(self.prepared(request, pace).await?);
            }
            let packed: Box<dyn Packed + 'a> = Box::new(WanPacked { transformer: &self.transformer, clips });
            Ok(packed)
        })
    }

    fn largest_bytes(&self, size: ClipSize, stride: Stride) -> u64 {
        // The stream.
        let width = self.transformer.config().hidden_dim() as u64;
        self.least_tokens(size, stride).saturating_mul(4 * width)
    }

    fn least_bytes(&self, size: ClipSize, stride: Stride) -> u64 {
        let c = self.transformer.config();
        let tokens = self.least_tokens(size, stride);
        // Input, query, key, value and result of attention; or input and hidden layer of the feed-forward part.
        let width = (5 * c.hidden_dim()).max(c.hidden_dim() + c.ffn_dim) as u64;
        let (hints, control) = match self.entrance {
            // A result for each control block, and before that the known pixels, grey where there are none.
            Entrance::Vace => ((c.vace_layers.len() * c.hidden_dim()) as u64, size.pixels().saturating_mul(3)),
            _ => (0, 0),
        };
        tokens.saturating_mul(width + hints).max(control).saturating_mul(4)
    }

    fn peak_bytes(&self, size: ClipSize, codec: &dyn VideoCodec, room: Room, prompts: Prompts, known: bool) -> u64 {
        let Ok(cells) = codec.stride().cells(size) else { return 0 };
        let (pool, cells) = (Pool::default(), cells.into_iter().fold(1_u64, |n, side| n * side as u64));
        match self.entrance {
            Entrance::Vace | Entrance::Channels => codec.rehearse_encode(&pool, size, room),
            Entrance::CleanFirst if known => codec.rehearse_encode(&pool, ClipSize { frames: 1, ..size }, room),
            Entrance::CleanFirst | Entrance::None => {}
        }
        let timed = known && self.entrance == Entrance::CleanFirst;
        rehearsal::denoise(&pool, self.transformer.config(), cells, prompts, timed);
        pool.peak()
    }

    fn kept(&self) -> Vec<Tensor<5>> {
        self.nothing_given.borrow().iter().map(|(_, latents)| latents.clone()).collect()
    }

    fn forget(&self) {
        self.nothing_given.take();
    }
}
