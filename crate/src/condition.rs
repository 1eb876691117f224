//! What is known of a clip besides the text, without any model: pieces on a timeline.
//!
//! A task is a set of pieces: an image to animate is a picture at frame 0, a clip to extend one that covers the first
//! frames, a region to paint over a clip and a mask. [`Condition::merge`] checks the pieces against the clip's size and what
//! the model can do, before any GPU work, and lays them on one [`Timeline`], which each family turns into its own form.

mod capabilities;
mod picture;

pub use capabilities::Capabilities;
pub use picture::{Picture, Values};

use crate::error::{Error, Result};
use crate::size::ClipSize;

/// One thing that is known.
#[derive(Debug, Clone)]
pub enum Piece {
    /// The picture that a frame shows.
    Frame {
        /// Counted from 0; below 0 from the end, −1 is the last frame.
        at: i64,
        /// The picture.
        picture: Picture,
    },
    /// A clip whose first frame lies at frame `at`.
    Clip {
        /// Counted from 0.
        at: usize,
        /// Its frames.
        frames: Vec<Picture>,
    },
    /// Which pixels of the given frames are to be made anew: white ones. One picture for all frames, or one each.
    Mask(Vec<Picture>),
    /// What the parts to be made should follow (edges, a sketch, depth, a pose), from frame 0 on.
    Control(Vec<Picture>),
    /// Something that should appear.
    Reference(Picture),
    /// A clip to start from in place of noise; of the steps, the last `strength` (0…1) of them are run.
    Source {
        /// Its frames, as many as the clip has.
        frames: Vec<Picture>,
        /// 1 keeps nothing of it, 0 everything.
        strength: f64,
    },
}

/// All that is known. Empty for text to video.
#[derive(Debug, Clone)]
pub struct Condition {
    /// In any order.
    pub pieces: Vec<Piece>,
    /// How strongly the model's control branch acts, 1 as trained; for models with one.
    pub control_scale: f32,
}

impl Default for Condition {
    fn default() -> Self {
        Self { pieces: Vec::new(), control_scale: 1.0 }
    }
}

/// The pieces laid out, at the clip's size.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// The clip's size.
    pub size: ClipSize,
    /// Known and control pixels; `None` when neither is given.
    pub video: Option<Video>,
    /// Reference pictures, `[3, H, W]` each in −1…1.
    pub references: Vec<Vec<f32>>,
    /// `[3, F, H, W]` in −1…1, and the strength.
    pub source: Option<(Vec<f32>, f64)>,
    /// See [`Condition::control_scale`].
    pub control_scale: f32,
}

/// Pixels of the whole clip and which of them stand.
#[derive(Debug, Clone)]
pub struct Video {
    /// `[3, F, H, W]` in −1…1: known pixels where they stand, control pixels elsewhere, 0 (grey) where there is neither.
    pub pixels: Vec<f32>,
    /// `[F, H, W]`: 0 where the pixels stand, 1 where they are to be made; above 0.5 counts as 1.
    pub to_generate: Vec<f32>,
}

impl Condition {
    /// A picture for the first frame, one for the last: the condition that most people want.
    pub fn of_images(first: Option<Picture>, last: Option<Picture>) -> Self {
        let frame = |at, picture: Option<Picture>| picture.map(|picture| Piece::Frame { at, picture });
        Self { pieces: frame(0, first).into_iter().chain(frame(-1, last)).collect(), ..Self::default() }
    }

    /// True for text to video.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Checks the pieces and lays them out. Pictures of another size are scaled to cover the frame and cut around the middle.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming the rule and the frames: a piece that the model cannot take, one outside the clip,
    /// two on one frame, a mask over nothing, wrong counts.
    pub fn merge(&self, size: ClipSize, capabilities: &Capabilities) -> Result<Timeline> {
        let ClipSize { frames, height, width } = size;
        capabilities.check(self, frames)?;
        if !(self.control_scale.is_finite() && (0.0..=10.0).contains(&self.control_scale)) {
            return Err(Error::options(format!("control_scale must be 0 to 10, got {}", self.control_scale)));
        }
        let mut known: Vec<Option<&Picture>> = vec![None; frames];
        let (mut masks, mut control): (&[Picture], &[Picture]) = (&[], &[]);
        let (mut references, mut source) = (Vec::new(), None);
        for piece in &self.pieces {
            match piece {
                Piece::Frame { at, picture } => {
                    place(&mut known, index_of(*at, frames)?, std::slice::from_ref(picture))?
                }
                Piece::Clip { at, frames: clip } => place(&mut known, *at, clip)?,
                Piece::Mask(given) => take_once("mask", &mut masks, given)?,
                Piece::Control(given) => take_once("control clip", &mut control, given)?,
                Piece::Reference(picture) => references.push(picture.planes(height, width)?),
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
                    source = Some((clip_planes(clip.iter().map(Some), size)?, *strength));
                }
            }
        }
        let given = known.iter().any(Option::is_some);
        if !masks.is_empty() && !given {
            return Err(Error::options("a mask needs given frames to lie on, got none"));
        }
        if !masks.is_empty() && masks.len() != 1 && masks.len() != frames {
            return Err(Error::options(format!(
                "a mask must have one frame or as many as the clip, {frames}, got {}",
                masks.len()
            )));
        }
        if control.len() > frames {
            return Err(Error::options(format!(
                "a control clip must have at most {frames} frames, got {}",
                control.len()
            )));
        }
        let video = match given || !control.is_empty() {
            true => Some(lay_out(&known, masks, control, size)?),
            false => None,
        };
        Ok(Timeline { size, video, references, source, control_scale: self.control_scale })
    }
}

