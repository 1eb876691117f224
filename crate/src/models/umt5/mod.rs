//! The umT5 text encoder: prompt tokens to embeddings.
//!
//! Source: T5 1910.10683 §2.1, umT5 2304.09151 (a relative position bias in every layer);
//! transformers 5.23 `models/umt5/modeling_umt5.py`.

mod config;
mod configure;
mod names;

use burn::tensor::{Device, Tensor, TensorData};

pub use config::Umt5Config;
pub use names::{LlamaNames, WanNames};

use crate::config::parse;
use crate::error::{Error, Result};
use crate::memory::pool::Pool;
use crate::models::family::{Entry, TextEncoder, nothing_usual};
use crate::nn::attention::{Scores, attend_with};
use crate::nn::layers::Layers;
use crate::nn::linear::{Epilogue, Linear};
use crate::nn::loader::Loader;
use crate::nn::norm::RmsNorm;
use crate::pace::{Later, Pace};
use crate::weights::TensorInfo;

/// Encoders of transformers' class.
pub const ENTRY: Entry<dyn TextEncoder> = Entry {
    classes: &["UMT5EncoderModel"],
    owns: |set| set.get("encoder.block.0.layer.0.SelfAttention.q.weight").is_some(),
    needs_text: false,
    configure: configure::umt5,
    usual: nothing_usual,
    load: |component| {
        Box::pin(async move {
            let config: Umt5Config = parse(component.config, component.file, ENTRY.classes)?;
            Ok(Box::new(Umt5Encoder::load(&component.loader, &config).await?) as Box<dyn TextEncoder>)
        })
    },
};

impl TextEncoder for Umt5Encoder {
    fn dim(&self) -> usize {
        self.config.d_model
    }

    fn peak_bytes(&self, tokens: usize) -> u64 {
        // Layers after which nothing new is needed.
        const LAYERS: usize = 2;
        let (c, tokens, pool) = (&self.config, tokens as u64, Pool::default());
        let wide = |width: usize| pool.take(tokens * width as u64);
        let inner = c.num_heads * c.d_kv;
        let mut stream = wide(c.d_model);
        for _ in 0..LAYERS.min(c.num_layers) {
            // The bias of one layer; query, key, value and what is attended to.
            let bias = pool.take(c.num_heads as u64 * tokens * tokens);
            let normed = wide(c.d_model);
            let heads = [(); 3].map(|()| wide(inner));
            drop(normed);
            let attended = wide(inner);
            drop((bias, heads));
            stream = pool.turn((stream, attended), tokens * c.d_model as u64);
            // The hidden layer and its gate.
            let normed = wide(c.d_model);
            let hidden = [(); 2].map(|()| wide(c.d_ff));
            drop(normed);
            stream = pool.turn((stream, hidden), tokens * c.d_model as u64);
        }
        drop(stream);
        pool.peak()
    }

    fn encode<'a>(&'a self, token_ids: &'a [u32], pace: &'a Pace<'_>) -> Later<'a, Tensor<3>> {
        Box::pin(async move { self.forward(token_ids, &vec![1; token_ids.len()], 1, pace).await })
    }
}

/// A loaded encoder.
///
/// The embedding table stays on the host: only the prompt's rows are ever needed, and umT5-xxl's table (2 GiB at f16)
/// exceeds what one GPU buffer may hold.
#[derive(Debug)]
pub struct Umt5Encoder {
    config: Umt5Config,
    embeddings: Table,
    layers: Layers<Layer>,
    final_norm: RmsNorm,
    device: Device,
}

