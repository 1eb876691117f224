//! The tensors of the VAE, as they come and go in [`super::vae`], [`super::residual`] and [`super::resample`].

use super::config::VaeConfig;
use crate::memory::pool::{Frames, Pool};
use crate::size::ClipSize;

/// Frames that a convolution remembers.
const MEMORY_FRAMES: u64 = 2;
/// Latent frames after which nothing new is needed: the first, one after it, and such as find memories of those.
const CHUNKS: usize = 4;

/// What encoding or decoding takes, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The largest tensor.
    pub largest: u64,
    /// All that is held at once.
    pub total: u64,
}

impl Work {
    fn of(pool: &Pool) -> Self {
        Self { largest: pool.largest(), total: pool.peak() }
    }
}

impl VaeConfig {
    /// What decoding a clip of this size takes on a GPU, as [`super::vae::Decoder`] goes about it.
    pub fn decoding(&self, size: ClipSize) -> Work {
        let pool = Pool::default();
        let (chunks, cells) = self.chunks(size);
        let _latents = pool.frames(self.z_dim as u64, size.frames.div_ceil(self.scale_factor_temporal) as u64, cells);
        let mut run = Run::new(&pool);
        for _ in 0..chunks {
            run.start_chunk();
            run.decode(self, cells);
        }
        Work::of(&pool)
    }

    /// Takes of `pool` what encoding a clip of this size takes, as [`super::vae::Vae::encode`] goes about it.
    pub fn rehearse_encode(&self, pool: &Pool, size: ClipSize) {
        let (chunks, cells) = self.chunks(size);
        let mut run = Run::new(pool);
        let mut made = Vec::new();
        for _ in 0..chunks {
            run.start_chunk();
            made.push(run.encode(self, cells));
        }
        let latents = 2 * self.z_dim as u64 * size.frames.div_ceil(self.scale_factor_temporal) as u64 * cells;
        let moments = pool.turn(made, latents);
        drop(pool.turn(moments, latents));
    }

    /// Chunks to rehearse, and latent cells of a frame.
    fn chunks(&self, size: ClipSize) -> (usize, u64) {
        let side = self.scale_factor_spatial.max(1);
        let cells = (size.height / side) as u64 * (size.width / side) as u64;
        (size.frames.div_ceil(self.scale_factor_temporal.max(1)).min(CHUNKS), cells)
    }
}

/// A clip on its way, with the memories of its convolutions in the order in which they run.
struct Run<'a> {
    pool: &'a Pool,
    memories: Vec<Option<Frames>>,
    next: usize,
    chunks: usize,
}

impl<'a> Run<'a> {
    fn new(pool: &'a Pool) -> Self {
        Self { pool, memories: Vec::new(), next: 0, chunks: 0 }
    }

    fn start_chunk(&mut self) {
        self.next = 0;
        self.chunks += 1;
    }

    fn in_first_chunk(&self) -> bool {
        self.chunks <= 1
    }

    fn memory(&mut self) -> &mut Option<Frames> {
        if self.next == self.memories.len() {
            self.memories.push(None);
        }
        self.next += 1;
        &mut self.memories[self.next - 1]
    }

    /// A convolution of three frames.
    fn causal(&mut self, x: &Frames, channels: u64) -> Frames {
        let pool = self.pool;
        let memory = self.memory();
        let past = memory.take();
        *memory = Some(match &past {
            Some(past) if x.frames < MEMORY_FRAMES => {
                pool.frames(x.channels, past.frames.min(MEMORY_FRAMES - x.frames) + x.frames, x.pixels)
            }
            _ if x.frames > MEMORY_FRAMES => pool.frames(x.channels, MEMORY_FRAMES, x.pixels),
            _ => x.clone(),
        });
        let _past = past;
        pool.frames(channels, x.frames, x.pixels)
    }

    /// A tensor like `x`, of other channels.
    fn beside(&self, x: &Frames, channels: u64) -> Frames {
        self.pool.frames(channels, x.frames, x.pixels)
    }

