//! The door by which a model comes in: what a text encoder, an image encoder, a denoiser and a video codec must do. The pipeline knows these
//! traits and nothing behind them; [`super::registry`] says which folder's class is which model's.

use burn::tensor::Tensor;

use serde_json::Value;

use super::classes::Classes;
use super::footage::Footage;
use crate::condition::{Capabilities, Timeline};
use crate::error::{Error, Result};
use crate::memory::pool::Pool;
use crate::nn::loader::Loader;
use crate::options::ModelDefaults;
use crate::pace::{Later, Pace};
use crate::size::{ClipSize, Stride};
use crate::weights::WeightSet;

/// Prompt tokens to embeddings.
pub trait TextEncoder {
    /// Width of the embeddings, D_text.
    fn dim(&self) -> usize;

    /// Embeds one row of tokens, none of them padding.
    ///
    /// # Shapes
    /// `token_ids` Lt → `[1, Lt, D_text]`
    fn encode<'a>(&'a self, token_ids: &'a [u32], pace: &'a Pace<'_>) -> Later<'a, Tensor<3>>;

    /// Bytes that a GPU holds at most while so many tokens are embedded, besides the weights.
    fn peak_bytes(&self, _tokens: usize) -> u64 {
        0
    }
}

/// Pictures to tokens that a denoiser attends to beside the prompt's.
pub trait ImageEncoder {
    /// Width of a token, D_image.
    fn dim(&self) -> usize;

    /// Tokens of a picture, Li.
    fn tokens(&self) -> usize;

    /// Brings a picture to the form in which it was trained to see it, and encodes it.
    ///
    /// # Shapes
    /// `planes` `[3, H, W]` in −1…1, `size` height and width in px → `[1, Li, D_image]`
    fn encode<'a>(&'a self, planes: &'a [f32], size: [usize; 2], pace: &'a Pace<'_>) -> Later<'a, Tensor<3>>;

    /// Bytes that a GPU holds at most while a picture is encoded, besides the weights.
    fn peak_bytes(&self) -> u64 {
        0
    }
}

/// The prompts of a clip, as a denoiser sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prompts {
    /// Passes of a step, one after another.
    pub passes: usize,
    /// Prompts of a pass.
    pub rows: usize,
    /// Tokens of a prompt.
    pub tokens: usize,
}

/// What a device has left for a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes in all, besides the weights.
    pub bytes: u64,
    /// Bytes of one tensor.
    pub largest: u64,
}

impl Room {
    /// No bounds.
    pub const ENDLESS: Self = Self { bytes: u64::MAX, largest: u64::MAX };
}

/// Video to latents and back. Latents here are normalised, as denoisers see them.
pub trait VideoCodec {
    /// How a clip shrinks.
    fn stride(&self) -> Stride;

    /// Latent channels, z.
    fn latent_channels(&self) -> usize;

    /// Reads the clip in order, a few frames at a time; by tiles, where the codec has them and a whole picture does not fit into
    /// the room.
    ///
    /// # Shapes
    /// F frames of `H × W` px → `[1, z, f, h, w]` as [`Stride::cells`] says
    fn encode<'a>(&'a self, video: &'a dyn Footage, room: Room, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>>;

    /// Starts decoding a clip; latent frames are pushed in order.
    fn decode_stream(&self) -> Box<dyn DecodeStream + '_>;

    /// As [`VideoCodec::decode_stream`] where a whole picture does not fit into the room: the clip is decoded by tiles before
    /// the first push, and what is pushed only counts. `None` where it fits, or the codec has no tiles.
    ///
    /// # Shapes
    /// `latents` `[1, z, f, h, w]`, all that will be pushed
    fn decode_tiles<'a>(
        &'a self,
        _latents: Tensor<5>,
        _room: Room,
        _pace: &'a Pace<'_>,
    ) -> Later<'a, Option<Box<dyn DecodeStream + 'a>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Bytes that a GPU with this room holds at most while a clip is decoded, besides the weights.
    fn peak_bytes(&self, _: ClipSize, _: Room) -> u64 {
        0
    }

    /// Takes of `pool` what a GPU with this room takes while a clip is encoded, besides the weights.
    fn rehearse_encode(&self, _pool: &Pool, _: ClipSize, _: Room) {}

    /// Bytes that decoding must hold at once besides the weights; too few rather than too many.
    fn least_bytes(&self, _: ClipSize) -> u64 {
        0
    }
}

/// A clip being decoded.
pub trait DecodeStream {
    /// What is not in −1…1 is clamped where bytes are made of it, after a look at whether it is finite.
    ///
    /// # Shapes
    /// the next latent frame `[1, z, 1, h, w]` → its frames `[1, 3, 1 or more, H, W]` around −1…1
    fn push<'a>(&'a mut self, latent: Tensor<5>, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>>;
}

