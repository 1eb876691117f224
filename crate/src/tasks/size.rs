//! The size that a task works at. `pkg/src/task-size.ts` has the same rule; tests/fixtures/windows.json holds both to it.

use crate::options::Rules;

/// How much more than the largest size that a model was trained on a clip may have to keep its own, in pixels of a frame.
const MOST_OVER_TRAINED: u64 = 2;
/// Shapes that differ by less, as logarithms, are taken for the same: of those the first is chosen.
const SAME: f64 = 1e-9;

/// The width and height of a task's clip, px, where nobody says otherwise: those of the clip that it is made of where the model takes
/// them and they are not far beyond what it was trained on; else, of the sizes in `trained` (best first), those whose shape is nearest.
/// Without any in `trained`, the clip's own.
pub fn size_for(own: [usize; 2], rules: Rules, trained: &[[usize; 2]]) -> [usize; 2] {
    let pixels = |[width, height]: [usize; 2]| (width as u64).saturating_mul(height as u64);
    let largest = trained.iter().copied().map(pixels).max().unwrap_or(0);
    let [width, height] = own;
    let whole = width.is_multiple_of(rules.width_multiple) && height.is_multiple_of(rules.height_multiple);
    if whole && pixels(own) <= largest.saturating_mul(MOST_OVER_TRAINED) {
        return own;
    }
    let ratio = |[width, height]: [usize; 2]| width as f64 / height as f64;
    let skew = |size: [usize; 2]| (ratio(size) / ratio(own)).ln().abs();
    let nearest = |best: [usize; 2], size: [usize; 2]| if skew(size) < skew(best) - SAME { size } else { best };
    trained.iter().copied().reduce(nearest).unwrap_or(own)
}
