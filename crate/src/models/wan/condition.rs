//! What is known of a clip, in the form each Wan model takes it.
//!
//! Source: VACE 2503.07598 §3.2 and diffusers `pipeline_wan_vace.py` (`prepare_video_latents`, `prepare_masks`);
//! `pipeline_wan_i2v.py` (`prepare_latents`).

use burn::tensor::{Device, Tensor, TensorData};

use crate::condition::Video;
use crate::error::{Error, Result};
use crate::models::family::{Room, VideoCodec};
use crate::models::footage::{Ends, Grey, Half};
use crate::pace::Pace;
use crate::size::ClipSize;

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
    size: ClipSize,
    known: Option<&Video<'_>>,
    references: &[Tensor<5>],
    device: &Device,
    room: Room,
    pace: &Pace<'_>,
) -> Result<Tensor<5>> {
    let ClipSize { frames, height, width } = size;
    let stride = codec.stride();
    let latents = match known {
        None => {
            // Nothing given: both halves are the latents of a grey clip, so one encode serves.
            let grey = codec.encode(&Grey { size, device }, room, pace).await?;
            Tensor::cat(vec![grey.clone(), grey], 1)
        }
        Some(video) => {
            let inactive = codec.encode(&Half { video, standing: true, device }, room, pace).await?;
            let reactive = codec.encode(&Half { video, standing: false, device }, room, pace).await?;
            Tensor::cat(vec![inactive, reactive], 1)
        }
    };
    // The folded mask keeps its soft values; only the pixels are cut hard.
    let mut mask = Vec::with_capacity(frames.div_ceil(stride.time) * height * width);
    for frame in mask_frames(frames, stride.time) {
        match known.map(|video| video.frame(frame)).transpose()?.flatten() {
            Some(shown) => mask.extend(shown.to_generate),
            None => mask.resize(mask.len() + height * width, 1.0),
        }
    }
    let mask = Tensor::from_data(TensorData::new(mask, [1, 1, frames.div_ceil(stride.time), height, width]), device);
    let mut control = Tensor::cat(vec![latents, fold_mask(mask, stride.space)], 1);
    for reference in references {
        check_dims("reference image", reference.dims(), [1, 3, 1, height, width])?;
        let latent = codec.encode(reference, room, pace).await?;
        let [_, channels, _, h, w] = control.dims();
        let rest = Tensor::zeros([1, channels - latent.dims()[1], 1, h, w], device);
        control = Tensor::cat(vec![Tensor::cat(vec![latent, rest], 1), control], 2);
    }
    Ok(control)
}

/// The frames whose masks stand for the latent frames: torch's "nearest-exact", the frame under the middle of each.
fn mask_frames(frames: usize, time: usize) -> impl Iterator<Item = usize> {
    let latent_frames = frames.div_ceil(time);
    let scale = frames as f32 / latent_frames as f32;
    (0..latent_frames).map(move |i| ((i as f32 + 0.5) * scale) as usize)
}

/// Folds each latent cell's square of mask pixels into channels.
///
/// # Shapes
/// `[1, 1, f, H, W]` → `[1, s², f, H / s, W / s]`
fn fold_mask(mask: Tensor<5>, side: usize) -> Tensor<5> {
    let [_, _, frames, height, width] = mask.dims();
    let (h, w) = (height / side, width / side);
    mask.reshape([frames, h, side, w, side]).permute([2, 4, 0, 1, 3]).reshape([1, side * side, frames, h, w])
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
    room: Room,
    pace: &Pace<'_>,
) -> Result<Tensor<5>> {
    let (device, time) = (first.device(), codec.stride().time);
    let ends = 1 + usize::from(last.is_some());
    if frames < ends || frames % time != 1 % time {
        return Err(Error::options(format!("num_frames must be {time}n + 1 and at least {ends}, got {frames} frames")));
    }
    let mut known = vec![1.0f32; time];
    known.extend((1..frames).map(|i| if last.is_some() && i + 1 == frames { 1.0 } else { 0.0 }));
    let latents = codec.encode(&Ends { first, last, frames }, room, pace).await?;
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
