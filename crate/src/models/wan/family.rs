//! Wan behind the door: how its checkpoints take what is known of a clip.
//!
//! Source: diffusers 0.42.1 `pipeline_wan.py`, `pipeline_wan_vace.py`, `pipeline_wan_i2v.py`.

use std::cell::RefCell;

use burn::tensor::{Tensor, TensorData};

use super::block::feed_forward_rows;
use super::condition::{Known, first_last_channels, vace_control};
use super::config::{TRANSFORMER_CLASSES, TransformerConfig, VAE_CLASSES, VaeConfig};
use super::configure;
use super::fixed::Fixed;
use super::tiling::{Tiled, Tiles};
use super::transformer::{Timesteps, WanTransformer};
use super::vace::Control;
use super::vae::{DecodeStream, Vae};
use crate::condition::{Capabilities, Timeline};
use crate::config;
use crate::error::{Error, Result};
use crate::models::family::{self, Component, Denoiser, Entry, Prepared, Request, Room, VideoCodec};
use crate::pace::{Later, Pace};
use crate::size::{ClipSize, Stride};

/// The transformers of Wan 2.1 and 2.2.
pub const TRANSFORMER_ENTRY: Entry<dyn Denoiser> = Entry {
    classes: TRANSFORMER_CLASSES,
    owns: |set| set.get("condition_embedder.time_proj.weight").is_some(),
    needs_text: true,
    configure: configure::transformer,
    usual: family::nothing_usual,
    load: load_denoiser,
};

/// Their VAEs.
pub const VAE_ENTRY: Entry<dyn VideoCodec> = Entry {
    classes: VAE_CLASSES,
    // Stable Diffusion's has the same name, and is flat.
    owns: |set| set.get("post_quant_conv.weight").is_some_and(|info| info.shape.len() == 5),
    needs_text: false,
    configure: configure::vae,
    usual: family::nothing_usual,
    load: load_vae,
};

fn load_denoiser<'a>(component: &'a Component<'a>) -> Later<'a, Box<dyn Denoiser>> {
    Box::pin(async move {
        let config: TransformerConfig = config::parse(component.config, component.file, TRANSFORMER_ENTRY.classes)?;
        // Wan 2.2 TI2V: the one checkpoint whose tokens have times of their own.
        let said = component.index["expand_timesteps"].as_bool();
        let clean_first = said.unwrap_or(config.expand_timesteps);
        let transformer = WanTransformer::load(&component.loader, &config).await?;
        Ok(Box::new(WanDenoiser::new(transformer, clean_first)) as Box<dyn Denoiser>)
    })
}

