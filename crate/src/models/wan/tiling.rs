//! Encoding and decoding a large picture in overlapping tiles, so that memory does not grow with its size.
//!
//! Source: diffusers `autoencoder_kl_wan.py` `tiled_encode`, `tiled_decode`, `blend_v`, `blend_h`.

use burn::tensor::{Tensor, TensorData};

use super::config::VaeConfig;
use super::vae::Vae;
use crate::error::{Error, Result};
use crate::models::family::Room;
use crate::models::footage::{Cropped, Footage};
use crate::nn::conv::Memories;
use crate::pace::Pace;
use crate::size::ClipSize;

/// Tile size and distance between tiles, pixels of the finished picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// Tile height.
    pub height: usize,
    /// Tile width.
    pub width: usize,
    /// Rows between two tiles; less than the height, so that they overlap.
    pub stride_height: usize,
    /// Columns between two tiles.
    pub stride_width: usize,
}

impl Default for Tiles {
    fn default() -> Self {
        Self::square(256)
    }
}

impl Tiles {
    /// Sizes to choose from, the largest first.
    pub const SIZES: [Self; 3] = [Self::square(256), Self::square(192), Self::square(128)];

    /// The largest tiles that fit, or the smallest there are; `None` where the whole picture fits.
    pub fn for_room(config: &VaeConfig, size: ClipSize, room: Room) -> Option<Self> {
        let whole = config.decoding(size);
        if whole.largest <= room.largest && whole.total <= room.bytes {
            return None;
        }
        let fits = |tiles: &&Self| {
            config.decoding(tiles.of(size)).largest <= room.largest && tiles.peak_bytes(config, size) <= room.bytes
        };
        let smaller = |tiles: &&Self| tiles.height < size.height || tiles.width < size.width;
        let chosen = Self::SIZES.iter().filter(smaller).find(fits);
        chosen.or(Self::SIZES.iter().rfind(smaller)).copied()
    }

    /// A clip as large as one tile of a clip of this size.
    pub(super) fn of(self, size: ClipSize) -> ClipSize {
        ClipSize { height: size.height.min(self.height), width: size.width.min(self.width), ..size }
    }

    /// Bytes that a GPU holds at most while a clip is decoded so.
    pub fn peak_bytes(self, config: &VaeConfig, size: ClipSize) -> u64 {
        let tile = config.decoding(self.of(size));
        // Every tile's finished frames, which overlap.
        let along = |side: usize, stride: usize, tile: usize| {
            (0..side).step_by(stride).map(|at| tile.min(side - at) as u64).sum::<u64>()
        };
        let across = along(size.width, self.stride_width, self.width);
        tile.total + along(size.height, self.stride_height, self.height) * across * 3 * 4 * size.frames as u64
    }

    /// # Errors
    /// [`Error::InvalidOptions`] when tiles, in cells of `side` px, leave gaps or do not move on.
    fn check(self, side: usize) -> Result<()> {
        let along = |stride: usize, tile: usize| (1..=tile / side).contains(&(stride / side));
        match along(self.stride_height, self.height) && along(self.stride_width, self.width) {
            true => Ok(()),
            false => {
                Err(Error::options(format!("tile strides must be between {side} px and the tile's size, got {self:?}")))
            }
        }
    }

    /// Squares that overlap by a fourth.
    const fn square(side: usize) -> Self {
        let stride = side / 4 * 3;
        Self { height: side, width: side, stride_height: stride, stride_width: stride }
    }
}

/// A clip decoded tile by tile, each tile from its first frame to its last, so that only one tile's memories are held.
pub struct Tiled<'a> {
    vae: &'a Vae,
    /// Size of the clip in the decoder's output, before pixels are unfolded.
    size: [usize; 2],
    /// What is kept of a tile, and how far it fades into the next, each down and across.
    keep: [usize; 2],
    blend: [usize; 2],
    /// By latent frame, row and column.
    chunks: std::vec::IntoIter<Vec<Vec<Tensor<5>>>>,
}

impl Vae {
    /// Decodes a clip tile by tile and blends the overlaps; plain [`Vae::decode`] when it fits into one tile.
    ///
    /// # Shapes
    /// `[B, z, F, h, w]` (not normalised) → `[B, 3, 4F − 3, h × s, w × s]` in −1…1
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the tiles do not fit the latent grid; else as [`Vae::decode`].
    pub async fn decode_tiled(&self, latents: Tensor<5>, tiles: Tiles, pace: &Pace<'_>) -> Result<Tensor<5>> {
        match self.tiled(&latents, tiles, pace).await? {
            None => self.decode(latents, pace).await,
            Some(tiled) => Ok(Tensor::cat(tiled.collect(), 2).clamp(-1.0, 1.0)),
        }
    }

