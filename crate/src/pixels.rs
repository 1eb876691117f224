//! From decoded frames to bytes.

use burn::tensor::Tensor;

use crate::error::{Error, Result};

/// Frames as RGBA bytes, read back from the device.
///
/// What lies outside −1…1 is clamped here and nowhere before: clamped on a device an infinity would be a white or a black pixel,
/// and what a number that is none becomes there is left open by WGSL.
///
/// # Shapes
/// `[1, 3, F, H, W]` around −1…1 → F × (`H × W × 4` bytes, opaque)
///
/// # Errors
/// [`Error::DeviceLost`] when the read fails, [`Error::Internal`] when the model produced values that are not finite.
pub async fn to_rgba(frames: Tensor<5>) -> Result<Vec<Vec<u8>>> {
    let [_, _, count, height, width] = frames.dims();
    // As diffusers' VideoProcessor: to 0…1, clamp, × 255, round.
    let interleaved = (frames * 0.5 + 0.5).permute([0, 2, 3, 4, 1]);
    let data = interleaved
        .into_data_async()
        .await
        .map_err(|e| Error::DeviceLost(format!("frames could not be read back: {e}")))?;
    let values = data.try_to_vec_as::<f32>().map_err(|e| Error::Internal(format!("frames are not f32: {e:?}")))?;
    if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::Internal(format!(
            "the decoder produced a value that is not finite (element {bad} of {})",
            values.len()
        )));
    }
    let pixels = height * width;
    let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    Ok((0..count)
        .map(|f| {
            let frame = &values[f * pixels * 3..(f + 1) * pixels * 3];
            frame.chunks_exact(3).flat_map(|rgb| [byte(rgb[0]), byte(rgb[1]), byte(rgb[2]), 255]).collect()
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use pollster::block_on;

    use super::*;

    /// One pixel of these colours.
    fn shown(rgb: [f32; 3]) -> Result<Vec<Vec<u8>>> {
        block_on(to_rgba(Tensor::from_data(TensorData::new(rgb.to_vec(), [1, 3, 1, 1, 1]), &Device::flex())))
    }

    #[test]
    fn what_lies_outside_is_clamped_and_what_is_not_finite_is_told() {
        assert_eq!(shown([-1.0, 0.0, 1.0]).unwrap(), [[0u8, 128, 255, 255]]);
        assert_eq!(shown([-1.5, f32::MAX, f32::MIN]).unwrap(), [[0u8, 255, 0, 255]]);
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let told = shown([0.0, bad, 0.0]).unwrap_err().to_string();
            assert!(told.contains("not finite (element 1 of 3)"), "{bad}: {told}");
        }
    }
}
