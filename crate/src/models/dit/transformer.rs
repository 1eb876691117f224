//! The diffusion transformer of class-conditional pictures.
//!
//! Source: DiT 2212.09748; diffusers `models/transformers/dit_transformer_2d.py`.

use burn::tensor::{Device, Tensor, TensorData, activation};

use super::block::{Block, NORM_EPS, TIME_FEATURES};
use super::config::DitConfig;
use crate::error::{Error, Result};
use crate::nn::layers::Layers;
use crate::nn::linear::Linear;
use crate::nn::loader::Loader;
use crate::nn::norm::LayerNorm;
use crate::nn::patch::{PatchEmbedding, unpatchify};
use crate::nn::sincos::{sincos_2d, sincos_along};
use crate::nn::timestep::timestep_features_to;
use crate::nn::window::Windows;
use crate::pace::{Later, Pace};

/// A block's table of classes, below the block.
const TABLE: &str = "norm1.emb.class_embedder.embedding_table.weight";

/// A loaded DiT.
#[derive(Debug)]
pub struct Dit {
    config: DitConfig,
    patch_embedding: PatchEmbedding,
    blocks: Layers<Block>,
    /// The blocks' tables of classes stay in their file: a picture needs two rows of each.
    tables: Vec<Loader>,
    norm_out: LayerNorm,
    proj_out_1: Linear,
    proj_out_2: Linear,
    device: Device,
}

/// What is the same in every step of one clip.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// Patches along frames, rows and columns.
    grid: [usize; 3],
    /// `[1, L, D]`
    positions: Tensor<3>,
    /// At least one; blocks take them in turn.
    windows: Vec<Windows>,
}

impl Dit {
    /// Builds the model from a checkpoint with diffusers names.
    ///
    /// # Errors
    /// [`Error::Weights`] when the configuration or a tensor does not fit.
    pub async fn load(loader: &Loader, config: &DitConfig) -> Result<Self> {
        config.check("transformer/config.json")?;
        let (d, patch) = (config.hidden_dim(), config.patch_size);
        let places: Vec<Loader> =
            (0..config.num_layers).map(|i| loader.at(format_args!("transformer_blocks.{i}"))).collect();
        let of = config.clone();
        let load_block = move |place: Loader| -> Later<'static, Block> {
            let config = of.clone();
            Box::pin(async move { Block::load(&place, &config).await })
        };
        let mut out = Self {
            patch_embedding: PatchEmbedding::load_flat(&loader.at("pos_embed.proj"), config.in_channels, d, patch)
                .await?,
            blocks: Layers::load(places.clone(), loader.is_streamed(), Box::new(load_block)).await?,
            tables: places,
            norm_out: LayerNorm::plain(d, NORM_EPS, loader.device()),
            proj_out_1: Linear::load(&loader.at("proj_out_1"), d, 2 * d).await?,
            proj_out_2: Linear::load(&loader.at("proj_out_2"), d, patch * patch * config.out_channels()).await?,
            device: loader.device().clone(),
            config: config.clone(),
        };
        // One row of each, to see that they are there and of their shape.
        out.embed_class(None).await?;
        out.tables.shrink_to_fit();
        Ok(out)
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// A class, or none in particular, as each block knows it.
    ///
    /// # Shapes
    /// → `[1, blocks, D]`
    ///
    /// # Errors
    /// [`Error::Weights`] when a table has no such row, [`Error::Fetch`] when it cannot be read.
    pub async fn embed_class(&self, class: Option<usize>) -> Result<Tensor<3>> {
        let (count, d) = (self.config.num_embeds_ada_norm, self.config.hidden_dim());
        let mut values = Vec::with_capacity(self.tables.len() * d);
        for table in &self.tables {
            // The row after the last class stands for none: what training dropped.
            values.extend(table.row(TABLE, [count + 1, d], class.unwrap_or(count)).await?);
        }
        Ok(Tensor::from_data(TensorData::new(values, [1, self.tables.len(), d]), &self.device))
    }

