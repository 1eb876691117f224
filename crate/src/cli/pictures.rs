//! Reading picture files.

use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader};

use crate::condition::{Picture, Values};
use crate::error::{Error, Result};

/// A PNG, JPEG, WebP, GIF (its first frame) or BMP file, told by its content; turned as its EXIF says.
///
/// # Errors
/// [`Error::Fetch`] when it cannot be read, [`Error::InvalidOptions`] when it is no picture or a damaged one.
pub fn read(path: &Path) -> Result<Picture> {
    let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", path.display()));
    let damaged = |e: image::ImageError| {
        Error::options(format!("{} must be a PNG, JPEG, WebP, GIF or BMP picture: {e}", path.display()))
    };
    let reader = ImageReader::open(path).map_err(failed)?.with_guessed_format().map_err(failed)?;
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    let rgba = picture.into_rgba8();
    let (width, height) = rgba.dimensions();
    Picture::new(width as usize, height as usize, Values::Rgba(rgba.into_raw()))
}
