//! The same clip at several numbers of steps, side by side: what more steps are worth.

use crate::error::{Error, Result};
use crate::options::GenerateOptions;

/// The options of each clip of a comparison; levels of noise that a model suggests give way to the numbers of steps.
///
/// # Errors
/// [`Error::InvalidOptions`] for fewer than two, and when levels or a single number of steps were asked for besides.
pub fn each(options: &GenerateOptions, steps: &[usize], asked_besides: bool) -> Result<Vec<GenerateOptions>> {
    if asked_besides {
        return Err(Error::options("--compare-steps takes the place of --steps and --sigmas: leave them out"));
    }
    if steps.len() < 2 {
        return Err(Error::options(format!(
            "--compare-steps must be two numbers of steps or more, got {}",
            steps.len()
        )));
    }
    Ok(steps.iter().map(|&num_steps| GenerateOptions { num_steps, sigmas: None, ..options.clone() }).collect())
}

/// Clips of the same size as one, from left to right.
///
/// # Shapes
/// each `frames × height` rows of `row` bytes → the same rows, as many times as wide
pub fn beside(clips: &[Vec<u8>], row: usize) -> Vec<u8> {
    let rows = clips.first().map_or(0, |clip| clip.len() / row.max(1));
    let mut out = Vec::with_capacity(clips.iter().map(Vec::len).sum());
    for at in 0..rows {
        clips.iter().filter_map(|clip| clip.get(at * row..(at + 1) * row)).for_each(|part| out.extend_from_slice(part));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_lie_from_left_to_right() {
        assert_eq!(beside(&[vec![1, 2, 3, 4], vec![5, 6, 7, 8]], 2), [1, 2, 5, 6, 3, 4, 7, 8]);
        assert!(beside(&[], 2).is_empty());
    }
}
