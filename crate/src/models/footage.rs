//! Pixels on their way to an encoder, a few frames at a time: neither the host nor the device holds the whole clip.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};

use crate::condition::{Picture, Video};
use crate::error::Result;
use crate::size::ClipSize;

/// A clip that is read in order.
pub trait Footage {
    /// Its size.
    fn size(&self) -> ClipSize;

    /// `count` frames from frame `start` on, all within the clip.
    ///
    /// # Shapes
    /// → `[1, 3, count, H, W]` in −1…1
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidOptions`] when a picture's value is not finite.
    fn read(&self, start: usize, count: usize) -> Result<Tensor<5>>;
}

/// A clip that is on the device already.
impl Footage for Tensor<5> {
    fn size(&self) -> ClipSize {
        let [_, _, frames, height, width] = self.dims();
        ClipSize { frames, height, width }
    }

    fn read(&self, start: usize, count: usize) -> Result<Tensor<5>> {
        Ok(self.clone().narrow(2, start, count))
    }
}

/// A grey clip: nothing is known of it.
#[derive(Debug, Clone)]
pub struct Grey<'a> {
    /// Its size.
    pub size: ClipSize,
    /// Where it is needed.
    pub device: &'a Device,
}

impl Footage for Grey<'_> {
    fn size(&self) -> ClipSize {
        self.size
    }

    fn read(&self, _: usize, count: usize) -> Result<Tensor<5>> {
        Ok(Tensor::zeros([1, 3, count, self.size.height, self.size.width], self.device))
    }
}

/// Pictures, each covering its frame.
#[derive(Debug, Clone)]
pub struct Pictures<'a> {
    /// As many as the clip has frames.
    pub frames: &'a [Cow<'a, Picture>],
    /// The clip's size.
    pub size: ClipSize,
    /// Where it is needed.
    pub device: &'a Device,
}

impl Footage for Pictures<'_> {
    fn size(&self) -> ClipSize {
        self.size
    }

    fn read(&self, start: usize, count: usize) -> Result<Tensor<5>> {
        let ClipSize { height, width, .. } = self.size;
        let planes = |at: usize| self.frames.get(at).map(|picture| picture.planes(height, width)).transpose();
        stacked(self.size, start..start + count, self.device, planes)
    }
}

/// Those pixels of a timeline that stand, or those that do not; 0 (grey) elsewhere.
#[derive(Debug, Clone)]
pub struct Half<'a> {
    /// What is known.
    pub video: &'a Video<'a>,
    /// Whether the pixels are wanted that stand.
    pub standing: bool,
    /// Where it is needed.
    pub device: &'a Device,
}

impl Footage for Half<'_> {
    fn size(&self) -> ClipSize {
        self.video.size()
    }

    fn read(&self, start: usize, count: usize) -> Result<Tensor<5>> {
        let size = self.video.size();
        let plane = size.height * size.width;
        stacked(size, start..start + count, self.device, |at| {
            let Some(mut shown) = self.video.frame(at)? else { return Ok(None) };
            for (i, pixel) in shown.planes.iter_mut().enumerate() {
                if (shown.to_generate[i % plane] <= 0.5) != self.standing {
                    *pixel = 0.0;
                }
            }
            Ok(Some(shown.planes))
        })
    }
}

/// Known first and, if there is one, last frames with grey between them.
#[derive(Debug, Clone)]
pub struct Ends {
    /// `[1, 3, 1, H, W]`
    pub first: Tensor<5>,
    /// `[1, 3, 1, H, W]`
    pub last: Option<Tensor<5>>,
    /// Of the clip.
    pub frames: usize,
}

impl Footage for Ends {
    fn size(&self) -> ClipSize {
        ClipSize { frames: self.frames, ..self.first.size() }
    }

    fn read(&self, start: usize, count: usize) -> Result<Tensor<5>> {
        let grey = self.first.zeros_like();
        let frame = |at: usize| match &self.last {
            _ if at == 0 => &self.first,
            Some(last) if at + 1 == self.frames => last,
            _ => &grey,
        };
        Ok(Tensor::cat((start..start + count).map(|at| frame(at).clone()).collect(), 2))
    }
}

/// A part of each frame.
#[derive(Clone, Copy)]
pub struct Cropped<'a> {
    /// The whole.
    pub whole: &'a dyn Footage,
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Footage for Cropped<'_> {
    fn size(&self) -> ClipSize {
        ClipSize { frames: self.whole.size().frames, height: self.height, width: self.width }
    }

    fn read(&self, start: usize, count: usize) -> Result<Tensor<5>> {
        let whole = self.whole.read(start, count)?;
        Ok(whole.narrow(3, self.top, self.height).narrow(4, self.left, self.width))
    }
}

/// Frames of `[3, H, W]`, grey where there is none, as `[1, 3, count, H, W]`.
fn stacked(
    ClipSize { height, width, .. }: ClipSize,
    frames: std::ops::Range<usize>,
    device: &Device,
    planes: impl Fn(usize) -> Result<Option<Vec<f32>>>,
) -> Result<Tensor<5>> {
    let (count, plane) = (frames.len(), height * width);
    let mut out = vec![0.0f32; 3 * count * plane];
    for (i, at) in frames.enumerate() {
        let Some(planes) = planes(at)? else { continue };
        for (channel, values) in planes.chunks_exact(plane).enumerate() {
            let into = (channel * count + i) * plane;
            out[into..into + plane].copy_from_slice(values);
        }
    }
    Ok(Tensor::from_data(TensorData::new(out, [1, 3, count, height, width]), device))
}
