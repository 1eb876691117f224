//! A picture as CLIP wants to see it: scaled until its shorter side fits, cut around the middle, normalised.
//!
//! Scaling is Pillow's, in 8 bits, because the encoder was trained on pictures brought to their size so.
//!
//! Source: transformers 5.23 `models/clip/image_processing_pil_clip.py` and `image_transforms.py`; Pillow
//! `src/libImaging/Resample.c` (bicubic, a = −0.5).

/// Mean and deviation of each channel in CLIP's training pictures, 0…1 (`OPENAI_CLIP_MEAN`, `OPENAI_CLIP_STD`).
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// # Shapes
/// `planes` `[3, H, W]` in −1…1 → `[3, side, side]`
pub fn pixel_values(planes: &[f32], [height, width]: [usize; 2], side: usize) -> Vec<f32> {
    let (short, long) = (height.min(width), height.max(width));
    let long = side * long / short;
    let (to_height, to_width) = if height <= width { (side, long) } else { (long, side) };
    let (top, left) = ((to_height - side) / 2, (to_width - side) / 2);
    let across = taps(width, to_width);
    let down = taps(height, to_height);
    let mut out = Vec::with_capacity(3 * side * side);
    for (channel, plane) in planes.chunks_exact(height * width).enumerate() {
        let bytes = plane.iter().map(|v| level(f64::from(v * 0.5 + 0.5) * 255.0)).collect();
        let wide = along_rows(bytes, width, &across);
        // The other way round: columns become rows, and what is left of them rows again.
        let turned = along_rows(turned(&wide, to_width), height, &down);
        for y in top..top + side {
            let row = (left..left + side).map(|x| turned[x * to_height + y] as f32 / 255.0);
            out.extend(row.map(|v| (v - MEAN[channel]) / DEVIATION[channel]));
        }
    }
    out
}

/// A whole level, 0…255.
fn level(value: f64) -> f64 {
    (value + 0.5).floor().clamp(0.0, 255.0)
}

/// What one value is made of: where its first neighbour lies, and the share of each.
type Taps = (usize, Vec<f64>);

/// For each of `to` values made from a row of `from`; none where the row stays as it is.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    if from == to {
        return Vec::new();
    }
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = 2.0 * stretch;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - reach + 0.5).max(0.0) as usize;
            let last = ((center + reach + 0.5) as usize).min(from);
            let shares: Vec<f64> = (first..last).map(|at| cubic((at as f64 - center + 0.5) / stretch)).collect();
            let sum: f64 = shares.iter().sum();
            (first, shares.iter().map(|share| share / sum).collect())
        })
        .collect()
}

/// Keys' cubic with a = −0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

/// Each row of `length` values made anew, in whole levels.
fn along_rows(values: Vec<f64>, length: usize, taps: &[Taps]) -> Vec<f64> {
    if taps.is_empty() {
        return values;
    }
    let made = |row: &[f64], (first, shares): &Taps| {
        level(row[*first..].iter().zip(shares).map(|(value, share)| value * share).sum())
    };
    values.chunks_exact(length).flat_map(|row| taps.iter().map(move |tap| made(row, tap))).collect()
}

/// Rows of `length` as columns.
fn turned(values: &[f64], length: usize) -> Vec<f64> {
    (0..length).flat_map(|x| values.iter().skip(x).step_by(length).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_picture_stays_flat_and_the_middle_is_cut_out() {
        let flat = pixel_values(&[1.0; 3 * 4 * 9], [4, 9], 2);
        assert_eq!(flat.len(), 12);
        assert!(flat.iter().enumerate().all(|(i, v)| (v - (1.0 - MEAN[i / 4]) / DEVIATION[i / 4]).abs() < 1e-6));
        // Columns 0 … 7 of a ramp at their own size: 2 to 5 are the middle four.
        let ramp: Vec<f32> = (0..3 * 4 * 8).map(|i| (i % 8) as f32 / 127.5 - 1.0).collect();
        let seen = pixel_values(&ramp, [4, 8], 4);
        for (x, value) in seen[..4].iter().enumerate() {
            let byte = value * DEVIATION[0] + MEAN[0];
            assert!((byte * 255.0 - (x + 2) as f32).abs() < 1e-3, "{x}: {byte}");
        }
    }

    #[test]
    fn shares_of_a_value_add_up_to_one() {
        for (from, to) in [(48, 42), (32, 28), (5, 224), (1, 7)] {
            for (first, shares) in taps(from, to) {
                assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12 && first + shares.len() <= from);
            }
        }
    }
}