/// The embedding table.
#[derive(Debug)]
enum Table {
    /// In this memory.
    Here(Vec<f32>),
    /// In its file, of which rows are read.
    File(Loader, &'static str),
}

/// Tables that take more bytes in their file are not read whole.
const MOST_TABLE: u64 = 32 << 20;

/// One layer: self-attention with its own position bias, then the gated feed-forward.
#[derive(Debug, Clone)]
pub struct Layer {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    /// `[buckets × heads]`, row-major, on the host.
    position_bias: Vec<f32>,
    ffn_norm: RmsNorm,
    wi_0: Linear,
    wi_1: Linear,
    wo: Linear,
}

impl Umt5Encoder {
    /// Builds the encoder from a checkpoint with transformers names.
    ///
    /// # Errors
    /// [`Error::Weights`] when the configuration or a tensor does not fit.
    pub async fn load(loader: &Loader, config: &Umt5Config) -> Result<Self> {
        config.check("text_encoder/config.json")?;
        let table = if loader.has("shared.weight") { "shared.weight" } else { "encoder.embed_tokens.weight" };
        let shape = [config.vocab_size, config.d_model];
        let stored = loader.set().get(table).map_or(0, TensorInfo::stored_bytes);
        let embeddings = match stored > MOST_TABLE || loader.set().is_blank() {
            true => {
                loader.row(table, shape, 0).await?;
                Table::File(loader.clone(), table)
            }
            false => Table::Here(loader.values(table, &shape).await?),
        };
        let places = (0..config.num_layers).map(|i| loader.at(format_args!("encoder.block.{i}.layer"))).collect();
        let of = config.clone();
        let load_layer = move |place: Loader| -> Later<'static, Layer> {
            let config = of.clone();
            Box::pin(async move { Layer::load(&place, &config).await })
        };
        Ok(Self {
            embeddings,
            layers: Layers::load(places, loader.is_streamed(), Box::new(load_layer)).await?,
            final_norm: RmsNorm::load(
                &loader.at("encoder.final_layer_norm"),
                config.d_model,
                config.layer_norm_epsilon,
            )
            .await?,
            device: loader.device().clone(),
            config: config.clone(),
        })
    }

    /// Encodes a batch of equally long token rows; `mask` is 1 for a token, 0 for padding.
    ///
    /// # Shapes
    /// `token_ids`, `mask` `[B × Lt]` row-major → `[B, Lt, D_text]`
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when an id is outside the vocabulary; [`Error::Aborted`] from between the layers.
    pub async fn forward(&self, token_ids: &[u32], mask: &[u8], batch: usize, pace: &Pace<'_>) -> Result<Tensor<3>> {
        let (d, heads) = (self.config.d_model, self.config.num_heads);
        if batch == 0 || token_ids.is_empty() || !token_ids.len().is_multiple_of(batch) || mask.len() != token_ids.len()
        {
            return Err(Error::Tokenizer(format!(
                "{batch} rows of tokens and mask are needed, got {} and {}",
                token_ids.len(),
                mask.len()
            )));
        }
        let length = token_ids.len() / batch;
        let mut rows = Vec::with_capacity(token_ids.len() * d);
        for &id in token_ids {
            let (id, vocabulary) = (id as usize, self.config.vocab_size);
            if id >= vocabulary {
                return Err(Error::Tokenizer(format!("token ids must be below {vocabulary}, got {id}")));
            }
            match &self.embeddings {
                Table::Here(values) => rows.extend_from_slice(&values[id * d..(id + 1) * d]),
                Table::File(loader, table) => rows.extend(loader.row(table, [vocabulary, d], id).await?),
            }
        }
        let mut x = Tensor::<3>::from_data(TensorData::new(rows, [batch, length, d]), &self.device);
        let seen = self.seen_keys(mask, batch, length);
        let buckets = self.buckets(length);
        for i in 0..self.layers.len() {
            let layer = self.layers.turn(i).await?;
            let bias = layer.bias(&buckets, length, heads, &self.device);
            x = layer.forward(x, seen.clone(), bias, heads);
            pace.block_done(&x).await?;
        }
        self.layers.settle().await?;
        Ok(self.final_norm.forward(x))
    }

    /// 1 where a key is a token, 0 where it is padding, `[B, Lt]`; none when all are tokens.
    fn seen_keys(&self, mask: &[u8], batch: usize, length: usize) -> Option<Tensor<2>> {
        if mask.iter().all(|&m| m != 0) {
            return None;
        }
        let seen: Vec<f32> = mask.iter().map(|&m| f32::from(u8::from(m != 0))).collect();
        Some(Tensor::from_data(TensorData::new(seen, [batch, length]), &self.device))
    }

