//! TAEHV: a tiny video decoder (and encoder) for the latents of Wan 2.1 and 2.2, a stack of 2-D convolutions whose blocks
//! remember one frame.
//!
//! Latents are taken as denoisers make them, without a mean and a deviation.
//!
//! Source: `taehv.py` of <https://github.com/madebyollin/taehv>; `lighttaew2_1` and `lighttaew2_2` of
//! `lightx2v/Autoencoders` are of the same architecture.

mod config;
mod layers;
mod rehearsal;

use burn::tensor::{Tensor, activation};

pub use config::TaehvConfig;
use layers::{Grow, MemBlock, Past, Pool, halved, shuffled, strips, unshuffled};

use crate::config::parse;
use crate::error::{Error, Result};
use crate::memory::pool;
use crate::models::family::{self, Entry, Room, VideoCodec};
use crate::models::footage::Footage;
use crate::nn::conv::{Form, FrameConv};
use crate::nn::loader::Loader;
use crate::pace::{Later, Pace};
use crate::size::{ClipSize, Stride};

/// Tiny codecs of the TAEHV family.
pub const ENTRY: Entry<dyn VideoCodec> = Entry {
    classes: &["TAEHV"],
    owns: |set| set.get("decoder.1.weight").is_some() && set.names().any(|name| name.starts_with("decoder.3.conv.")),
    needs_text: false,
    configure: config::configure,
    usual: family::nothing_usual,
    load: |component| {
        Box::pin(async move {
            let config: TaehvConfig = parse(component.config, component.file, ENTRY.classes)?;
            Ok(Box::new(Taehv::load(&component.loader, &config).await?) as Box<dyn VideoCodec>)
        })
    },
};

/// Frames in one latent frame.
const TIME: usize = 4;
/// Blocks of each level.
const BLOCKS: usize = 3;

/// A loaded codec.
#[derive(Debug, Clone)]
pub struct Taehv {
    config: TaehvConfig,
    decoder: Decoder,
    encoder: Option<Encoder>,
}

#[derive(Debug, Clone)]
struct Decoder {
    conv_in: FrameConv,
    levels: Vec<Up>,
    conv_out: FrameConv,
}

/// One level of the decoder: blocks, then more frames, then twice the size.
#[derive(Debug, Clone)]
struct Up {
    blocks: Vec<MemBlock>,
    grow: Grow,
    conv: FrameConv,
    conv_width: usize,
}

#[derive(Debug, Clone)]
struct Encoder {
    conv_in: FrameConv,
    levels: Vec<Down>,
    conv_out: FrameConv,
}

/// One level of the encoder: fewer frames, half the size, then blocks.
#[derive(Debug, Clone)]
struct Down {
    pool: Pool,
    conv: FrameConv,
    blocks: Vec<MemBlock>,
}

impl Taehv {
    /// Reads the decoder, and the encoder where the file has one.
    ///
    /// # Errors
    /// [`Error::Weights`] when the configuration or a tensor does not fit.
    pub async fn load(loader: &Loader, config: &TaehvConfig) -> Result<Self> {
        config.check("vae/config.json")?;
        let pixels = 3 * config.patch_size * config.patch_size;
        let side = loader.at("decoder");
        let mut levels = Vec::with_capacity(config.widths.len() - 1);
        for (level, pair) in config.widths.windows(2).enumerate() {
            let (width, next, first) = (pair[0], pair[1], 3 + 6 * level);
            let conv = side.at(first + BLOCKS + 2);
            let doubled = Form { doubled: true, ..Form::plain([1, 3, 3]) };
            levels.push(Up {
                blocks: MemBlock::load_all(&side, first, width).await?,
                grow: Grow::load(&side.at(first + BLOCKS + 1), width, config.time[level]).await?,
                conv: FrameConv::load_without_bias(&conv, width, [next, next], doubled).await?,
                conv_width: next,
            });
        }
        let last = 4 + 6 * levels.len();
        let decoder = Decoder {
            conv_in: FrameConv::load(&side.at(1), config.latent_channels, config.widths[0], 3).await?,
            conv_out: FrameConv::load(&side.at(last), config.widths[levels.len()], pixels, 3).await?,
            levels,
        };
        let encoder = match config.encoder_width {
            Some(width) => Some(Encoder::load(&loader.at("encoder"), config, width).await?),
            None => None,
        };
        Ok(Self { config: config.clone(), decoder, encoder })
    }

    /// Starts decoding a clip.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream { codec: self, pasts: Vec::new(), trimmed: false }
    }

    /// Latents of a whole clip.
    ///
    /// # Shapes
    /// F frames of `H × W` px → `[1, z, ⌈F / 4⌉, H / s, W / s]`
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the file has no encoder; [`Error::Aborted`] from between the blocks.
    pub async fn encode_video(&self, video: &dyn Footage, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let missing = || Error::options("this tiny VAE decodes only: a picture needs a VAE with an encoder");
        let encoder = self.encoder.as_ref().ok_or_else(missing)?;
        let frames = video.size().frames;
        let (mut pasts, mut out) = (Vec::new(), Vec::new());
        for at in (0..frames).step_by(TIME) {
            let count = TIME.min(frames - at);
            let mut group = vec![unshuffled(video.read(at, count)? * 0.5 + 0.5, self.config.patch_size)];
            // The reference fills the last group of frames with copies of the last one.
            let last = group[0].clone().narrow(2, count - 1, 1);
            group.extend(std::iter::repeat_n(last, TIME - count));
            out.push(encoder.forward(Tensor::cat(group, 2), &mut pasts, pace).await?);
        }
        Ok(Tensor::cat(out, 2))
    }
}

