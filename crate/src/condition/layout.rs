//! Known, masked and control pictures laid out as the pixels of one clip, a frame at a time.

use super::picture::{Fit, Fitted, Picture};
use crate::error::{Error, Result};
use crate::size::ClipSize;

/// A picture that a frame shows, and how it comes to the clip's size.
type Known<'a> = Option<(&'a Picture, Fit)>;

/// What the pieces give, by frame.
#[derive(Debug, Clone)]
pub(super) struct Given<'a> {
    /// What each frame shows.
    pub known: Vec<Known<'a>>,
    /// None, one, or one for each frame.
    pub masks: &'a [Picture],
    /// From frame 0 on.
    pub control: &'a [Picture],
    /// Whether parts of a known frame can be open, to be made: where the model takes masks.
    pub open: bool,
}

impl Given<'_> {
    /// True if there are no pixels to lay out.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.known.iter().all(Option::is_none)
    }

    /// # Errors
    /// [`Error::InvalidOptions`] naming the counts that do not go together.
    pub fn check_counts(&self) -> Result<()> {
        let (frames, masks, control) = (self.known.len(), self.masks.len(), self.control.len());
        if masks > 0 && self.known.iter().all(Option::is_none) {
            return Err(Error::options("a mask needs given frames to lie on, got none"));
        }
        if masks > 1 && masks != frames {
            return Err(Error::options(format!(
                "a mask must have one frame or as many as the clip, {frames}, got {masks}"
            )));
        }
        if control > frames {
            return Err(Error::options(format!("a control clip must have at most {frames} frames, got {control}")));
        }
        Ok(())
    }

    /// Whether what a frame shows has the clip's size already.
    fn is_at(&self, frame: usize, ClipSize { height, width, .. }: ClipSize) -> bool {
        let known = self.known[frame].map(|(picture, _)| picture);
        known.into_iter().chain(self.control.get(frame)).all(|picture| picture.size() == (width, height))
    }

    /// The known pixels of a frame, open where they are to be made.
    fn fitted(&self, frame: usize, height: usize, width: usize) -> Result<Option<Fitted>> {
        let Some((picture, fit)) = self.known[frame] else { return Ok(None) };
        let mut fitted = picture.fitted(fit, height, width)?;
        if !self.open {
            fitted.open = None;
        }
        if let Some(mask) = self.masks.get(if self.masks.len() == 1 { 0 } else { frame }) {
            let mut marked = mask.brightness(fit, height, width)?;
            for (marked, open) in marked.iter_mut().zip(fitted.open.iter().flatten()) {
                *marked = marked.max(*open);
            }
            fitted.open = Some(marked);
        }
        Ok(Some(fitted))
    }
}

/// Pixels of the whole clip and which of them stand, made a frame at a time: a long clip of floats would fill a tab's memory.
#[derive(Debug, Clone)]
pub struct Video<'a> {
    given: Given<'a>,
    size: ClipSize,
    /// Frames whose pictures have another size: scaling takes longer than all else, and frames are asked for several times.
    scaled: Vec<Option<Shown>>,
}

/// What is known of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// `[3, H, W]` in −1…1: known pixels where they stand, control pixels elsewhere, 0 (grey) where there is neither.
    pub planes: Vec<f32>,
    /// `[H, W]`: 0 where the pixels stand, 1 where they are to be made; above 0.5 counts as 1.
    pub to_generate: Vec<f32>,
}

impl<'a> Video<'a> {
    /// Goes through all frames once, so that nothing is found wrong later.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when nothing is to be made, or nothing of what is given stands.
    pub(super) fn lay_out(given: Given<'a>, size: ClipSize) -> Result<Self> {
        let mut video = Self { given, size, scaled: vec![None; size.frames] };
        let mut tally = Tally::default();
        for frame in 0..size.frames {
            let Some(shown) = video.made(frame)? else { continue };
            if video.given.known[frame].is_some() {
                tally.count(frame, &shown.to_generate);
            }
            if !video.given.is_at(frame, size) {
                video.scaled[frame] = Some(shown);
            }
        }
        tally.check(&video.given)?;
        Ok(video)
    }

