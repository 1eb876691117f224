//! What a loaded model can be given besides text.

use serde::Serialize;

use super::{Condition, Fit, Piece};
use crate::error::{Error, Result};

/// Which pieces of a [`Condition`] a model takes. Names are camelCase in JavaScript.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Text alone suffices.
    pub text: bool,
    /// How many classes it shows, one of which is chosen in place of a prompt; 0 for a model of text.
    pub classes: usize,
    /// It makes single pictures, not clips.
    pub picture_only: bool,
    /// A picture for the first frame.
    pub image: bool,
    /// A picture for the last frame, beside the first.
    pub last_image: bool,
    /// Nothing is made without a picture for the last frame, beside the first.
    pub needs_last_image: bool,
    /// Pictures and clips anywhere on the timeline.
    pub keyframes: bool,
    /// A mask over what is given.
    pub mask: bool,
    /// A control clip.
    pub control: bool,
    /// Reference pictures.
    pub reference: bool,
    /// A source clip with a strength.
    pub source: bool,
    /// Why the others are not there, in words; empty when all are.
    pub why: String,
}

impl Capabilities {
    /// Everything, as a model with the VACE control branch can.
    pub fn all() -> Self {
        let yes = true;
        Self {
            text: yes,
            classes: 0,
            picture_only: false,
            image: yes,
            last_image: yes,
            needs_last_image: false,
            keyframes: yes,
            mask: yes,
            control: yes,
            reference: yes,
            source: yes,
            why: String::new(),
        }
    }

    /// Text, and a source clip, which any flow model can start from.
    pub fn text_only(why: impl Into<String>) -> Self {
        Self { text: true, source: true, why: why.into(), ..Self::default() }
    }

    /// Pictures, or clips, of so many classes.
    pub fn of_classes(classes: usize, picture_only: bool, why: impl Into<String>) -> Self {
        Self { classes, picture_only, why: why.into(), ..Self::default() }
    }

    /// Refuses what the model cannot take; `frames` is the clip's length.
    pub(super) fn check(&self, condition: &Condition, frames: usize) -> Result<()> {
        let refused = |what: &str| Err(Error::options(format!("this model takes no {what}: {}", self.why)));
        if self.picture_only && frames != 1 {
            return Err(Error::options(format!(
                "this model makes single pictures: num_frames must be 1, got {frames} frames"
            )));
        }
        let mut first = false;
        let mut last = false;
        for piece in &condition.pieces {
            match piece {
                Piece::Frame { fit: Fit::Contain, .. } | Piece::Clip { fit: Fit::Contain, .. } if !self.mask => {
                    return refused("picture with room around it");
                }
                Piece::Frame { at, .. } if self.keyframes => first |= *at == 0,
                Piece::Frame { at: 0, .. } if self.image => first = true,
                Piece::Frame { at: 0, .. } => return refused("first frame"),
                Piece::Frame { at, .. } if *at == -1 || *at == frames as i64 - 1 => match self.last_image {
                    true => last = true,
                    false => return refused("last frame"),
                },
                Piece::Frame { .. } => return refused("frame inside the clip"),
                Piece::Clip { .. } if !self.keyframes => return refused("given clip"),
                Piece::Mask(_) if !self.mask => return refused("mask"),
                Piece::Control(_) if !self.control => return refused("control clip"),
                Piece::Reference(_) if !self.reference => return refused("reference picture"),
                Piece::Source { .. } if !self.source => return refused("source clip"),
                _ => {}
            }
        }
        if last && !first {
            return Err(Error::options("this model takes a last frame only beside a first one, got the last alone"));
        }
        if !self.text && self.classes == 0 && !first {
            return Err(Error::options(format!("this model needs a picture for the first frame: {}", self.why)));
        }
        if self.needs_last_image && !last {
            return Err(Error::options(format!("this model needs a picture for the last frame: {}", self.why)));
        }
        Ok(())
    }
}
