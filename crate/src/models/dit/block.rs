//! One DiT block: self-attention and feed-forward, both modulated by time and class.
//!
//! Source: DiT 2212.09748 §3.2 (adaLN-Zero); diffusers `models/attention.py` `BasicTransformerBlock` with `ada_norm_zero`,
//! `models/embeddings.py` `CombinedTimestepLabelEmbeddings`.

use burn::tensor::{Tensor, activation};

use super::config::DitConfig;
use crate::error::Result;
use crate::nn::linear::{Epilogue, Linear};
use crate::nn::loader::Loader;
use crate::nn::norm::LayerNorm;
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
    attn1: Attention,
    norm3: LayerNorm,
    ffn_in: Linear,
    ffn_out: Linear,
}

impl Block {
    /// Reads a block of `transformer_blocks.N`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, config: &DitConfig) -> Result<Self> {
        let d = config.hidden_dim();
        let time = loader.at("norm1.emb.timestep_embedder");
        Ok(Self {
            time_linear_1: Linear::load(&time.at("linear_1"), TIME_FEATURES, d).await?,
            time_linear_2: Linear::load(&time.at("linear_2"), d, d).await?,
            modulation: Linear::load(&loader.at("norm1.linear"), d, 6 * d).await?,
            norm1: LayerNorm::plain(d, NORM_EPS, loader.device()),
            attn1: Attention::load(&loader.at("attn1"), config).await?,
            norm3: LayerNorm::plain(d, config.norm_eps, loader.device()),
            ffn_in: Linear::load(&loader.at("ff.net.0.proj"), d, 4 * d).await?,
            ffn_out: Linear::load(&loader.at("ff.net.2"), 4 * d, d).await?,
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
        let x = self.attn1.forward(normed, windows, Epilogue::GatedAdd(gate(2), x));

        let normed = self.norm3.forward_modulated(x.clone(), &six, 4, 3);
        let hidden = self.ffn_in.forward_then(normed, Epilogue::Gelu);
        self.ffn_out.forward_then(hidden, Epilogue::GatedAdd(gate(5), x))
    }
}
