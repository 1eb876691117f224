//! The tensors of a TAEHV, as they come and go in [`super::Decoder`] and [`super::Encoder`].

use super::config::TaehvConfig;
use super::layers::{MOST_AT_ONCE, strip_rows};
use super::{BLOCKS, TIME};
use crate::memory::pool::{Frames, Pool};
use crate::size::ClipSize;

/// Latent frames after which nothing new is needed.
const CHUNKS: usize = 3;

/// The last frames that the blocks saw, in the order in which they run.
#[derive(Default)]
struct Run {
    pasts: Vec<Option<Frames>>,
    next: usize,
}

impl TaehvConfig {
    /// Takes of `pool` what decoding a clip of this size takes.
    pub fn rehearse_decode(&self, pool: &Pool, size: ClipSize) {
        let [count, height, width] = self.latents(size);
        let cells = (height * width) as u64;
        let _latents = pool.frames(self.latent_channels as u64, count as u64, cells);
        let mut run = Run::default();
        for _ in 0..count.min(CHUNKS) {
            run.next = 0;
            let latent = pool.frames(self.latent_channels as u64, 1, cells);
            let mut x = match self.is_super {
                true => pool.frames(self.widths[0] as u64, 1, cells),
                false => rectified(pool, &latent, self.widths[0] as u64, cells),
            };
            drop(latent);
            for (level, pair) in self.widths.windows(2).enumerate() {
                for _ in 0..BLOCKS {
                    x = run.block(pool, x, self.is_super);
                }
                if !self.is_super {
                    x = grown(pool, x, self.time[level]);
                }
                if level + 2 < self.widths.len() {
                    x = self.doubled(pool, x, pair[1] as u64, self.time[level]);
                }
            }
            self.finish(pool, &x, [height << (self.widths.len() - 2), width << (self.widths.len() - 2)]);
        }
    }

    /// As [`super::Up::doubled`], to so many channels; `doubles` if its level makes frames more.
    fn doubled(&self, pool: &Pool, x: Frames, channels: u64, doubles: bool) -> Frames {
        let (frames, pixels) = (x.frames, 4 * x.pixels);
        if !self.is_super {
            return pool.frames(channels, frames, pixels);
        }
        let wide = rectified(pool, &x, 4 * channels, x.pixels);
        drop(x);
        let shuffled = pool.frames(channels, frames, pixels);
        drop(wide);
        grown(pool, shuffled, doubles)
    }

    /// The last two layers, a strip of a frame at a time.
    fn finish(&self, pool: &Pool, x: &Frames, [height, width]: [usize; 2]) {
        let wide = self.widths.last().copied().unwrap_or(0);
        let doubles = self.is_super && self.time.last().copied().unwrap_or(false);
        let times = if doubles { 2 } else { 1 };
        let channels = 3 * (self.patch_size * self.patch_size) as u64;
        let mut frames = Vec::new();
        for _ in 0..x.frames {
            let mut strips = Vec::new();
            for (above, count, below) in strip_rows([height, width], times * wide) {
                let rows = (above + count + below) as u64;
                let strip = pool.frames(x.channels, 1, rows * width as u64);
                let made = match self.is_super {
                    true => self.doubled(pool, strip, wide as u64, doubles),
                    false => rectified(pool, &strip, wide as u64, 4 * strip.pixels),
                };
                strips.push(pool.frames(channels, made.frames, made.pixels));
            }
            let pixels = 4 * (height * width) as u64;
            frames.push(match strips.len() {
                1 => strips.swap_remove(0),
                _ => pool.frames(channels, times as u64, pixels),
            });
        }
        let clip = pool.frames(channels, times as u64 * x.frames, 4 * (height * width) as u64);
        drop(frames);
        // Squares of pixels laid out, and what is read.
        let shuffled = if self.patch_size > 1 { pool.frames(channels, clip.frames, clip.pixels) } else { clip.clone() };
        drop(clip);
        drop(pool.frames(channels, shuffled.frames, shuffled.pixels));
    }