    /// Does what is the same in every step, for latent frames, rows and columns.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when they are no whole number of patches or of the blocks' windows, or several frames where the
    /// model makes pictures.
    pub fn prepare(&self, cells: [usize; 3]) -> Result<Fixed> {
        let (patch, [f, h, w]) = (self.config.patch_size, cells);
        if h % patch != 0 || w % patch != 0 || f * h * w == 0 {
            return Err(Error::options(format!(
                "latent height × width must be multiples of {patch} × {patch}, got {h} × {w} cells"
            )));
        }
        if f > 1 && self.config.sample_frames == 1 {
            return Err(Error::options(format!("this model makes single pictures, got {f} latent frames")));
        }
        let (grid, d) = ([f, h / patch, w / patch], self.config.hidden_dim());
        let [_, rows, columns] = grid;
        let picture = sincos_2d(d, [rows, columns], self.config.sample_size / patch, &self.device); // [1, L, D]
        let positions = match f {
            1 => picture,
            _ => {
                let frames = sincos_along(d, f, &self.device).reshape([f, 1, d]);
                (picture + frames).reshape([1, f * rows * columns, d])
            }
        };
        let whole = [[0; 3]];
        let wanted = if self.config.attention_windows.is_empty() { &whole[..] } else { &self.config.attention_windows };
        let windows = wanted.iter().map(|window| Windows::new(grid, *window)).collect::<Result<_>>()?;
        Ok(Fixed { grid, positions, windows })
    }

    /// Predicts what the model was trained on (the noise) for every latent cell; a predicted variance is left out.
    ///
    /// # Shapes
    /// `latents` `[1 or B, C_in, F, h, w]`, `timesteps` (0…1000) 1 or B, `classes` `[B, blocks, D]` → `[B, C_in, F, h, w]`
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the shapes do not fit the model or each other; [`Error::Aborted`] and
    /// [`Error::DeviceLost`] from between the blocks.
    pub async fn forward(
        &self,
        latents: Tensor<5>,
        timesteps: &[f32],
        classes: &Tensor<3>,
        fixed: &Fixed,
        pace: &Pace<'_>,
    ) -> Result<Tensor<5>> {
        let all = self.forward_all(latents, timesteps, classes, fixed, pace).await?;
        Ok(all.narrow(1, 0, self.config.in_channels))
    }

    /// As [`Dit::forward`], with the predicted variance: `[B, C_out, F, h, w]`.
    ///
    /// # Errors
    /// As [`Dit::forward`].
    pub async fn forward_all(
        &self,
        latents: Tensor<5>,
        timesteps: &[f32],
        classes: &Tensor<3>,
        fixed: &Fixed,
        pace: &Pace<'_>,
    ) -> Result<Tensor<5>> {
        let [clips, channels, frames, height, width] = latents.dims();
        let ([rows, blocks, d], patch) = (classes.dims(), self.config.patch_size);
        if channels != self.config.in_channels {
            let wanted = self.config.in_channels;
            return Err(Error::options(format!("the transformer takes {wanted} latent channels, got {channels}")));
        }
        if [frames, height / patch, width / patch] != fixed.grid {
            return Err(Error::options(format!(
                "latents must be of the size prepared for, {:?} tokens, got {frames} × {height} × {width} cells",
                fixed.grid
            )));
        }
        if ![1, rows].contains(&clips) || ![1, rows].contains(&timesteps.len()) || blocks != self.blocks.len() {
            return Err(Error::options(format!(
                "pictures and timesteps must be 1 or {rows}, as there are classes for {} blocks; got {clips} and {} for {blocks}",
                self.blocks.len(),
                timesteps.len()
            )));
        }
        let mut x = self.patch_embedding.forward(latents) + fixed.positions.clone(); // [1 or B, L, D]
        if clips == 1 && rows > 1 {
            x = x.repeat_dim(0, rows);
        }
        // The last frequency is 1/10000 itself: diffusers' `downscale_freq_shift` 1.
        let features = timestep_features_to(timesteps, TIME_FEATURES, TIME_FEATURES / 2 - 1);
        let features = TensorData::new(features, [timesteps.len(), TIME_FEATURES]);
        let features = Tensor::<2>::from_data(features, &self.device);
        let mut first = None;
        for i in 0..self.blocks.len() {
            let block = &*self.blocks.turn(i).await?;
            let class = classes.clone().narrow(1, i, 1).reshape([rows, d]);
            let conditioning = block.conditioning(features.clone(), class);
            first.get_or_insert_with(|| conditioning.clone());
            x = block.forward(x, conditioning, &fixed.windows[i % fixed.windows.len()]);
            pace.block_done(&x).await?;
        }
        self.blocks.settle().await?;
        let first = first.ok_or_else(|| Error::Internal("a transformer without blocks".into()))?;
        // The head is modulated by what the first block knows of time and class.
        let two = self.proj_out_1.forward(activation::silu(first)).reshape([rows, 1, 2 * d]);
        let (shift, scale) = (two.clone().narrow(2, 0, d), two.narrow(2, d, d));
        let x = self.proj_out_2.forward(self.norm_out.forward(x) * (scale + 1.0) + shift);
        Ok(unpatchify(x, [1, patch, patch], fixed.grid))
    }
}
