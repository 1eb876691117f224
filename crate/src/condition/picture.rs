//! A picture in memory, scaled to what a clip needs.

use std::borrow::Cow;

use image::imageops::FilterType;
use image::{ImageBuffer, Luma, Pixel, Rgb, imageops};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Largest side of a given picture, pixels: what one may hold in a tab's memory without thought.
pub const MAX_PICTURE_SIDE_PX: usize = 16_384;

/// Opacity from which a pixel stands: of soft edges nothing does, so that no white shines through.
const OPAQUE: f32 = 0.95;

/// How a picture of another shape comes to the clip's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(not(target_arch = "wasm32"), derive(clap::ValueEnum))]
#[serde(rename_all = "camelCase")]
pub enum Fit {
    /// Scaled to cover the frame and cut around the middle.
    #[default]
    Cover,
    /// Scaled to lie wholly inside the frame; what is left around it is to be made.
    Contain,
}

/// A picture at a clip's size.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// `[3, H, W]` in −1…1.
    pub planes: Vec<f32>,
    /// `[H, W]`: 1 where nothing stands; `None` where everything does.
    pub open: Option<Vec<f32>>,
}

/// Numbers of a picture at another size, and where they lie in the frame.
struct Scaled {
    values: Vec<f32>,
    /// Width and height, px.
    size: (usize, usize),
    left: usize,
    top: usize,
}

impl Scaled {
    /// Where in a frame of this width its pixel `i` lies.
    fn place(&self, i: usize, width: usize) -> usize {
        (self.top + i / self.size.0) * width + self.left + i % self.size.0
    }
}

/// A picture's numbers.
#[derive(Debug, Clone)]
pub enum Values {
    /// Red, green, blue and opacity of each pixel, bytes.
    Rgba(Vec<u8>),
    /// Red, green and blue of each pixel in 0…1.
    Rgb(Vec<f32>),
}

/// A picture, rows top to bottom.
#[derive(Debug, Clone)]
pub struct Picture {
    width: usize,
    height: usize,
    values: Values,
}