    /// Bucket of each (query, key) pair: exact for near ones, logarithmic for far ones, one half for each direction.
    fn buckets(&self, length: usize) -> Vec<usize> {
        let half = self.config.relative_attention_num_buckets / 2;
        let exact = half / 2;
        let max_distance = self.config.relative_attention_max_distance;
        // f32 as in the reference: the truncation below depends on it.
        let log_span = (max_distance as f64 / exact as f64).ln() as f32;
        let mut out = Vec::with_capacity(length * length);
        for query in 0..length {
            for key in 0..length {
                let distance = key.abs_diff(query);
                let bucket = if distance < exact {
                    distance
                } else {
                    let ratio = (distance as f32 / exact as f32).ln() / log_span;
                    (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)
                };
                out.push(if key > query { half + bucket } else { bucket });
            }
        }
        out
    }
}

impl Layer {
    /// Reads `encoder.block.N.layer`.
    ///
    /// # Errors
    /// [`Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load(loader: &Loader, config: &Umt5Config) -> Result<Self> {
        let (d, inner, eps) = (config.d_model, config.num_heads * config.d_kv, config.layer_norm_epsilon);
        let attention = loader.at("0.SelfAttention");
        let ffn = loader.at("1.DenseReluDense");
        Ok(Self {
            attention_norm: RmsNorm::load(&loader.at("0.layer_norm"), d, eps).await?,
            q: Linear::load_without_bias(&attention.at("q"), d, inner).await?,
            k: Linear::load_without_bias(&attention.at("k"), d, inner).await?,
            v: Linear::load_without_bias(&attention.at("v"), d, inner).await?,
            o: Linear::load_without_bias(&attention.at("o"), inner, d).await?,
            position_bias: attention
                .values("relative_attention_bias.weight", &[config.relative_attention_num_buckets, config.num_heads])
                .await?,
            ffn_norm: RmsNorm::load(&loader.at("1.layer_norm"), d, eps).await?,
            wi_0: Linear::load_without_bias(&ffn.at("wi_0"), d, config.d_ff).await?,
            wi_1: Linear::load_without_bias(&ffn.at("wi_1"), d, config.d_ff).await?,
            wo: Linear::load_without_bias(&ffn.at("wo"), config.d_ff, d).await?,
        })
    }

    /// `[1, N, Lt, Lt]`
    fn bias(&self, buckets: &[usize], length: usize, heads: usize, device: &Device) -> Tensor<4> {
        let values: Vec<f32> =
            (0..heads).flat_map(|h| buckets.iter().map(move |b| self.position_bias[b * heads + h])).collect();
        Tensor::from_data(TensorData::new(values, [1, heads, length, length]), device)
    }

    /// # Shapes
    /// `x` `[B, Lt, D]`, `seen` `[B, Lt]`, `bias` `[1, N, Lt, Lt]` → `[B, Lt, D]`
    pub fn forward(&self, x: Tensor<3>, seen: Option<Tensor<2>>, bias: Tensor<4>, heads: usize) -> Tensor<3> {
        let [b, l, _] = x.dims();
        let split = |x: Tensor<3>| {
            let inner = x.dims()[2];
            x.reshape([b, l, heads, inner / heads])
        };
        let normed = self.attention_norm.forward(x.clone());
        let (q, k, v) = (self.q.forward(normed.clone()), self.k.forward(normed.clone()), self.v.forward(normed));
        // T5 does not divide by √K; its initialisation absorbs the factor.
        let scores = Scores { scale: Some(1.0), bias: Some(bias), seen };
        let x = x + self.o.forward(attend_with(split(q), split(k), split(v), scores));

        let normed = self.ffn_norm.forward(x.clone());
        let gate = self.wi_0.forward_then(normed.clone(), Epilogue::Gelu);
        x + self.wo.forward(gate * self.wi_1.forward(normed))
    }
}