fn load_vae<'a>(component: &'a Component<'a>) -> Later<'a, Box<dyn VideoCodec>> {
    Box::pin(async move {
        let config: VaeConfig = config::parse(component.config, component.file, VAE_ENTRY.classes)?;
        Ok(Box::new(Vae::load(&component.loader, &config).await?) as Box<dyn VideoCodec>)
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

    async fn form(&self, timeline: &Timeline, codec: &dyn VideoCodec, pace: &Pace<'_>) -> Result<Form> {
        let ClipSize { frames, height, width } = timeline.size;
        let device = self.transformer.device();
        let picture =
            |values: &[f32]| Tensor::<5>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, height, width]), device);
        let frame = |at: usize| -> Option<Tensor<5>> {
            let video = timeline.video.as_ref()?;
            let plane = height * width;
            let at = if at < frames && video.to_generate.get(at * plane)? < &0.5 { at } else { return None };
            let planes = (0..3).flat_map(|c| &video.pixels[(c * frames + at) * plane..(c * frames + at + 1) * plane]);
            Some(picture(&planes.copied().collect::<Vec<_>>()))
        };
        match self.entrance {
            Entrance::None => Ok(Form::None),
            Entrance::Vace => {
                let nothing = timeline.video.is_none() && timeline.references.is_empty();
                let kept = self.nothing_given.borrow().clone().filter(|(of, _)| nothing && *of == timeline.size);
                let latents = match kept {
                    Some((_, latents)) => latents,
                    None => {
                        let known = timeline.video.as_ref().map(|video| {
                            let tensor = |values: &[f32], channels| {
                                let shape = [1, channels, frames, height, width];
                                Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
                            };
                            Known { video: tensor(&video.pixels, 3), to_generate: tensor(&video.to_generate, 1) }
                        });
                        let references: Vec<_> = timeline.references.iter().map(|r| picture(r)).collect();
                        vace_control(codec, timeline.size, known.as_ref(), &references, device, pace).await?
                    }
                };
                if nothing {
                    *self.nothing_given.borrow_mut() = Some((timeline.size, latents.clone()));
                }
                let scales = vec![timeline.control_scale; self.transformer.config().vace_layers.len()];
                Ok(Form::Vace(Control { latents, scales }))
            }
            Entrance::Channels => {
                let first = frame(0).ok_or_else(|| Error::options("this model needs a picture for the first frame"))?;
                let last = if frames > 1 { frame(frames - 1) } else { None };
                Ok(Form::Channels(first_last_channels(codec, frames, first, last, pace).await?))
            }
            Entrance::CleanFirst => match frame(0) {
                Some(first) => Ok(Form::CleanFirst(codec.encode(first, pace).await?)),
                None => Ok(Form::None),
            },
        }
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
            Entrance::Channels if self.transformer.config().image_dim.is_some() => Capabilities {
                why: "it needs CLIP's view of the picture, which is not supported yet".into(),
                ..Capabilities::default()
            },
            Entrance::Channels => Capabilities {
                image: true,
                last_image: true,
                source: true,
                why: "it was trained with a first frame, and takes a last one beside it".into(),
                ..Capabilities::default()
            },
        }
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
            let timeline = request.timeline;
            let form = self.form(timeline, request.codec, pace).await?;
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
            let passes = match request.batched {
                true => vec![Tensor::cat(request.prompts, 0)],
                false => request.prompts,
            };
            let mut fixed = Vec::with_capacity(passes.len());
            for prompts in passes {
                fixed.push(self.transformer.prepare(cells, prompts, None, control)?);
            }
            let prepared: Box<dyn Prepared + 'a> =
                Box::new(WanPrepared { transformer: &self.transformer, form, fixed, rows, lead });
            Ok(prepared)
        })
    }

    fn least_bytes(&self, size: ClipSize, stride: Stride) -> u64 {
        let c = self.transformer.config();
        let cells = size.pixels() / (stride.time * stride.space * stride.space) as u64;
        let tokens = cells / c.patch_size.iter().product::<usize>() as u64;
        // Input, query, key, value and result of attention; or input and hidden layer of the feed-forward part.
        let width = (5 * c.hidden_dim()).max(c.hidden_dim() + c.ffn_dim) as u64;
        let (hints, control) = match self.entrance {
            // A result for each control block, and before that the known pixels, grey where there are none.
            Entrance::Vace => ((c.vace_layers.len() * c.hidden_dim()) as u64, size.pixels().saturating_mul(3)),
            _ => (0, 0),
        };
        tokens.saturating_mul(width + hints).max(control).saturating_mul(4)
    }

    fn peak_bytes(&self, size: ClipSize, codec: &dyn VideoCodec, rows: usize) -> u64 {
        let c = self.transformer.config();
        let Ok(cells) = codec.stride().cells(size) else { return 0 };
        let cells: usize = cells.iter().product();
        let (length, d) = (cells / c.patch_size.iter().product::<usize>(), c.hidden_dim());
        let stream = rows * length * d;
        let rows_at_once = feed_forward_rows(rows, length, d, c.ffn_dim);
        let pieces = if rows_at_once < length { 2 * stream } else { 0 };
        // Stream, norm, query, key and value, two of them before they are turned too, and the result; or stream, pieces done, and
        // a piece's norm, hidden layer and result.
        let block = (8 * stream).max(stream + pieces + rows * rows_at_once * (2 * d + c.ffn_dim));
        let context = rows * MOST_TOKENS * (c.text_dim + 3 * d);
        let (hints, condition) = match self.entrance {
            // The control branch's input and stream, and a hint of each of its blocks; before that, the codec at work.
            Entrance::Vace => ((c.vace_layers.len() + 2) * stream, codec.encode_peak_bytes(size)),
            _ => (0, 0),
        };
        let latents = 4 * cells * codec.latent_channels();
        (4 * (block + hints + context + latents) as u64).max(condition)
    }

    fn kept(&self) -> Vec<Tensor<5>> {
        self.nothing_given.borrow().iter().map(|(_, latents)| latents.clone()).collect()
    }

    fn forget(&self) {
        self.nothing_given.take();
    }
}

/// What is known, in the form that the checkpoint takes it.
enum Form {
    None,
    Vace(Control),
    /// `[1, C_extra, f, h, w]`
    Channels(Tensor<5>),
    /// `[1, z, 1, h, w]`
    CleanFirst(Tensor<5>),
}

struct WanPrepared<'a> {
    transformer: &'a WanTransformer,
    form: Form,
    /// One for each pass of a step: all prompts in one, or one each.
    fixed: Vec<Fixed>,
    /// Prompts in all.
    rows: usize,
    lead: usize,
}

