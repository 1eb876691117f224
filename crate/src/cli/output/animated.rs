//! Looping GIF with one palette for the whole clip.
//!
//! One palette keeps still areas still (a palette per frame flickers) and the file small; ordered dithering hides the
//! steps of skies and, unlike error diffusion, gives an unchanged pixel the same colour in every frame.

use std::collections::HashMap;
use std::io::Write;

use gif::{AnyExtension, Encoder, Extension, Frame, Repeat};

use super::{Clip, failed};
use crate::error::{Error, Result};

/// Pixels from which the palette is chosen.
const SAMPLES: usize = 60_000;
/// Strength of the dithering, in steps of 1/255 from trough to crest; about the spacing of palette colours.
const DITHER: f32 = 7.0;
/// NeuQuant's effort, 1 (best) … 30.
const SPEED: i32 = 3;

pub(super) fn write(clip: Clip<'_>, out: &mut impl Write) -> Result<()> {
    let side = |px: usize| {
        u16::try_from(px)
            .map_err(|_| Error::InvalidOptions(format!("a GIF is at most 65535 px wide and high, got {px} px")))
    };
    let (width, height) = (side(clip.width)?, side(clip.height)?);
    let palette = palette(clip.rgb);
    let mut nearest = Nearest { palette: &palette, known: HashMap::new() };
    let mut encoder = Encoder::new(out, width, height, &palette).map_err(failed)?;
    encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
    if let Some(recipe) = clip.recipe {
        let comment = AnyExtension::from(Extension::Comment);
        encoder.write_raw_extension(comment, &[recipe.as_bytes()]).map_err(failed)?;
    }
    // Delays are whole hundredths of a second: round the frame times, not the delays, so that the clip keeps its length.
    let time = |frame: usize| (frame as f64 * 100.0 / clip.fps).round().min(6e6) as u32;
    for (i, rgb) in clip.frames().enumerate() {
        let pixels = rgb.as_chunks::<3>().0;
        let indices: Vec<u8> = pixels
            .iter()
            .enumerate()
            .map(|(p, c)| nearest.index(dithered(*c, p % clip.width, p / clip.width)))
            .collect();
        let mut frame = Frame::from_indexed_pixels(width, height, indices, None);
        frame.delay = (time(i + 1) - time(i)).min(u32::from(u16::MAX)) as u16;
        encoder.write_frame(&frame).map_err(failed)?;
    }
    Ok(())
}

/// Up to 256 colours that suit pixels from all over the clip.
fn palette(rgb: &[u8]) -> Vec<u8> {
    let pixels = rgb.as_chunks::<3>().0;
    // An odd stride that shares no factor with usual widths, so that it does not sample columns.
    let stride = (pixels.len() / SAMPLES).max(1) | 1;
    let sample: Vec<u8> = pixels.iter().step_by(stride).take(u16::MAX.into()).flatten().copied().collect();
    let count = (sample.len() / 3) as u16;
    Frame::from_rgb_speed(count, 1, &sample, SPEED).palette.unwrap_or_else(|| vec![0; 3])
}

/// The 8×8 Bayer threshold of a pixel, 0 … 63/64.
fn threshold(x: usize, y: usize) -> f32 {
    let bits = (0..3).fold(0, |t, i| {
        let (bx, by) = ((x >> i) & 1, (y >> i) & 1);
        (t << 2) | ((bx ^ by) << 1) | by
    });
    bits as f32 / 64.0
}

fn dithered(colour: [u8; 3], x: usize, y: usize) -> [u8; 3] {
    let offset = (threshold(x, y) - 63.0 / 128.0) * DITHER;
    colour.map(|c| (f32::from(c) + offset).round().clamp(0.0, 255.0) as u8)
}

/// Nearest palette colour, remembered per colour.
struct Nearest<'a> {
    palette: &'a [u8],
    known: HashMap<[u8; 3], u8>,
}

impl Nearest<'_> {
    fn index(&mut self, colour: [u8; 3]) -> u8 {
        let palette = self.palette;
        *self.known.entry(colour).or_insert_with(|| {
            let distance =
                |p: &[u8; 3]| p.iter().zip(colour).map(|(a, b)| (i32::from(*a) - i32::from(b)).pow(2)).sum::<i32>();
            let best = palette.as_chunks::<3>().0.iter().enumerate().min_by_key(|(_, p)| distance(p));
            best.map_or(0, |(i, _)| i as u8)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{moving_square, psnr};
    use super::*;

    #[test]
    fn a_gif_keeps_its_frames_colours_and_length() {
        let (frames, width, height) = (9, 48, 32);
        let rgb = moving_square(frames, width, height);
        let mut bytes = Vec::new();
        write(Clip { rgb: &rgb, width, height, fps: 12.0, recipe: None }, &mut bytes).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes.as_slice()).unwrap();
        let (mut back, mut delays) = (Vec::new(), Vec::new());
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            back.extend(frame.buffer.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]));
            delays.push(frame.delay);
        }
        assert_eq!(delays.len(), frames);
        assert_eq!(delays.iter().sum::<u16>(), 75); // 9 frames at 12 a second
        let psnr = psnr(&rgb, &back);
        assert!(psnr > 36.0, "{psnr} dB");
    }

    #[test]
    fn all_thresholds_of_a_tile_differ() {
        let mut seen: Vec<u32> = (0..64).map(|i| (threshold(i % 8, i / 8) * 64.0) as u32).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..64).collect::<Vec<_>>());
    }
}
