//! The catalogue that ships, `models/models.json`: here, the presets of models that bring no card. A page shows the rest of it.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::models::registry::Registry;
use crate::options::{Preset, Presets};
use crate::pipeline::{CARD, ModelCard, ModelFiles};

const SHIPPED: &str = include_str!("../../../models/models.json");

#[derive(Deserialize)]
struct Catalogue {
    models: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    known_as: String,
    presets: Presets,
}

/// Presets for a transformer that is recognised under this name; none where the catalogue does not list it.
///
/// # Errors
/// [`Error::Internal`] when what ships does not parse.
pub fn presets_for(name: &str) -> Result<Presets> {
    let catalogue: Catalogue =
        serde_json::from_str(SHIPPED).map_err(|e| Error::Internal(format!("models/models.json: {e}")))?;
    let entry = catalogue.models.into_iter().find(|entry| !name.is_empty() && entry.known_as == name);
    Ok(entry.unwrap_or_default().presets)
}

/// Presets of a model: its card's, or, where it has no card, the catalogue's.
///
/// # Errors
/// As [`ModelFiles::weights`].
pub async fn presets_of(registry: &Registry, files: &ModelFiles, card: &ModelCard) -> Result<Presets> {
    if files.contains(CARD) || files.part_bytes("transformer") == 0 {
        return Ok(card.presets.clone());
    }
    let known = registry.identify(&files.weights("transformer").await?)?;
    known.map_or(Ok(Presets::new()), |(_, known)| presets_for(&known.name))
}

/// `presets: fine (24 steps); rcm (4 steps; needs the LoRA rcm)`; empty where there are none.
pub fn words(presets: &Presets) -> String {
    if presets.is_empty() {
        return String::new();
    }
    let one = |(name, preset): (&String, &Preset)| {
        let lora = preset.lora.as_ref().map(|lora| format!("needs the LoRA {lora}"));
        let about = preset.about.as_ref().map(|about| about.trim_end_matches('.').to_owned());
        let notes: Vec<String> = about.into_iter().chain(lora).collect();
        if notes.is_empty() { name.clone() } else { format!("{name} ({})", notes.join("; ")) }
    };
    format!("presets: {}\n", presets.iter().map(one).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::wan::NEGATIVE;
    use crate::pipeline::DMD_SIGMAS;

    #[test]
    fn every_preset_that_ships_is_sound_and_steers_away_from_what_wan_does() {
        let names = ["Wan 2.1 T2V 1.3B", "Wan 2.1 VACE 1.3B", "Wan 2.2 TI2V 5B"];
        for name in names {
            let presets = presets_for(name).unwrap();
            assert!(presets.values().try_for_each(Preset::check).is_ok(), "{name}");
            let full = presets.get("full").unwrap_or_else(|| panic!("{name} has no preset full"));
            assert_eq!(full.settings.negative_prompt.as_deref(), Some(NEGATIVE), "{name}");
        }
        assert!(presets_for("").unwrap().is_empty() && presets_for("Wan 2.1 T2V 14B").unwrap().is_empty());
        let rcm = &presets_for(names[0]).unwrap()["rcm"];
        assert_eq!(rcm.lora.as_deref(), Some("rcm"));
        assert_eq!(rcm.settings.sigmas.as_deref(), Some(&[0.98765, 0.93378, 0.8529, 0.60898][..]));
    }

    #[test]
    fn a_fastwan_lora_samples_as_a_fastwan_folder_does() {
        let lora = &presets_for("Wan 2.2 TI2V 5B").unwrap()["fastwan"].settings;
        assert_eq!(lora.sigmas.as_deref(), Some(&DMD_SIGMAS[..]));
        assert_eq!((lora.sampler.as_deref(), lora.guidance_scale), (Some("stochastic"), Some(1.0)));
    }

    #[test]
    fn presets_are_told_in_a_line() {
        let presets = presets_for("Wan 2.2 TI2V 5B").unwrap();
        let told = words(&presets);
        assert!(
            told.starts_with("presets: fastwan (3 steps") && told.contains("needs the LoRA fastwan); full ("),
            "{told}"
        );
        assert_eq!(words(&Presets::new()), "");
    }
}
