//! The Wan diffusion transformer, T2V / I2V / TI2V, with the VACE control branch where the checkpoint has one.
//!
//! Source: diffusers `transformer_wan.py`, `transformer_wan_vace.py`.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::block::{Block, Context, Projected};
use super::config::TransformerConfig;
use crate::error::{Error, Result};
use crate::nn::linear::{Epilogue, Linear};
use crate::nn::loader::Loader;
use crate::nn::norm::LayerNorm;
use crate::nn::patch::{PatchEmbedding, unpatchify};
use crate::nn::rope::Rope;
use crate::nn::timestep::timestep_features;
use crate::pace::Pace;

/// How noisy the input is, on the scale 0 (clean) … 1000 (noise).
#[derive(Debug, Clone)]
pub enum Timesteps {
    /// One value for all.
    Shared(f32),
    /// One value for each clip of the batch, length B.
    PerClip(Vec<f32>),
    /// One value for each token, length B × L (known frames are clean: Wan 2.2 TI2V).
    PerToken(Vec<f32>),
}

/// The VACE control input.
#[derive(Debug, Clone)]
pub struct Control {
    /// Inactive and reactive latents and the mask, `[B, C_vace, F, H, W]`.
    pub latents: Tensor<5>,
    /// Weight of the hint of each VACE block; 1 is as trained.
    pub scales: Vec<f32>,
}

/// What does not change from step to step of a clip: positions, the projected prompt, control patches.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// Patches along frames, rows and columns.
    grid: [usize; 3],
    rope: Rope,
    contexts: Contexts,
    control: Option<FixedControl>,
}

/// The context for each block.
#[derive(Debug, Clone)]
enum Contexts {
    /// Keys and values of the blocks and of the control branch's blocks.
    Projected { blocks: Vec<Projected>, vace: Vec<Projected> },
    /// Too large to keep so: projected in every forward.
    Whole(Context),
}

/// Up to this many bytes, keys and values of the context are kept from step to step: all of them for a small model, for
/// Wan 1.3B (376 MB at 512 tokens) none.
const KEPT_CONTEXT_BYTES: usize = 64 << 20;

/// The control branch's input, embedded.
#[derive(Debug, Clone)]
struct FixedControl {
    /// `[B, L, D]`
    embedded: Tensor<3>,
    scales: Vec<f32>,
}

/// A loaded transformer.
#[derive(Debug, Clone)]
pub struct WanTransformer {
    config: TransformerConfig,
    patch_embedding: PatchEmbedding,
    time_linear_1: Linear,
    time_linear_2: Linear,
    time_proj: Linear,
    text_linear_1: Linear,
    text_linear_2: Linear,
    image_embedder: Option<ImageEmbedding>,
    blocks: Vec<Block>,
    vace: Option<VaceBranch>,
    norm_out: LayerNorm,
    proj_out: Linear,
    scale_shift_table: Tensor<4>,
    device: Device,
}

/// The control branch: its own patch embedding and blocks, whose outputs are added to the main stream as hints.
#[derive(Debug, Clone)]
struct VaceBranch {
    patch_embedding: PatchEmbedding,
    proj_in: Linear,
    blocks: Vec<(Block, Linear)>,
}

/// CLIP tokens to model width (Wan 2.1 I2V and first + last frame models).
#[derive(Debug, Clone)]
struct ImageEmbedding {
    norm1: LayerNorm,
    linear_1: Linear,
    linear_2: Linear,
    norm2: LayerNorm,
    pos_embed: Option<Tensor<3>>,
}

