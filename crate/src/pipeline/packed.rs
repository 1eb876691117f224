//! Several clips of text at once: their tokens go through the model in one row, and attention stays within each.
//!
//! Source: patch n' pack, NaViT 2307.06304 §2.

use std::ops::Range;

use super::clock::StageClock;
use super::plan::StagePeaks;
use super::{Clip, Inputs, Parts, Pipeline, Start, values_of};
use crate::condition::Condition;
use crate::error::Result;
use crate::host::{Host, Stage};
use crate::memory::buffer_of;
use crate::models::family::{Prompts, Request};
use crate::options::GenerateOptions;
use crate::pace::Pace;
use crate::sampling::{PackedClip, run_packed};

/// Tokens of a pack at most, those of a guided clip counted twice. A clip of 832 × 480 px and 81 frames has as many: a device is
/// as busy as it can be with fewer.
const MOST_TOKENS: usize = 32_768;

/// What one or several clips are for the model when all their prompts go through it together.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    tokens: usize,
    /// Bytes of the largest tensor.
    largest: u64,
    /// Bytes of main memory, at least.
    least: u64,
    /// Bytes that a GPU holds at most, besides the weights.
    peak: u64,
}

impl Load {
    fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            largest: self.largest.saturating_add(other.largest),
            least: self.least.saturating_add(other.least),
            peak: self.peak.saturating_add(other.peak),
        }
    }
}

/// Gets each clip, by its place in the order that was asked for, when its last frame has gone to the host.
pub type Made<'a> = dyn FnMut(usize, Clip) -> Result<()> + 'a;

impl Pipeline {
    /// Clips of text of any sizes, one after another as frames go, but denoised together as far as the device has room and the
    /// model can: each is what [`Pipeline::generate`] makes of it. There are no previews. A step that is told is one of a whole
    /// pack; of a clip's timings, encoding and denoising are its share of its pack's, by tokens.
    ///
    /// # Errors
    /// As [`Pipeline::generate`], of all clips before any is made; and whatever `made` returns.
    pub async fn generate_packed(&self, clips: &[GenerateOptions], host: &dyn Host, made: &mut Made<'_>) -> Result<()> {
        for options in clips {
            options.check(self.rules())?;
            self.check_room(options.size(), host)?;
            self.check(options, &Condition::default())?;
        }
        for pack in self.packs(clips, host) {
            match clips.get(pack.clone()).unwrap_or_default() {
                [options] => made(pack.start, self.generate(options, &Inputs::default(), host).await?)?,
                several => {
                    let done = self.run_pack(pack.start, several, host, made).await;
                    self.end_stage(&Inputs::default(), host, &[]);
                    done?;
                }
            }
        }
        Ok(())
    }

    /// Which clips are denoised together, by their places.
    pub fn packs(&self, clips: &[GenerateOptions], host: &dyn Host) -> Vec<Range<usize>> {
        let free = host.free_memory().unwrap_or(u64::MAX);
        let mut packs: Vec<Range<usize>> = Vec::new();
        let mut load = Load::default();
        for (place, options) in clips.iter().enumerate() {
            let own = self.load_of(options);
            let together = load.and(own);
            match packs.last_mut() {
                Some(pack) if self.parts.denoiser.packs() && self.holds(together, free) => {
                    pack.end = place + 1;
                    load = together;
                }
                _ => {
                    packs.push(place..place + 1);
                    load = own;
                }
            }
        }
        packs
    }

    fn load_of(&self, options: &GenerateOptions) -> Load {
        let Parts { denoiser, codec, .. } = &self.parts;
        let (size, rows) = (options.size(), if options.guided() { 2 } else { 1 });
        Load {
            // A clip that is no whole number of cells is refused elsewhere.
            tokens: self.stages().tokens_of(size).unwrap_or_default().saturating_mul(rows),
            largest: self.largest_bytes(size).saturating_mul(rows as u64),
            least: self.least_bytes(size).saturating_mul(rows as u64),
            peak: {
                let prompts = Prompts { passes: 1, rows, tokens: self.max_tokens() };
                denoiser.peak_bytes(size, codec.as_ref(), self.room(), prompts, false)
            },
        }
    }

