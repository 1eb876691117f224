//! What a caller asks for, checked before anything is computed.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Largest side of a clip, pixels.
pub const MAX_SIDE_PX: usize = 2048;
/// Most frames in a clip.
pub const MAX_FRAMES: usize = 1025;
/// Most denoising steps.
pub const MAX_STEPS: usize = 200;
/// Largest seed: what a JavaScript number holds exactly.
pub const MAX_SEED: u64 = (1 << 53) - 1;

/// A request for one clip. Field names are camelCase in JSON and JavaScript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenerateOptions {
    /// What to show.
    pub prompt: String,
    /// What not to show; used when `guidance_scale` is above 1.
    #[serde(default)]
    pub negative_prompt: String,
    /// Width, pixels; a multiple of 16.
    pub width: usize,
    /// Height, pixels; a multiple of 16.
    pub height: usize,
    /// Frames, 4n + 1; 1 makes an image.
    pub num_frames: usize,
    /// Frames a second of the finished clip, 1…120. Does not change the pixels.
    pub fps: f64,
    /// Denoising steps, 1…200.
    pub num_steps: usize,
    /// Classifier-free guidance, 0…50; at 1 and below the negative prompt is not used and a step costs half.
    pub guidance_scale: f64,
    /// Seed of the noise, 0…2⁵³ − 1; the same numbers as `torch.Generator("cpu")`.
    pub seed: u64,
    /// How far the schedule is bent towards noise; the model's own value when absent.
    #[serde(default)]
    pub flow_shift: Option<f64>,
    /// Whether to send a preview after each step.
    #[serde(default)]
    pub preview: bool,
}

impl GenerateOptions {
    /// Checks every field; `multiple` is the model's size step in pixels.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming the rule, the value found and its unit.
    pub fn check(&self, multiple: usize) -> Result<()> {
        if self.prompt.trim().is_empty() {
            return Err(Error::options("prompt must not be empty"));
        }
        for (name, px) in [("width", self.width), ("height", self.height)] {
            if px == 0 || px % multiple != 0 || px > MAX_SIDE_PX {
                return Err(Error::options(format!(
                    "{name} must be a multiple of {multiple} px up to {MAX_SIDE_PX} px, got {px} px"
                )));
            }
        }
        if self.num_frames % 4 != 1 || self.num_frames > MAX_FRAMES {
            return Err(Error::options(format!(
                "num_frames must be 4n + 1 up to {MAX_FRAMES}, got {} frames",
                self.num_frames
            )));
        }
        if self.num_steps == 0 || self.num_steps > MAX_STEPS {
            return Err(Error::options(format!("num_steps must be 1 to {MAX_STEPS}, got {} steps", self.num_steps)));
        }
        if !(self.fps >= 1.0 && self.fps <= 120.0) {
            return Err(Error::options(format!("fps must be 1 to 120 frames a second, got {}", self.fps)));
        }
        if !(self.guidance_scale >= 0.0 && self.guidance_scale <= 50.0) {
            return Err(Error::options(format!("guidance_scale must be 0 to 50, got {}", self.guidance_scale)));
        }
        if self.seed > MAX_SEED {
            return Err(Error::options(format!("seed must be 0 to {MAX_SEED}, got {}", self.seed)));
        }
        match self.flow_shift {
            Some(shift) if !(shift > 0.0 && shift <= 100.0) => {
                Err(Error::options(format!("flow_shift must be above 0 up to 100, got {shift}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> GenerateOptions {
        GenerateOptions {
            prompt: "a red ball".into(),
            negative_prompt: String::new(),
            width: 64,
            height: 64,
            num_frames: 17,
            fps: 16.0,
            num_steps: 12,
            guidance_scale: 4.0,
            seed: 0,
            flow_shift: None,
            preview: false,
        }
    }

    fn refusal(change: impl Fn(&mut GenerateOptions)) -> String {
        let mut options = good();
        change(&mut options);
        options.check(16).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn good_options_pass() {
        assert!(good().check(16).is_ok());
    }

    #[test]
    fn each_refusal_names_rule_value_and_unit() {
        assert_eq!(refusal(|o| o.num_frames = 80), "num_frames must be 4n + 1 up to 1025, got 80 frames");
        assert_eq!(refusal(|o| o.width = 100), "width must be a multiple of 16 px up to 2048 px, got 100 px");
        assert_eq!(refusal(|o| o.height = 0), "height must be a multiple of 16 px up to 2048 px, got 0 px");
        assert_eq!(refusal(|o| o.num_steps = 0), "num_steps must be 1 to 200, got 0 steps");
        assert_eq!(refusal(|o| o.prompt = "  ".into()), "prompt must not be empty");
        assert_eq!(refusal(|o| o.fps = f64::NAN), "fps must be 1 to 120 frames a second, got NaN");
        assert_eq!(refusal(|o| o.guidance_scale = -1.0), "guidance_scale must be 0 to 50, got -1");
        assert_eq!(refusal(|o| o.flow_shift = Some(0.0)), "flow_shift must be above 0 up to 100, got 0");
        assert!(refusal(|o| o.seed = u64::MAX).starts_with("seed must be 0 to 9007199254740991"));
    }
}
