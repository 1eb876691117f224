//! One DiT block: self-attention and feed-forward, both modulated by time and class.
//!
//! Source: DiT 2212.09748 §3.2 (adaLN-Zero); diffusers `models/attention.py` `BasicTransformerBlock` with `ada_norm_zero`,
//! `models/embeddings.py` `CombinedTimestepLabelEmbeddings`.

use burn::tensor::{Tensor, activation};

use super::config::{BlockKind, DitConfig};
use crate::error::Result;
use crate::nn::linear::{Epilogue, Linear};
use crate::nn::loader::Loader;
use crate::nn::norm::LayerNorm;
use crate::nn::white_box::{Ista, Mssa};
use crate::nn::window::Windows;

/// Width of the sinusoidal time features.
pub const TIME_FEATURES: usize = 256;
/// Epsilon of the norms that have none in the configuration.
pub const NORM_EPS: f64 = 1e-6;

/// Multi-head self-attention.
#[derive(Debug, Clone)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    num_heads: usize,
}

impl Attention {
    async fn load(loader: &Loader, config: &DitConfig) -> Result<Self> {
        let d = config.hidden_dim();
        let project = async |name: &str| match config.attention_bias {
            true => Linear::load(&loader.at(name), d, d).await,
            false => Linear::load_without_bias(&loader.at(name), d, d).await,
        };
        Ok(Self {
            to_q: project("to_q").await?,
            to_k: project("to_k").await?,
            to_v: project("to_v").await?,
            to_out: Linear::load(&loader.at("to_out.0"), d, d).await?,
            num_heads: config.num_attention_heads,
        })
    }

    fn forward(&self, x: Tensor<3>, windows: &Windows, epilogue: Epilogue) -> Tensor<3> {
        let [b, l, d] = x.dims();
        let heads = |x: Tensor<3>| x.reshape([b, l, self.num_heads, d / self.num_heads]);
        let (q, k, v) = (self.to_q.forward(x.clone()), self.to_k.forward(x.clone()), self.to_v.forward(x));
        self.to_out.forward_then(windows.attend(heads(q), heads(k), heads(v)), epilogue)
    }
}

/// A transformer block with its own embedding of the time; that of the class is read by [`super::Dit`].
#[derive(Debug, Clone)]
pub struct Block {
    time_linear_1: Linear,
    time_linear_2: Linear,
    modulation: Linear,
    norm1: LayerNorm,
    norm3: LayerNorm,
    steps: Steps,
}

/// What a block does to its tokens.
#[derive(Debug, Clone)]
enum Steps {
    Plain { attn1: Attention, ffn_in: Linear, ffn_out: Linear },
    WhiteBox { mssa: Mssa, ista: Ista },
}

impl Block {
    /// Reads a block of `transformer_blocks.N`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, config: &DitConfig) -> Result<Self> {
        let d = config.hidden_dim();
        let time = loader.at("norm1.emb.timestep_embedder");
        let steps = match config.block_kind {
            BlockKind::Attention => Steps::Plain {
                attn1: Attention::load(&loader.at("attn1"), config).await?,
                ffn_in: Linear::load(&loader.at("ff.net.0.proj"), d, 4 * d).await?,
                ffn_out: Linear::load(&loader.at("ff.net.2"), 4 * d, d).await?,
            },
            BlockKind::Crate => Steps::WhiteBox {
                mssa: Mssa::load(&loader.at("attn1"), d, config.num_attention_heads).await?,
                ista: Ista::load(&loader.at("ff"), d).await?,
            },
        };
        Ok(Self {
            time_linear_1: Linear::load(&time.at("linear_1"), TIME_FEATURES, d).await?,
            time_linear_2: Linear::load(&time.at("linear_2"), d, d).await?,
            modulation: Linear::load(&loader.at("norm1.linear"), d, 6 * d).await?,
            norm1: LayerNorm::plain(d, NORM_EPS, loader.device()),
            norm3: LayerNorm::plain(d, config.norm_eps, loader.device()),
            steps,
        })
    }

    /// What this block knows of time and class.
    ///
    /// # Shapes
    /// `features` `[1 or B, 256]`, `class` `[B, D]` → `[B, D]`
    pub fn conditioning(&self, features: Tensor<2>, class: Tensor<2>) -> Tensor<2> {
        self.time_linear_2.forward(self.time_linear_1.forward_then(features, Epilogue::Silu)) + class
    }

    /// # Shapes
    /// `x` `[B, L, D]`, `conditioning` `[B, D]` → `[B, L, D]`
    pub fn forward(&self, x: Tensor<3>, conditioning: Tensor<2>, windows: &Windows) -> Tensor<3> {
        let [b, d] = conditioning.dims();
        let six = self.modulation.forward(activation::silu(conditioning)).reshape([b, 1, 6, d]);
        let gate = |i: usize| six.clone().narrow(2, i, 1).squeeze_dim::<3>(2);

        let normed = self.norm1.forward_modulated(x.clone(), &six, 1, 0);
        let gated = Epilogue::GatedAdd(gate(2), x);
        let x = match &self.steps {
            Steps::Plain { attn1, .. } => attn1.forward(normed, windows, gated),
            Steps::WhiteBox { mssa, .. } => mssa.forward(normed, gated),
        };
        let normed = self.norm3.forward_modulated(x.clone(), &six, 4, 3);
        match &self.steps {
            Steps::Plain { ffn_in, ffn_out, .. } => {
                let hidden = ffn_in.forward_then(normed, Epilogue::Gelu);
                ffn_out.forward_then(hidden, Epilogue::GatedAdd(gate(5), x))
            }
            // The codes take the stream's place; behind a gate, as DiT has one, so that a block can begin as nothing.
            Steps::WhiteBox { ista, .. } => x.clone() + (ista.forward(normed) - x) * gate(5),
        }
    }
}
