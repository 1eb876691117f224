//! Several clips of text at once: their tokens go through the model in one row, and attention stays within each.
//!
//! Source: patch n' pack, NaViT 2307.06304 §2.

use std::ops::Range;

use super::plan::StagePeaks;
use super::{Asked, Inputs, Made, Parts, Pipeline};
use crate::condition::Condition;
use crate::error::Result;
use crate::host::{Event, Host};
use crate::models::family::Prompts;
use crate::options::GenerateOptions;

/// Tokens of a pack at most, those of a guided clip counted twice. A clip of 832 × 480 px and 81 frames has as many: a device is
/// as busy as it can be with fewer.
const MOST_TOKENS: usize = 32_768;

/// What one or several clips are for the model when all their prompts go through it together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub tokens: usize,
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

impl Pipeline {
    /// Clips of text of any sizes, one after another as frames go, but denoised together as far as the device has room and the
    /// model can: each is what [`Pipeline::generate`] makes of it. [`Event::Clips`] says which of them the host hears about. Those
    /// that are made together show no previews; a step that is told is one of all of them, and encoding and denoising are in a
    /// clip's timings by its share of their tokens.
    ///
    /// # Errors
    /// As [`Pipeline::generate`], of all clips before any is made; and whatever `made` returns.
    pub async fn generate_packed(&self, clips: &[GenerateOptions], host: &dyn Host, made: &mut Made<'_>) -> Result<()> {
        let (inputs, text_alone) = (Inputs::default(), Condition::default());
        let mut asked = Vec::with_capacity(clips.len());
        for (first, options) in clips.iter().enumerate() {
            host.event(Event::Clips { first, count: 1 });
            asked.push(self.asked(options, &text_alone, host)?);
        }
        for pack in self.packs(clips, host) {
            let first = Some(pack.start);
            self.run(first, asked.get(pack).unwrap_or_default(), &inputs, host, made).await?;
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

    pub(super) fn load_of(&self, options: &GenerateOptions) -> Load {
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
    pub(super) fn planned_pack(&self, asked: &[Asked<'_>]) -> Option<u64> {
        let plan = self.plan.as_ref().filter(|_| self.compute.is_gpu())?;
        let Parts { text, codec, .. } = &self.parts;
        let load = asked.iter().map(|clip| self.load_of(clip.options)).fold(Load::default(), Load::and);
        let decode = asked.iter().map(|clip| codec.peak_bytes(clip.timeline.size, self.room())).max();
        Some(plan.peak(StagePeaks {
            encode: text.as_ref().map_or(0, |text| text.encoder.peak_bytes(self.max_tokens())),
            look: 0,
            denoise: load.peak.saturating_mul(2),
            decode: decode.unwrap_or_default(),
        }))
    }
}
