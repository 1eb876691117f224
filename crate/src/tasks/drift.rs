//! Colours held from window to window: a decoder gives back known frames a little brighter or paler than they were, and a
//! hundred windows would add that up.

/// Least and most that a channel's contrast is changed by; further off it is not the decoder's doing.
const GAIN: (f32, f32) = (0.8, 1.25);

/// What brings a channel back: `value · gain + shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mend {
    gain: f32,
    shift: f32,
}

/// The new frames of a window, `made` without the known ones at its start and end. Each colour channel is scaled and shifted so
/// that mean and deviation of the known frames, as they were made, are those that they have; between two known ends the
/// one gives way to the other.
///
/// # Shapes
/// each frame `H × W × 4` bytes, all of one size
pub(super) fn hold(mut made: Vec<Vec<u8>>, before: &[Vec<u8>], after: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let end = made.len().saturating_sub(after.len());
    let first = mend(&made[..before.len().min(made.len())], before);
    let last = mend(&made[end..], after);
    let (first, last) = match (first, last) {
        (Some(first), Some(last)) => (first, last),
        (Some(only), None) | (None, Some(only)) => (only, only),
        (None, None) => return made,
    };
    made.truncate(end);
    let mut new = made.split_off(before.len().min(made.len()));
    let steps = (new.len() + 1) as f32;
    for (i, frame) in new.iter_mut().enumerate() {
        let share = (i + 1) as f32 / steps;
        for pixel in frame.chunks_exact_mut(4) {
            for channel in 0..3 {
                let (a, b) = (first[channel], last[channel]);
                let gain = a.gain + (b.gain - a.gain) * share;
                let shift = a.shift + (b.shift - a.shift) * share;
                pixel[channel] = (f32::from(pixel[channel]) * gain + shift).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
    new
}

/// What turns the frames as they were made into those that are known; `None` without any.
fn mend(made: &[Vec<u8>], known: &[Vec<u8>]) -> Option<[Mend; 3]> {
    if made.is_empty() || known.is_empty() {
        return None;
    }
    let mut out = [Mend { gain: 1.0, shift: 0.0 }; 3];
    for (channel, mend) in out.iter_mut().enumerate() {
        let ((mean, deviation), (wanted_mean, wanted)) = (statistics(made, channel), statistics(known, channel));
        // A plain colour has no contrast to compare.
        if deviation > 1.0 && wanted > 1.0 {
            mend.gain = (wanted / deviation).clamp(GAIN.0, GAIN.1);
        }
        mend.shift = wanted_mean - mean * mend.gain;
    }
    Some(out)
}

/// Mean and standard deviation of a channel.
fn statistics(frames: &[Vec<u8>], channel: usize) -> (f32, f32) {
    let values = || frames.iter().flat_map(|f| f.iter().skip(channel).step_by(4)).map(|&v| f64::from(v));
    let count = values().count().max(1) as f64;
    let mean = values().sum::<f64>() / count;
    let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    (mean as f32, variance.sqrt() as f32)
}