    /// Takes of `pool` what encoding a clip of this size takes.
    pub fn rehearse_encode(&self, pool: &Pool, size: ClipSize) {
        let Some(width) = self.encoder_width.map(|width| width as u64) else { return };
        let pixels = (size.height / self.patch_size * (size.width / self.patch_size)) as u64;
        let channels = 3 * (self.patch_size * self.patch_size) as u64;
        let [count, ..] = self.latents(size);
        let mut run = Run::default();
        let mut made = Vec::new();
        for _ in 0..count.min(CHUNKS) {
            run.next = 0;
            let picture = pool.frames(channels, TIME as u64, pixels);
            // Two frames become one, and half the size; then all.
            let mut groups = Vec::new();
            for _ in 0..TIME / 2 {
                let pair = picture.last(2).read(pool);
                let wide = rectified(pool, &pair, width, pixels);
                drop(pair);
                groups.push(halved(pool, pooled(pool, wide, 2)));
            }
            drop(picture);
            let mut x = pool.frames(width, groups.len() as u64, pixels / 4);
            drop(groups);
            for level in 0..3 {
                if level > 0 {
                    x = halved(pool, pooled(pool, x, if level == 1 { 2 } else { 1 }));
                }
                for _ in 0..BLOCKS {
                    x = run.block(pool, x, false);
                }
            }
            made.push(pool.frames(self.latent_channels as u64, 1, x.pixels));
        }
        drop(pool.turn(made, (self.latent_channels * count) as u64 * pixels / 64));
    }

    /// Latent frames, rows and columns.
    fn latents(&self, size: ClipSize) -> [usize; 3] {
        let side = 8 * self.patch_size.max(1);
        [size.frames.div_ceil(TIME), size.height / side, size.width / side]
    }
}

impl Run {
    /// As [`super::layers::MemBlock::forward`].
    fn block(&mut self, pool: &Pool, x: Frames, is_super: bool) -> Frames {
        if self.next == self.pasts.len() {
            self.pasts.push(None);
        }
        self.next += 1;
        let past = &mut self.pasts[self.next - 1];
        if x.frames > 1 && 2 * x.channels * x.frames * x.pixels * size_of::<f32>() as u64 > MOST_AT_ONCE as u64 {
            let made: Vec<_> = (0..x.frames).map(|_| one(pool, x.last(1), past, is_super)).collect();
            let joined = pool.frames(x.channels, x.frames, x.pixels);
            drop(made);
            return joined;
        }
        one(pool, x, past, is_super)
    }
}

/// A block that sees all of `x` at once.
fn one(pool: &Pool, x: Frames, past: &mut Option<Frames>, is_super: bool) -> Frames {
    let before = past.replace(x.last(1)).unwrap_or_else(|| pool.frames(x.channels, 1, x.pixels));
    let before = if x.frames == 1 { before } else { pool.frames(x.channels, x.frames, x.pixels) };
    let both = pool.frames(2 * x.channels, x.frames, x.pixels);
    drop(before);
    if is_super {
        let around = pool.frames(both.channels, x.frames, x.pixels);
        drop(both);
        // A piece at a time: twice the channels of what is looked at, then as many as came.
        let most = MOST_AT_ONCE as u64 / (2 * around.channels * x.frames * size_of::<f32>() as u64).max(1);
        let piece = most.clamp(1, x.pixels);
        let mut pieces = Vec::new();
        for first in (0..x.pixels).step_by(usize::try_from(piece).unwrap_or(usize::MAX)) {
            let part = pool.frames(around.channels, x.frames, piece.min(x.pixels - first));
            let wide = rectified(pool, &part, 2 * around.channels, part.pixels);
            drop(part);
            pieces.push(pool.frames(x.channels, x.frames, wide.pixels));
        }
        let joined = pool.frames(x.channels, x.frames, x.pixels);
        drop(pieces);
        return joined;
    }
    let y = rectified(pool, &both, x.channels, x.pixels);
    drop(both);
    let z = rectified(pool, &y, x.channels, x.pixels);
    drop(y);
    rectified(pool, &z, x.channels, x.pixels)
}

