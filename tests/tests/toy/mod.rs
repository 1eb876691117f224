//! A toy family: a codec that averages 32 × 32 pixels of 8 frames, and a denoiser that pulls the latents towards the
//! given first frame, or towards grey. Small enough to check by hand; it shows all that a family must bring.

use burn::tensor::{Tensor, TensorData};
use tabreel::condition::Capabilities;
use tabreel::error::Result;
use tabreel::models::family::{
    Component, DecodeStream, Denoiser, Entry, Interval, Prepared, Request, Room, VideoCodec, needs_config,
    nothing_usual,
};
use tabreel::models::footage::Footage;
use tabreel::pace::{Later, Pace};
use tabreel::size::{ClipSize, Stride};

/// Latent channels: the three colours.
pub const CHANNELS: usize = 3;

pub const DENOISER: Entry<dyn Denoiser> = Entry {
    classes: &["ToyTransformer"],
    owns: |set| set.get("toy.pull").is_some(),
    needs_text: true,
    configure: needs_config,
    usual: nothing_usual,
    load: |component: &Component<'_>| {
        Box::pin(async move {
            let pull = component.loader.values("toy.pull", &[1]).await?[0];
            Ok(Box::new(ToyDenoiser { pull: f64::from(pull) }) as Box<dyn Denoiser>)
        })
    },
};

pub const CODEC: Entry<dyn VideoCodec> = Entry {
    classes: &["ToyCodec"],
    owns: |set| set.get("toy.gain").is_some(),
    needs_text: false,
    configure: needs_config,
    usual: nothing_usual,
    load: |component: &Component<'_>| {
        Box::pin(async move {
            let gain = component.loader.values("toy.gain", &[1]).await?[0];
            Ok(Box::new(ToyCodec { gain: f64::from(gain) }) as Box<dyn VideoCodec>)
        })
    },
};

struct ToyDenoiser {
    pull: f64,
}

impl Denoiser for ToyDenoiser {
    fn latent_channels(&self) -> usize {
        CHANNELS
    }
    fn patch(&self) -> [usize; 3] {
        [1, 1, 1]
    }
    fn text_dim(&self) -> usize {
        32 // of the fixture's text encoder; the toy does not read it
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { image: true, ..Capabilities::text_only("it is a toy") }
    }
    fn check_codec(&self, _: &dyn VideoCodec) -> Result<()> {
        Ok(())
    }
    fn prepare<'a>(&'a self, request: Request<'a>, pace: &'a Pace<'_>) -> Later<'a, Box<dyn Prepared + 'a>> {
        Box::pin(async move {
            let ClipSize { height, width, .. } = request.timeline.size;
            let first = match &request.timeline.video {
                None => None,
                Some(video) => {
                    let planes = video.frame(0)?.map(|shown| shown.planes).unwrap_or_default();
                    let picture = TensorData::new::<f32, _>(planes, [1, 3, 1, height, width]);
                    let picture = Tensor::<5>::from_data(picture, &request.prompts[0].device());
                    Some(request.codec.encode(&picture, request.room, pace).await?)
                }
            };
            let prepared: Box<dyn Prepared + 'a> =
                Box::new(Pulled { pull: self.pull, first, prompts: request.prompts.len() });
            Ok(prepared)
        })
    }
}

struct Pulled {
    pull: f64,
    first: Option<Tensor<5>>,
    prompts: usize,
}

impl Prepared for Pulled {
    /// x = (1 − σ) · target + σ · noise, so noise − target = (x − target) / σ.
    fn velocity<'a>(&'a self, latents: &'a Tensor<5>, step: Interval, _: &'a Pace<'_>) -> Later<'a, Vec<Tensor<5>>> {
        Box::pin(async move {
            let target = match &self.first {
                Some(first) => first.clone().expand(latents.dims()),
                None => latents.zeros_like(),
            };
            let velocity = (latents.clone() - target) * (self.pull * 1000.0 / f64::from(step.from));
            Ok(vec![velocity; self.prompts])
        })
    }
}

struct ToyCodec {
    gain: f64,
}

const STRIDE: Stride = Stride { time: 8, space: 32 };

impl VideoCodec for ToyCodec {
    fn stride(&self) -> Stride {
        STRIDE
    }
    fn latent_channels(&self) -> usize {
        CHANNELS
    }
    fn encode<'a>(&'a self, video: &'a dyn Footage, _: Room, _: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(async move {
            let ClipSize { frames, height, width } = video.size();
            let (b, c) = (1, CHANNELS);
            let [f, h, w] = STRIDE.cells(ClipSize { frames, height, width })?;
            let mean = |part: Tensor<5>, frames: usize| {
                let n = part.dims()[2] / frames;
                part.reshape([b * c * n, frames, h, STRIDE.space, w * STRIDE.space])
                    .mean_dim(1)
                    .mean_dim(3)
                    .reshape([b * c * n, h, w, STRIDE.space, 1])
                    .mean_dim(3)
                    .reshape([b, c, n, h, w])
            };
            let first = mean(video.read(0, 1)?, 1);
            let latents = match f {
                1 => first,
                _ => Tensor::cat(vec![first, mean(video.read(1, frames - 1)?, STRIDE.time)], 2),
            };
            Ok(latents * self.gain)
        })
    }
    fn decode_stream(&self) -> Box<dyn DecodeStream + '_> {
        Box::new(Decoding { gain: self.gain, first: true })
    }
}

struct Decoding {
    gain: f64,
    first: bool,
}

impl DecodeStream for Decoding {
    fn push<'a>(&'a mut self, latent: Tensor<5>, _: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        Box::pin(async move {
            let frames = if std::mem::take(&mut self.first) { 1 } else { STRIDE.time };
            let [b, c, _, h, w] = latent.dims();
            let side = STRIDE.space;
            let wide = (latent / self.gain).reshape([b * c, h, 1, w, 1]).expand([b * c, h, side, w, side]);
            let frame = wide.reshape([b, c, 1, h * side, w * side]).clamp(-1.0, 1.0);
            Ok(frame.expand([b, c, frames, h * side, w * side]))
        })
    }
}
