//! Raw video for other programs: YUV4MPEG2, 4:2:0, BT.709, limited range.
//!
//! Source: <https://wiki.multimedia.cx/index.php/YUV4MPEG2>; ITU-R BT.709-6, sections 3 and 4. The format has no tag
//! for the matrix: tell players of small sizes that it is BT.709 (`-colorspace bt709`), or they may assume BT.601.

use std::io::Write;

use super::{Clip, failed};
use crate::error::Result;

pub(super) fn write(clip: Clip<'_>, out: &mut impl Write) -> Result<()> {
    let (num, den) = frame_rate(clip.fps);
    // 420jpeg says where chroma samples sit (in the middle of four pixels, where averaging puts them), not the range.
    writeln!(out, "YUV4MPEG2 W{} H{} F{num}:{den} Ip A1:1 C420jpeg XCOLORRANGE=LIMITED", clip.width, clip.height)
        .map_err(failed)?;
    for rgb in clip.frames() {
        out.write_all(b"FRAME\n").map_err(failed)?;
        out.write_all(&planes(rgb, clip.width, clip.height)).map_err(failed)?;
    }
    Ok(())
}

/// A fraction for frames a second: exact for whole and NTSC rates, in thousandths otherwise.
fn frame_rate(fps: f64) -> (u64, u64) {
    for den in [1u64, 1001, 1000] {
        let num = fps * den as f64;
        let unit = if den == 1001 { 1000.0 } else { 1.0 };
        if (num / unit - (num / unit).round()).abs() < 1e-3 && num >= 1.0 {
            return (((num / unit).round() * unit) as u64, den);
        }
    }
    (((fps * 1000.0).round() as u64).max(1), 1000)
}

/// Y, then Cb and Cr at half size (rounded up), of one frame.
fn planes(rgb: &[u8], width: usize, height: usize) -> Vec<u8> {
    let pixels = rgb.as_chunks::<3>().0;
    let mut out: Vec<u8> = pixels.iter().map(|p| quantised(16.0, 219.0, luma(p.map(f32::from)))).collect();
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let mut chroma = [Vec::with_capacity(half_width * half_height), Vec::with_capacity(half_width * half_height)];
    for cy in 0..half_height {
        for cx in 0..half_width {
            let mut sum = [0.0f32; 3];
            let mut count = 0.0;
            for y in 2 * cy..(2 * cy + 2).min(height) {
                for x in 2 * cx..(2 * cx + 2).min(width) {
                    let pixel = pixels[y * width + x];
                    sum.iter_mut().zip(pixel).for_each(|(s, v)| *s += f32::from(v));
                    count += 1.0;
                }
            }
            let [r, g, b] = sum.map(|s| s / count);
            let y = luma([r, g, b]);
            chroma[0].push(quantised(128.0, 224.0, (b - y) / 1.8556));
            chroma[1].push(quantised(128.0, 224.0, (r - y) / 1.5748));
        }
    }
    out.extend(chroma.concat());
    out
}

fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// A value in 0…255 (or ±127.5) at the offset and scale of limited range.
fn quantised(offset: f32, range: f32, value: f32) -> u8 {
    (offset + range * value / 255.0).round().clamp(1.0, 254.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pure_colours_have_the_codes_of_bt_709() {
        let code = |rgb: [u8; 3]| {
            let p = planes(&rgb.repeat(4), 2, 2);
            [p[0], p[4], p[5]]
        };
        assert_eq!(code([255, 255, 255]), [235, 128, 128]);
        assert_eq!(code([0, 0, 0]), [16, 128, 128]);
        assert_eq!(code([255, 0, 0]), [63, 102, 240]);
        assert_eq!(code([0, 255, 0]), [173, 42, 26]);
        assert_eq!(code([0, 0, 255]), [32, 240, 118]);
    }

    #[test]
    fn odd_sizes_round_the_chroma_planes_up() {
        assert_eq!(planes(&[9; 5 * 3 * 3], 5, 3).len(), 15 + 2 * 6);
    }

    #[test]
    fn frame_rates_are_exact_fractions() {
        assert_eq!(frame_rate(16.0), (16, 1));
        assert_eq!(frame_rate(23.976_023_976), (24000, 1001));
        assert_eq!(frame_rate(12.5), (12500, 1000));
        assert_eq!(frame_rate(0.25), (250, 1000));
    }
}
