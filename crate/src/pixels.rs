//! From decoded frames to bytes.

use burn::tensor::Tensor;

use crate::error::{Error, Result};

/// Frames as RGBA bytes, read back from the device.
///
/// # Shapes
/// `[1, 3, F, H, W]` in −1…1 → F × (`H × W × 4` bytes, opaque)
///
/// # Errors
/// [`Error::DeviceLost`] when the read fails, [`Error::Internal`] when the model produced values that are not finite.
pub async fn to_rgba(frames: Tensor<5>) -> Result<Vec<Vec<u8>>> {
    let [_, _, count, height, width] = frames.dims();
    // As diffusers' VideoProcessor: to 0…1, clamp, × 255, round.
    let scaled = (frames * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0;
    let interleaved = scaled.permute([0, 2, 3, 4, 1]);
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
    Ok((0..count)
        .map(|f| {
            let frame = &values[f * pixels * 3..(f + 1) * pixels * 3];
            frame
                .chunks_exact(3)
                .flat_map(|rgb| [rgb[0].round() as u8, rgb[1].round() as u8, rgb[2].round() as u8, 255])
                .collect()
        })
        .collect())
}
