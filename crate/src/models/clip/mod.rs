//! CLIP's picture encoder (ViT-H in Wan 2.1 I2V and first + last frame models): a picture to the tokens that the transformer
//! attends to beside the prompt's.
//!
//! Source: CLIP 2103.00020 §2.4, ViT 2010.11929 §3.1; transformers 5.23 `models/clip/modeling_clip.py`; which hidden state
//! is taken: diffusers 0.42.1 `pipeline_wan_i2v.py` `encode_image`.

mod config;
mod look;
mod names;

use burn::tensor::{Device, Tensor, TensorData, activation, module};

pub use config::ClipVisionConfig;
pub use look::pixel_values;
pub use names::WanNames;

use crate::config::parse;
use crate::error::{Error, Result};
use crate::models::family::{Entry, ImageEncoder, nothing_usual};
use crate::nn::attention::attend;
use crate::nn::layers::Layers;
use crate::nn::linear::{Epilogue, Linear};
use crate::nn::loader::Loader;
use crate::nn::norm::LayerNorm;
use crate::nn::patch::patchify;
use crate::pace::{Later, Pace};

/// Encoders of transformers' class, with and without its head (which is not read).
pub const ENTRY: Entry<dyn ImageEncoder> = Entry {
    classes: &["CLIPVisionModel", "CLIPVisionModelWithProjection"],
    owns: |set| config::prefix(set).is_some(),
    needs_text: false,
    configure: config::configure,
    usual: nothing_usual,
    load: |component| {
        Box::pin(async move {
            let config: ClipVisionConfig = parse(component.config, component.file, ENTRY.classes)?;
            Ok(Box::new(ClipVision::load(&component.loader, &config).await?) as Box<dyn ImageEncoder>)
        })
    },
};

/// A loaded encoder, without its last layer: what that would read is the result.
#[derive(Debug)]
pub struct ClipVision {
    config: ClipVisionConfig,
    /// `[1, 1, D]`
    class: Tensor<3>,
    /// `[3 × P², D]`
    patches: Tensor<2>,
    /// `[1, 1 + L, D]`
    positions: Tensor<3>,
    norm: LayerNorm,
    layers: Layers<Layer>,
    device: Device,
}

impl ClipVision {
    /// Builds the encoder from a checkpoint with transformers names, with or without `vision_model.` before them; a layer may have
    /// one matrix `qkv_proj` in place of three.
    ///
    /// # Errors
    /// [`Error::Weights`] when the configuration or a tensor does not fit.
    pub async fn load(loader: &Loader, config: &ClipVisionConfig) -> Result<Self> {
        config.check("image_encoder/config.json")?;
        let place = match config::prefix(loader.set()) {
            None | Some("") => loader.clone(),
            Some(prefix) => loader.at(prefix),
        };
        let (d, side, embeddings) = (config.hidden_size, config.patch_size, place.at("embeddings"));
        let inner = config.num_channels * side * side;
        let patches = embeddings.values("patch_embedding.weight", &[d, config.num_channels, side, side]).await?;
        let patches = Tensor::<2>::from_data(TensorData::new(patches, [d, inner]), loader.device()).transpose();
        let layer = |i: usize| place.at(format_args!("encoder.layers.{i}"));
        let of = config.clone();
        let load_layer = move |place: Loader| -> Later<'static, Layer> {
            let config = of.clone();
            Box::pin(async move { Layer::load(&place, &config).await })
        };
        let read = config.num_hidden_layers - 1;
        let layers = Layers::load((0..read).map(layer).collect(), loader.is_streamed(), Box::new(load_layer)).await?;
        let built = Self {
            class: embeddings.tensor("class_embedding", [d]).await?.reshape([1, 1, d]),
            patches,
            positions: embeddings.tensor("position_embedding.weight", [config.tokens(), d]).await?.unsqueeze_dim(0),
            // The name is misspelt in every checkpoint.
            norm: LayerNorm::load(&place.at("pre_layrnorm"), d, config.layer_norm_eps).await?,
            layers,
            device: loader.device().clone(),
            config: config.clone(),
        };
        // Counters, and what comes after the state that is taken.
        [embeddings, layer(read), place.at("post_layernorm"), loader.at("visual_projection")]
            .iter()
            .for_each(Loader::leave);
        Ok(built)
    }

    /// The hidden state before the last layer; the first token is the picture's class.
    ///
    /// # Shapes
    /// `pixel_values` `[B, 3, S, S]` as [`pixel_values`] makes them → `[B, 1 + (S / P)², D]`
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] for another size; [`Error::Aborted`] from between the layers.
    pub async fn forward(&self, pixel_values: Tensor<4>, pace: &Pace<'_>) -> Result<Tensor<3>> {
        let ([b, channels, height, width], c) = (pixel_values.dims(), &self.config);
        if [channels, height, width] != [c.num_channels, c.image_size, c.image_size] {
            return Err(Error::options(format!(
                "CLIP sees pictures of {} × {} × {} values, got {channels} × {height} × {width}",
                c.num_channels, c.image_size, c.image_size
            )));
        }
        let patches = patchify(pixel_values.unsqueeze_dim(2), [1, c.patch_size, c.patch_size]);
        let patches = module::linear(patches, self.patches.clone(), None);
        let class = self.class.clone().expand([b, 1, c.hidden_size]);
        let mut x = self.norm.forward(Tensor::cat(vec![class, patches], 1) + self.positions.clone());
        for i in 0..self.layers.len() {
            x = self.layers.turn(i).await?.forward(x, c);
            pace.block_done(&x).await?;
        }
        self.layers.settle().await?;
        Ok(x)
    }
}

