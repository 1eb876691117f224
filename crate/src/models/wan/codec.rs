//! Wan's VAE behind the door.

use burn::tensor::Tensor;

use super::config::{VAE_CLASSES, VaeConfig};
use super::configure;
use super::tiling::{Tiled, Tiles};
use super::vae::{DecodeStream, Vae};
use crate::config;
use crate::error::Error;
use crate::memory::pool::Pool;
use crate::models::family::{self, Component, Entry, Room, VideoCodec};
use crate::models::footage::Footage;
use crate::pace::{Later, Pace};
use crate::size::{ClipSize, Stride};

/// The VAEs of Wan 2.1 and 2.2.
pub const VAE_ENTRY: Entry<dyn VideoCodec> = Entry {
    classes: VAE_CLASSES,
    // Stable Diffusion's has the same name, and is flat.
    owns: |set| set.get("post_quant_conv.weight").is_some_and(|info| info.shape.len() == 5),
    needs_text: false,
    configure: configure::vae,
    usual: family::nothing_usual,
    load: load_vae,
};

fn load_vae<'a>(component: &'a Component<'a>) -> Later<'a, Box<dyn VideoCodec>> {
    Box::pin(async move {
        let config: VaeConfig = config::parse(component.config, component.file, VAE_ENTRY.classes)?;
        Ok(Box::new(Vae::load(&component.loader, &config).await?) as Box<dyn VideoCodec>)
    })
}

impl VideoCodec for Vae {
    fn stride(&self) -> Stride {
        self.config().stride()
    }

    fn latent_channels(&self) -> usize {
        self.config().z_dim
    }

    fn encode<'a>(&'a self, video: &'a dyn Footage, room: Room, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(async move {
            // The encoder's widest tensors are the decoder's: four frames of the picture at full size.
            let moments = match Tiles::for_room(self.config(), video.size(), room) {
                Some(tiles) => self.encode_tiled(video, tiles, pace).await?,
                None => Self::encode(self, video, pace).await?,
            };
            Ok(self.normalised(moments))
        })
    }

    fn decode_stream(&self) -> Box<dyn family::DecodeStream + '_> {
        Box::new(Decoding { vae: self, stream: Self::decode_stream(self) })
    }

    fn decode_tiles<'a>(
        &'a self,
        latents: Tensor<5>,
        room: Room,
        pace: &'a Pace<'_>,
    ) -> Later<'a, Option<Box<dyn family::DecodeStream + 'a>>> {
        Box::pin(async move {
            let [_, _, frames, height, width] = latents.dims();
            let Stride { time, space } = self.config().stride();
            let size = ClipSize { frames: (frames - 1) * time + 1, height: height * space, width: width * space };
            let Some(tiles) = Tiles::for_room(self.config(), size, room) else { return Ok(None) };
            let tiled = self.tiled(&self.denormalise(latents), tiles, pace).await?;
            Ok(tiled.map(|tiled| Box::new(tiled) as Box<dyn family::DecodeStream>))
        })
    }

    fn peak_bytes(&self, size: ClipSize, room: Room) -> u64 {
        match Tiles::for_room(self.config(), size, room) {
            None => self.config().decoding(size).total,
            Some(tiles) => tiles.peak_bytes(self.config(), size),
        }
    }

    fn rehearse_encode(&self, pool: &Pool, size: ClipSize, room: Room) {
        // One tile at a time; what is left of the others are latents.
        let size = Tiles::for_room(self.config(), size, room).map_or(size, |tiles| tiles.of(size));
        self.config().rehearse_encode(pool, size);
    }

    fn least_bytes(&self, size: ClipSize) -> u64 {
        let c = self.config();
        let width = c.decoder_base_dim.unwrap_or(c.base_dim) * c.dim_mult.first().copied().unwrap_or(1);
        // The last convolutions of a chunk: what goes in and what comes out, as floats.
        let chunk = ClipSize { frames: size.frames.min(self.stride().time), ..size };
        chunk.pixels() / (c.patch() * c.patch()) as u64 * (2 * width * 4) as u64
    }
}

struct Decoding<'a> {
    vae: &'a Vae,
    stream: DecodeStream<'a>,
}

impl family::DecodeStream for Decoding<'_> {
    fn push<'a>(&'a mut self, latent: Tensor<5>, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(self.stream.push(self.vae.denormalise(latent), pace))
    }
}

impl family::DecodeStream for Tiled<'_> {
    fn push<'a>(&'a mut self, _: Tensor<5>, _: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        let frames = self.next().ok_or_else(|| Error::Internal("more latent frames than were decoded by tiles".into()));
        Box::pin(std::future::ready(frames))
    }
}
