//! Settings that go together, under a name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ModelDefaults;
use crate::error::{Error, Result};

/// Settings that go together, under a name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all(serialize = "camelCase"), default)]
pub struct Preset {
    /// What it is for, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub about: Option<String>,
    /// The LoRA that it needs beside the model, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub lora: Option<String>,
    /// Widths and heights that it was made for, px, best first: the first is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub sizes: Option<Vec<[usize; 2]>>,
    /// The settings; in a card they stand beside the others.
    #[serde(flatten)]
    #[cfg_attr(test, ts(skip))]
    pub settings: ModelDefaults,
}

/// The presets of a model, by name.
pub type Presets = BTreeMap<String, Preset>;

impl Preset {
    /// What a model suggests with this preset chosen: its settings in the place of the model's. Number of steps and levels are one
    /// thing: those of the model do not count beside either of the preset's.
    pub fn over(&self, model: &ModelDefaults) -> ModelDefaults {
        let mut settings = self.settings.clone();
        settings.trim();
        let mut model = model.clone();
        if settings.num_steps.is_some() || settings.sigmas.is_some() {
            (model.num_steps, model.sigmas) = (None, None);
        }
        if let Some([width, height]) = self.sizes.iter().flatten().next().copied() {
            (model.width, model.height) = (Some(width), Some(height));
        }
        settings.or(&model)
    }

    /// Checks its settings against the table of options.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming the rule, the value found and its unit.
    pub fn check(&self) -> Result<()> {
        let mut settings = self.over(&ModelDefaults::default());
        settings.trim();
        settings.check()
    }
}

/// What a model suggests, with the preset of this name if there is one named; an empty name is none.
///
/// # Errors
/// [`Error::InvalidOptions`] with all names where there is no such preset.
pub fn suggested(model: &ModelDefaults, presets: &Presets, name: Option<&str>) -> Result<ModelDefaults> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(model.clone()) };
    match presets.get(name) {
        Some(preset) => Ok(preset.over(model)),
        None if presets.is_empty() => {
            Err(Error::options(format!("preset must be left out, for this model has none, got {name}")))
        }
        None => {
            let names: Vec<&str> = presets.keys().map(String::as_str).collect();
            Err(Error::options(format!("preset must be one of {}, got {name}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::GivenOptions;

    fn presets() -> Presets {
        let json = r#"{
            "few": { "about": "quick", "lora": "rcm", "sampler": "stochastic", "sigmas": [1, 0.9, 0.5, 0],
                     "guidance_scale": 1, "sizes": [[96, 64], [64, 64]] },
            "fine": { "num_steps": 40 } }"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_preset_goes_before_the_model_and_what_is_given_before_it() {
        let model = ModelDefaults {
            sigmas: Some(vec![1.0, 0.5]),
            num_frames: Some(9),
            guidance_scale: Some(3.0),
            ..Default::default()
        };
        let settled = |name: &str, change: fn(&mut GivenOptions)| {
            let mut given = GivenOptions { prompt: Some("a".into()), preset: Some(name.into()), ..Default::default() };
            change(&mut given);
            let suggested = suggested(&model, &presets(), Some(name)).unwrap();
            given.settle(&suggested)
        };
        let few = settled("few", |_| ());
        assert_eq!((few.num_steps, few.width, few.height, few.num_frames), (3, 96, 64, 9));
        assert_eq!((few.guidance_scale, few.sampler.as_deref(), few.preset), (1.0, Some("stochastic"), None));
        let few = settled("few", |given| given.width = Some(64));
        assert_eq!((few.width, few.height), (64, 64));
        let fine = settled("fine", |_| ());
        assert_eq!((fine.num_steps, fine.sigmas, fine.guidance_scale), (40, None, 3.0));
        assert_eq!(suggested(&model, &presets(), Some("")).ok(), Some(model.clone()));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let words = |presets: &Presets| {
            suggested(&ModelDefaults::default(), presets, Some("fast")).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(words(&presets()), "preset must be one of few, fine, got fast");
        assert_eq!(words(&Presets::new()), "preset must be left out, for this model has none, got fast");
    }

    #[test]
    fn settings_that_no_clip_can_have_are_refused() {
        let bad: Preset = serde_json::from_str(r#"{ "sigmas": [0.5, 0.9] }"#).unwrap();
        assert!(bad.check().is_err_and(|e| e.to_string().contains("sigmas must fall")));
        assert!(presets().values().try_for_each(Preset::check).is_ok());
    }
}
