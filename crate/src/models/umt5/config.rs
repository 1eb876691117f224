//! Configuration of the umT5 encoder.
//!
//! Source: transformers 5.23 `models/umt5/configuration_umt5.py`.

use serde::Deserialize;

use crate::config::{Fields, MOST_LAYERS, MOST_WIDE};
use crate::error::Result;

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
    /// What transformers takes in place of the one in `feed_forward_proj`; must be its GELU in the tanh form where it is there.
    #[serde(default)]
    pub dense_act_fn: Option<String>,
    /// As `dense_act_fn`; must be true where it is there.
    #[serde(default)]
    pub is_gated_act: Option<bool>,
    /// A decoder hides from each token what follows; must be false where it is there.
    #[serde(default)]
    pub is_decoder: Option<bool>,
}

/// Names of GELU in the tanh form.
const GELU: [&str; 2] = ["gelu_new", "gelu_pytorch_tanh"];

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
    /// Refuses what the encoder does not implement, and numbers that could only end in a panic or a wrong embedding.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] naming `file` and the field.
    pub fn check(&self, file: &str) -> Result<()> {
        let fields = Fields(file);
        if self.feed_forward_proj != "gated-gelu" {
            return fields.refuse("feed_forward_proj", "gated-gelu", &self.feed_forward_proj);
        }
        if let Some(other) = self.dense_act_fn.as_ref().filter(|name| !GELU.contains(&name.as_str())) {
            return fields.refuse("dense_act_fn", GELU.join(" or "), other);
        }
        for (name, value, only) in [("is_gated_act", self.is_gated_act, true), ("is_decoder", self.is_decoder, false)] {
            if let Some(other) = value.filter(|value| *value != only) {
                return fields.refuse(name, only.to_string(), other);
            }
        }
        let buckets = self.relative_attention_num_buckets;
        for (name, value, most) in [
            ("vocab_size", self.vocab_size, 64 * MOST_WIDE),
            ("d_model", self.d_model, MOST_WIDE),
            ("d_kv", self.d_kv, MOST_WIDE),
            ("d_ff", self.d_ff, 16 * MOST_WIDE),
            ("num_layers", self.num_layers, MOST_LAYERS),
            ("num_heads", self.num_heads, MOST_LAYERS),
            ("relative_attention_num_buckets", buckets, MOST_WIDE),
            ("relative_attention_max_distance", self.relative_attention_max_distance, 16 * MOST_WIDE),
        ] {
            fields.within(name, value, 1..=most)?;
        }
        // Half of them for each direction, half of those for one distance each.
        if buckets < 4 || !buckets.is_multiple_of(2) {
            return fields.refuse("relative_attention_num_buckets", "an even number, at least 4", buckets);
        }
        if self.relative_attention_max_distance <= buckets / 4 {
            let rule = format!("more than {}, a quarter of relative_attention_num_buckets", buckets / 4);
            return fields.refuse("relative_attention_max_distance", rule, self.relative_attention_max_distance);
        }
        fields.positive("layer_norm_epsilon", self.layer_norm_epsilon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_could_only_end_in_a_fault_are_named() {
        let sound = r#"{"vocab_size":9,"d_model":8,"d_kv":4,"d_ff":16,"num_layers":1,"num_heads":2}"#;
        let text = |change: fn(&mut Umt5Config)| {
            let mut config: Umt5Config = serde_json::from_str(sound).unwrap();
            change(&mut config);
            config.check("text_encoder/config.json").err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(text(|_| ()), "");
        assert!(text(|c| c.relative_attention_num_buckets = 0).contains("json: relative_attention_num_buckets"));
        assert!(text(|c| c.relative_attention_max_distance = 8).contains("more than 8"));
        assert!(text(|c| c.num_layers = 0).contains("num_layers: expected 1 to"));
        assert!(text(|c| c.layer_norm_epsilon = -1.0).contains("layer_norm_epsilon"));
        // What transformers heeds besides: each would be another embedding.
        assert!(text(|c| c.dense_act_fn = Some("relu".into())).contains("dense_act_fn: expected gelu_new or"));
        assert_eq!(text(|c| c.dense_act_fn = Some("gelu_new".into())), "");
        assert!(text(|c| c.is_gated_act = Some(false)).contains("is_gated_act: expected true, found false"));
        assert!(text(|c| c.is_decoder = Some(true)).contains("is_decoder: expected false, found true"));
    }
}
