//! f32 → stored elements, bit for bit as the `gguf` Python package encodes them.
//!
//! Source: `gguf-py/gguf/quants.py` of <https://github.com/ggml-org/llama.cpp> (gguf 0.19).

use half::f16;

use super::info::StoredType;
use crate::error::{Error, Result};

/// Encodes values as F32, F16, Q8_0 or Q4_0.
///
/// Rows must be whole blocks (32 elements for the quantised types); the caller's shape decides that, here only the
/// total counts.
///
/// # Errors
/// [`Error::InvalidOptions`] for another type or a number of values that is not whole blocks.
pub fn encode(values: &[f32], dtype: StoredType) -> Result<Vec<u8>> {
    if !values.len().is_multiple_of(dtype.block_len()) {
        let rule = format!("{dtype} needs a multiple of {} values, got {}", dtype.block_len(), values.len());
        return Err(Error::InvalidOptions(rule));
    }
    let mut out = Vec::with_capacity(values.len() / dtype.block_len() * dtype.block_bytes());
    match dtype {
        StoredType::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        StoredType::F16 => out.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
        StoredType::Q8_0 => values.as_chunks::<32>().0.iter().for_each(|block| q8_0(block, &mut out)),
        StoredType::Q4_0 => values.as_chunks::<32>().0.iter().for_each(|block| q4_0(block, &mut out)),
        _ => {
            return Err(Error::InvalidOptions(format!(
                "weights can be written as f32, f16, q8_0 or q4_0, not {dtype}"
            )));
        }
    }
    Ok(out)
}

/// The largest magnitude the type can hold before a scale or value becomes infinite.
pub fn largest(dtype: StoredType) -> f32 {
    match dtype {
        StoredType::F16 => 65504.0,
        StoredType::Q8_0 => 65504.0 * 127.0,
        StoredType::Q4_0 => 65504.0 * 8.0,
        _ => f32::MAX,
    }
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Scale so that the largest magnitude becomes 127; halves round away from zero.
fn q8_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    out.extend(f16::from_f32(scale).to_le_bytes());
    out.extend(block.iter().map(|v| round_half_away(v * inverse) as i8 as u8));
}

/// `f32::round`, spelled as the reference does: just below a half the two differ.
fn round_half_away(v: f32) -> f32 {
    let magnitude = v.abs();
    let floor = magnitude.floor();
    (floor + (2.0 * (magnitude - floor)).floor()).copysign(v)
}

/// Scale so that the value of largest magnitude (the first of equals), with its sign, becomes −8.
fn q4_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let mut extreme = 0.0f32;
    for &v in block {
        if v.abs() > extreme.abs() {
            extreme = v;
        }
    }
    let scale = extreme / -8.0;
    let inverse = inverse(scale);
    out.extend(f16::from_f32(scale).to_le_bytes());
    let level = |v: f32| ((v * inverse + 8.5) as u8).min(15);
    out.extend((0..16).map(|i| level(block[i]) | (level(block[i + 16]) << 4)));
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect()
    }

    #[test]
    fn q8_0_comes_back_within_half_a_level() {
        let x = ramp(96);
        let y = decode(StoredType::Q8_0, &encode(&x, StoredType::Q8_0).unwrap());
        let level = 50.0 / 17.0 / 127.0;
        assert!(x.iter().zip(&y).all(|(a, b)| (a - b).abs() <= 0.51 * level));
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        for dtype in [StoredType::Q8_0, StoredType::Q4_0, StoredType::F16] {
            let y = decode(dtype, &encode(&[0.0; 64], dtype).unwrap());
            assert!(y.iter().all(|&v| v == 0.0), "{dtype}");
        }
    }

    #[test]
    fn halves_round_away_from_zero() {
        for (v, want) in [(0.5, 1.0), (-0.5, -1.0), (1.49, 1.0), (-2.5, -3.0), (0.0, 0.0)] {
            assert_eq!(round_half_away(v), want);
        }
    }

    #[test]
    fn a_length_that_is_not_whole_blocks_is_refused() {
        assert!(encode(&[1.0; 33], StoredType::Q8_0).is_err());
        assert!(encode(&[1.0; 256], StoredType::Q4_K).is_err());
    }
}
