//! What is known of a clip besides the text, without any model: pieces on a timeline.
//!
//! A task is a set of pieces: an image to animate is a picture at frame 0, a clip to extend one that covers the first
//! frames, a region to paint over a clip and a mask. [`Condition::merge`] checks the pieces against the clip's size and what
//! the model can do, before any GPU work, and lays them on one [`Timeline`], which each family turns into its own form.

mod capabilities;
mod edges;
mod layout;
mod paste;
mod picture;

pub use capabilities::Capabilities;
pub use edges::edges;
pub use picture::{Fit, Fitted, MAX_PICTURE_SIDE_PX, Picture, Values};

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::size::ClipSize;

use layout::{Given, place, take_once};
pub use layout::{Shown, Video};

/// How far colours are evened out beside pasted pixels where a caller says nothing, px. Measured on four pictures of the
/// default model with a box painted anew: the step over the box's border was 13.2 of 255 without, 5.4 with 2 px, 4.2 with 4 and
/// 3.6 with 8, where pieces of what stood there before began to show; in the picture itself it was 3.0.
pub const DEFAULT_SEAM_PX: usize = 4;
/// The most that a caller may ask for, px.
pub const MAX_SEAM_PX: usize = 64;

/// The most bytes of pixels (RGBA) that a given clip may have: a minute of 1080p is refused before it fills a machine, or a tab.
pub const MOST_CLIP_BYTES: u64 = 4 << 30;

/// One thing that is known.
#[derive(Debug, Clone)]
pub enum Piece {
    /// The picture that a frame shows.
    Frame {
        /// Counted from 0; below 0 from the end, −1 is the last frame.
        at: i64,
        /// The picture; what is not opaque in it is to be made, by models that take masks.
        picture: Picture,
        /// How it comes to the clip's size.
        fit: Fit,
    },
    /// A clip whose first frame lies at frame `at`.
    Clip {
        /// Counted from 0.
        at: usize,
        /// Its frames; what is not opaque in them is to be made.
        frames: Vec<Picture>,
        /// How they come to the clip's size.
        fit: Fit,
    },
    /// Which pixels of the given frames are to be made anew: white ones. One picture for all frames, or one each. It takes
    /// each frame's own fit; transparent counts as black.
    Mask(Vec<Picture>),
    /// What the parts to be made should follow (edges, a sketch, depth, a pose), from frame 0 on.
    Control(Vec<Picture>),
    /// Something that should appear; a picture of another shape than the clip's is seen whole.
    Reference(Picture),
    /// A clip to start from in place of noise; of the steps, the last `strength` (0…1) of them are run.
    Source {
        /// Its frames, as many as the clip has.
        frames: Vec<Picture>,
        /// 1 keeps nothing of it, 0 everything.
        strength: f64,
    },
}

impl Piece {
    /// A picture at a frame, scaled to cover it.
    pub fn frame(at: i64, picture: Picture) -> Self {
        Self::Frame { at, picture, fit: Fit::Cover }
    }

    /// A clip from frame `at` on, scaled to cover the frames.
    pub fn clip(at: usize, frames: Vec<Picture>) -> Self {
        Self::Clip { at, frames, fit: Fit::Cover }
    }
}

/// All that is known. Empty for text to video.
#[derive(Debug, Clone)]
pub struct Condition {
    /// In any order.
    pub pieces: Vec<Piece>,
    /// How strongly the model's control branch acts, 1 as trained; for models with one.
    pub control_scale: f32,
    /// Whether known pixels are put over the decoded ones, so that they come back unchanged.
    pub paste: bool,
    /// Made pixels nearer than this to pasted ones in their frame are evened out towards their colours, px; 0 for a hard edge.
    pub seam: usize,
}

impl Default for Condition {
    fn default() -> Self {
        Self { pieces: Vec::new(), control_scale: 1.0, paste: true, seam: DEFAULT_SEAM_PX }
    }
}

