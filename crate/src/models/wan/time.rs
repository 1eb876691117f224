//! How the transformer is told the time of a step, and, of flow-map models, where the step leads.
//!
//! Source: diffusers `transformer_wan.py` `WanTimeTextImageEmbedding`, `transformer_anyflow.py`
//! `AnyFlowDualTimestepTextImageEmbedding`; AnyFlow 2605.13724.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::config::{DeltaTime, TransformerConfig};
use crate::error::{Error, Result};
use crate::models::family::Interval;
use crate::nn::linear::{Epilogue, Linear};
use crate::nn::loader::Loader;
use crate::nn::timestep::timestep_features;

/// How noisy the input is, on the scale 0 (clean) … 1000 (noise).
#[derive(Debug, Clone)]
pub enum Timesteps {
    /// One value for all.
    Shared(f32),
    /// One value for each clip of the batch, length B.
    PerClip(Vec<f32>),
    /// One value for each token, length B × L (known frames are clean: Wan 2.2 TI2V).
    PerToken(Vec<f32>),
    /// Where the step begins and where it ends, for all; flow-map models, and only these, need both.
    Step(Interval),
}

/// Times to the blocks' modulation.
#[derive(Debug)]
pub(super) struct TimeEmbedding {
    time: Embedder,
    second: Option<SecondTime>,
    proj: Linear,
    dim: usize,
    device: Device,
}

/// The second embedding of flow-map models.
#[derive(Debug)]
struct SecondTime {
    embedder: Embedder,
    of: DeltaTime,
    /// Its share of the sum.
    gate: f64,
}

/// Sinusoidal features, and two layers.
#[derive(Debug)]
struct Embedder {
    linear_1: Linear,
    linear_2: Linear,
    features: usize,
}

impl Embedder {
    async fn load(loader: &Loader, features: usize, dim: usize) -> Result<Self> {
        let linear_1 = Linear::load(&loader.at("linear_1"), features, dim).await?;
        Ok(Self { linear_1, linear_2: Linear::load(&loader.at("linear_2"), dim, dim).await?, features })
    }

    /// # Shapes
    /// `T` times → `[T, D]`
    fn forward(&self, times: &[f32], device: &Device) -> Tensor<2> {
        let features = TensorData::new(timestep_features(times, self.features), [times.len(), self.features]);
        let features = Tensor::<2>::from_data(features, device);
        self.linear_2.forward(self.linear_1.forward_then(features, Epilogue::Silu))
    }
}

impl TimeEmbedding {
    /// Reads `time_embedder`, `time_proj` and, of a flow-map model, `delta_embedder`.
    pub(super) async fn load(loader: &Loader, config: &TransformerConfig) -> Result<Self> {
        let d = config.hidden_dim();
        let embedder = async |name: &str| Embedder::load(&loader.at(name), config.freq_dim, d).await;
        let second = match config.is_flow_map() {
            false => None,
            true => Some(SecondTime {
                embedder: embedder("delta_embedder").await?,
                of: config.deltatime_type,
                gate: config.gate_value,
            }),
        };
        Ok(Self {
            time: embedder("time_embedder").await?,
            second,
            proj: Linear::load(&loader.at("time_proj"), d, 6 * d).await?,
            dim: d,
            device: loader.device().clone(),
        })
    }

    /// Time embedding `[1 or B, 1 or L, D]` and the blocks' six modulation vectors `[1 or B, 1 or L, 6, D]`.
    pub(super) fn embed(&self, timesteps: &Timesteps, batch: usize, tokens: usize) -> Result<(Tensor<3>, Tensor<4>)> {
        let shared;
        let (values, batch, rows) = match timesteps {
            Timesteps::Shared(t) | Timesteps::Step(Interval { from: t, .. }) => {
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
        let temb = self.with_second(self.time.forward(&distinct, &self.device), timesteps)?;
        let six = self.proj.forward(activation::silu(temb.clone()));

        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [values.len()]), &self.device);
        let temb = temb.select(0, indices.clone()).reshape([batch, rows, self.dim]);
        Ok((temb, six.select(0, indices).reshape([batch, rows, 6, self.dim])))
    }

    /// Mixes in where the step leads, in models that are told: `[1, D]` → `[1, D]`.
    fn with_second(&self, temb: Tensor<2>, timesteps: &Timesteps) -> Result<Tensor<2>> {
        match (&self.second, timesteps) {
            (None, Timesteps::Step(_)) => Err(Error::options("this model takes one time a step, got two")),
            (None, _) => Ok(temb),
            (Some(second), Timesteps::Step(Interval { from, to })) => {
                let time = match second.of {
                    DeltaTime::Target => *to,
                    DeltaTime::Length => from - to,
                };
                let beside = second.embedder.forward(&[time], &self.device);
                Ok(temb * (1.0 - second.gate) + beside * second.gate)
            }
            (Some(_), _) => Err(Error::options("a flow-map model takes both times of a step, got one")),
        }
    }
}
