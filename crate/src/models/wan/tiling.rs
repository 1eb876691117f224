//! Decoding a large picture in overlapping tiles, so that memory does not grow with its size.
//!
//! Source: diffusers `autoencoder_kl_wan.py` `tiled_decode`, `blend_v`, `blend_h`.

use burn::tensor::{Tensor, TensorData};

use super::vae::Vae;
use crate::error::{Error, Result};
use crate::nn::conv::Memories;
use crate::pace::Pace;

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
        Self { height: 256, width: 256, stride_height: 192, stride_width: 192 }
    }
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
        let side = self.config().scale_factor_spatial;
        let patch = self.config().patch();
        let [_, _, frames, height, width] = latents.dims();
        let (tile_h, tile_w) = (tiles.height / side, tiles.width / side);
        let (step_h, step_w) = (tiles.stride_height / side, tiles.stride_width / side);
        if step_h == 0 || step_w == 0 || step_h > tile_h || step_w > tile_w {
            return Err(Error::options(format!(
                "tile strides must be between {side} px and the tile's size, got {tiles:?}"
            )));
        }
        if height <= tile_h && width <= tile_w {
            return self.decode(latents, pace).await;
        }
        // Blending happens before the pixels are unfolded, so in units of the decoder's output.
        let (keep_h, keep_w) = (tiles.stride_height / patch, tiles.stride_width / patch);
        let (blend_h, blend_w) = (tiles.height / patch - keep_h, tiles.width / patch - keep_w);

        let mut above: Vec<Tensor<5>> = Vec::new();
        let mut rows = Vec::new();
        for top in (0..height).step_by(step_h) {
            let mut row: Vec<Tensor<5>> = Vec::new();
            for (column, left) in (0..width).step_by(step_w).enumerate() {
                let tile =
                    latents.clone().narrow(3, top, tile_h.min(height - top)).narrow(4, left, tile_w.min(width - left));
                let mut memories = Memories::default();
                let mut chunks = Vec::with_capacity(frames);
                for i in 0..frames {
                    chunks.push(self.decode_chunk(tile.clone().narrow(2, i, 1), &mut memories, pace).await?);
                }
                let mut tile = Tensor::cat(chunks, 2);
                if let Some(upper) = above.get(column) {
                    tile = blend(upper.clone(), tile, 3, blend_h);
                }
                if let Some(left) = row.last() {
                    tile = blend(left.clone(), tile, 4, blend_w);
                }
                row.push(tile);
            }
            let cut = row.iter().map(|tile| {
                let [_, _, _, h, w] = tile.dims();
                tile.clone().narrow(3, 0, keep_h.min(h)).narrow(4, 0, keep_w.min(w))
            });
            rows.push(Tensor::cat(cut.collect(), 4));
            above = row;
        }
        let whole = Tensor::cat(rows, 3);
        let scale = side / patch;
        let whole = whole.narrow(3, 0, height * scale).narrow(4, 0, width * scale);
        Ok(self.to_pixels(whole))
    }
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
