//! TAEHV: a tiny video decoder (and encoder) for the latents of Wan 2.1 and 2.2, a stack of 2-D convolutions whose blocks
//! remember one frame.
//!
//! Latents are taken as denoisers make them, without a mean and a deviation. Of the decoder there is a larger variant, "super":
//! other blocks, and layers in another order.
//!
//! Source: `taehv.py` of <https://github.com/madebyollin/taehv>; `lighttaew2_1` and `lighttaew2_2` of
//! `lightx2v/Autoencoders` are of the same architecture.

mod config;
mod layers;
mod rehearsal;

use burn::tensor::{Tensor, activation};

pub use config::TaehvConfig;
use layers::{Grow, MemBlock, Past, Pool, halved, pointwise, shuffled, strips, unshuffled};

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
    owns: |set| {
        let blocks = || set.names().any(|name| name.starts_with("decoder.3.conv."));
        config::is_super(set) || (set.get("decoder.1.weight").is_some() && blocks())
    },
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
    is_super: bool,
    conv_in: FrameConv,
    levels: Vec<Up>,
    conv_out: FrameConv,
}

/// One level of the decoder: blocks, then more frames and twice the size.
#[derive(Debug, Clone)]
struct Up {
    is_super: bool,
    blocks: Vec<MemBlock>,
    grow: Grow,
    conv: FrameConv,
    /// Channels of all frames that [`Up::doubled`] makes of one.
    doubled_width: usize,
}

impl Up {
    /// Reads a level that takes and makes so many channels.
    async fn load(side: &Loader, level: usize, [width, next]: [usize; 2], config: &TaehvConfig) -> Result<Self> {
        let (is_super, time) = (config.is_super, config.time[level]);
        // The larger decoder starts with one layer in place of three, and doubles in three (one with weights) in place of one.
        let first = if is_super { 1 + 7 * level } else { 3 + 6 * level };
        let blocks = MemBlock::load_all(side, first, width, is_super).await?;
        let after = first + BLOCKS;
        if is_super {
            let conv = FrameConv::load(&side.at(after), width, 4 * next, 3).await?;
            let grow = Grow::load(&side.at(after + 3), next, time).await?;
            return Ok(Self { is_super, blocks, grow, conv, doubled_width: next * if time { 2 } else { 1 } });
        }
        let grow = Grow::load(&side.at(after + 1), width, time).await?;
        let form = Form { doubled: true, ..Form::plain([1, 3, 3]) };
        let conv = FrameConv::load_without_bias(&side.at(after + 2), width, [next, next], form).await?;
        Ok(Self { is_super, blocks, grow, conv, doubled_width: next })
    }

    /// More frames, where they come before the size.
    fn grown(&self, x: Tensor<5>) -> Tensor<5> {
        if self.is_super { x } else { self.grow.forward(x) }
    }

    /// Twice the size, and what comes after it.
    fn doubled(&self, x: Tensor<5>) -> Tensor<5> {
        let y = self.conv.forward(x);
        if self.is_super { self.grow.forward(shuffled(activation::relu(y), 2)) } else { y }
    }
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
        let (is_super, widths) = (config.is_super, &config.widths);
        let mut levels = Vec::with_capacity(widths.len() - 1);
        for (level, pair) in widths.windows(2).enumerate() {
            levels.push(Up::load(&side, level, [pair[0], pair[1]], config).await?);
        }
        let (z, first, last) = (config.latent_channels, widths[0], widths[levels.len()]);
        let conv_in = match is_super {
            true => pointwise(&side.at(0), z, [first, first]).await?,
            false => FrameConv::load(&side.at(1), z, first, 3).await?,
        };
        let conv_out = FrameConv::load(&side.at(22), last, pixels, 3).await?;
        let decoder = Decoder { is_super, conv_in, levels, conv_out };
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
                blocks: MemBlock::load_all(side, first + 2, width, false).await?,
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
        let mut x = match self.is_super {
            true => self.conv_in.forward(x),
            // Latents far outside what it was trained on are bent back.
            false => activation::relu(self.conv_in.forward((x / 3.0).tanh() * 3.0)),
        };
        let mut slots = Slots { pasts, next: 0 };
        for (index, level) in self.levels.iter().enumerate() {
            for block in &level.blocks {
                x = block.forward(x, slots.next());
                pace.block_done(&x).await?;
            }
            // The base variant's reference doubles the size first; a kernel of one pixel gives the same before and after.
            x = level.grown(x);
            if index + 1 < self.levels.len() {
                x = level.doubled(x);
            }
        }
        let Some(last) = self.levels.last() else { return Ok(x) };
        // Nothing from here on looks at another frame: a piece at a time, for these are the largest tensors.
        let mut frames = Vec::with_capacity(x.dims()[2]);
        for frame in 0..x.dims()[2] {
            let strips = strips(x.clone().narrow(2, frame, 1), last.doubled_width);
            let mut out = Vec::with_capacity(strips.len());
            for strip in strips {
                let y = last.doubled(strip.rows);
                let y = self.conv_out.forward(if self.is_super { y } else { activation::relu(y) });
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
