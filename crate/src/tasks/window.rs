//! One clip of the model's own length that goes on from what is there, leads up to it, or both.

use crate::condition::{Condition, Picture, Piece};
use crate::error::{Error, Result};

/// A condition whose first and last frames are known, and those between them new.
#[derive(Debug, Clone)]
pub struct Window {
    /// The known frames in their places.
    pub condition: Condition,
    /// Frames of the window, known and new.
    pub num_frames: usize,
    /// The known frames at its start.
    pub before: Vec<Picture>,
    /// The known frames at its end.
    pub after: Vec<Picture>,
}

impl Window {
    fn new(before: &[Picture], after: &[Picture], num_frames: usize) -> Self {
        // A single frame at an end is what models take that take no clips.
        let pieces = match before {
            [] => None,
            [only] => Some(Piece::frame(0, only.clone())),
            _ => Some(Piece::clip(0, before.to_vec())),
        };
        let pieces = pieces.into_iter().chain(match after {
            [] => None,
            [only] => Some(Piece::frame(-1, only.clone())),
            _ => Some(Piece::clip(num_frames - after.len(), after.to_vec())),
        });
        // The decoder's own version of the known frames says how far its colours are off.
        let condition = Condition { paste: false, ..Condition::of(pieces.collect()) };
        Self { condition, num_frames, before: before.to_vec(), after: after.to_vec() }
    }

    /// New frames of the window.
    pub fn added(&self) -> usize {
        self.num_frames - self.before.len() - self.after.len()
    }
}

/// The most frames that a clip of the model can have among so many; `multiple` as [`crate::options::Rules`] has it.
pub fn longest(frames: usize, multiple: usize) -> usize {
    let multiple = multiple.max(1);
    frames.saturating_sub(1) / multiple * multiple + 1
}

/// The fewest frames that a clip of the model can have with so many in it.
pub fn shortest(frames: usize, multiple: usize) -> usize {
    let multiple = multiple.max(1);
    frames.saturating_sub(1).div_ceil(multiple) * multiple + 1
}

/// What a model says of its windows.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// As [`crate::options::Rules::frame_multiple`].
    pub multiple: usize,
    /// Whether it takes known clips; else a single frame at either end.
    pub clips: bool,
}

/// How many known frames a window takes over: what is asked for, else half of it, at most two strides; one by a model that takes
/// no clips. At a window's start whole latent frames are `multiple · n + 1` frames, at its end `multiple · n`.
///
/// # Errors
/// [`Error::InvalidOptions`] when it leaves no room, or is more than the model takes.
pub fn overlap_of(asked: Option<usize>, window: usize, way: Way, backward: bool) -> Result<usize> {
    if let Some(asked) = asked {
        if !way.clips && asked != 1 {
            return Err(Error::options(format!(
                "the overlap must be 1 frame with a model that takes no clips, got {asked}"
            )));
        }
        if asked == 0 || asked >= window {
            return Err(Error::options(format!(
                "the overlap must be 1 to {} frames in a window of {window}, got {asked}",
                window.saturating_sub(1)
            )));
        }
        return Ok(asked);
    }
    if window < 2 {
        return Err(Error::options(format!("a window needs 2 frames at least to go on from a clip, got {window}")));
    }
    let Way { multiple, clips } = way;
    let strides = ((window - 1) / multiple / 2).min(2);
    let usual = match (clips, backward) {
        (false, _) => 1,
        (true, true) => strides.max(1) * multiple,
        (true, false) => strides * multiple + 1,
    };
    Ok(usual.min(window - 1))
}

/// The next window of a clip that is extended, by `left` frames at most: `known` is what it takes over, the clip's last frames
/// or, `backward`, its first. `frames` is the longest that a window may be; a shorter one that suffices is taken, which may
/// still have a few frames more than are left.
///
/// # Errors
/// [`Error::InvalidOptions`] when the known frames leave no room.
pub fn extension(known: &[Picture], left: usize, frames: usize, multiple: usize, backward: bool) -> Result<Window> {
    if known.is_empty() || known.len() >= frames || left == 0 {
        return Err(Error::options(format!(
            "a window of {frames} frames can take over 1 to {} of a clip and add one at least, got {} and {left}",
            frames.saturating_sub(1),
            known.len()
        )));
    }
    let num_frames = shortest(known.len() + left, multiple).min(frames);
    Ok(match backward {
        true => Window::new(&[], known, num_frames),
        false => Window::new(known, &[], num_frames),
    })
}

/// Frames that lead from the end of one clip to the start of another: a window with some of both, and the rest to be made.
///
/// # Errors
/// [`Error::InvalidOptions`] when no frame is left to make.
pub fn bridge(from: &[Picture], to: &[Picture], frames: usize, way: Way) -> Result<Window> {
    let Way { multiple, clips } = way;
    // Whole latent frames at both ends where the window is long enough for it, and room between them.
    let (start, end) = match (clips, frames > 3 * multiple) {
        (false, _) => (1, 1),
        (true, true) => (multiple + 1, multiple),
        (true, false) => (1, multiple.min(frames.saturating_sub(2)).max(1)),
    };
    let (start, end) = (start.min(from.len()), end.min(to.len()));
    if start == 0 || end == 0 || start + end >= frames {
        return Err(Error::options(format!(
            "a window needs 3 frames at least, two to stand and one to make, got {frames}"
        )));
    }
    Ok(Window::new(&from[from.len() - start..], &to[..end], frames))
}
