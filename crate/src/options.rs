//! What a caller asks for: the one table of options, and the check of a request before anything is computed.
//!
//! A row of the table makes the field, its range check, its default, the command line's flag and help, its place in a
//! model's card, and (`pkg/src/contract.ts`, by `npm run contract`) its type, documentation and check in JavaScript.

mod preset;
mod spec;

use serde::{Deserialize, Serialize};

pub use preset::{Preset, Presets, suggested};
use spec::options;
pub use spec::{Fallback, Field, Kind, MOST_NUMBERS, Multiple, OptionSpec, Range, Rules, Value};

use crate::error::{Error, Result};
use crate::size::ClipSize;

/// Largest side of a clip, px.
const MAX_SIDE: u64 = 2048;
/// Largest seed: what a JavaScript number holds exactly.
const MAX_SEED: u64 = (1 << 53) - 1;
/// The solvers that can be chosen in the place of the model's own; `schedulers::Sampler` has one for each name.
pub const SAMPLERS: &[&str] = &["unipc", "euler", "stochastic"];
/// Guidance up to here is none: the negative prompt is not used, and a step takes one pass of the model instead of two.
pub const GUIDED_ABOVE: f64 = 1.0;

const fn whole(value: u64) -> Fallback {
    Fallback::Value(Value::Whole(value))
}
const fn number(value: f64) -> Fallback {
    Fallback::Value(Value::Number(value))
}
const fn range(min: f64, max: f64) -> Range {
    Range { min, max, above_min: false }
}

// The defaults are those of diffusers' WanPipeline: what a folder without a card was made for.
options! {
    caller {
        /// What to show. Must not be empty, unless the model shows classes; what is longer than the model reads is cut, with a
        /// warning.
        prompt: String = OptionSpec::text(Fallback::Value(Value::Text(""))).flag("prompt");
        /// What to show by a model of classes, in place of a prompt: a class's number, or a name of it.
        class_label: Option<String> = OptionSpec::label(Fallback::Words("none")).flag("class");
        /// Seed of the noise, as in `torch.Generator("cpu").manual_seed(seed)`: the same seed gives the same clip.
        seed: u64 = OptionSpec::whole(0, MAX_SEED, "", Fallback::Words("random")).flag("seed");
        /// A preset of the model, by its name: settings that stand in for what is not given.
        preset: Option<String> = OptionSpec::text(Fallback::Words("none")).flag("preset");
        /// Whether to send a preview after each step.
        preview: bool = OptionSpec::yes_or_no();
    }
    model {
        /// What to steer away from. Only used with guidance.
        negative_prompt: String = OptionSpec::text(Fallback::Value(Value::Text(""))).flag("negative");
        /// Width of a frame; a multiple of what the model asks for.
        width: usize = OptionSpec::whole(1, MAX_SIDE, "px", whole(832)).multiple_of(Multiple::Width).flag("width");
        /// Height of a frame; a multiple of what the model asks for.
        height: usize = OptionSpec::whole(1, MAX_SIDE, "px", whole(480)).multiple_of(Multiple::Height).flag("height");
        /// Number of frames; a multiple of what the model asks for (4 in most), and one. One frame is a picture.
        num_frames: usize = OptionSpec::whole(1, 1025, "frames", whole(81)).multiple_of(Multiple::Frame).flag("frames");
        /// Frames a second of the finished clip. Does not change what is generated.
        fps: f64 = OptionSpec::number(range(1.0, 120.0), "frames per second", number(16.0)).flag("fps");
        /// Denoising steps.
        num_steps: usize = OptionSpec::whole(1, MOST_NUMBERS as u64, "steps", whole(50)).flag("steps");
        /// How strongly the prompt steers (classifier-free guidance). At 1 and below there is no guidance, and a step
        /// takes half the time.
        guidance_scale: f64 = OptionSpec::number(range(0.0, 50.0), "", number(5.0)).flag("guidance");
        /// How far the schedule is bent towards noise.
        flow_shift: Option<f64> = OptionSpec::number(
            Range { min: 0.0, max: 100.0, above_min: true }, "", Fallback::Words("the scheduler's own"),
        ).flag("shift");
        /// How the noise is taken away. `stochastic` goes to the clean estimate and back to the next level with fresh noise:
        /// for models distilled to few steps (rCM, DMD, LCM).
        sampler: Option<String> = OptionSpec::choice(SAMPLERS, Fallback::Words("the model's own")).flag("sampler");
        /// The noise levels of the steps, falling, as a few-step model was trained on them; taken as they are, in place of steps
        /// and shift. A 0 at the end is left away.
        sigmas: Option<Vec<f64>> = OptionSpec::list(
            Range { min: 0.0, max: 1.0, above_min: true }, Fallback::Words("the sampler's own"),
        ).flag("sigmas");
    }
}

