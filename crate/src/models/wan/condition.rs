//! What is known of a clip, in the form each Wan model takes it.
//!
//! Source: VACE 2503.07598 §3.2 and diffusers `pipeline_wan_vace.py` (`prepare_video_latents`, `prepare_masks`);
//! `pipeline_wan_i2v.py` (`prepare_latents`).

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::models::family::VideoCodec;
use crate::pace::Pace;
use crate::size::{ClipSize, Stride};

/// Known pixels of a clip and where they are.
#[derive(Debug, Clone)]
pub struct Known {
    /// `[1, 3, F, H, W]` in −1…1; 0 (grey) where nothing is known.
    pub video: Tensor<5>,
    /// `[1, 1, F, H, W]`: 1 where pixels are to be made, 0 where they are given. Values above 0.5 count as 1.
    pub to_generate: Tensor<5>,
}

/// VACE control latents: inactive (given) and reactive (to be changed) latents, then the mask folded into channels.
/// `None` for `known` means that all is to be generated.
///
/// # Shapes
/// a clip of `frames × height × width` px, `references` `[1, 3, 1, H, W]` each
/// → `[1, 2z + s², R + n + 1, H / s, W / s]`
///
/// # Errors
/// [`Error::InvalidOptions`] when the sizes disagree; else as [`VideoCodec::encode`].
pub async fn vace_control(
    codec: &dyn VideoCodec,
    ClipSize { frames, height, width }: ClipSize,
    known: Option<&Known>,
    references: &[Tensor<5>],
    device: &Device,
    pace: &Pace<'_>,
) -> Result<Tensor<5>> {
    let stride = codec.stride();
    let (latents, mask) = match known {
        None => {
            // Nothing given: both halves are the latents of a grey clip, so one encode serves.
            let grey = Tensor::zeros([1, 3, frames, height, width], device);
            let grey = codec.encode(grey, pace).await?;
            (Tensor::cat(vec![grey.clone(), grey], 1), Tensor::ones([1, 1, frames, height, width], device))
        }
        Some(known) => {
            check_dims("video", known.video.dims(), [1, 3, frames, height, width])?;
            check_dims("mask", known.to_generate.dims(), [1, 1, frames, height, width])?;
            let mask = known.to_generate.clone().greater_elem(0.5).float();
            let inactive = known.video.clone() * (mask.clone() * -1.0 + 1.0);
            let reactive = known.video.clone() * mask.clone();
            let inactive = codec.encode(inactive, pace).await?;
            let reactive = codec.encode(reactive, pace).await?;
            // The folded mask keeps its soft values; only the pixels are cut hard.
            (Tensor::cat(vec![inactive, reactive], 1), known.to_generate.clone())
        }
    };
    let mut control = Tensor::cat(vec![latents, fold_mask(mask, stride)], 1);
    for reference in references {
        check_dims("reference image", reference.dims(), [1, 3, 1, height, width])?;
        let latent = codec.encode(reference.clone(), pace).await?;
        let [_, channels, _, h, w] = control.dims();
        let rest = Tensor::zeros([1, channels - latent.dims()[1], 1, h, w], device);
        control = Tensor::cat(vec![Tensor::cat(vec![latent, rest], 1), control], 2);
    }
    Ok(control)
}

/// Folds each latent cell's square of mask pixels into channels and picks the frames nearest to the latent frames.
///
/// # Shapes
/// `[1, 1, F, H, W]` → `[1, s², ⌈F / t⌉, H / s, W / s]`
fn fold_mask(mask: Tensor<5>, Stride { time, space: side }: Stride) -> Tensor<5> {
    let [_, _, frames, height, width] = mask.dims();
    let (h, w) = (height / side, width / side);
    let latent_frames = frames.div_ceil(time);
    // torch's "nearest-exact": the frame under the middle of each output frame.
    let scale = frames as f32 / latent_frames as f32;
    let picked: Vec<i32> = (0..latent_frames).map(|i| ((i as f32 + 0.5) * scale) as i32).collect();
    let picked = Tensor::<1, Int>::from_data(TensorData::new(picked, [latent_frames]), &mask.device());
    mask.reshape([frames, h, side, w, side])
        .permute([2, 4, 0, 1, 3])
        .reshape([1, side * side, frames, h, w])
        .select(2, picked)
}

/// The extra channels of Wan I2V: a mask of known frames (t channels) and the latents of the known frames in grey.
///
/// # Shapes
/// `first`, `last` `[1, 3, 1, H, W]` in −1…1 → `[1, t + z, n + 1, H / s, W / s]`
///
/// # Errors
/// As [`vace_control`].
pub async fn first_last_channels(
    codec: &dyn VideoCodec,
    frames: usize,
    first: Tensor<5>,
    last: Option<Tensor<5>>,
    pace: &Pace<'_>,
) -> Result<Tensor<5>> {
    let (device, time) = (first.device(), codec.stride().time);
    let [_, _, _, height, width] = first.dims();
    let ends = 1 + usize::from(last.is_some());
    if frames < ends || frames % time != 1 % time {
        return Err(Error::options(format!("num_frames must be {time}n + 1 and at least {ends}, got {frames} frames")));
    }
    let mut known = vec![1.0f32; time];
    known.extend((1..frames).map(|i| if last.is_some() && i + 1 == frames { 1.0 } else { 0.0 }));
    let mut pieces = vec![first];
    if frames > ends {
        pieces.push(Tensor::zeros([1, 3, frames - ends, height, width], &device));
    }
    pieces.extend(last);
    let latents = codec.encode(Tensor::cat(pieces, 2), pace).await?;
    let [_, _, latent_frames, h, w] = latents.dims();
    let mask = Tensor::<5>::from_data(TensorData::new(known, [1, latent_frames, time, 1, 1]), &device);
    let mask = mask.swap_dims(1, 2).expand([1, time, latent_frames, h, w]);
    Ok(Tensor::cat(vec![mask, latents], 1))
}

fn check_dims(what: &str, found: [usize; 5], expected: [usize; 5]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::options(format!(
        "{what} must be [batch, channels, frames, height, width] = {expected:?}, got {found:?}"
    )))
}