    /// Whether a pack fits. Clips at different times have a time for each token, which takes as much again; and of main memory
    /// `least` tells too little rather than too much.
    fn holds(&self, load: Load, free: u64) -> bool {
        load.tokens <= MOST_TOKENS
            && load.largest <= self.largest_allowed()
            && load.peak.saturating_mul(2) <= self.room().bytes
            && load.least <= free / 2
    }

    /// As [`Pipeline::planned_bytes`], for a pack.
    fn planned_pack(&self, clips: &[GenerateOptions]) -> Option<u64> {
        let plan = self.plan.as_ref().filter(|_| self.compute.is_gpu())?;
        let Parts { text, codec, .. } = &self.parts;
        let load = clips.iter().map(|options| self.load_of(options)).fold(Load::default(), Load::and);
        Some(plan.peak(StagePeaks {
            encode: text.as_ref().map_or(0, |text| text.encoder.peak_bytes(self.max_tokens())),
            look: 0,
            denoise: load.peak.saturating_mul(2),
            decode: clips.iter().map(|options| codec.peak_bytes(options.size(), self.room())).max().unwrap_or_default(),
        }))
    }

    /// Clips that go through the model together; the first is number `first` for `made`.
    async fn run_pack(
        &self,
        first: usize,
        clips: &[GenerateOptions],
        host: &dyn Host,
        made: &mut Made<'_>,
    ) -> Result<()> {
        let Parts { denoiser, codec, .. } = &self.parts;
        let (inputs, condition) = (Inputs::default(), Condition::default());
        let mut clock = StageClock::new(host);
        let pace = Pace::new(host, &self.compute);
        let timelines = clips.iter().map(|options| self.check(options, &condition)).collect::<Result<Vec<_>>>()?;

        let (mut prompts, mut tokens) = (Vec::with_capacity(clips.len()), Vec::with_capacity(clips.len()));
        for options in clips {
            let (of_clip, count) = self.embed(options, &inputs, &mut clock, &pace).await?;
            prompts.push(of_clip);
            tokens.push(count);
        }
        self.end_stage(&inputs, host, &prompts.iter().flatten().map(buffer_of).collect::<Vec<_>>());

        clock.start(Stage::Condition);
        let (room, planned_bytes) = (self.room(), self.planned_pack(clips));
        let mut requests = Vec::with_capacity(clips.len());
        for (timeline, prompts) in timelines.iter().zip(prompts) {
            let codec = codec.as_ref();
            requests.push(Request { timeline, codec, room, image_encoder: None, prompts, batched: false });
        }
        let packed = denoiser.prepare_packed(requests, &pace).await?;
        let mut ready = Vec::with_capacity(clips.len());
        for ((options, timeline), prepared) in clips.iter().zip(&timelines).zip(packed.clips()) {
            let start = self.start(options, &inputs, timeline, prepared, &pace).await?;
            let Start { latents, scheduler, rng, .. } = start;
            ready.push(PackedClip { latents, scheduler, rng, guidance_scale: options.guidance_scale });
        }

        clock.start(Stage::Denoise);
        let latents = run_packed(packed.as_ref(), ready, &pace).await?;
        drop(packed);
        pace.settle().await?;
        let kept: Vec<_> = latents.iter().map(buffer_of).collect();
        self.end_stage(&inputs, host, &kept);

        let together = clock.finish();
        let loads: Vec<f64> = clips.iter().map(|options| self.load_of(options).tokens as f64).collect();
        let all: f64 = loads.iter().sum();
        let each = latents.iter().zip(&timelines).zip(tokens).zip(loads);
        for (place, (((latents, timeline), tokens), load)) in each.enumerate() {
            let (latents_shape, values) = (latents.dims(), values_of(latents).await?);
            let mut clock = StageClock::new(host);
            clock.start(Stage::Decode);
            self.decode(latents.clone(), timeline, &pace).await?;
            self.end_stage(&inputs, host, &kept);
            let mut timings = clock.finish();
            for (stage, seconds) in &together {
                *timings.entry(*stage).or_default() += *seconds * load / all;
            }
            made(first + place, Clip { latents: values, latents_shape, tokens, planned_bytes, timings })?;
        }
        Ok(())
    }
}
