//! The Wan diffusion transformer, T2V / I2V / TI2V, with the VACE control branch where the checkpoint has one.
//!
//! Source: diffusers `transformer_wan.py`, `transformer_wan_vace.py`, `transformer_anyflow.py`.

use burn::tensor::{Device, Tensor};

use super::block::{Block, Context};
use super::config::TransformerConfig;
use super::fixed::{Contexts, Fixed, through};
use super::image::ImageEmbedding;
use super::time::{TimeEmbedding, Timesteps};
use super::vace::{Control, VaceBranch};
use crate::error::{Error, Result};
use crate::nn::layers::Layers;
use crate::nn::linear::{Epilogue, Linear};
use crate::nn::loader::Loader;
use crate::nn::norm::LayerNorm;
use crate::nn::patch::{PatchEmbedding, unpatchify};
use crate::nn::rope::Rope;
use crate::nn::tokens::Tokens;
use crate::pace::{Later, Pace};

/// A loaded transformer.
#[derive(Debug)]
pub struct WanTransformer {
    config: TransformerConfig,
    patch_embedding: PatchEmbedding,
    time: TimeEmbedding,
    text_linear_1: Linear,
    text_linear_2: Linear,
    image_embedder: Option<ImageEmbedding>,
    blocks: Layers<Block>,
    vace: Option<VaceBranch>,
    norm_out: LayerNorm,
    proj_out: Linear,
    scale_shift_table: Tensor<4>,
    device: Device,
}