/// The pieces laid out, at the clip's size. Pictures come to that size when a frame is asked for.
#[derive(Debug, Clone)]
pub struct Timeline<'a> {
    /// The clip's size.
    pub size: ClipSize,
    /// Known and control pixels; `None` when neither is given.
    pub video: Option<Video<'a>>,
    /// Reference pictures, at their own sizes.
    pub references: Vec<&'a Picture>,
    /// A clip's frames at the clip's size, as many as it has, and the strength.
    pub source: Option<(Vec<Cow<'a, Picture>>, f64)>,
    /// See [`Condition::control_scale`].
    pub control_scale: f32,
    /// The seam of what is pasted, px; `None` when nothing is.
    pub paste: Option<usize>,
}

impl Condition {
    /// Of these pieces, the rest as it is by default.
    pub fn of(pieces: Vec<Piece>) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// A picture for the first frame, one for the last: the condition that most people want.
    pub fn of_images(first: Option<Picture>, last: Option<Picture>) -> Self {
        let piece = |at, picture: Option<Picture>| picture.map(|picture| Piece::frame(at, picture));
        Self::of(piece(0, first).into_iter().chain(piece(-1, last)).collect())
    }

    /// True for text to video.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Checks the pieces and lays them out. Pictures of another size are scaled as their [`Fit`] says; those of control
    /// clips and sources cover the frame and are cut around the middle, and those of references stay as they are.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming the rule and the frames: a piece that the model cannot take, one outside the clip,
    /// two on one frame, a mask over nothing, one that marks nothing or everything, nothing to make, wrong counts.
    pub fn merge(&self, size: ClipSize, capabilities: &Capabilities) -> Result<Timeline<'_>> {
        let ClipSize { frames, height, width } = size;
        capabilities.check(self, frames)?;
        if !(self.control_scale.is_finite() && (0.0..=10.0).contains(&self.control_scale)) {
            return Err(Error::options(format!("control_scale must be 0 to 10, got {}", self.control_scale)));
        }
        if self.seam > MAX_SEAM_PX {
            return Err(Error::options(format!("seam must be 0 to {MAX_SEAM_PX} px, got {} px", self.seam)));
        }
        let mut given = Given { known: vec![None; frames], masks: &[], control: &[], open: capabilities.mask };
        let (mut references, mut source) = (Vec::new(), None);
        for piece in &self.pieces {
            match piece {
                Piece::Frame { at, picture, fit } => {
                    let at = layout::index_of(*at, frames)?;
                    place(&mut given.known, at, std::slice::from_ref(picture), *fit)?;
                }
                Piece::Clip { at, frames: clip, fit } => place(&mut given.known, *at, clip, *fit)?,
                Piece::Mask(masks) => take_once("mask", &mut given.masks, masks)?,
                Piece::Control(control) => take_once("control clip", &mut given.control, control)?,
                Piece::Reference(picture) => {
                    picture.check()?;
                    references.push(picture);
                }
                Piece::Source { frames: clip, strength } => {
                    if !(0.0..=1.0).contains(strength) {
                        return Err(Error::options(format!("strength must be 0 to 1, got {strength}")));
                    }
                    if clip.len() != frames {
                        return Err(Error::options(format!(
                            "a source clip must have as many frames as the clip, {frames}, got {}",
                            clip.len()
                        )));
                    }
                    if source.is_some() {
                        return Err(Error::options("there can be one source clip, got two"));
                    }
                    let frames: Result<Vec<_>> = clip.iter().map(|picture| picture.covering(height, width)).collect();
                    source = Some((frames?, *strength));
                }
            }
        }
        given.check_counts()?;
        let video = match given.is_empty() {
            true => None,
            false => Some(Video::lay_out(given, size)?),
        };
        let paste = self.paste.then_some(self.seam);
        Ok(Timeline { size, video, references, source, control_scale: self.control_scale, paste })
    }
}

#[cfg(test)]
mod tests;
