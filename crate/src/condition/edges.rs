//! A line drawing made from a picture: the control clip that turns any clip into a sketch.

use super::picture::{MAX_PICTURE_SIDE_PX, Picture, Values};
use crate::error::{Error, Result};

/// Slope of brightness (−1…1, over two pixels) from which there is a line: what the default model was trained on
/// (`edges` in training/cache_latents.py).
const SLOPE: f32 = 0.18;

/// White lines on black where the brightness of a picture, brought to `height × width` px, changes.
///
/// # Errors
/// As [`Picture::planes`] and, for the size asked for, [`Picture::new`].
pub fn edges(picture: &Picture, height: usize, width: usize) -> Result<Picture> {
    if ![height, width].iter().all(|side| (1..=MAX_PICTURE_SIDE_PX).contains(side)) {
        return Err(Error::options(format!(
            "a line drawing must be 1 to {MAX_PICTURE_SIDE_PX} px wide and high, got {width} × {height} px"
        )));
    }
    let planes = picture.planes(height, width)?;
    let plane = height * width;
    let grey: Vec<f32> = (0..plane).map(|i| (planes[i] + planes[plane + i] + planes[2 * plane + i]) / 3.0).collect();
    let mut lines = Vec::with_capacity(plane * 4);
    for y in 0..height {
        for x in 0..width {
            let at = y * width + x;
            let along = |inside: bool, step: usize| if inside { grey[at + step] - grey[at - step] } else { 0.0 };
            let (gx, gy) = (along(x > 0 && x + 1 < width, 1), along(y > 0 && y + 1 < height, width));
            let line = if gx.hypot(gy) > SLOPE { 255 } else { 0 };
            lines.extend([line, line, line, 255]);
        }
    }
    Picture::new(width, height, Values::Rgba(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_becomes_its_outline() {
        let inside = |x: usize, y: usize| (3..7).contains(&x) && (3..7).contains(&y);
        let rgb = (0..100).flat_map(|i| [if inside(i % 10, i / 10) { 0.9 } else { 0.2 }; 3]).collect();
        let lines = edges(&Picture::new(10, 10, Values::Rgb(rgb)).unwrap(), 10, 10).unwrap().planes(10, 10).unwrap();
        let line = |x: usize, y: usize| lines[y * 10 + x] > 0.0;
        // Two pixels wide, one on either side of the edge; nothing in the middle and at the border.
        let row: Vec<usize> = (0..10).filter(|&x| line(x, 5)).collect();
        assert_eq!(row, [2, 3, 6, 7]);
        assert!((0..10).all(|i| !line(i, 0) && !line(0, i)));
    }
}
