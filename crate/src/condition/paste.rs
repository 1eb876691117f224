//! Known pixels put over the decoded ones, so that what was given comes back unchanged.

use super::Timeline;
use crate::error::Result;
use crate::size::ClipSize;

impl Timeline<'_> {
    /// Puts what stands in frame `index` over its decoded pixels. Beside them the decoder's colours are often a little off:
    /// made pixels within the seam get the difference of their neighbours that stand, less and less away from them.
    ///
    /// # Shapes
    /// `rgba`: `H × W × 4` bytes
    ///
    /// # Errors
    /// As [`super::Video::frame`].
    pub fn paste(&self, index: usize, rgba: &mut [u8]) -> Result<()> {
        let (Some(video), Some(seam)) = (&self.video, self.paste) else { return Ok(()) };
        let ClipSize { frames, height, width } = self.size;
        let plane = height * width;
        if index >= frames || rgba.len() != plane * 4 {
            return Ok(());
        }
        let Some(shown) = video.frame(index)? else { return Ok(()) };
        let stands: Vec<bool> = shown.to_generate.iter().map(|&made| made <= 0.5).collect();
        let mut off = vec![[0.0f32; 3]; plane];
        for (at, pixel) in rgba.chunks_exact_mut(4).enumerate().filter(|(at, _)| stands[*at]) {
            for channel in 0..3 {
                let known = byte(shown.planes[channel * plane + at]);
                off[at][channel] = f32::from(known) - f32::from(pixel[channel]);
                pixel[channel] = known;
            }
        }
        if seam > 0 && stands.contains(&true) && stands.contains(&false) {
            even_out(rgba, stands, off, width, seam);
        }
        Ok(())
    }
}

/// A known value as the byte it came from.
fn byte(value: f32) -> u8 {
    ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
}

/// Spreads the difference of what stands into what was made, ring by ring: each pixel of a ring takes the mean of its
/// neighbours that have one, and `1 − ring / (seam + 1)` of it is added.
fn even_out(rgba: &mut [u8], mut has: Vec<bool>, mut off: Vec<[f32; 3]>, width: usize, seam: usize) {
    let height = has.len() / width;
    let neighbours = |at: usize| {
        let (x, y) = (at % width, at / width);
        let rows = y.saturating_sub(1)..(y + 2).min(height);
        rows.flat_map(move |y| (x.saturating_sub(1)..(x + 2).min(width)).map(move |x| y * width + x))
    };
    for ring in 1..=seam {
        let here: Vec<usize> = (0..has.len()).filter(|&at| !has[at] && neighbours(at).any(|n| has[n])).collect();
        let share = 1.0 - ring as f32 / (seam + 1) as f32;
        for &at in &here {
            let (mut sum, mut count) = ([0.0f32; 3], 0.0f32);
            for n in neighbours(at).filter(|&n| has[n]) {
                (0..3).for_each(|c| sum[c] += off[n][c]);
                count += 1.0;
            }
            for channel in 0..3 {
                off[at][channel] = sum[channel] / count;
                let value = &mut rgba[at * 4 + channel];
                *value = (f32::from(*value) + share * off[at][channel]).round().clamp(0.0, 255.0) as u8;
            }
        }
        here.iter().for_each(|&at| has[at] = true);
    }
}