/// As [`super::layers::Grow::forward`].
fn grown(pool: &Pool, x: Frames, doubles: bool) -> Frames {
    let (channels, frames, pixels) = (x.channels, x.frames, x.pixels);
    let made = pool.frames(if doubles { 2 * channels } else { channels }, frames, pixels);
    drop(x);
    if doubles { pool.frames(channels, 2 * frames, pixels) } else { made }
}

/// A convolution and what is below zero put to zero, for which Burn makes a mask as large as its result.
fn rectified(pool: &Pool, x: &Frames, channels: u64, pixels: u64) -> Frames {
    let made = pool.frames(channels, x.frames, pixels);
    drop(pool.frames(channels, x.frames, pixels));
    made
}

/// As [`super::layers::Pool::forward`], then its level's convolution.
fn pooled(pool: &Pool, x: Frames, times: u64) -> Frames {
    let (channels, frames, pixels) = (x.channels, x.frames / times, x.pixels);
    let laid = if times == 1 { x } else { pool.frames(times * channels, frames, pixels) };
    let one = pool.frames(channels, frames, pixels);
    drop(laid);
    pool.frames(channels, frames, one.pixels)
}

/// As [`super::layers::halved`]: every second column of every second row, two copies.
fn halved(pool: &Pool, x: Frames) -> Frames {
    let rows = pool.frames(x.channels, x.frames, x.pixels / 2);
    drop(x);
    pool.frames(rows.channels, rows.frames, rows.pixels / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taew2_1() -> TaehvConfig {
        TaehvConfig {
            latent_channels: 16,
            patch_size: 1,
            widths: vec![256, 128, 64, 64],
            time: vec![false, true, true],
            encoder_width: Some(64),
            is_super: false,
        }
    }

    fn decoded(frames: usize, height: usize) -> Pool {
        let pool = Pool::default();
        taew2_1().rehearse_decode(&pool, ClipSize { frames, height, width: 512 });
        pool
    }

    #[test]
    fn decoding_takes_what_was_measured_at_512_by_288() {
        // 0.49 GB, of which 0.13 are weights (README, large models). Which free buffer is taken again hangs on the order to the last
        // tensor: one of 38 MB more or less is as near as this comes.
        let found = decoded(33, 288).peak() as f64 / 1e9;
        assert!((found / 0.36 - 1.0).abs() < 0.18, "{found} GB");
    }

    #[test]
    fn the_larger_decoder_takes_more_at_the_same_grid() {
        let size = ClipSize { frames: 33, height: 288, width: 512 };
        let peak = |config: TaehvConfig| {
            let pool = Pool::default();
            config.rehearse_decode(&pool, size);
            (pool.bytes(), pool.largest())
        };
        let base = TaehvConfig { latent_channels: 48, patch_size: 2, ..taew2_1() };
        let (bytes, largest) = peak(TaehvConfig { widths: vec![512, 256, 128, 64], is_super: true, ..base.clone() });
        assert!(bytes > peak(base).0, "{bytes}");
        // No tensor but a piece of a block, and what a block sees of four frames, is larger than a piece may be.
        assert!(largest <= 2 * MOST_AT_ONCE as u64, "{largest}");
    }

    #[test]
    fn a_longer_clip_takes_its_latents_more() {
        let latents = |frames: u64| frames * 16 * 36 * 64 * 4;
        assert_eq!(decoded(81, 288).bytes() - decoded(33, 288).bytes(), latents(21) - latents(9));
    }

    #[test]
    fn encoding_takes_a_pair_of_frames_at_full_size_and_nothing_without_an_encoder() {
        let size = ClipSize { frames: 33, height: 288, width: 512 };
        let encoded = |config: &TaehvConfig| {
            let pool = Pool::default();
            config.rehearse_encode(&pool, size);
            (pool.bytes(), pool.largest())
        };
        let (all, largest) = encoded(&taew2_1());
        assert_eq!(largest, 2 * 64 * 288 * 512 * 4);
        assert!(all > 3 * largest && all < 9 * largest, "{all} {largest}");
        assert_eq!(encoded(&TaehvConfig { encoder_width: None, ..taew2_1() }), (0, 0));
    }
}