impl ImageEncoder for ClipVision {
    fn dim(&self) -> usize {
        self.config.hidden_size
    }

    fn tokens(&self) -> usize {
        self.config.tokens()
    }

    fn encode<'a>(
        &'a self,
        planes: &'a [f32],
        [height, width]: [usize; 2],
        pace: &'a Pace<'_>,
    ) -> Later<'a, Tensor<3>> {
        Box::pin(async move {
            let side = self.config.image_size;
            let values = TensorData::new(pixel_values(planes, [height, width], side), [1, 3, side, side]);
            self.forward(Tensor::from_data(values, &self.device), pace).await
        })
    }

    fn peak_bytes(&self) -> u64 {
        let c = &self.config;
        // Stream, norm, query, key, value and result; or stream, norm and the hidden layer, twice where it is bent.
        let width = (6 * c.hidden_size).max(2 * c.hidden_size + 2 * c.intermediate_size);
        4 * (c.tokens() * width + 3 * c.image_size * c.image_size) as u64
    }
}

/// One layer: self-attention, then the feed-forward part, both after a norm.
#[derive(Debug, Clone)]
struct Layer {
    norm1: LayerNorm,
    /// Queries, keys and values, each by its own matrix or all by one.
    qkv: Vec<Linear>,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Layer {
    async fn load(loader: &Loader, config: &ClipVisionConfig) -> Result<Self> {
        let (d, hidden, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attention = loader.at("self_attn");
        let mut qkv = Vec::with_capacity(3);
        if attention.has("qkv_proj.weight") {
            qkv.push(Linear::load(&attention.at("qkv_proj"), d, 3 * d).await?);
        } else {
            for name in ["q_proj", "k_proj", "v_proj"] {
                qkv.push(Linear::load(&attention.at(name), d, d).await?);
            }
        }
        Ok(Self {
            norm1: LayerNorm::load(&loader.at("layer_norm1"), d, eps).await?,
            qkv,
            out: Linear::load(&attention.at("out_proj"), d, d).await?,
            norm2: LayerNorm::load(&loader.at("layer_norm2"), d, eps).await?,
            fc1: Linear::load(&loader.at("mlp.fc1"), d, hidden).await?,
            fc2: Linear::load(&loader.at("mlp.fc2"), hidden, d).await?,
        })
    }

    /// # Shapes
    /// `[B, L, D]` → `[B, L, D]`
    fn forward(&self, x: Tensor<3>, config: &ClipVisionConfig) -> Tensor<3> {
        let ([b, l, d], heads) = (x.dims(), config.num_attention_heads);
        let split = |x: Tensor<3>| x.reshape([b, l, heads, d / heads]);
        let normed = self.norm1.forward(x.clone());
        let joined = (self.qkv.len() == 1).then(|| self.qkv[0].forward(normed.clone()));
        let [q, k, v] = [0, 1, 2].map(|nth| match &joined {
            Some(joined) => joined.clone().narrow(2, nth * d, d),
            None => self.qkv[nth].forward(normed.clone()),
        });
        let x = self.out.forward_then(attend(split(q), split(k), split(v)), Epilogue::Add(x));

        let hidden = self.fc1.forward(self.norm2.forward(x.clone()));
        let hidden = match config.quick() {
            true => hidden.clone() * activation::sigmoid(hidden * 1.702),
            false => activation::gelu(hidden),
        };
        self.fc2.forward_then(hidden, Epilogue::Add(x))
    }
}