impl Prepared for WanPrepared<'_> {
    fn lead_frames(&self) -> usize {
        self.lead
    }

    fn velocity<'a>(&'a self, latents: &'a Tensor<5>, timestep: f32, pace: &'a Pace<'_>) -> Later<'a, Vec<Tensor<5>>> {
        Box::pin(async move {
            let [_, _, frames, height, width] = latents.dims();
            let (input, timesteps) = match &self.form {
                Form::None | Form::Vace(_) => (latents.clone(), Timesteps::Shared(timestep)),
                Form::Channels(extra) => {
                    (Tensor::cat(vec![latents.clone(), extra.clone()], 1), Timesteps::Shared(timestep))
                }
                Form::CleanFirst(first) => {
                    let [pt, ph, pw] = self.transformer.config().patch_size;
                    let per_frame = (height / ph) * (width / pw);
                    let mut values = vec![timestep; frames / pt * per_frame];
                    values.iter_mut().take(per_frame).for_each(|t| *t = 0.0);
                    (with_first(latents.clone(), first), Timesteps::PerToken(values))
                }
            };
            let mut out = Vec::with_capacity(self.rows);
            for fixed in &self.fixed {
                let velocity = self.transformer.denoise(input.clone(), &timesteps, fixed, pace).await?;
                match velocity.dims()[0] {
                    1 => out.push(velocity),
                    rows => out.extend((0..rows).map(|row| velocity.clone().narrow(0, row, 1))),
                }
            }
            Ok(out)
        })
    }

    fn finish(&self, latents: Tensor<5>) -> Tensor<5> {
        match &self.form {
            Form::CleanFirst(first) => with_first(latents, first),
            _ => latents,
        }
    }
}

/// The latents with their first frame replaced.
fn with_first(latents: Tensor<5>, first: &Tensor<5>) -> Tensor<5> {
    let frames = latents.dims()[2];
    if frames == 1 {
        return first.clone();
    }
    Tensor::cat(vec![first.clone(), latents.narrow(2, 1, frames - 1)], 2)
}

/// Rows of prompt embeddings, as the pipeline pads them.
const MOST_TOKENS: usize = 512;

impl VideoCodec for Vae {
    fn stride(&self) -> Stride {
        self.config().stride()
    }

    fn latent_channels(&self) -> usize {
        self.config().z_dim
    }

    fn encode<'a>(&'a self, video: Tensor<5>, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(self.encode_normalised(video, pace))
    }

    fn decode_stream(&self) -> Box<dyn family::DecodeStream + '_> {
        Box::new(Decoding { vae: self, stream: Self::decode_stream(self) })
    }

    fn decode_tiles<'a>(
        &'a self,
        latents: Tensor<5>,
        room: Room,
        pace: &'a Pace<'_>,
    ) -> Later<'a, Option<Box<dyn family::DecodeStream + 'a>>> {
        Box::pin(async move {
            let [_, _, frames, height, width] = latents.dims();
            let Stride { time, space } = self.config().stride();
            let size = ClipSize { frames: (frames - 1) * time + 1, height: height * space, width: width * space };
            let Some(tiles) = Tiles::for_room(self.config(), size, room) else { return Ok(None) };
            let tiled = self.tiled(&self.denormalise(latents), tiles, pace).await?;
            Ok(tiled.map(|tiled| Box::new(tiled) as Box<dyn family::DecodeStream>))
        })
    }

    fn peak_bytes(&self, size: ClipSize, room: Room) -> u64 {
        match Tiles::for_room(self.config(), size, room) {
            None => self.config().decoding(size.height, size.width).total,
            Some(tiles) => tiles.peak_bytes(self.config(), size),
        }
    }

    fn least_bytes(&self, size: ClipSize) -> u64 {
        let c = self.config();
        let width = c.decoder_base_dim.unwrap_or(c.base_dim) * c.dim_mult.first().copied().unwrap_or(1);
        // The last convolutions of a chunk: what goes in and what comes out, as floats.
        let chunk = ClipSize { frames: size.frames.min(self.stride().time), ..size };
        chunk.pixels() / (c.patch() * c.patch()) as u64 * (2 * width * 4) as u64
    }
}

struct Decoding<'a> {
    vae: &'a Vae,
    stream: DecodeStream<'a>,
}

impl family::DecodeStream for Decoding<'_> {
    fn push<'a>(&'a mut self, latent: Tensor<5>, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(self.stream.push(self.vae.denormalise(latent), pace))
    }
}

impl family::DecodeStream for Tiled<'_> {
    fn push<'a>(&'a mut self, _: Tensor<5>, _: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        let frames = self.next().ok_or_else(|| Error::Internal("more latent frames than were decoded by tiles".into()));
        Box::pin(std::future::ready(frames))
    }
}