impl WanTransformer {
    /// Builds the model from a checkpoint with diffusers names.
    ///
    /// # Errors
    /// [`Error::Weights`] when the configuration or a tensor does not fit.
    pub fn load(loader: &Loader, config: &TransformerConfig) -> Result<Self> {
        config.check("transformer/config.json")?;
        let d = config.hidden_dim();
        let embedder = loader.at("condition_embedder");
        let blocks = (0..config.num_layers)
            .map(|i| Block::load(&loader.at(format_args!("blocks.{i}")), config))
            .collect::<Result<Vec<_>>>()?;
        let patches = config.patch_size.iter().product::<usize>();
        let image_embedder = match config.image_dim {
            Some(dim) => Some(ImageEmbedding::load(&embedder.at("image_embedder"), config, dim)?),
            None => None,
        };
        let vace = if config.vace_layers.is_empty() { None } else { Some(VaceBranch::load(loader, config)?) };
        Ok(Self {
            patch_embedding: PatchEmbedding::load(
                &loader.at("patch_embedding"),
                config.in_channels,
                d,
                config.patch_size,
            )?,
            time_linear_1: Linear::load(&embedder.at("time_embedder.linear_1"), config.freq_dim, d)?,
            time_linear_2: Linear::load(&embedder.at("time_embedder.linear_2"), d, d)?,
            time_proj: Linear::load(&embedder.at("time_proj"), d, 6 * d)?,
            text_linear_1: Linear::load(&embedder.at("text_embedder.linear_1"), config.text_dim, d)?,
            text_linear_2: Linear::load(&embedder.at("text_embedder.linear_2"), d, d)?,
            image_embedder,
            blocks,
            vace,
            norm_out: LayerNorm::plain(d, config.eps, loader.device()),
            proj_out: Linear::load(&loader.at("proj_out"), d, config.out_channels() * patches)?,
            scale_shift_table: loader.tensor("scale_shift_table", [1, 2, d])?.unsqueeze_dim(1),
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
        let vace_blocks = || self.vace.iter().flat_map(|vace| &vace.blocks);
        let bytes = context.text.dims().iter().product::<usize>() * (self.blocks.len() + vace_blocks().count()) * 8;
        let contexts = match bytes <= KEPT_CONTEXT_BYTES {
            true => Contexts::Projected {
                blocks: self.blocks.iter().map(|block| block.project(&context)).collect(),
                vace: vace_blocks().map(|(block, _)| block.project(&context)).collect(),
            },
            false => Contexts::Whole(context),
        };
        let control = self.fixed_control(control, grid.iter().product())?;
        Ok(Fixed { grid, rope, contexts, control })
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
        let [clips, channels, frames, height, width] = latents.dims();
        if channels != self.config.in_channels {
            return Err(Error::options(format!(
                "the transformer takes {} latent channels, got {channels}",
                self.config.in_channels
            )));
        }
        let (grid, rope) = (fixed.grid, &fixed.rope);
        if self.grid([frames, height, width])? != grid {
            return Err(Error::options(format!(
                "latents must be of the size prepared for, {grid:?} tokens, got {frames} × {height} × {width} cells"
            )));
        }
        let prompts = fixed.contexts.rows();
        let mut x = self.patch_embedding.forward(latents); // [1 or B, L, D]
        if clips == 1 && prompts > 1 {
            x = x.repeat_dim(0, prompts);
        }
        let (temb, modulation) = self.embed_time(timesteps, x.dims()[0], grid.iter().product())?;

        let mut hints = self.hints(&x, fixed, &modulation, pace).await?.into_iter();
        for (i, block) in self.blocks.iter().enumerate() {
            x = match &fixed.contexts {
                Contexts::Projected { blocks, .. } => block.forward(x, &blocks[i], &modulation, rope),
                Contexts::Whole(context) => block.forward(x, &block.project(context), &modulation, rope),
            };
            if self.config.vace_layers.contains(&i)
                && let Some(hint) = hints.next()
            {
                x = x + hint;
            }
            pace.block_done(&x).await?;
        }

        let two = self.scale_shift_table.clone() + temb.unsqueeze_dim::<4>(2); // [B, 1 or L, 2, D]
        let shift = two.clone().narrow(2, 0, 1).squeeze_dim::<3>(2);
        let scale = two.narrow(2, 1, 1).squeeze_dim::<3>(2);
        let x = self.proj_out.forward(self.norm_out.forward(x) * (scale + 1.0) + shift);
        Ok(unpatchify(x, self.config.patch_size, grid))
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

    /// Time embedding `[1 or B, 1 or L, D]` and the blocks' six modulation vectors `[1 or B, 1 or L, 6, D]`.
    fn embed_time(&self, timesteps: &Timesteps, batch: usize, tokens: usize) -> Result<(Tensor<3>, Tensor<4>)> {
        let shared;
        let (values, batch, rows) = match timesteps {
            Timesteps::Shared(t) => {
                shared = vec![*t];
                (&shared, 1, 1)
            }
            Timesteps::PerClip(t) => (t, batch, 1),
            // Known frames are the same in all clips of a guided batch.
            Timesteps::PerToken(t) if t.len() == tokens => (t, 1, tokens),
            Timesteps::PerToken(t) => (t, batch, tokens),
        };
        if values.len() != batch * rows {
            return Err(Error::options(format!("{} timesteps are needed, got {}", batch * rows, values.len())));
        }
        // Few values differ (a clean and a noisy one, as a rule): embed each once, then spread by index.
        let mut distinct: Vec<f32> = Vec::new();
        let indices: Vec<i32> = values
            .iter()
            .map(|t| {
                let found = distinct.iter().position(|d| d == t);
                found.unwrap_or_else(|| {
                    distinct.push(*t);
                    distinct.len() - 1
                }) as i32
            })
            .collect();
        let features =
            TensorData::new(timestep_features(&distinct, self.config.freq_dim), [distinct.len(), self.config.freq_dim]);
        let features = Tensor::<2>::from_data(features, &self.device);
        let temb = self.time_linear_2.forward(self.time_linear_1.forward_then(features, Epilogue::Silu));
        let six = self.time_proj.forward(activation::silu(temb.clone()));

        let d = self.config.hidden_dim();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [values.len()]), &self.device);
        let temb = temb.select(0, indices.clone()).reshape([batch, rows, d]);
        Ok((temb, six.select(0, indices).reshape([batch, rows, 6, d])))
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

    /// The control input as it enters its branch, for a clip of `tokens`.
    fn fixed_control(&self, control: Option<&Control>, tokens: usize) -> Result<Option<FixedControl>> {
        let (vace, control) = match (&self.vace, control) {
            (None, None) => return Ok(None),
            (Some(vace), Some(control)) => (vace, control),
            (Some(_), None) => return Err(Error::options("a VACE model needs control latents")),
            (None, Some(_)) => return Err(Error::options("this model has no control branch")),
        };
        let channels = control.latents.dims()[1];
        if channels != self.config.vace_in_channels || control.scales.len() != vace.blocks.len() {
            return Err(Error::options(format!(
                "the control branch takes {} channels and {} scales, got {channels} and {}",
                self.config.vace_in_channels,
                vace.blocks.len(),
                control.scales.len()
            )));
        }
        let embedded = vace.patch_embedding.forward(control.latents.clone());
        let [b, known, d] = embedded.dims();
        if known > tokens {
            return Err(Error::options(format!("control latents cover {known} tokens, the clip has {tokens}")));
        }
        let embedded = match tokens - known {
            0 => embedded,
            missing => Tensor::cat(vec![embedded, Tensor::zeros([b, missing, d], &self.device)], 1),
        };
        Ok(Some(FixedControl { embedded: vace.proj_in.forward(embedded), scales: control.scales.clone() }))
    }

    /// What the control branch adds after each of the `vace_layers`. All its blocks see the stream as it enters.
    async fn hints(
        &self,
        x: &Tensor<3>,
        fixed: &Fixed,
        modulation: &Tensor<4>,
        pace: &Pace<'_>,
    ) -> Result<Vec<Tensor<3>>> {
        let (Some(vace), Some(control)) = (&self.vace, &fixed.control) else { return Ok(Vec::new()) };
        let mut stream = control.embedded.clone() + x.clone();
        let mut hints = Vec::with_capacity(vace.blocks.len());
        for (i, ((block, proj_out), scale)) in vace.blocks.iter().zip(&control.scales).enumerate() {
            stream = match &fixed.contexts {
                Contexts::Projected { vace, .. } => block.forward(stream, &vace[i], modulation, &fixed.rope),
                Contexts::Whole(context) => block.forward(stream, &block.project(context), modulation, &fixed.rope),
            };
            hints.push(proj_out.forward(stream.clone()) * *scale);
            pace.block_done(&stream).await?;
        }
        Ok(hints)
    }
}

impl Contexts {
    /// Prompts in the batch.
    fn rows(&self) -> usize {
        match self {
            Self::Projected { blocks, .. } => blocks.first().map_or(1, Projected::rows),
            Self::Whole(context) => context.text.dims()[0],
        }
    }
}

impl VaceBranch {
    fn load(loader: &Loader, config: &TransformerConfig) -> Result<Self> {
        let d = config.hidden_dim();
        let blocks = (0..config.vace_layers.len())
            .map(|i| {
                let at = loader.at(format_args!("vace_blocks.{i}"));
                Ok((Block::load(&at, config)?, Linear::load(&at.at("proj_out"), d, d)?))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            patch_embedding: PatchEmbedding::load(
                &loader.at("vace_patch_embedding"),
                config.vace_in_channels,
                d,
                config.patch_size,
            )?,
            proj_in: Linear::load(&loader.at("vace_blocks.0.proj_in"), d, d)?,
            blocks,
        })
    }
}

impl ImageEmbedding {
    fn load(loader: &Loader, config: &TransformerConfig, dim: usize) -> Result<Self> {
        let d = config.hidden_dim();
        let pos_embed = match config.pos_embed_seq_len {
            Some(n) => Some(loader.tensor("pos_embed", [1, n, dim])?),
            None => None,
        };
        Ok(Self {
            // FP32LayerNorm's own default, not the model's eps.
            norm1: LayerNorm::load(&loader.at("norm1"), dim, 1e-5)?,
            linear_1: Linear::load(&loader.at("ff.net.0.proj"), dim, dim)?,
            linear_2: Linear::load(&loader.at("ff.net.2"), dim, d)?,
            norm2: LayerNorm::load(&loader.at("norm2"), d, 1e-5)?,
            pos_embed,
        })
    }

    /// With a learned position table the tokens of first and last image (two rows) become one row.
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let tokens = match &self.pos_embed {
            None => tokens,
            Some(pos) => {
                let [rows, n, dim] = tokens.dims();
                tokens.reshape([rows / 2, 2 * n, dim]) + pos.clone()
            }
        };
        let x = activation::gelu(self.linear_1.forward(self.norm1.forward(tokens)));
        self.norm2.forward(self.linear_2.forward(x))
    }
}