    /// As [`super::residual::ResidualBlock::forward`].
    fn residual(&mut self, x: Frames, output: u64) -> Frames {
        let _shortcut = if x.channels == output { x.clone() } else { self.beside(&x, output) };
        let normed = self.beside(&x, x.channels);
        drop(x);
        let y = self.causal(&normed, output);
        drop(normed);
        let normed = self.beside(&y, output);
        drop(y);
        self.causal(&normed, output)
    }

    /// As [`super::residual::MidBlock::forward`].
    fn middle(&mut self, x: Frames) -> Frames {
        let channels = x.channels;
        let x = self.residual(x, channels);
        let normed = self.beside(&x, channels);
        let wide = self.beside(&normed, 3 * channels);
        drop(normed);
        // Its channels last, and query, key and value apart.
        let turned = self.beside(&wide, 3 * channels);
        drop(wide);
        let parts = [(); 3].map(|()| self.beside(&x, channels));
        let attended = self.beside(&x, channels);
        drop((parts, turned));
        let turned = self.beside(&x, channels);
        drop(attended);
        let projected = self.beside(&x, channels);
        drop((turned, x));
        self.residual(projected, channels)
    }

    fn decode(&mut self, config: &VaeConfig, cells: u64) {
        let pool = self.pool;
        let base = config.decoder_base_dim.unwrap_or(config.base_dim) as u64;
        let levels = config.dim_mult.len();
        let narrowed = pool.frames(config.z_dim as u64, 1, cells);
        let latent = self.beside(&narrowed, config.z_dim as u64);
        drop(narrowed);
        let top = base * config.dim_mult.last().copied().unwrap_or(1) as u64;
        let x = self.causal(&latent, top);
        drop(latent);
        let mut x = self.middle(x);
        for (level, factor) in config.dim_mult.iter().rev().enumerate() {
            let (output, last) = (base * *factor as u64, level + 1 == levels);
            let temporal = !last && config.temperal_downsample.get(levels - 2 - level).copied().unwrap_or(false);
            let entered = x.clone();
            for _ in 0..=config.num_res_blocks {
                x = self.residual(x, output);
            }
            if !last {
                x = self.doubled(x, if config.is_residual { output } else { output / 2 }, temporal);
            }
            if !last && config.is_residual {
                // Channels repeated, then laid out as cells; added in place.
                let frames = if temporal { 2 * entered.frames } else { entered.frames };
                let repeated = pool.frames(output, frames, 4 * entered.pixels);
                drop(entered);
                drop(pool.frames(output, frames, repeated.pixels));
            }
        }
        let normed = self.beside(&x, x.channels);
        drop(x);
        let folded = self.causal(&normed, config.out_channels as u64);
        drop(normed);
        // Pixels unfolded, and laid out as bytes are read; what is read is in a buffer for reading too.
        let pixels = if config.patch() > 1 { self.beside(&folded, folded.channels) } else { folded.clone() };
        drop(folded);
        drop(self.beside(&pixels, pixels.channels));
    }

    /// As [`super::resample::Upsample::forward`].
    fn doubled(&mut self, mut x: Frames, output: u64, temporal: bool) -> Frames {
        if temporal {
            let first = self.in_first_chunk();
            if first {
                self.memory();
            } else {
                let (channels, frames, pixels) = (x.channels, x.frames, x.pixels);
                x = self.causal(&x, 2 * channels).shaped(channels, 2 * frames, pixels);
            }
        }
        self.pool.frames(output, x.frames, 4 * x.pixels)
    }

