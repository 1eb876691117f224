//! A picture in memory, scaled to what a clip needs.

use image::imageops::FilterType;
use image::{ImageBuffer, Luma, Rgb, imageops};

use crate::error::{Error, Result};

/// Largest side of a given picture, pixels: what one may hold in a tab's memory without thought.
pub const MAX_PICTURE_SIDE_PX: usize = 16_384;

/// A picture's numbers.
#[derive(Debug, Clone)]
pub enum Values {
    /// Red, green, blue and opacity of each pixel, bytes; opacity is laid over white.
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

    /// Scaled to cover `height × width` and cut around the middle, `[3, H, W]` in −1…1.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when a value is not finite.
    pub fn planes(&self, height: usize, width: usize) -> Result<Vec<f32>> {
        let pixels = self.fitted(height, width)?;
        let plane = height * width;
        let mut out = vec![0.0f32; 3 * plane];
        for (i, rgb) in pixels.chunks_exact(3).enumerate() {
            for (channel, value) in rgb.iter().enumerate() {
                out[channel * plane + i] = value * 2.0 - 1.0;
            }
        }
        Ok(out)
    }

    /// The same as [`Picture::planes`] for a mask: brightness `[H, W]` in 0…1. Scaling keeps its edges hard.
    ///
    /// # Errors
    /// As [`Picture::planes`].
    pub fn brightness(&self, height: usize, width: usize) -> Result<Vec<f32>> {
        let grey: Vec<f32> = self.rgb()?.chunks_exact(3).map(|p| (p[0] + p[1] + p[2]) / 3.0).collect();
        if (self.height, self.width) == (height, width) {
            return Ok(grey);
        }
        let (left, top, w, h) = self.cut(height, width);
        let grey = ImageBuffer::<Luma<f32>, _>::from_raw(self.width as u32, self.height as u32, grey)
            .ok_or_else(|| Error::Internal("a mask's size and values disagree".into()))?;
        let cut = imageops::crop_imm(&grey, left, top, w, h).to_image();
        Ok(imageops::resize(&cut, width as u32, height as u32, FilterType::Nearest).into_raw())
    }

    /// `[H, W, 3]` in 0…1 at another size.
    fn fitted(&self, height: usize, width: usize) -> Result<Vec<f32>> {
        let rgb = self.rgb()?;
        if (self.height, self.width) == (height, width) {
            return Ok(rgb);
        }
        let (left, top, w, h) = self.cut(height, width);
        let picture = ImageBuffer::<Rgb<f32>, _>::from_raw(self.width as u32, self.height as u32, rgb)
            .ok_or_else(|| Error::Internal("a picture's size and values disagree".into()))?;
        let cut = imageops::crop_imm(&picture, left, top, w, h).to_image();
        // Lanczos overshoots at edges.
        let scaled = imageops::resize(&cut, width as u32, height as u32, FilterType::Lanczos3);
        Ok(scaled.into_raw().into_iter().map(|v| v.clamp(0.0, 1.0)).collect())
    }

    /// Left, top, width and height of the largest middle part with the shape of `height × width`.
    fn cut(&self, height: usize, width: usize) -> (u32, u32, u32, u32) {
        let scale = (self.width as f64 / width as f64).min(self.height as f64 / height as f64);
        let w = ((width as f64 * scale).round() as usize).clamp(1, self.width);
        let h = ((height as f64 * scale).round() as usize).clamp(1, self.height);
        (((self.width - w) / 2) as u32, ((self.height - h) / 2) as u32, w as u32, h as u32)
    }

    fn rgb(&self) -> Result<Vec<f32>> {
        Ok(match &self.values {
            Values::Rgb(numbers) => {
                if let Some(bad) = numbers.iter().find(|v| !v.is_finite()) {
                    return Err(Error::options(format!("a picture's values must be 0 to 1, got {bad}")));
                }
                numbers.clone()
            }
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
