//! Reading picture files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::webp;
use crate::condition::{MAX_PICTURE_SIDE_PX, Picture, Values};
use crate::error::{Error, Result};

/// What a decoder may take for a file's pixels: sides that a picture may have, and so many bytes.
pub fn limits(most_bytes: u64) -> Limits {
    let side = u32::try_from(MAX_PICTURE_SIDE_PX).ok();
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height, limits.max_alloc) = (side, side, Some(most_bytes));
    limits
}

/// Refuses a picture whose pixels are too many: not every decoder keeps to its limits.
///
/// # Errors
/// [`Error::InvalidOptions`] naming both numbers.
pub fn check_room(decoder: &impl ImageDecoder, path: &Path, most_bytes: u64) -> Result<()> {
    let ((width, height), bytes) = (decoder.dimensions(), decoder.total_bytes());
    if bytes <= most_bytes {
        return Ok(());
    }
    Err(Error::options(format!(
        "{} must have at most {most_bytes} bytes of pixels, {width} × {height} px make {bytes}: make it smaller",
        path.display()
    )))
}

/// A PNG, JPEG, WebP, GIF (its first frame) or BMP file, told by its content; turned as its EXIF says. It may have `most_bytes`
/// bytes of pixels.
///
/// # Errors
/// [`Error::Fetch`] when it cannot be read, [`Error::InvalidOptions`] when it is no picture, a damaged or too large one.
pub fn read(path: &Path, most_bytes: u64) -> Result<Picture> {
    let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", path.display()));
    let damaged = |e: image::ImageError| {
        Error::options(format!("{} must be a PNG, JPEG, WebP, GIF or BMP picture: {e}", path.display()))
    };
    let mut reader = ImageReader::open(path).map_err(failed)?.with_guessed_format().map_err(failed)?;
    reader.limits(limits(most_bytes));
    if reader.format() == Some(ImageFormat::WebP) {
        webp::check_frames(BufReader::new(File::open(path).map_err(failed)?), path, most_bytes)?;
    }
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    check_room(&decoder, path, most_bytes)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    let rgba = picture.into_rgba8();
    let (width, height) = rgba.dimensions();
    Picture::new(width as usize, height as usize, Values::Rgba(rgba.into_raw()))
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    use super::*;

    /// EXIF whose one entry says that the picture is seen turned by a quarter to the right (orientation 6).
    const TURNED: &[u8] = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";

    #[test]
    fn a_picture_is_turned_as_its_exif_says() {
        // Red on the left, blue on the right.
        let rgb: Vec<u8> = (0..32 * 16).flat_map(|i| if i % 32 < 16 { [200, 30, 30] } else { [30, 30, 200] }).collect();
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, 95).write_image(&rgb, 32, 16, ExtendedColorType::Rgb8).unwrap();
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1, 0, TURNED.len() as u8 + 2]);
        turned.extend(TURNED);
        turned.extend(&jpeg[2..]);
        let path = std::env::temp_dir().join(format!("tabreel-pictures-{}-turned.jpg", std::process::id()));
        let seen = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let picture = read(&path, 1 << 20).unwrap();
            let (width, height) = picture.size();
            let rgba = picture.rgba(height, width).unwrap();
            let is_red = |x: usize, y: usize| rgba[(y * width + x) * 4] > 128;
            ((width, height), is_red(2, 2), is_red(width - 3, 2), is_red(2, height - 3))
        };
        assert_eq!(seen(&jpeg), ((32, 16), true, false, true));
        assert_eq!(seen(&turned), ((16, 32), true, true, false), "what was left is above");
        std::fs::remove_file(&path).unwrap();
    }
}