/// A model that predicts, from noisy latents, how they move towards a clip.
pub trait Denoiser {
    /// Latent channels that it makes.
    fn latent_channels(&self) -> usize;

    /// Latent frames, rows and columns of one token: the latent grid must be a multiple of it.
    fn patch(&self) -> [usize; 3];

    /// Width of the prompt embeddings that it reads.
    fn text_dim(&self) -> usize;

    /// The classes that it shows in place of what a prompt says; `None` for a model of text.
    fn classes(&self) -> Option<&Classes> {
        None
    }

    /// A class, or `None` for no class in particular, in the form of prompt embeddings; asked only of a model with classes.
    ///
    /// # Shapes
    /// → `[1, Lt, D_text]`, Lt being its own affair
    fn embed_class(&self, _: Option<usize>) -> Later<'_, Tensor<3>> {
        Box::pin(std::future::ready(Err(Error::Internal("a class for a model of text".into()))))
    }

    /// What it can be given besides text.
    fn capabilities(&self) -> Capabilities;

    /// True if it predicts the mean velocity from a step's beginning to its end, and so needs a solver that goes straight there.
    fn is_flow_map(&self) -> bool {
        false
    }

    /// True if it attends to an image encoder's view of the given pictures, and so needs one.
    fn looks(&self) -> bool {
        false
    }

    /// Whether it belongs to this image encoder; asked where it looks.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] naming the configuration's field.
    fn check_image_encoder(&self, _: &dyn ImageEncoder) -> Result<()> {
        Ok(())
    }

    /// Whether it belongs to this codec; the pipeline has compared the latent channels.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] naming the configuration's field.
    fn check_codec(&self, codec: &dyn VideoCodec) -> Result<()>;

    /// Does once a clip what does not change from step to step: conditions encoded, prompts projected, positions.
    fn prepare<'a>(&'a self, request: Request<'a>, pace: &'a Pace<'_>) -> Later<'a, Box<dyn Prepared + 'a>>;

    /// Whether several clips of text can go through it in one pass.
    fn packs(&self) -> bool {
        false
    }

    /// As [`Denoiser::prepare`] for several clips of text that go through it in one pass; asked only of a model that packs.
    fn prepare_packed<'a>(&'a self, _: Vec<Request<'a>>, _: &'a Pace<'_>) -> Later<'a, Box<dyn Packed + 'a>> {
        Box::pin(std::future::ready(Err(Error::Internal("several clips for a model that takes one at a time".into()))))
    }

    /// Bytes that a clip's condition and its denoising must hold at once besides the weights; too few rather than too many.
    fn least_bytes(&self, _: ClipSize, _: Stride) -> u64 {
        0
    }

    /// Bytes of the largest tensor that a step cannot do without; too few rather than too many. A GPU holds it in one buffer.
    fn largest_bytes(&self, _: ClipSize, _: Stride) -> u64 {
        0
    }

    /// Bytes that a GPU with this room holds at most while a clip is prepared and denoised, besides the weights; `known` if some
    /// of its pixels are.
    fn peak_bytes(&self, _: ClipSize, _codec: &dyn VideoCodec, _: Room, _: Prompts, _known: bool) -> u64 {
        0
    }

    /// Tensors that it keeps from clip to clip; the pipeline frees the rest where stages end.
    fn kept(&self) -> Vec<Tensor<5>> {
        Vec::new()
    }

    /// Forgets them.
    fn forget(&self) {}
}

/// What a clip is made from, as a denoiser needs it.
pub struct Request<'a> {
    /// What is known of the clip.
    pub timeline: &'a Timeline<'a>,
    /// The codec, for encoding it.
    pub codec: &'a dyn VideoCodec,
    /// What the device has left for that.
    pub room: Room,
    /// For a denoiser that looks.
    pub image_encoder: Option<&'a dyn ImageEncoder>,
    /// One or, guided, two rows of prompt embeddings, `[1, Lt, D_text]` each: the prompt, the negative prompt; of a model with
    /// classes the class, and none in particular.
    pub prompts: Vec<Tensor<3>>,
    /// Whether both rows may go through the model as one batch: faster on a GPU, twice the scratch memory.
    pub batched: bool,
}

/// Where a step begins and where it ends, on the scale 0 (clean) … 1000 (noise).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The time of the latents that the model sees.
    pub from: f32,
    /// The time that the scheduler goes to; only flow-map models look at it.
    pub to: f32,
}