impl WanTransformer {
    /// Builds the model from a checkpoint with diffusers names.
    ///
    /// # Errors
    /// [`Error::Weights`] when the configuration or a tensor does not fit.
    pub async fn load(loader: &Loader, config: &TransformerConfig) -> Result<Self> {
        config.check("transformer/config.json")?;
        let d = config.hidden_dim();
        let embedder = loader.at("condition_embedder");
        let places = (0..config.num_layers).map(|i| loader.at(format_args!("blocks.{i}"))).collect();
        let of = config.clone();
        let load_block = move |place: Loader| -> Later<'static, Block> {
            let config = of.clone();
            Box::pin(async move { Block::load(&place, &config).await })
        };
        let blocks = Layers::load(places, loader.is_streamed(), Box::new(load_block)).await?;
        let patches = config.patch_size.iter().product::<usize>();
        let image_embedder = match config.image_dim {
            Some(dim) => Some(ImageEmbedding::load(&embedder.at("image_embedder"), config, dim).await?),
            None => None,
        };
        let vace = if config.vace_layers.is_empty() { None } else { Some(VaceBranch::load(loader, config).await?) };
        Ok(Self {
            patch_embedding: PatchEmbedding::load(
                &loader.at("patch_embedding"),
                config.in_channels,
                d,
                config.patch_size,
            )
            .await?,
            time: TimeEmbedding::load(&embedder, config).await?,
            text_linear_1: Linear::load(&embedder.at("text_embedder.linear_1"), config.text_dim, d).await?,
            text_linear_2: Linear::load(&embedder.at("text_embedder.linear_2"), d, d).await?,
            image_embedder,
            blocks,
            vace,
            norm_out: LayerNorm::plain(d, config.eps, loader.device()),
            proj_out: Linear::load(&loader.at("proj_out"), d, config.out_channels() * patches).await?,
            scale_shift_table: loader.tensor("scale_shift_table", [1, 2, d]).await?.unsqueeze_dim(1),
            device: loader.device().clone(),
            config: config.clone(),
        })
    }

    /// Where its weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Predicts the velocity of every latent cell.
    ///
    /// # Shapes
    /// `latents` `[B, C_in, F, H, W]`, `prompt_embeds` `[B, Lt, D_text]`, `image_embeds` `[B or 2B, Li, D_image]`
    /// → `[B, C_out, F, H, W]`
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the shapes do not fit the model or each other; [`Error::Aborted`] and
    /// [`Error::DeviceLost`] from between the blocks.
    pub async fn forward(
        &self,
        latents: Tensor<5>,
        timesteps: &Timesteps,
        prompt_embeds: Tensor<3>,
        image_embeds: Option<Tensor<3>>,
        control: Option<&Control>,
        pace: &Pace<'_>,
    ) -> Result<Tensor<5>> {
        let [_, _, frames, height, width] = latents.dims();
        let fixed = self.prepare([frames, height, width], prompt_embeds, image_embeds, control)?;
        self.denoise(latents, timesteps, &fixed, pace).await
    }

    /// Does what does not change from step to step: `cells` are latent frames, rows and columns.
    ///
    /// # Shapes
    /// `prompt_embeds` `[B, Lt, D_text]`, `image_embeds` `[B or 2B, Li, D_image]`
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the shapes do not fit the model or each other.
    pub fn prepare(
        &self,
        cells: [usize; 3],
        prompt_embeds: Tensor<3>,
        image_embeds: Option<Tensor<3>>,
        control: Option<&Control>,
    ) -> Result<Fixed> {
        let grid = self.grid(cells)?;
        let rope = Rope::new(self.config.attention_head_dim, grid, self.config.rope_max_seq_len, &self.device)?;
        let context = self.embed_context(prompt_embeds, image_embeds)?;
        let contexts = Contexts::new(context, &self.blocks, self.vace.as_ref().map(|vace| &vace.blocks));
        let control = match (&self.vace, control) {
            (None, None) => None,
            (Some(vace), Some(control)) => Some(vace.fix(control, grid.iter().product())?),
            (Some(_), None) => return Err(Error::options("a VACE model needs control latents")),
            (None, Some(_)) => return Err(Error::options("this model has no control branch")),
        };
        Ok(Fixed { grid, tokens: Tokens::of_one(rope), contexts, control })
    }

    /// Predicts the velocity of every latent cell, with what was prepared. One clip of latents serves all prompts of a batch.
    ///
    /// # Shapes
    /// `latents` `[1 or B, C_in, F, H, W]` → `[B, C_out, F, H, W]`
    ///
    /// # Errors
    /// As [`WanTransformer::forward`].
    pub async fn denoise(
        &self,
        latents: Tensor<5>,
        timesteps: &Timesteps,
        fixed: &Fixed,
        pace: &Pace<'_>,
    ) -> Result<Tensor<5>> {
        let (clips, prompts) = (latents.dims()[0], fixed.contexts.rows());
        let mut x = self.embed(latents, fixed)?; // [1 or B, L, D]
        if clips == 1 && prompts > 1 {
            x = x.repeat_dim(0, prompts);
        }
        let time = self.time.embed(timesteps, x.dims()[0], x.dims()[1])?;
        let x = self.run(x, time, &fixed.tokens, &[fixed], pace).await?;
        Ok(unpatchify(x, self.config.patch_size, fixed.grid))
    }

    /// Several clips, of any sizes and at any times, in one pass: every linear layer sees the tokens of all.
    ///
    /// # Shapes
    /// each `latents` `[1, C_in, F, H, W]` with what was prepared for it → `[1, C_out, F, H, W]` each
    ///
    /// # Errors
    /// As [`WanTransformer::forward`]; [`Error::InvalidOptions`] when there is none, or one was prepared with several prompts.
    pub async fn denoise_packed(&self, clips: &[(Tensor<5>, f32, &Fixed)], pace: &Pace<'_>) -> Result<Vec<Tensor<5>>> {
        if clips.is_empty() || clips.iter().any(|(latents, _, fixed)| latents.dims()[0] * fixed.contexts.rows() != 1) {
            return Err(Error::options("a packed pass takes at least one clip, each with one prompt"));
        }
        let mut rows = Vec::with_capacity(clips.len());
        let mut times = Vec::new();
        for (latents, time, fixed) in clips {
            rows.push(self.embed(latents.clone(), fixed)?);
            times.extend(std::iter::repeat_n(*time, fixed.grid.iter().product()));
        }
        // One time for all, as with clips of the same steps, is not spread over the tokens.
        let timesteps = match times.first() {
            Some(first) if times.iter().all(|time| time == first) => Timesteps::Shared(*first),
            _ => Timesteps::PerToken(times),
        };
        let x = Tensor::cat(rows, 1); // [1, ΣL, D]
        let tokens = Tokens::packed(&clips.iter().map(|(_, _, fixed)| fixed.tokens.rope()).collect::<Vec<_>>());
        let time = self.time.embed(&timesteps, 1, x.dims()[1])?;
        let fixed: Vec<&Fixed> = clips.iter().map(|(_, _, fixed)| *fixed).collect();
        let x = self.run(x, time, &tokens, &fixed, pace).await?;
        let unpacked = tokens.segments().zip(&fixed).map(|(segment, fixed)| {
            unpatchify(x.clone().narrow(1, segment.start, segment.len()), self.config.patch_size, fixed.grid)
        });
        Ok(unpacked.collect())
    }

    /// Latents to tokens, of the size that was prepared for.
    fn embed(&self, latents: Tensor<5>, fixed: &Fixed) -> Result<Tensor<3>> {
        let [_, channels, frames, height, width] = latents.dims();
        if channels != self.config.in_channels {
            return Err(Error::options(format!(
                "the transformer takes {} latent channels, got {channels}",
                self.config.in_channels
            )));
        }
        if self.grid([frames, height, width])? != fixed.grid {
            return Err(Error::options(format!(
                "latents must be of the size prepared for, {:?} tokens, got {frames} × {height} × {width} cells",
                fixed.grid
            )));
        }
        Ok(self.patch_embedding.forward(latents))
    }

    /// Blocks and head: `[B, L, D]` → `[B, L, C_out × patch]`; one `fixed` for each clip that is packed.
    async fn run(
        &self,
        mut x: Tensor<3>,
        (temb, modulation): (Tensor<3>, Tensor<4>),
        tokens: &Tokens,
        fixed: &[&Fixed],
        pace: &Pace<'_>,
    ) -> Result<Tensor<3>> {
        let hints = match &self.vace {
            Some(vace) => vace.hints(&x, tokens, fixed, &modulation, pace).await?,
            None => Vec::new(),
        };
        let mut hints = hints.into_iter();
        for i in 0..self.blocks.len() {
            let block = &*self.blocks.turn(i).await?;
            x = through(block, x, |contexts| contexts.of_block(i, block), fixed, &modulation, tokens);
            if self.config.vace_layers.contains(&i)
                && let Some(hint) = hints.next()
            {
                x = x + hint;
            }
            pace.block_done(&x).await?;
        }
        self.blocks.settle().await?;

        let two = self.scale_shift_table.clone() + temb.unsqueeze_dim::<4>(2); // [1 or B, 1 or L, 2, D]
        let shift = two.clone().narrow(2, 0, 1).squeeze_dim::<3>(2);
        let scale = two.narrow(2, 1, 1).squeeze_dim::<3>(2);
        Ok(self.proj_out.forward(self.norm_out.forward(x) * (scale + 1.0) + shift))
    }

    /// Patches along frames, rows and columns.
    fn grid(&self, [frames, height, width]: [usize; 3]) -> Result<[usize; 3]> {
        let [pt, ph, pw] = self.config.patch_size;
        if frames % pt != 0 || height % ph != 0 || width % pw != 0 {
            return Err(Error::options(format!(
                "latent frames × height × width must be multiples of {pt} × {ph} × {pw}, got {frames} × {height} × {width} cells"
            )));
        }
        Ok([frames / pt, height / ph, width / pw])
    }

    fn embed_context(&self, prompt_embeds: Tensor<3>, image_embeds: Option<Tensor<3>>) -> Result<Context> {
        let [_, _, width] = prompt_embeds.dims();
        if width != self.config.text_dim {
            return Err(Error::options(format!(
                "prompt embeddings must be {} wide, got {width}",
                self.config.text_dim
            )));
        }
        let text = self.text_linear_2.forward(self.text_linear_1.forward_then(prompt_embeds, Epilogue::Gelu));
        let image = match (&self.image_embedder, image_embeds) {
            (Some(embedder), Some(tokens)) => Some(embedder.forward(tokens)),
            (None, Some(_)) => return Err(Error::options("this model takes no image embeddings")),
            (_, None) => None,
        };
        Ok(Context { text, image })
    }
}
