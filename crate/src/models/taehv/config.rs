//! The sizes of a TAEHV, which its makers give by the file's name and which its tensors tell as well.

use serde::Deserialize;
use serde_json::json;

use crate::config::{Fields, MOST_WIDE};
use crate::error::{Error, Result};
use crate::models::family::Known;
use crate::models::sizes::along;
use crate::weights::WeightSet;

/// A TAEHV for latents that stand for four frames.
#[derive(Debug, Clone, Deserialize)]
pub struct TaehvConfig {
    /// Latent channels: 16 for Wan 2.1, 48 for Wan 2.2.
    pub latent_channels: usize,
    /// Pixels folded into channels along each side.
    pub patch_size: usize,
    /// Channels of the decoder before each of its three levels, and after the last.
    pub widths: Vec<usize>,
    /// Which of the levels double the frames.
    pub time: Vec<bool>,
    /// Channels of the encoder; none where the file has no encoder.
    pub encoder_width: Option<usize>,
}

impl TaehvConfig {
    /// Refuses what the codec could only answer with a panic.
    ///
    /// # Errors
    /// [`Error::Weights`] naming `file` and the field.
    pub fn check(&self, file: &str) -> Result<()> {
        let fields = Fields(file);
        fields.within("latent_channels", self.latent_channels, 1..=MOST_WIDE)?;
        fields.within("patch_size", self.patch_size, 1..=8)?;
        fields.within("widths", self.widths.len(), 4..=4)?;
        for width in self.widths.iter().chain(&self.encoder_width) {
            fields.within("widths", *width, 1..=MOST_WIDE)?;
        }
        if self.time != [false, true, true] {
            return fields.refuse(
                "time",
                "[false, true, true], four frames a latent frame",
                format!("{:?}", self.time),
            );
        }
        Ok(())
    }
}

/// Reads the sizes off the tensors.
///
/// # Errors
/// [`Error::Weights`] when a tensor that tells one is missing, or it is of a variant that is not supported.
pub fn configure(set: &WeightSet) -> Result<Known> {
    if set
        .get("decoder.3.conv.0.weight")
        .is_none_or(|info| set.get("decoder.22.weight").is_none() || info.shape.len() != 4)
    {
        let found = "another (the larger \"super\" decoder is not supported yet)";
        return Err(Error::weights("decoder.22.weight", "the base variant of a TAEHV", found));
    }
    let latent_channels = along(set, "decoder.1.weight", 1)?;
    let pixels = along(set, "decoder.22.weight", 0)?;
    let patch_size = (pixels / 3).isqrt();
    if pixels != 3 * patch_size * patch_size {
        return Err(Error::weights("decoder.22.weight", "3 · patch² channels out", format!("{pixels}")));
    }
    let encoder = set.get("encoder.0.weight").is_some();
    let config = json!({
        "_class_name": "TAEHV", "latent_channels": latent_channels, "patch_size": patch_size,
        "widths": [
            along(set, "decoder.1.weight", 0)?, along(set, "decoder.8.weight", 0)?,
            along(set, "decoder.14.weight", 0)?, along(set, "decoder.20.weight", 0)?,
        ],
        "time": [false, true, true],
        "encoder_width": if encoder { Some(along(set, "encoder.0.weight", 0)?) } else { None },
    });
    let name = match (latent_channels, patch_size) {
        (16, 1) => "TAEHV for Wan 2.1 (taew2_1)".into(),
        (48, 2) => "TAEHV for Wan 2.2 (taew2_2)".into(),
        _ => format!("TAEHV for {latent_channels} latent channels"),
    };
    Ok(Known::part(name, config))
}
