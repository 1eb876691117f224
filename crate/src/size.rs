//! Sizes of a clip in pixels and in latent cells.

use crate::error::{Error, Result};

/// How a video codec shrinks a clip: one latent cell stands for `time` frames of `space × space` pixels. The first latent
/// frame stands for one frame only (the codecs here are causal), so a clip has `time · n + 1` frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stride {
    /// Frames in a latent frame after the first.
    pub time: usize,
    /// Pixels along the side of a latent cell.
    pub space: usize,
}

/// A clip's frames, height and width, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipSize {
    /// Frames.
    pub frames: usize,
    /// Height, pixels.
    pub height: usize,
    /// Width, pixels.
    pub width: usize,
}

impl ClipSize {
    /// Pixels of all frames.
    pub fn pixels(self) -> u64 {
        [self.frames, self.height, self.width].into_iter().fold(1, |n, side| n.saturating_mul(side as u64))
    }
}

impl Stride {
    /// Latent frames, rows and columns of a clip.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the clip is no whole number of latent cells.
    pub fn cells(self, size: ClipSize) -> Result<[usize; 3]> {
        let Self { time, space } = self;
        let ClipSize { frames, height, width } = size;
        if frames % time != 1 % time || frames == 0 {
            return Err(Error::options(format!("a clip must have {time}n + 1 frames, got {frames} frames")));
        }
        if height == 0 || width == 0 || height % space != 0 || width % space != 0 {
            return Err(Error::options(format!(
                "height and width must be multiples of {space} px, got {height} × {width} px"
            )));
        }
        Ok([(frames - 1) / time + 1, height / space, width / space])
    }
}