impl GivenOptions {
    /// Settles every option: what was given, else what the model suggests, else the table's default. Levels of noise say how
    /// many steps there are; where a number of steps alone was asked for, the model's levels do not count. A preset is in
    /// `model` already, see [`suggested`].
    pub fn settle(mut self, model: &ModelDefaults) -> GenerateOptions {
        let mut model = model.clone();
        if self.num_steps.is_some() {
            model.sigmas = None;
        }
        without_last_zero(&mut self.sigmas);
        model.trim();
        let counted = self.num_steps.is_none();
        let mut options = self.settle_rows(&model);
        options.preset = None;
        if let Some(sigmas) = options.sigmas.as_ref().filter(|sigmas| counted && !sigmas.is_empty()) {
            options.num_steps = sigmas.len();
        }
        options
    }
}

/// Published grids of levels end in a 0 that is no step.
fn without_last_zero(sigmas: &mut Option<Vec<f64>>) {
    if let Some(sigmas) = sigmas
        && sigmas.len() > 1
        && sigmas.last() == Some(&0.0)
    {
        sigmas.pop();
    }
}

impl GenerateOptions {
    /// Size of the clip.
    pub fn size(&self) -> ClipSize {
        ClipSize { frames: self.num_frames, height: self.height, width: self.width }
    }

    /// Checks every option against the table and the size against the model's rules.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming the rule, the value found and its unit.
    pub fn check(&self, rules: Rules) -> Result<()> {
        match (self.prompt.trim().is_empty(), &self.class_label) {
            (true, None) => {
                return Err(Error::options("prompt must not be empty (a model of classes takes class_label instead)"));
            }
            (false, Some(class)) => {
                return Err(Error::options(format!(
                    "prompt and class_label do not go together: models read the one or the other, got class {class} besides a prompt"
                )));
            }
            _ => (),
        }
        for (row, value) in self.rows() {
            row.check_range(value)?;
            row.check_multiple(value, rules)?;
        }
        match &self.sigmas {
            Some(sigmas) if sigmas.len() != self.num_steps => Err(Error::options(format!(
                "num_steps must be the number of sigmas, {}, where both are given, got {} steps",
                sigmas.len(),
                self.num_steps
            ))),
            _ => Ok(()),
        }
    }

    /// True if the negative prompt is used, in a second pass of the model at each step.
    pub fn guided(&self) -> bool {
        self.guidance_scale > GUIDED_ABOVE
    }
}

impl ModelDefaults {
    /// Leaves the 0 at the end of published levels away.
    pub fn trim(&mut self) {
        without_last_zero(&mut self.sigmas);
    }

