//! Configuration of the umT5 encoder.
//!
//! Source: transformers 5.23 `models/umt5/configuration_umt5.py`.

use serde::Deserialize;

use crate::error::{Error, Result};

/// `UMT5EncoderModel`.
#[derive(Debug, Clone, Deserialize)]
pub struct Umt5Config {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Hidden width.
    pub d_model: usize,
    /// Width of one head.
    pub d_kv: usize,
    /// Hidden width of the feed-forward layers.
    pub d_ff: usize,
    /// Encoder layers.
    pub num_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Buckets of the relative position bias.
    #[serde(default = "default_buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all positions share a bucket.
    #[serde(default = "default_max_distance")]
    pub relative_attention_max_distance: usize,
    /// Epsilon of the norms.
    #[serde(default = "default_norm_epsilon")]
    pub layer_norm_epsilon: f64,
    /// Must be `gated-gelu`.
    #[serde(default = "default_feed_forward")]
    pub feed_forward_proj: String,
}

fn default_buckets() -> usize {
    32
}
fn default_max_distance() -> usize {
    128
}
fn default_norm_epsilon() -> f64 {
    1e-6
}
fn default_feed_forward() -> String {
    "gated-gelu".into()
}

impl Umt5Config {
    /// Refuses what the encoder does not implement.
    pub fn check(&self, file: &str) -> Result<()> {
        if self.feed_forward_proj != "gated-gelu" {
            return Err(Error::weights(file, "feed_forward_proj gated-gelu", self.feed_forward_proj.clone()));
        }
        if self.vocab_size == 0 || self.num_heads == 0 || self.d_kv == 0 {
            return Err(Error::weights(file, "sizes above 0", format!("{self:?}")));
        }
        Ok(())
    }
}