impl Picture {
    /// # Errors
    /// [`Error::InvalidOptions`] when it is empty, too large, or has not as many values as its size says.
    pub fn new(width: usize, height: usize, values: Values) -> Result<Self> {
        let sides = 1..=MAX_PICTURE_SIDE_PX;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(Error::options(format!(
                "a picture must be 1 to {MAX_PICTURE_SIDE_PX} px wide and high, got {width} × {height} px"
            )));
        }
        let (found, channels) = match &values {
            Values::Rgba(bytes) => (bytes.len(), 4),
            Values::Rgb(numbers) => (numbers.len(), 3),
        };
        if found != width * height * channels {
            return Err(Error::options(format!(
                "a picture of {width} × {height} px must have {} values, got {found}",
                width * height * channels
            )));
        }
        Ok(Self { width, height, values })
    }

    /// Width and height, pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The picture at a frame's size: scaled to cover it and cut around the middle, unless it has that size.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when a value is not finite.
    pub fn covering(&self, height: usize, width: usize) -> Result<Cow<'_, Self>> {
        self.check()?;
        if self.size() == (width, height) {
            return Ok(Cow::Borrowed(self));
        }
        let scaled = self.scaled::<Rgb<f32>>(self.rgb()?, Fit::Cover, height, width, FilterType::Lanczos3)?;
        // Lanczos overshoots at edges.
        let values = scaled.values.into_iter().map(|value| value.clamp(0.0, 1.0)).collect();
        Ok(Cow::Owned(Self::new(width, height, Values::Rgb(values))?))
    }

    /// Whether its values can be shown.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when one is not finite.
    pub(super) fn check(&self) -> Result<()> {
        match &self.values {
            Values::Rgb(numbers) => match numbers.iter().find(|v| !v.is_finite()) {
                Some(bad) => Err(Error::options(format!("a picture's values must be 0 to 1, got {bad}"))),
                None => Ok(()),
            },
            Values::Rgba(_) => Ok(()),
        }
    }

    /// Scaled to cover `height × width` and cut around the middle, `[3, H, W]` in −1…1; opacity is laid over white.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when a value is not finite.
    pub fn planes(&self, height: usize, width: usize) -> Result<Vec<f32>> {
        Ok(self.fitted(Fit::Cover, height, width)?.planes)
    }

    /// Bytes of the picture at a frame's size, as a host gets them: scaled to cover it, `H × W × 4`, opaque.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when a value is not finite.
    pub fn rgba(&self, height: usize, width: usize) -> Result<Vec<u8>> {
        let (planes, plane) = (self.planes(height, width)?, height * width);
        let byte = |value: f32| ((value * 0.5 + 0.5) * 255.0).round() as u8;
        Ok((0..plane)
            .flat_map(|i| [byte(planes[i]), byte(planes[plane + i]), byte(planes[2 * plane + i]), 255])
            .collect())
    }

    /// The picture whole, in the middle of a white frame, as models of reference pictures see it: `[3, H, W]` in −1…1. `step` is
    /// the codec's stride, px, to whose multiples the picture's own sides are brought first.
    ///
    /// Source: diffusers `pipeline_wan_vace.py` (`preprocess_conditions`), `image_processor.py` (`preprocess`).
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when a value is not finite.
    pub fn on_white(&self, height: usize, width: usize, step: usize) -> Result<Vec<f32>> {
        let step = step.max(1);
        let [own_width, own_height] = [self.width, self.height].map(|side| (side / step).max(1) * step);
        let (mut rgb, mut size) = (self.rgb()?, self.size());
        // As Pillow does: one side after the other, and bytes each time.
        for next in [(own_width, self.height), (own_width, own_height)] {
            if size != next {
                let picture = buffer::<Rgb<f32>>(size, rgb)?;
                let scaled = imageops::resize(&picture, next.0 as u32, next.1 as u32, FilterType::Lanczos3).into_raw();
                rgb = scaled.into_iter().map(|value| (value.clamp(0.0, 1.0) * 255.0).round() / 255.0).collect();
                size = next;
            }
        }
        let scale = (height as f64 / own_height as f64).min(width as f64 / own_width as f64);
        let side = |own: usize| ((own as f64 * scale) as usize).max(1);
        let (columns, rows) = (between(own_width, side(own_width)), between(own_height, side(own_height)));
        let (left, top) = ((width - columns.len()) / 2, (height - rows.len()) / 2);
        let plane = height * width;
        let mut planes = vec![1.0f32; 3 * plane];
        for (y, &(above, below, down)) in rows.iter().enumerate() {
            for (x, &(before, after, right)) in columns.iter().enumerate() {
                for channel in 0..3 {
                    let at = |row: usize, column: usize| rgb[(row * own_width + column) * 3 + channel];
                    let across = |row: usize| at(row, before) * (1.0 - right) + at(row, after) * right;
                    let value = across(above) * (1.0 - down) + across(below) * down;
                    planes[channel * plane + (top + y) * width + left + x] = value * 2.0 - 1.0;
                }
            }
        }
        Ok(planes)
    }

    /// Brought to `height × width`; opacity is laid over white, and what is not opaque is open.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when a value is not finite.
    pub fn fitted(&self, fit: Fit, height: usize, width: usize) -> Result<Fitted> {
        let pixels = self.scaled::<Rgb<f32>>(self.rgb()?, fit, height, width, FilterType::Lanczos3)?;
        let plane = height * width;
        let mut planes = vec![0.0f32; 3 * plane];
        for (i, rgb) in pixels.values.chunks_exact(3).enumerate() {
            for (channel, value) in rgb.iter().enumerate() {
                // Lanczos overshoots at edges.
                planes[channel * plane + pixels.place(i, width)] = value.clamp(0.0, 1.0) * 2.0 - 1.0;
            }
        }
        let whole = pixels.size == (width, height);
        let mut open = if whole { None } else { Some(vec![1.0; plane]) };
        if let Some(opacity) = self.opacity() {
            let opacity = self.scaled::<Luma<f32>>(opacity, fit, height, width, FilterType::Triangle)?;
            let open = open.get_or_insert_with(|| vec![1.0; plane]);
            for (i, &value) in opacity.values.iter().enumerate() {
                open[opacity.place(i, width)] = if value < OPAQUE { 1.0 } else { 0.0 };
            }
        } else if let Some(open) = &mut open {
            (0..pixels.size.0 * pixels.size.1).for_each(|i| open[pixels.place(i, width)] = 0.0);
        }
        Ok(Fitted { planes, open })
    }

    /// A mask at `height × width`: brightness `[H, W]` in 0…1, black where it is transparent. Scaling keeps its edges hard.
    ///
    /// # Errors
    /// As [`Picture::planes`].
    pub fn brightness(&self, fit: Fit, height: usize, width: usize) -> Result<Vec<f32>> {
        let mut grey: Vec<f32> = self.rgb()?.chunks_exact(3).map(|p| (p[0] + p[1] + p[2]) / 3.0).collect();
        for (grey, opacity) in grey.iter_mut().zip(self.opacity().into_iter().flatten()) {
            // The colour was laid over white, of which there is 1 − opacity.
            *grey = (*grey - (1.0 - opacity)).max(0.0);
        }
        let scaled = self.scaled::<Luma<f32>>(grey, fit, height, width, FilterType::Nearest)?;
        let mut out = vec![0.0; height * width];
        for (i, &value) in scaled.values.iter().enumerate() {
            out[scaled.place(i, width)] = value;
        }
        Ok(out)
    }

    /// This picture's numbers at another size; `values` are as many to a pixel as `P` has channels.
    fn scaled<P>(&self, values: Vec<f32>, fit: Fit, height: usize, width: usize, by: FilterType) -> Result<Scaled>
    where
        P: Pixel<Subpixel = f32> + 'static,
    {
        if (self.height, self.width) == (height, width) {
            return Ok(Scaled { values, size: (width, height), left: 0, top: 0 });
        }
        let picture = buffer::<P>(self.size(), values)?;
        let ((left, top, w, h), size) = match fit {
            Fit::Cover => (self.cut(height, width), (width, height)),
            Fit::Contain => ((0, 0, self.width as u32, self.height as u32), self.inside(height, width)),
        };
        let cut = imageops::crop_imm(&picture, left, top, w, h).to_image();
        let values = imageops::resize(&cut, size.0 as u32, size.1 as u32, by).into_raw();
        Ok(Scaled { values, size, left: (width - size.0) / 2, top: (height - size.1) / 2 })
    }

    /// Left, top, width and height of the largest middle part with the shape of `height × width`.
    fn cut(&self, height: usize, width: usize) -> (u32, u32, u32, u32) {
        let scale = (self.width as f64 / width as f64).min(self.height as f64 / height as f64);
        let w = ((width as f64 * scale).round() as usize).clamp(1, self.width);
        let h = ((height as f64 * scale).round() as usize).clamp(1, self.height);
        (((self.width - w) / 2) as u32, ((self.height - h) / 2) as u32, w as u32, h as u32)
    }

    /// Width and height of this picture scaled to fit inside `height × width`.
    fn inside(&self, height: usize, width: usize) -> (usize, usize) {
        let scale = (width as f64 / self.width as f64).min(height as f64 / self.height as f64);
        let side = |own: usize, most: usize| ((own as f64 * scale).round() as usize).clamp(1, most);
        (side(self.width, width), side(self.height, height))
    }

    /// Opacity of each pixel in 0…1; `None` where all is opaque.
    fn opacity(&self) -> Option<Vec<f32>> {
        match &self.values {
            Values::Rgba(bytes) if bytes.chunks_exact(4).any(|p| p[3] < 255) => {
                Some(bytes.chunks_exact(4).map(|p| f32::from(p[3]) / 255.0).collect())
            }
            _ => None,
        }
    }

    fn rgb(&self) -> Result<Vec<f32>> {
        self.check()?;
        Ok(match &self.values {
            Values::Rgb(numbers) => numbers.clone(),
            Values::Rgba(bytes) => bytes
                .chunks_exact(4)
                .flat_map(|p| {
                    let opaque = f32::from(p[3]) / 255.0;
                    [p[0], p[1], p[2]].map(|v| f32::from(v) / 255.0 * opaque + (1.0 - opaque))
                })
                .collect(),
        })
    }
}

/// Numbers, as many to a pixel as `P` has channels, as the `image` crate takes them.
fn buffer<P>((width, height): (usize, usize), values: Vec<f32>) -> Result<ImageBuffer<P, Vec<f32>>>
where
    P: Pixel<Subpixel = f32> + 'static,
{
    ImageBuffer::from_raw(width as u32, height as u32, values)
        .ok_or_else(|| Error::Internal("a picture's size and values disagree".into()))
}

/// For each of `count` places along a side of `own` pixels the two pixels that it lies between, and the second one's share: torch's
/// `interpolate(mode="bilinear", align_corners=False)`, which does not smooth what becomes smaller.
fn between(own: usize, count: usize) -> Vec<(usize, usize, f32)> {
    let scale = own as f32 / count as f32;
    let place = |at: usize| {
        let from = ((at as f32 + 0.5) * scale - 0.5).max(0.0);
        let first = (from as usize).min(own - 1);
        (first, (first + 1).min(own - 1), from - first as f32)
    };
    (0..count).map(place).collect()
}
