//! DiT: pictures of classes, from checkpoints like DiT-XL/2.

mod block;
pub mod config;
mod family;
mod transformer;

pub use config::DitConfig;
pub use family::{DitDenoiser, ENTRY};
pub use transformer::{Dit, Fixed};
