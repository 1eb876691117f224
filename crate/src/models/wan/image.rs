//! The picture that a clip starts from, as CLIP sees it, for Wan 2.1 I2V and first + last frame models.
//!
//! Source: diffusers `transformer_wan.py` `WanImageEmbedding`.

use burn::tensor::{Tensor, activation};

use super::config::TransformerConfig;
use crate::error::Result;
use crate::nn::linear::Linear;
use crate::nn::loader::Loader;
use crate::nn::norm::LayerNorm;

/// CLIP tokens to model width (Wan 2.1 I2V and first + last frame models).
#[derive(Debug, Clone)]
pub(super) struct ImageEmbedding {
    norm1: LayerNorm,
    linear_1: Linear,
    linear_2: Linear,
    norm2: LayerNorm,
    pos_embed: Option<Tensor<3>>,
}

impl ImageEmbedding {
    pub(super) async fn load(loader: &Loader, config: &TransformerConfig, dim: usize) -> Result<Self> {
        let d = config.hidden_dim();
        let pos_embed = match config.pos_embed_seq_len {
            Some(n) => Some(loader.tensor("pos_embed", [1, n, dim]).await?),
            None => None,
        };
        Ok(Self {
            // FP32LayerNorm's own default, not the model's eps.
            norm1: LayerNorm::load(&loader.at("norm1"), dim, 1e-5).await?,
            linear_1: Linear::load(&loader.at("ff.net.0.proj"), dim, dim).await?,
            linear_2: Linear::load(&loader.at("ff.net.2"), dim, d).await?,
            norm2: LayerNorm::load(&loader.at("norm2"), d, 1e-5).await?,
            pos_embed,
        })
    }

    /// With a learned position table the tokens of first and last image (two rows) become one row.
    pub(super) fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
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
