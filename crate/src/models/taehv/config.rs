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
    /// True for the larger decoder, "super"; the encoder is the same.
    #[serde(default)]
    pub is_super: bool,
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

/// True for the tensors of the larger decoder: its blocks begin where the other one's first convolution stands.
pub fn is_super(set: &WeightSet) -> bool {
    set.get("decoder.1.conv.3.weight").is_some()
}

/// Reads the sizes off the tensors.
///
/// # Errors
/// [`Error::Weights`] when a tensor that tells one is missing or tells something odd.
pub fn configure(set: &WeightSet) -> Result<Known> {
    let is_super = is_super(set);
    let (first, levels) = match is_super {
        true => ("decoder.0.weight", ["decoder.7.conv.weight", "decoder.14.conv.weight", "decoder.21.conv.weight"]),
        false => ("decoder.1.weight", ["decoder.8.weight", "decoder.14.weight", "decoder.20.weight"]),
    };
    let latent_channels = along(set, first, 1)?;
    let pixels = along(set, "decoder.22.weight", 0)?;
    let patch_size = (pixels / 3).isqrt();
    if pixels != 3 * patch_size * patch_size {
        return Err(Error::weights("decoder.22.weight", "3 · patch² channels out", format!("{pixels}")));
    }
    let mut widths = vec![along(set, first, 0)?];
    for name in levels {
        // The larger decoder's layers that make frames more have as many channels in as come out of each frame.
        widths.push(along(set, name, usize::from(is_super))?);
    }
    let encoder = set.get("encoder.0.weight").is_some();
    let config = json!({
        "_class_name": "TAEHV", "latent_channels": latent_channels, "patch_size": patch_size,
        "widths": widths,
        "time": [false, true, true],
        "encoder_width": if encoder { Some(along(set, "encoder.0.weight", 0)?) } else { None },
        "is_super": is_super,
    });
    let name = match (latent_channels, patch_size, is_super) {
        (16, 1, false) => "TAEHV for Wan 2.1 (taew2_1)".into(),
        (48, 2, false) => "TAEHV for Wan 2.2 (taew2_2)".into(),
        (48, 2, true) => "TAEHV for Wan 2.2 (taew2_2_super)".into(),
        (_, _, false) => format!("TAEHV for {latent_channels} latent channels"),
        (_, _, true) => format!("TAEHV \"super\" for {latent_channels} latent channels"),
    };
    Ok(Known::part(name, config))
}
