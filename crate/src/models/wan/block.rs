//! One transformer block: self-attention, cross-attention to the prompt, feed-forward.
//!
//! Source: diffusers `transformer_wan.py` `WanTransformerBlock`, `WanAttention`; adaLN as in DiT 2212.09748 §3.2.

use burn::tensor::Tensor;

use super::config::TransformerConfig;
use crate::error::Result;
use crate::nn::linear::{Epilogue, Linear};
use crate::nn::loader::Loader;
use crate::nn::norm::{LayerNorm, RmsNorm};
use crate::nn::tokens::Tokens;

/// Up to this many bytes the feed-forward part's hidden layer is made at once.
const MOST_HIDDEN: usize = 16 << 20;
/// Tokens of a piece at least: fewer leave a GPU idle.
const LEAST_ROWS: usize = 256;

/// Tokens that go through the feed-forward part at once. The hidden layer of a long clip would be the largest tensor of all by
/// far; its pieces are no larger than the stream itself, so that they find room where that has been.
pub fn feed_forward_rows(batch: usize, length: usize, width: usize, hidden: usize) -> usize {
    if batch * length * hidden * size_of::<f32>() <= MOST_HIDDEN {
        return length;
    }
    let rows = (length * width / hidden).max(LEAST_ROWS).min(length).max(1);
    length.div_ceil(length.div_ceil(rows))
}

/// What the prompt (and image) looks like at model width: `[B, Lt, D]` each.
#[derive(Debug, Clone)]
pub struct Context {
    /// Text tokens.
    pub text: Tensor<3>,
    /// Image tokens, for models with added image keys.
    pub image: Option<Tensor<3>>,
}

/// Keys and values of the context in one block, `[B, Lt, N, K]` each.
#[derive(Debug, Clone)]
pub struct Projected {
    text: (Tensor<4>, Tensor<4>),
    image: Option<(Tensor<4>, Tensor<4>)>,
}

impl Projected {
    /// Prompts in the batch.
    pub fn rows(&self) -> usize {
        self.text.0.dims()[0]
    }
}

/// Multi-head attention with q/k norm over all heads at once.
#[derive(Debug, Clone)]
pub struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    added: Option<AddedImage>,
    num_heads: usize,
}

/// Keys and values of image tokens, attended to beside the text (Wan 2.1 I2V).
#[derive(Debug, Clone)]
struct AddedImage {
    to_k: Linear,
    to_v: Linear,
    norm_k: RmsNorm,
}

impl Attention {
    async fn load(loader: &Loader, config: &TransformerConfig, added_dim: Option<usize>) -> Result<Self> {
        let d = config.hidden_dim();
        let added = match added_dim {
            None => None,
            Some(dim) => Some(AddedImage {
                to_k: Linear::load(&loader.at("add_k_proj"), dim, d).await?,
                to_v: Linear::load(&loader.at("add_v_proj"), dim, d).await?,
                norm_k: RmsNorm::load(&loader.at("norm_added_k"), d, config.eps).await?,
            }),
        };
        Ok(Self {
            to_q: Linear::load(&loader.at("to_q"), d, d).await?,
            to_k: Linear::load(&loader.at("to_k"), d, d).await?,
            to_v: Linear::load(&loader.at("to_v"), d, d).await?,
            to_out: Linear::load(&loader.at("to_out.0"), d, d).await?,
            norm_q: RmsNorm::load(&loader.at("norm_q"), d, config.eps).await?,
            norm_k: RmsNorm::load(&loader.at("norm_k"), d, config.eps).await?,
            added,
            num_heads: config.num_attention_heads,
        })
    }

    fn split_heads(&self, x: Tensor<3>) -> Tensor<4> {
        let [b, l, d] = x.dims();
        x.reshape([b, l, self.num_heads, d / self.num_heads])
    }

    /// Self-attention, then `epilogue` on its way out.
    fn to_itself(&self, x: Tensor<3>, tokens: &Tokens, epilogue: Epilogue) -> Tensor<3> {
        let q = self.norm_q.forward_turned(self.to_q.forward(x.clone()), tokens.rope());
        let k = self.norm_k.forward_turned(self.to_k.forward(x.clone()), tokens.rope());
        let v = self.split_heads(self.to_v.forward(x));
        self.to_out.forward_then(tokens.attend_within(q, k, v), epilogue)
    }