/// Known pixels over control pixels, and the mask.
fn lay_out(known: &[Option<&Picture>], masks: &[Picture], control: &[Picture], size: ClipSize) -> Result<Video> {
    let ClipSize { frames, height, width } = size;
    let plane = height * width;
    let mut to_generate = vec![1.0f32; frames * plane];
    for (frame, _) in known.iter().enumerate().filter(|(_, picture)| picture.is_some()) {
        let into = &mut to_generate[frame * plane..(frame + 1) * plane];
        match masks.get(if masks.len() == 1 { 0 } else { frame }) {
            Some(mask) => into.copy_from_slice(&mask.brightness(height, width)?),
            None => into.fill(0.0),
        }
    }
    let mut pixels = clip_planes(known.iter().copied(), size)?;
    let control = clip_planes((0..frames).map(|frame| control.get(frame)), size)?;
    for (at, (pixel, control)) in pixels.iter_mut().zip(control).enumerate() {
        if to_generate[at % (frames * plane)] > 0.5 {
            *pixel = control;
        }
    }
    Ok(Video { pixels, to_generate })
}

/// Frames, grey where there is none, as `[3, F, H, W]` in −1…1.
fn clip_planes<'a>(pictures: impl Iterator<Item = Option<&'a Picture>>, size: ClipSize) -> Result<Vec<f32>> {
    let ClipSize { frames, height, width } = size;
    let plane = height * width;
    let mut out = vec![0.0f32; 3 * frames * plane];
    for (frame, picture) in pictures.enumerate() {
        if let Some(picture) = picture {
            let planes = picture.planes(height, width)?;
            for channel in 0..3 {
                let into = (channel * frames + frame) * plane;
                out[into..into + plane].copy_from_slice(&planes[channel * plane..(channel + 1) * plane]);
            }
        }
    }
    Ok(out)
}

fn index_of(at: i64, frames: usize) -> Result<usize> {
    let index = if at < 0 { frames as i64 + at } else { at };
    usize::try_from(index).ok().filter(|&index| index < frames).ok_or_else(|| {
        Error::options(format!("a picture must lie on one of the clip's {frames} frames, got frame {at}"))
    })
}

fn place<'a>(known: &mut [Option<&'a Picture>], at: usize, clip: &'a [Picture]) -> Result<()> {
    let frames = known.len();
    let end = at.saturating_add(clip.len());
    if clip.is_empty() || end > frames {
        return Err(Error::options(format!(
            "a given clip must lie within the clip's {frames} frames and have one at least, got {} from frame {at} on",
            clip.len()
        )));
    }
    let twice: Vec<usize> = (at..end).filter(|&frame| known[frame].is_some()).collect();
    if let (Some(first), Some(last)) = (twice.first(), twice.last()) {
        let which = if first == last { format!("frame {first} is") } else { format!("frames {first} to {last} are") };
        return Err(Error::options(format!("each frame can be given once; {which} given twice")));
    }
    for (frame, picture) in clip.iter().enumerate() {
        known[at + frame] = Some(picture);
    }
    Ok(())
}

fn take_once<'a>(what: &str, into: &mut &'a [Picture], given: &'a [Picture]) -> Result<()> {
    if given.is_empty() {
        return Err(Error::options(format!("a {what} must have one frame at least, got none")));
    }
    if !into.is_empty() {
        return Err(Error::options(format!("there can be one {what}, got two")));
    }
    *into = given;
    Ok(())
}

#[cfg(test)]
mod tests;