    fn encode(&mut self, config: &VaeConfig, cells: u64) -> Frames {
        let (pool, base) = (self.pool, config.base_dim as u64);
        let levels = config.dim_mult.len();
        let frames = if self.in_first_chunk() { 1 } else { config.scale_factor_temporal as u64 };
        let pixels = cells << (2 * levels.saturating_sub(1));
        let picture = pool.frames(config.in_channels as u64, frames, pixels);
        let folded = if config.patch() > 1 { self.beside(&picture, picture.channels) } else { picture.clone() };
        drop(picture);
        let mut x = self.causal(&folded, base);
        drop(folded);
        for (level, factor) in config.dim_mult.iter().enumerate() {
            let (output, last) = (base * *factor as u64, level + 1 == levels);
            let temporal = !last && config.temperal_downsample.get(level).copied().unwrap_or(false);
            // With a shortcut: its cells laid out, then their means.
            let _beside = config.is_residual.then(|| {
                let cells = self.beside(&x, x.channels);
                let frames = if temporal { x.frames.div_ceil(2) } else { x.frames };
                let mean = pool.frames(output, frames, if last { x.pixels } else { x.pixels / 4 });
                drop(cells);
                mean
            });
            for _ in 0..config.num_res_blocks {
                x = self.residual(x, output);
            }
            if !last {
                x = self.halved(x, temporal);
            }
        }
        let x = self.middle(x);
        let normed = self.beside(&x, x.channels);
        drop(x);
        self.causal(&normed, 2 * config.z_dim as u64)
    }

    /// As [`super::resample::Downsample::forward`].
    fn halved(&mut self, x: Frames, temporal: bool) -> Frames {
        let pool = self.pool;
        let small = pool.frames(x.channels, x.frames, x.pixels / 4);
        drop(x);
        if !temporal {
            return small;
        }
        match self.memory().replace(small.last(1)) {
            None => small,
            Some(before) => {
                let _read = before.read(pool);
                pool.frames(small.channels, small.frames.div_ceil(2), small.pixels)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vae(json: serde_json::Value) -> VaeConfig {
        serde_json::from_value(json).unwrap()
    }

    fn near(found: u64, measured: f64, within: f64) {
        let ratio = found as f64 / measured;
        assert!((ratio - 1.0).abs() <= within, "{found} bytes, {measured} measured: {ratio:.3}");
    }

    #[test]
    fn decoding_takes_what_was_measured() {
        // The default model's, 128 × 128 × 17 px: the ledger's peak beside what stood there when the stage began (Node, Dawn,
        // lavapipe, 27 November 2026), while memories were views of four frames; of two they take somewhat less.
        let small = vae(serde_json::json!({
            "base_dim": 24, "decoder_base_dim": 32, "z_dim": 48, "dim_mult": [1, 2, 2], "num_res_blocks": 1, "patch_size": 4,
            "temperal_downsample": [true, true], "is_residual": true, "in_channels": 48, "out_channels": 48,
            "scale_factor_spatial": 16, "scale_factor_temporal": 4,
        }));
        let found = small.decoding(ClipSize { frames: 17, height: 128, width: 128 });
        near(found.total - found.largest, 25_869_232.0 - 14_357_744.0, 0.1);
    }

    #[test]
    fn a_longer_clip_takes_no_more_than_its_latents_and_a_larger_picture_in_proportion() {
        let wan = VaeConfig::default();
        let of = |frames, height| wan.decoding(ClipSize { frames, height, width: 256 });
        let latents = |frames: u64| 4 * 16 * frames * 32 * 32;
        assert_eq!(of(81, 256).total - of(13, 256).total, latents(21) - latents(4));
        let ratio = of(13, 512).total as f64 / of(13, 256).total as f64;
        assert!((ratio - 2.0).abs() < 0.01, "{ratio}");
        // The last level: 96 channels of four frames.
        assert_eq!(of(9, 256).largest, 4 * 96 * 4 * 256 * 256);
        assert_eq!(of(1, 256).largest, 4 * 96 * 256 * 256);
    }

    #[test]
    fn encoding_takes_its_frames_at_full_size() {
        let of = |config: &VaeConfig, frames| {
            let pool = Pool::default();
            config.rehearse_encode(&pool, ClipSize { frames, height: 256, width: 256 });
            (pool.bytes(), pool.largest())
        };
        let wan = VaeConfig::default();
        assert_eq!(of(&wan, 9).1, 4 * 96 * 4 * 256 * 256);
        assert!(of(&wan, 13).0 > 3 * of(&wan, 1).0);
        assert!(of(&wan, 81).0 < of(&wan, 13).0 * 101 / 100);
    }
}