    /// Keys and values of the context: they are the same in every step.
    fn project(&self, context: &Context) -> Projected {
        let k = self.split_heads(self.norm_k.forward(self.to_k.forward(context.text.clone())));
        let v = self.split_heads(self.to_v.forward(context.text.clone()));
        let image = match (&self.added, &context.image) {
            (Some(added), Some(image)) => {
                let k = self.split_heads(added.norm_k.forward(added.to_k.forward(image.clone())));
                Some((k, self.split_heads(added.to_v.forward(image.clone()))))
            }
            _ => None,
        };
        Projected { text: (k, v), image }
    }

    fn to_context(&self, x: Tensor<3>, contexts: &[&Projected], tokens: &Tokens, epilogue: Epilogue) -> Tensor<3> {
        let q = self.split_heads(self.norm_q.forward(self.to_q.forward(x)));
        let text: Vec<_> = contexts.iter().map(|context| &context.text).collect();
        let image: Vec<_> = contexts.iter().filter_map(|context| context.image.as_ref()).collect();
        let mut out = tokens.attend_to(q.clone(), &text);
        if !image.is_empty() {
            out = out + tokens.attend_to(q, &image);
        }
        self.to_out.forward_then(out, epilogue)
    }
}

/// A transformer block.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: Option<LayerNorm>,
    attn2: Attention,
    norm3: LayerNorm,
    ffn_in: Linear,
    ffn_out: Linear,
    ffn_dim: usize,
    scale_shift_table: Tensor<4>,
}

impl Block {
    /// Reads a block of `blocks.N` or `vace_blocks.N`.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, config: &TransformerConfig) -> Result<Self> {
        let d = config.hidden_dim();
        let plain = LayerNorm::plain(d, config.eps, loader.device());
        let norm2 = match config.cross_attn_norm {
            true => Some(LayerNorm::load(&loader.at("norm2"), d, config.eps).await?),
            false => None,
        };
        Ok(Self {
            norm1: plain.clone(),
            attn1: Attention::load(&loader.at("attn1"), config, None).await?,
            norm2,
            attn2: Attention::load(&loader.at("attn2"), config, config.added_kv_proj_dim).await?,
            norm3: plain,
            ffn_in: Linear::load(&loader.at("ffn.net.0.proj"), d, config.ffn_dim).await?,
            ffn_out: Linear::load(&loader.at("ffn.net.2"), config.ffn_dim, d).await?,
            ffn_dim: config.ffn_dim,
            scale_shift_table: loader.tensor("scale_shift_table", [1, 6, d]).await?.unsqueeze_dim(1),
        })
    }

    /// The context as this block attends to it.
    pub fn project(&self, context: &Context) -> Projected {
        self.attn2.project(context)
    }

    /// `modulation` holds six vectors for all tokens, or six for each; `contexts` are one for each clip that is packed.
    ///
    /// # Shapes
    /// `x` `[B, L, D]`, `modulation` `[B, 1 or L, 6, D]` → `[B, L, D]`
    pub fn forward(&self, x: Tensor<3>, contexts: &[&Projected], modulation: &Tensor<4>, tokens: &Tokens) -> Tensor<3> {
        let six = self.scale_shift_table.clone() + modulation.clone();
        let gate = |i: usize| six.clone().narrow(2, i, 1).squeeze_dim::<3>(2);

        let normed = self.norm1.forward_modulated(x.clone(), &six, 1, 0);
        let x = self.attn1.to_itself(normed, tokens, Epilogue::GatedAdd(gate(2), x));

        let normed = match &self.norm2 {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        let x = self.attn2.to_context(normed, contexts, tokens, Epilogue::Add(x));

        let [batch, length, width] = x.dims();
        let rows = feed_forward_rows(batch, length, width, self.ffn_dim);
        if rows == length {
            return self.feed_forward(x, &six);
        }
        let piece = |first: usize| {
            let count = rows.min(length - first);
            let six = if six.dims()[1] == 1 { six.clone() } else { six.clone().narrow(1, first, count) };
            self.feed_forward(x.clone().narrow(1, first, count), &six)
        };
        Tensor::cat((0..length).step_by(rows).map(piece).collect(), 1)
    }

    fn feed_forward(&self, x: Tensor<3>, six: &Tensor<4>) -> Tensor<3> {
        let gate = six.clone().narrow(2, 5, 1).squeeze_dim::<3>(2);
        let normed = self.norm3.forward_modulated(x.clone(), six, 4, 3);
        let hidden = self.ffn_in.forward_then(normed, Epilogue::Gelu);
        self.ffn_out.forward_then(hidden, Epilogue::GatedAdd(gate, x))
    }
}
