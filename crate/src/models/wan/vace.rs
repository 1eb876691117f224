//! The VACE control branch: blocks of its own, whose outputs are added to the main stream as hints.
//!
//! Source: VACE 2503.07598 §3.3; diffusers `transformer_wan_vace.py`.

use burn::tensor::Tensor;

use super::block::Block;
use super::config::TransformerConfig;
use super::fixed::{Fixed, FixedControl, through};
use crate::error::{Error, Result};
use crate::nn::layers::Layers;
use crate::nn::linear::Linear;
use crate::nn::loader::Loader;
use crate::nn::patch::PatchEmbedding;
use crate::nn::tokens::Tokens;
use crate::pace::{Later, Pace};

/// The VACE control input.
#[derive(Debug, Clone)]
pub struct Control {
    /// Inactive and reactive latents and the mask, `[B, C_vace, F, H, W]`.
    pub latents: Tensor<5>,
    /// Weight of the hint of each VACE block; 1 is as trained.
    pub scales: Vec<f32>,
}

/// The control branch: its own patch embedding and blocks, whose outputs are added to the main stream as hints.
#[derive(Debug)]
pub(super) struct VaceBranch {
    channels: usize,
    patch_embedding: PatchEmbedding,
    proj_in: Linear,
    /// Each with the projection of its output to a hint.
    pub(super) blocks: Layers<(Block, Linear)>,
}

impl VaceBranch {
    pub(super) async fn load(loader: &Loader, config: &TransformerConfig) -> Result<Self> {
        let d = config.hidden_dim();
        let places = (0..config.vace_layers.len()).map(|i| loader.at(format_args!("vace_blocks.{i}"))).collect();
        let of = config.clone();
        let load_block = move |at: Loader| -> Later<'static, (Block, Linear)> {
            let config = of.clone();
            let load =
                async move { Ok((Block::load(&at, &config).await?, Linear::load(&at.at("proj_out"), d, d).await?)) };
            Box::pin(load)
        };
        let blocks = Layers::load(places, loader.is_streamed(), Box::new(load_block)).await?;
        Ok(Self {
            channels: config.vace_in_channels,
            patch_embedding: PatchEmbedding::load(
                &loader.at("vace_patch_embedding"),
                config.vace_in_channels,
                d,
                config.patch_size,
            )
            .await?,
            proj_in: Linear::load(&loader.at("vace_blocks.0.proj_in"), d, d).await?,
            blocks,
        })
    }

    /// The control input as it enters its branch, for a clip of `tokens`.
    pub(super) fn fix(&self, control: &Control, tokens: usize) -> Result<FixedControl> {
        let channels = control.latents.dims()[1];
        if channels != self.channels || control.scales.len() != self.blocks.len() {
            return Err(Error::options(format!(
                "the control branch takes {} channels and {} scales, got {channels} and {}",
                self.channels,
                self.blocks.len(),
                control.scales.len()
            )));
        }
        let embedded = self.patch_embedding.forward(control.latents.clone());
        let ([b, known, d], device) = (embedded.dims(), embedded.device());
        if known > tokens {
            return Err(Error::options(format!("control latents cover {known} tokens, the clip has {tokens}")));
        }
        let embedded = match tokens - known {
            0 => embedded,
            missing => Tensor::cat(vec![embedded, Tensor::zeros([b, missing, d], &device)], 1),
        };
        Ok(FixedControl { embedded: self.proj_in.forward(embedded), scales: control.scales.clone() })
    }

    /// What the control branch adds after each of the `vace_layers`. All its blocks see the stream as it enters.
    pub(super) async fn hints(
        &self,
        x: &Tensor<3>,
        tokens: &Tokens,
        fixed: &[&Fixed],
        modulation: &Tensor<4>,
        pace: &Pace<'_>,
    ) -> Result<Vec<Tensor<3>>> {
        let controls: Vec<&FixedControl> = fixed.iter().filter_map(|fixed| fixed.control.as_ref()).collect();
        let embedded = match controls[..] {
            [control] => control.embedded.clone(),
            _ => Tensor::cat(controls.iter().map(|control| control.embedded.clone()).collect(), 1),
        };
        let mut stream = embedded + x.clone();
        let mut hints = Vec::with_capacity(self.blocks.len());
        for i in 0..self.blocks.len() {
            let (block, proj_out) = &*self.blocks.turn(i).await?;
            stream = through(block, stream, |contexts| contexts.of_vace_block(i, block), fixed, modulation, tokens);
            hints.push(scaled(proj_out.forward(stream.clone()), i, &controls, tokens));
            pace.block_done(&stream).await?;
        }
        self.blocks.settle().await?;
        Ok(hints)
    }
}

/// The hint of VACE block `i`, each clip's by its own scale.
fn scaled(hint: Tensor<3>, i: usize, controls: &[&FixedControl], tokens: &Tokens) -> Tensor<3> {
    let scale = |control: &FixedControl| control.scales.get(i).copied().unwrap_or(1.0);
    if let [control] = controls[..] {
        return hint * scale(control);
    }
    let parts = tokens
        .segments()
        .zip(controls)
        .map(|(segment, control)| hint.clone().narrow(1, segment.start, segment.len()) * scale(control));
    Tensor::cat(parts.collect(), 1)
}
