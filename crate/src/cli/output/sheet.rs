//! Contact sheet as PNG or JPEG: the frames row by row on a dark ground; a single frame is the picture itself.

use std::io::Write;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use png::{BitDepth, ColorType, Encoder, SrgbRenderingIntent};

use super::{Clip, failed, recipe};
use crate::error::{Error, Result};

/// Pixels between frames.
const GAP: usize = 4;
/// What shows between them.
const GROUND: [u8; 3] = [24, 24, 27];
/// Width over height that the whole sheet aims at.
const ASPECT: f64 = 1.6;

pub(super) fn write(clip: Clip<'_>, out: &mut impl Write) -> Result<()> {
    let (sheet, width, height) = lay_out(clip);
    let side = |px: usize| {
        u32::try_from(px).map_err(|_| Error::InvalidOptions(format!("a PNG cannot be {px} px wide or high")))
    };
    let mut encoder = Encoder::new(out, side(width)?, side(height)?);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    if let Some(recipe) = clip.recipe {
        encoder.add_itxt_chunk(recipe::KEY.into(), recipe.into()).map_err(failed)?;
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&sheet).map_err(failed)?;
    writer.finish().map_err(failed)
}

/// As near to the pixels as a JPEG is worth.
const JPEG_QUALITY: u8 = 95;

pub(super) fn write_jpeg(clip: Clip<'_>, out: &mut impl Write) -> Result<()> {
    let (sheet, width, height) = lay_out(clip);
    let side = |px: usize| {
        u16::try_from(px).map_err(|_| Error::InvalidOptions(format!("a JPEG cannot be {px} px wide or high")))
    };
    let (width, height) = (side(width)?.into(), side(height)?.into());
    let mut encoder = JpegEncoder::new_with_quality(out, JPEG_QUALITY);
    encoder.encode(&sheet, width, height, ExtendedColorType::Rgb8).map_err(failed)
}

/// The sheet's pixels, width and height.
fn lay_out(clip: Clip<'_>) -> (Vec<u8>, usize, usize) {
    let frames = clip.frames().len();
    let columns = (frames as f64 * clip.height as f64 / clip.width as f64 * ASPECT).sqrt().round() as usize;
    let columns = columns.clamp(1, frames.max(1));
    let rows = frames.div_ceil(columns);
    let width = columns * (clip.width + GAP) - GAP;
    let height = rows * (clip.height + GAP) - GAP;
    let mut sheet = GROUND.repeat(width * height);
    for (i, frame) in clip.frames().enumerate() {
        let (left, top) = (i % columns * (clip.width + GAP), i / columns * (clip.height + GAP));
        for (y, row) in frame.chunks_exact(clip.width * 3).enumerate() {
            let at = ((top + y) * width + left) * 3;
            sheet[at..at + row.len()].copy_from_slice(row);
        }
    }
    (sheet, width, height)
}

#[cfg(test)]
mod tests {
    use super::super::tests::moving_square;
    use super::*;

    #[test]
    fn one_frame_is_the_picture_itself() {
        let rgb = moving_square(1, 32, 16);
        assert_eq!(lay_out(Clip { rgb: &rgb, width: 32, height: 16, fps: 1.0, recipe: None }), (rgb.clone(), 32, 16));
    }

    #[test]
    fn frames_stand_row_by_row_with_a_gap() {
        let rgb: Vec<u8> = [10u8, 20, 30].iter().flat_map(|v| [*v; 12]).collect(); // three frames of 2×2
        let (sheet, width, height) = lay_out(Clip { rgb: &rgb, width: 2, height: 2, fps: 1.0, recipe: None });
        assert_eq!((width, height), (8, 8)); // two columns, two rows
        let pixel = |x: usize, y: usize| &sheet[(y * width + x) * 3..][..3];
        assert_eq!(pixel(1, 1), [10; 3]);
        assert_eq!(pixel(2, 0), GROUND);
        assert_eq!(pixel(6, 0), [20; 3]);
        assert_eq!(pixel(0, 6), [30; 3]);
        assert_eq!(pixel(7, 7), GROUND);
    }
}
