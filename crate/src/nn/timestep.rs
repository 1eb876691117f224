//! Sinusoidal timestep features.

/// Cosines first, then sines, of `timestep × 10000^(−i / (dim/2))`, one row a timestep.
///
/// # Shapes
/// `T` timesteps (0…1000) → `T × dim`, row-major
pub fn timestep_features(timesteps: &[f32], dim: usize) -> Vec<f32> {
    timestep_features_to(timesteps, dim, dim / 2)
}

/// As [`timestep_features`] with frequencies `10000^(−i / last)`: where `last` is `dim/2 − 1`, the last one is 1/10000 itself
/// (diffusers' `downscale_freq_shift` 1).
///
/// Computed in f32 in the reference's order: at timestep 999 the last bits of the angle are visible in the output.
///
/// # Shapes
/// `T` timesteps (0…1000) → `T × dim`, row-major
///
/// Source: diffusers `models/embeddings.py` `get_timestep_embedding` with `flip_sin_to_cos`.
pub fn timestep_features_to(timesteps: &[f32], dim: usize, last: usize) -> Vec<f32> {
    let half = dim / 2;
    let frequencies: Vec<f32> =
        (0..half).map(|i| (-(10_000f64.ln()) as f32 * i as f32 / last.max(1) as f32).exp()).collect();
    let mut out = Vec::with_capacity(timesteps.len() * dim);
    for &t in timesteps {
        out.extend(frequencies.iter().map(|f| (t * f).cos()));
        out.extend(frequencies.iter().map(|f| (t * f).sin()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestep_zero_is_ones_then_zeros() {
        assert_eq!(timestep_features(&[0.0], 4), vec![1.0, 1.0, 0.0, 0.0]);
    }
}