    /// Encodes a clip tile by tile and blends the latents of the overlaps; plain [`Vae::encode`] when it fits into one tile.
    ///
    /// # Shapes
    /// 4n + 1 frames of `H × W` px → `[1, 2z, n + 1, H / s, W / s]`
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the tiles do not fit the latent grid; else as [`Vae::encode`].
    pub async fn encode_tiled(&self, video: &dyn Footage, tiles: Tiles, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let side = self.config().scale_factor_spatial;
        let ClipSize { height, width, .. } = video.size();
        tiles.check(side)?;
        if height <= tiles.height && width <= tiles.width {
            return self.encode(video, pace).await;
        }
        let mut rows = Vec::new();
        for top in (0..height).step_by(tiles.stride_height) {
            let mut row = Vec::new();
            for left in (0..width).step_by(tiles.stride_width) {
                let (tile_h, tile_w) = (tiles.height.min(height - top), tiles.width.min(width - left));
                let tile = Cropped { whole: video, top, left, height: tile_h, width: tile_w };
                row.push(self.encode(&tile, pace).await?);
            }
            rows.push(row);
        }
        let keep = [tiles.stride_height / side, tiles.stride_width / side];
        let fade = [tiles.height / side - keep[0], tiles.width / side - keep[1]];
        Ok(blended(rows, keep, fade, [height / side, width / side]))
    }

    /// The tiles of a clip, decoded; `None` when it fits into one.
    ///
    /// # Errors
    /// As [`Vae::decode_tiled`].
    pub async fn tiled(&self, latents: &Tensor<5>, tiles: Tiles, pace: &Pace<'_>) -> Result<Option<Tiled<'_>>> {
        let side = self.config().scale_factor_spatial;
        let patch = self.config().patch();
        let [_, _, frames, height, width] = latents.dims();
        let (tile_h, tile_w) = (tiles.height / side, tiles.width / side);
        let (step_h, step_w) = (tiles.stride_height / side, tiles.stride_width / side);
        tiles.check(side)?;
        if height <= tile_h && width <= tile_w {
            return Ok(None);
        }
        let mut chunks = vec![Vec::new(); frames];
        for top in (0..height).step_by(step_h) {
            chunks.iter_mut().for_each(|rows| rows.push(Vec::new()));
            for left in (0..width).step_by(step_w) {
                let tile =
                    latents.clone().narrow(3, top, tile_h.min(height - top)).narrow(4, left, tile_w.min(width - left));
                let mut memories = Memories::default();
                for (i, rows) in chunks.iter_mut().enumerate() {
                    let chunk = self.decode_chunk(tile.clone().narrow(2, i, 1), &mut memories, pace).await?;
                    if let Some(row) = rows.last_mut() {
                        row.push(chunk);
                    }
                }
            }
        }
        let scale = side / patch;
        // Blending happens before the pixels are unfolded, so in units of the decoder's output.
        let keep = [tiles.stride_height / patch, tiles.stride_width / patch];
        let blend = [tiles.height / patch - keep[0], tiles.width / patch - keep[1]];
        let size = [height * scale, width * scale];
        Ok(Some(Tiled { vae: self, size, keep, blend, chunks: chunks.into_iter() }))
    }
}

impl Iterator for Tiled<'_> {
    /// The frames of the next latent frame, `[B, 3, 1 or 4, H, W]` around −1…1 and not clamped.
    type Item = Tensor<5>;

    fn next(&mut self) -> Option<Tensor<5>> {
        Some(self.vae.to_pixels(blended(self.chunks.next()?, self.keep, self.blend, self.size)))
    }
}

/// Rows of tiles as one picture of `size`: each fades into the next, and what the next one has is cut off. `keep` and `fade` are
/// the distance between tiles and how far they overlap, each down and across.
fn blended(rows: Vec<Vec<Tensor<5>>>, keep: [usize; 2], fade: [usize; 2], size: [usize; 2]) -> Tensor<5> {
    let mut above: Vec<Tensor<5>> = Vec::new();
    let mut whole = Vec::with_capacity(rows.len());
    for tiles in rows {
        let mut row: Vec<Tensor<5>> = Vec::with_capacity(tiles.len());
        for (column, mut tile) in tiles.into_iter().enumerate() {
            if let Some(upper) = above.get(column) {
                tile = blend(upper.clone(), tile, 3, fade[0]);
            }
            if let Some(left) = row.last() {
                tile = blend(left.clone(), tile, 4, fade[1]);
            }
            row.push(tile);
        }
        let cut = row.iter().map(|tile| {
            let [_, _, _, h, w] = tile.dims();
            tile.clone().narrow(3, 0, keep[0].min(h)).narrow(4, 0, keep[1].min(w))
        });
        whole.push(Tensor::cat(cut.collect(), 4));
        above = row;
    }
    Tensor::cat(whole, 3).narrow(3, 0, size[0]).narrow(4, 0, size[1])
}

/// Fades from the end of `before` into the start of `after` along `dim`.
fn blend(before: Tensor<5>, after: Tensor<5>, dim: usize, extent: usize) -> Tensor<5> {
    let (have, length) = (before.dims()[dim], after.dims()[dim]);
    let extent = extent.min(have).min(length);
    if extent == 0 {
        return after;
    }
    let mut shape = [1; 5];
    shape[dim] = extent;
    let ramp: Vec<f32> = (0..extent).map(|i| i as f32 / extent as f32).collect();
    let ramp = Tensor::<5>::from_data(TensorData::new(ramp, shape), &after.device());
    let faded = before.narrow(dim, have - extent, extent) * (ramp.clone() * -1.0 + 1.0)
        + after.clone().narrow(dim, 0, extent) * ramp;
    if extent == length { faded } else { Tensor::cat(vec![faded, after.narrow(dim, extent, length - extent)], dim) }
}
