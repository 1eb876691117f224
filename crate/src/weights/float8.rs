//! 8-bit floats, and the scale that ComfyUI puts beside them.
//!
//! Source: FP8 Formats for Deep Learning 2209.05433 §3 (`float8_e4m3fn`, `float8_e5m2` of torch); `comfy/ops.py` and
//! `comfy/quant_ops.py` of <https://github.com/comfyanonymous/ComfyUI>.

use std::borrow::Cow;

use half::f16;

use super::info::{StoredType, TensorInfo};
use super::source::Bytes;
use crate::error::{Error, Result};

/// Four bits of exponent, three of mantissa; no infinity, all ones is not a number.
pub(super) fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 0x0F), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 0.001_953_125, // 2⁻⁹
        _ => (8.0 + mantissa) * f32::powi(2.0, exponent - 10),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

/// Five bits of exponent, two of mantissa: the upper half of an f16.
pub(super) fn e5m2(byte: u8) -> f32 {
    f16::from_bits(u16::from(byte) << 8).to_f32()
}

/// Multiplies by a scale for the whole tensor, or one for each row.
///
/// # Errors
/// [`Error::Weights`] when there are as many scales as neither.
pub(super) fn scale(info: &TensorInfo, scales: &[f32], values: &mut [f32]) -> Result<()> {
    check(info, scales.len(), values.len())?;
    let row = (values.len() / scales.len()).max(1);
    for (row, scale) in values.chunks_mut(row).zip(scales) {
        row.iter_mut().for_each(|v| *v *= scale);
    }
    Ok(())
}

/// # Errors
/// [`Error::Weights`] when so many scales are neither one for a tensor of so many values nor one for each row.
pub(super) fn check(info: &TensorInfo, scales: usize, values: usize) -> Result<()> {
    match scales > 0 && values.is_multiple_of(scales) && (scales == 1 || info.shape[0] == scales) {
        true => Ok(()),
        false => Err(Error::weights(&info.name, "one scale, or one for each row", format!("shape {:?}", info.shape))),
    }
}

/// The values as f16, half as large as f32 and exact without a scale; as f32 where one of them is too large for that.
pub(super) fn widened<'a>(values: &[f32]) -> (StoredType, Bytes<'a>) {
    let fits = values.iter().all(|v| v.abs() <= f32::from(f16::MAX));
    let (dtype, bytes) = match fits {
        true => (StoredType::F16, values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
        false => (StoredType::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    (dtype, Bytes::Here(Cow::Owned(bytes)))
}

/// True for tensors that say something about the file or about activations, and are no weights.
pub(super) fn is_marker(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    // rCM's training counters.
    last.starts_with("accum_")
        || matches!(last, "scaled_fp8" | "scale_input" | "input_scale" | "comfy_quant" | "spiece_model")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_torch() {
        // torch.tensor([…], dtype=torch.uint8).view(torch.float8_e4m3fn).float()
        let cases = [(0x00, 0.0), (0x01, 0.001_953_125), (0x07, 0.013_671_875), (0x08, 0.015_625), (0x38, 1.0)];
        let more = [(0x39, 1.125), (0x7e, 448.0), (0xb8, -1.0), (0xfe, -448.0), (0x46, 3.5)];
        for (byte, value) in cases.into_iter().chain(more) {
            assert_eq!(e4m3(byte), value, "{byte:#x}");
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        let cases = [(0x00, 0.0), (0x01, 1.525_878_9e-5), (0x3c, 1.0), (0x3d, 1.25), (0x7b, 57344.0), (0xbc, -1.0)];
        for (byte, value) in cases {
            assert_eq!(e5m2(byte), value, "{byte:#x}");
        }
        assert_eq!(e5m2(0x7c), f32::INFINITY);
    }

    #[test]
    fn every_number_is_exact_in_f16() {
        for byte in 0..=255u8 {
            for value in [e4m3(byte), e5m2(byte)].into_iter().filter(|v| v.is_finite()) {
                assert_eq!(f16::from_f32(value).to_f32(), value);
            }
        }
    }
}