    /// Checks what the model suggests against the table; its size rules are not known yet.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming the rule, the value found and its unit.
    pub fn check(&self) -> Result<()> {
        self.rows().try_for_each(|(row, value)| row.check_range(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { width_multiple: 16, height_multiple: 32, frame_multiple: 4 };

    fn given() -> GivenOptions {
        GivenOptions { prompt: Some("a red ball".into()), ..GivenOptions::default() }
    }

    fn refusal(change: impl Fn(&mut GenerateOptions)) -> String {
        let mut options = given().settle(&ModelDefaults::default());
        change(&mut options);
        options.check(RULES).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_defaults_pass() {
        assert_eq!(refusal(|_| ()), "");
    }

    #[test]
    fn each_refusal_names_rule_value_and_unit() {
        assert_eq!(refusal(|o| o.num_frames = 80), "num_frames must be 4n + 1 (1, 5, 9, …), got 80 frames");
        assert_eq!(refusal(|o| o.num_frames = 0), "num_frames must be 1 to 1025 frames, got 0 frames");
        assert_eq!(refusal(|o| o.width = 100), "width must be a multiple of 16 px, got 100 px");
        assert_eq!(refusal(|o| o.height = 48), "height must be a multiple of 32 px, got 48 px");
        assert_eq!(refusal(|o| o.height = 0), "height must be 1 to 2048 px, got 0 px");
        assert_eq!(refusal(|o| o.num_steps = 0), "num_steps must be 1 to 200 steps, got 0 steps");
        assert_eq!(
            refusal(|o| o.prompt = "  ".into()),
            "prompt must not be empty (a model of classes takes class_label instead)"
        );
        let both = refusal(|o| o.class_label = Some("207".into()));
        assert!(both.ends_with("got class 207 besides a prompt"), "{both}");
        assert_eq!(refusal(|o| (o.prompt, o.class_label) = (String::new(), Some("207".into()))), "");
        let fps = "fps must be 1 to 120 frames per second, got NaN frames per second";
        assert_eq!(refusal(|o| o.fps = f64::NAN), fps);
        assert_eq!(refusal(|o| o.guidance_scale = -1.0), "guidance_scale must be 0 to 50, got -1");
        assert_eq!(refusal(|o| o.flow_shift = Some(0.0)), "flow_shift must be above 0 up to 100, got 0");
        let seed = "seed must be 0 to 9007199254740991, got 18446744073709551615";
        assert_eq!(refusal(|o| o.seed = u64::MAX), seed);
    }

    #[test]
    fn frames_keep_to_the_stride_of_the_model_in_time() {
        let options = GivenOptions { num_frames: Some(17), ..given() }.settle(&ModelDefaults::default());
        let with = |frame_multiple| options.check(Rules { frame_multiple, ..RULES }).map_err(|e| e.to_string());
        assert_eq!(with(1), Ok(()));
        assert_eq!(with(8), Ok(()));
        assert_eq!(with(6), Err("num_frames must be 6n + 1 (1, 7, 13, …), got 17 frames".into()));
    }

    #[test]
    fn what_is_given_goes_before_what_the_model_suggests_and_that_before_the_table() {
        let model = ModelDefaults { width: Some(64), height: Some(64), flow_shift: Some(3.0), ..Default::default() };
        let options = GivenOptions { width: Some(96), ..given() }.settle(&model);
        assert_eq!((options.width, options.height, options.num_steps, options.flow_shift), (96, 64, 50, Some(3.0)));
        assert_eq!(given().settle(&ModelDefaults::default()).flow_shift, None);
    }

    #[test]
    fn levels_of_noise_are_checked_and_say_how_many_steps_there_are() {
        let with = |sigmas: &[f64]| {
            let options = GivenOptions { sigmas: Some(sigmas.to_vec()), ..given() }.settle(&ModelDefaults::default());
            options.check(RULES).map(|()| options.num_steps).map_err(|e| e.to_string())
        };
        assert_eq!(with(&[1.0, 0.9, 0.5, 0.0]), Ok(3));
        assert_eq!(with(&[0.5, 0.9]), Err("sigmas must fall from one to the next, got 0.5, 0.9".into()));
        assert_eq!(with(&[1.5]), Err("sigmas must be above 0 up to 1, got 1.5".into()));
        assert_eq!(with(&[]), Err("sigmas must be 1 to 200 numbers, got 0".into()));
        let both = GivenOptions { sigmas: Some(vec![1.0, 0.5]), num_steps: Some(9), ..given() };
        let words = both.settle(&ModelDefaults::default()).check(RULES).map_err(|e| e.to_string());
        let wanted = "num_steps must be the number of sigmas, 2, where both are given, got 9 steps";
        assert_eq!(words, Err(wanted.into()));
        let few = ModelDefaults { sigmas: Some(vec![1.0, 0.5]), ..Default::default() };
        assert_eq!(given().settle(&few).num_steps, 2);
        let options = GivenOptions { num_steps: Some(9), ..given() }.settle(&few);
        assert_eq!((options.num_steps, options.sigmas), (9, None));
        assert_eq!(
            refusal(|o| o.sampler = Some("ddim".into())),
            "sampler must be one of unipc, euler, stochastic, got ddim"
        );
    }

    #[test]
    fn a_card_speaks_snake_case_and_javascript_camel_case() {
        let card: ModelDefaults =
            serde_json::from_str(r#"{ "num_frames": 9, "guidance_scale": 3 }"#).unwrap_or_default();
        assert_eq!((card.num_frames, card.guidance_scale), (Some(9), Some(3.0)));
        assert_eq!(serde_json::to_string(&card).unwrap_or_default(), r#"{"numFrames":9,"guidanceScale":3.0}"#);
        let given: Result<GivenOptions, _> = serde_json::from_str(r#"{ "numFrames": 9, "flowShift": null }"#);
        assert_eq!(given.ok().and_then(|given| given.num_frames), Some(9));
        assert!(serde_json::from_str::<GivenOptions>(r#"{ "num_frames": 9 }"#).is_err());
        let wide = ModelDefaults { width: Some(1 << 40), ..Default::default() };
        assert!(wide.check().is_err_and(|e| e.to_string().contains("width must be 1 to 2048 px")));
    }
}
