//! `AutoencoderKL`, the VAE of Stable Diffusion and DiT: every frame a picture of its own.

pub mod config;
mod layers;
mod vae;

use burn::tensor::Tensor;

use config::CLASSES;
pub use config::KlConfig;
pub use vae::KlVae;

use crate::config::parse;
use crate::models::family::{DecodeStream, Entry, Room, VideoCodec, needs_config, nothing_usual};
use crate::models::footage::Footage;
use crate::pace::{Later, Pace};
use crate::size::{ClipSize, Stride};

/// Stable Diffusion's VAE and its likes.
pub const ENTRY: Entry<dyn VideoCodec> = Entry {
    classes: CLASSES,
    // Its kernels are flat; those of Wan's VAE have the same names.
    owns: |set| set.get("decoder.conv_norm_out.weight").is_some(),
    needs_text: false,
    configure: needs_config,
    usual: nothing_usual,
    load: |component| {
        Box::pin(async move {
            let config: KlConfig = parse(component.config, component.file, CLASSES)?;
            Ok(Box::new(KlVae::load(&component.loader, &config).await?) as Box<dyn VideoCodec>)
        })
    },
};

impl VideoCodec for KlVae {
    fn stride(&self) -> Stride {
        self.config().stride()
    }

    fn latent_channels(&self) -> usize {
        self.config().latent_channels
    }

    fn encode<'a>(&'a self, video: &'a dyn Footage, _: Room, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(self.encode_normalised(video, pace))
    }

    fn decode_stream(&self) -> Box<dyn DecodeStream + '_> {
        Box::new(Decoding(self))
    }

    fn peak_bytes(&self, size: ClipSize, _: Room) -> u64 {
        // Shortcut, norm (its input, centred and squared) and result.
        5 * 4 * self.config().largest(size.height, size.width) as u64
    }

    fn least_bytes(&self, size: ClipSize) -> u64 {
        // What goes into the last level's convolutions and what comes out.
        2 * 4 * self.config().largest(size.height, size.width) as u64
    }
}

struct Decoding<'a>(&'a KlVae);

impl DecodeStream for Decoding<'_> {
    fn push<'a>(&'a mut self, latent: Tensor<5>, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        let vae = self.0;
        Box::pin(vae.decode(vae.denormalise(latent), pace))
    }
}