impl Encoder {
    async fn load(side: &Loader, config: &TaehvConfig, width: usize) -> Result<Self> {
        let pixels = 3 * config.patch_size * config.patch_size;
        let mut levels = Vec::new();
        for (level, halves) in [true, true, false].into_iter().enumerate() {
            let first = 2 + 5 * level;
            let conv = side.at(first + 1);
            levels.push(Down {
                pool: Pool::load(&side.at(first), width, halves).await?,
                conv: FrameConv::load_without_bias(&conv, width, [width, width], Form::plain([1, 3, 3])).await?,
                blocks: MemBlock::load_all(side, first + 2, width).await?,
            });
        }
        Ok(Self {
            conv_in: FrameConv::load(&side.at(0), pixels, width, 3).await?,
            levels,
            conv_out: FrameConv::load(&side.at(17), width, config.latent_channels, 3).await?,
        })
    }

    async fn forward(&self, x: Tensor<5>, pasts: &mut Vec<Past>, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let mut slots = Slots { pasts, next: 0 };
        let Some(first) = self.levels.first() else { return Ok(self.conv_out.forward(x)) };
        // The largest tensors: the frames that become one, and no more at once.
        let (frames, together) = (x.dims()[2], first.pool.times());
        let mut groups = Vec::with_capacity(frames / together);
        for at in (0..frames).step_by(together) {
            let group = activation::relu(self.conv_in.forward(x.clone().narrow(2, at, together)));
            groups.push(halved(first.conv.forward(first.pool.forward(group))));
            pace.block_done(&groups[groups.len() - 1]).await?;
        }
        let mut x = Tensor::cat(groups, 2);
        for (index, level) in self.levels.iter().enumerate() {
            if index > 0 {
                x = halved(level.conv.forward(level.pool.forward(x)));
            }
            for block in &level.blocks {
                x = block.forward(x, slots.next());
                pace.block_done(&x).await?;
            }
        }
        Ok(self.conv_out.forward(x))
    }
}

impl Decoder {
    async fn forward(&self, x: Tensor<5>, pasts: &mut Vec<Past>, pace: &Pace<'_>) -> Result<Tensor<5>> {
        // Latents far outside what it was trained on are bent back.
        let mut x = activation::relu(self.conv_in.forward((x / 3.0).tanh() * 3.0));
        let mut slots = Slots { pasts, next: 0 };
        for (index, level) in self.levels.iter().enumerate() {
            for block in &level.blocks {
                x = block.forward(x, slots.next());
                pace.block_done(&x).await?;
            }
            // The reference doubles the size first; a kernel of one pixel gives the same before and after.
            x = level.grow.forward(x);
            if index + 1 < self.levels.len() {
                x = level.conv.forward(x);
            }
        }
        let Some(last) = self.levels.last() else { return Ok(x) };
        // Nothing from here on looks at another frame: a piece at a time, for these are the largest tensors.
        let mut frames = Vec::with_capacity(x.dims()[2]);
        for frame in 0..x.dims()[2] {
            let strips = strips(x.clone().narrow(2, frame, 1), last.conv_width);
            let mut out = Vec::with_capacity(strips.len());
            for strip in strips {
                let y = self.conv_out.forward(activation::relu(last.conv.forward(strip.rows)));
                out.push(y.narrow(3, 2 * strip.above, 2 * strip.count));
                pace.block_done(&out[out.len() - 1]).await?;
            }
            frames.push(Tensor::cat(out, 3));
        }
        Ok(Tensor::cat(frames, 2))
    }
}

/// The blocks' memories in the order in which they run.
struct Slots<'a> {
    pasts: &'a mut Vec<Past>,
    next: usize,
}

impl Slots<'_> {
    fn next(&mut self) -> &mut Past {
        if self.next == self.pasts.len() {
            self.pasts.push(None);
        }
        self.next += 1;
        &mut self.pasts[self.next - 1]
    }
}

/// A clip being decoded.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    codec: &'a Taehv,
    pasts: Vec<Past>,
    trimmed: bool,
}

impl family::DecodeStream for DecodeStream<'_> {
    fn push<'a>(&'a mut self, latent: Tensor<5>, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(async move {
            let x = self.codec.decoder.forward(latent, &mut self.pasts, pace).await?;
            let frames = x.dims()[2];
            // The first latent frame is one picture: what it makes before that was never part of a clip.
            let skip = if std::mem::replace(&mut self.trimmed, true) { 0 } else { frames - 1 };
            let x = shuffled(x.narrow(2, skip, frames - skip), self.codec.config.patch_size);
            Ok(x * 2.0 - 1.0)
        })
    }
}

impl VideoCodec for Taehv {
    fn stride(&self) -> Stride {
        Stride { time: TIME, space: 8 * self.config.patch_size }
    }

    fn latent_channels(&self) -> usize {
        self.config.latent_channels
    }

    fn encode<'a>(&'a self, video: &'a dyn Footage, _: Room, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(self.encode_video(video, pace))
    }

    fn rehearse_encode(&self, pool: &pool::Pool, size: ClipSize, _: Room) {
        self.config.rehearse_encode(pool, size);
    }

    fn peak_bytes(&self, size: ClipSize, _: Room) -> u64 {
        let pool = pool::Pool::default();
        self.config.rehearse_decode(&pool, size);
        pool.peak()
    }

    fn decode_stream(&self) -> Box<dyn family::DecodeStream + '_> {
        Box::new(Self::decode_stream(self))
    }
}