    /// The clip's size.
    pub fn size(&self) -> ClipSize {
        self.size
    }

    /// What frame `index`, from 0, shows: known pixels over control pixels. `None` where nothing is given.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when a picture's value is not finite.
    pub fn frame(&self, index: usize) -> Result<Option<Shown>> {
        match self.scaled.get(index) {
            Some(Some(shown)) => Ok(Some(shown.clone())),
            _ => self.made(index),
        }
    }

    fn made(&self, index: usize) -> Result<Option<Shown>> {
        let ClipSize { height, width, .. } = self.size;
        let plane = height * width;
        let control = self.given.control.get(index).map(|control| control.planes(height, width)).transpose()?;
        let Some(known) = self.given.fitted(index, height, width)? else {
            return Ok(control.map(|planes| Shown { planes, to_generate: vec![1.0; plane] }));
        };
        let to_generate = known.open.unwrap_or_else(|| vec![0.0; plane]);
        let mut planes = control.unwrap_or_else(|| vec![0.0; 3 * plane]);
        for (i, (pixel, known)) in planes.iter_mut().zip(known.planes).enumerate() {
            if to_generate[i % plane] <= 0.5 {
                *pixel = known;
            }
        }
        Ok(Some(Shown { planes, to_generate }))
    }
}

/// How much of the given frames stands.
#[derive(Default)]
struct Tally {
    standing: usize,
    open: usize,
    /// The first and last given frame.
    ends: Option<(usize, usize)>,
}

impl Tally {
    fn count(&mut self, frame: usize, open: &[f32]) {
        let marked = open.iter().filter(|&&v| v > 0.5).count();
        self.open += marked;
        self.standing += open.len() - marked;
        self.ends = Some((self.ends.map_or(frame, |(first, _)| first), frame));
    }

    fn check(&self, given: &Given<'_>) -> Result<()> {
        let Some((first, last)) = self.ends else { return Ok(()) };
        let range = if first == last { format!("frame {first}") } else { format!("frames {first} to {last}") };
        if self.standing == 0 {
            let what = if given.masks.is_empty() { "they are transparent" } else { "the mask covers them" };
            return Err(Error::options(format!(
                "something of the given frames must stand; {what} wholly ({range}): leave them out instead"
            )));
        }
        if self.open == 0 && !given.masks.is_empty() {
            return Err(Error::options(format!(
                "a mask must mark something to make anew; it marks nothing of the given frames ({range})"
            )));
        }
        if self.open == 0 && given.known.iter().all(Option::is_some) {
            let frames = given.known.len();
            let words = if frames == 1 { "the one frame is".into() } else { format!("all {frames} frames are") };
            return Err(Error::options(format!(
                "something must be left to make; {words} given and no mask lies on it"
            )));
        }
        Ok(())
    }
}

/// The frame that `at` names, from the end if below 0.
pub(super) fn index_of(at: i64, frames: usize) -> Result<usize> {
    let index = if at < 0 { at.saturating_add(frames as i64) } else { at };
    usize::try_from(index).ok().filter(|&index| index < frames).ok_or_else(|| {
        Error::options(format!("a picture must lie on one of the clip's {frames} frames, got frame {at}"))
    })
}

/// Puts a clip's frames in their places, none of which may be taken.
pub(super) fn place<'a>(known: &mut [Known<'a>], at: usize, clip: &'a [Picture], fit: Fit) -> Result<()> {
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
        known[at + frame] = Some((picture, fit));
    }
    Ok(())
}

/// Takes a list of pictures of which there can be one.
pub(super) fn take_once<'a>(what: &str, into: &mut &'a [Picture], given: &'a [Picture]) -> Result<()> {
    if given.is_empty() {
        return Err(Error::options(format!("a {what} must have one frame at least, got none")));
    }
    if !into.is_empty() {
        return Err(Error::options(format!("there can be one {what}, got two")));
    }
    *into = given;
    Ok(())
}