/// A denoiser ready for one clip.
pub trait Prepared {
    /// Latent frames before the clip's own (reference pictures), which are not shown.
    fn lead_frames(&self) -> usize {
        0
    }

    /// The velocity for each prompt of the request, in that order; or what else the model predicts and its folder's scheduler
    /// expects, such as the noise.
    ///
    /// # Shapes
    /// `latents` `[1, z, f, h, w]` → as many of the same
    fn velocity<'a>(&'a self, latents: &'a Tensor<5>, step: Interval, pace: &'a Pace<'_>) -> Later<'a, Vec<Tensor<5>>>;

    /// What is known to be exact put into the finished latents.
    fn finish(&self, latents: Tensor<5>) -> Tensor<5> {
        latents
    }
}

/// A denoiser ready for clips that go through it in one pass.
pub trait Packed {
    /// Each clip as if it were alone, in the order of the requests.
    fn clips(&self) -> Vec<&dyn Prepared>;

    /// As [`Prepared::velocity`], for each of these clips; those that are not named are left out of the pass.
    fn velocities<'a>(&'a self, steps: &'a [PackedStep], pace: &'a Pace<'_>) -> Later<'a, Vec<Vec<Tensor<5>>>>;
}

/// A step of one clip in a pass of several.
#[derive(Debug, Clone)]
pub struct PackedStep {
    /// Which clip, by the order of the requests.
    pub clip: usize,
    /// Its latents, `[1, z, f, h, w]`.
    pub latents: Tensor<5>,
    /// Where its step begins and ends; clips may differ in it.
    pub step: Interval,
}

/// One clip, of any model, as a pack of one.
pub struct Alone<'p>(pub Box<dyn Prepared + 'p>);

impl Packed for Alone<'_> {
    fn clips(&self) -> Vec<&dyn Prepared> {
        vec![self.0.as_ref()]
    }

    fn velocities<'a>(&'a self, steps: &'a [PackedStep], pace: &'a Pace<'_>) -> Later<'a, Vec<Vec<Tensor<5>>>> {
        Box::pin(async move {
            let mut velocities = Vec::with_capacity(steps.len());
            for PackedStep { latents, step, .. } in steps {
                velocities.push(self.0.velocity(latents, *step, pace).await?);
            }
            Ok(velocities)
        })
    }
}

/// How one kind of component is recognised and built.
pub struct Entry<T: ?Sized> {
    /// The `_class_name`s (or `architectures`) of its config.json.
    pub classes: &'static [&'static str],
    /// True for weights that only it has (diffusers names), where config.json names no class.
    pub owns: fn(&WeightSet) -> bool,
    /// Whether a model with it has a tokenizer and a text encoder; of a denoiser.
    pub needs_text: bool,
    /// What it is, read off its tensors, where no config.json says so; asked only where `owns`.
    pub configure: fn(&WeightSet) -> Result<Known>,
    /// What a model with this config.json and this one of its codec (empty where there is none) suggests where no card does; of
    /// a denoiser.
    pub usual: fn(&[u8], &[u8]) -> ModelDefaults,
    /// Builds it from its config.json.
    pub load: for<'a> fn(&'a Component<'a>) -> Later<'a, Box<T>>,
}

/// A model told by its tensors alone.
#[derive(Debug, Clone)]
pub struct Known {
    /// What people call it.
    pub name: String,
    /// What its config.json would say.
    pub config: Value,
    /// What the folder's scheduler_config.json would say; of a denoiser.
    pub scheduler: Option<Value>,
    /// What its makers suggest; of a denoiser.
    pub defaults: ModelDefaults,
}

impl Known {
    /// A part that suggests nothing.
    pub fn part(name: impl Into<String>, config: Value) -> Self {
        Self { name: name.into(), config, scheduler: None, defaults: ModelDefaults::default() }
    }
}

/// For [`Entry::usual`] of a model that suggests nothing beyond the table of options.
pub fn nothing_usual(_: &[u8], _: &[u8]) -> ModelDefaults {
    ModelDefaults::default()
}

/// For [`Entry::configure`] of a model whose tensors do not tell enough.
///
/// # Errors
/// [`Error::Fetch`] always: its config.json is needed.
pub fn needs_config(_: &WeightSet) -> Result<Known> {
    Err(Error::Fetch("this model cannot be told by its tensors alone: its config.json is needed".into()))
}

/// A component of a model folder.
pub struct Component<'a> {
    /// The bytes of its config.json.
    pub config: &'a [u8],
    /// Where that lies, for messages.
    pub file: &'a str,
    /// Its weights.
    pub loader: Loader,
    /// What model_index.json says.
    pub index: &'a Value,
}
