//! What a clip is to show, a prompt or a class, and what can be chosen of its sampling: whether the model takes it.

use super::Pipeline;
use crate::error::{Error, Result};
use crate::options::GenerateOptions;

impl Pipeline {
    /// The class that is asked for; `None` by a model of text.
    pub(super) fn class_of(&self, options: &GenerateOptions) -> Result<Option<usize>> {
        match (self.classes(), &options.class_label) {
            (None, None) => Ok(None),
            (None, Some(class)) => Err(Error::options(format!(
                "class_label is for models of classes; this model reads a prompt, got class {class}"
            ))),
            (Some(classes), Some(class)) if options.negative_prompt.is_empty() => classes.find(class).map(Some),
            (Some(_), Some(_)) => Err(Error::options("this model shows classes and reads no negative prompt, got one")),
            (Some(classes), None) => {
                let last = classes.labels().len().saturating_sub(1);
                Err(Error::options(format!(
                    "this model shows classes and reads no prompt: class_label must be given, 0 to {last} or a class's name"
                )))
            }
        }
    }

    /// Refuses what can be chosen for flow models only.
    pub(super) fn check_sampling(&self, options: &GenerateOptions) -> Result<()> {
        let chosen = [
            ("flow_shift", options.flow_shift.is_some()),
            ("sampler", options.sampler.is_some()),
            ("sigmas", options.sigmas.is_some()),
        ];
        match chosen.iter().find(|(_, given)| *given) {
            Some((name, _)) if !self.parts.scheduler.is_flow() => Err(Error::options(format!(
                "{name} is for flow models; this model takes the steps of a diffusion process (DDIM), leave it out"
            ))),
            _ => Ok(()),
        }
    }
}
