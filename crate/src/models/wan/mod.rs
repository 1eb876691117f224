//! Wan 2.1 and 2.2: diffusion transformer (with and without the VACE control branch) and causal 3-D VAE.
//!
//! Source: Wan technical report 2503.20314, VACE 2503.07598, AnyFlow 2605.13724; layouts as in diffusers 0.42.1.

mod block;
mod codec;
pub mod condition;
pub mod config;
mod configure;
mod family;
mod fixed;
mod image;
mod names_transformer;
mod names_vae;
mod prepared;
mod rehearsal;
mod resample;
mod residual;
mod tiling;
mod time;
mod transformer;
mod vace;
mod vae;
mod vae_rehearsal;

pub use block::{Block, Context, Projected};
pub use codec::VAE_ENTRY;
pub use config::{DeltaTime, TransformerConfig, VaeConfig};
pub use configure::NEGATIVE;
pub use family::{TRANSFORMER_ENTRY, WanDenoiser};
pub use fixed::Fixed;
pub use names_transformer::TransformerNames;
pub use names_vae::VaeNames;
pub use tiling::{Tiled, Tiles};
pub use time::Timesteps;
pub use transformer::WanTransformer;
pub use vace::Control;
pub use vae::{DecodeStream, Decoder, Vae};
pub use vae_rehearsal::Work;
