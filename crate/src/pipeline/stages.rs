//! What a clip's stages take on a GPU beside the weights, asked of the parts, and which plan leaves room for them.

use super::files::ModelCard;
use super::plan::{Plan, StagePeaks};
use crate::device::Compute;
use crate::error::Result;
use crate::models::family::{Denoiser, ImageEncoder, Prompts, Room, TextEncoder, VideoCodec};
use crate::options::{GenerateOptions, GivenOptions};
use crate::size::ClipSize;

/// The parts of a model, loaded or of zeros.
pub(super) struct Stages<'a> {
    pub compute: &'a Compute,
    pub text: Option<&'a dyn TextEncoder>,
    pub image: Option<&'a dyn ImageEncoder>,
    pub denoiser: &'a dyn Denoiser,
    pub codec: &'a dyn VideoCodec,
}

/// A clip as its stages see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub size: ClipSize,
    /// Tokens of its prompt.
    pub tokens: usize,
    /// Its prompts, filled up to the model's length.
    pub prompts: Prompts,
    /// Whether some of its pixels are known.
    pub known: bool,
}

impl Stages<'_> {
    /// What the device has left for a clip: on the CPU, and without a plan, everything.
    pub fn room(&self, plan: Option<&Plan>) -> Room {
        match (plan, self.compute.adapter()) {
            (Some(plan), Some(adapter)) => Room {
                bytes: plan.budget.saturating_sub(plan.kept_bytes()),
                largest: adapter.max_storage_buffer_binding_bytes,
            },
            _ => Room::ENDLESS,
        }
    }

    /// Bytes that the GPU holds at most while a clip is made; `None` on the CPU.
    pub fn peak(&self, plan: &Plan, work: Work) -> Option<u64> {
        self.compute.adapter()?;
        let Work { size, tokens, prompts, known } = work;
        let room = self.room(Some(plan));
        Some(plan.peak(StagePeaks {
            encode: self.text.map_or(0, |text| text.peak_bytes(tokens)),
            look: self.image.map_or(0, |image| image.peak_bytes()),
            denoise: self.denoiser.peak_bytes(size, self.codec, room, prompts, known),
            decode: self.codec.peak_bytes(size, room),
        }))
    }

    /// The clip that is made where nobody says anything.
    pub fn usual(&self, card: &ModelCard) -> Work {
        let options = usual(card);
        let (size, tokens) = (options.size(), card.max_sequence_length);
        let count = if options.guided() { 2 } else { 1 };
        Work { size, tokens, prompts: self.prompts(size, count, tokens), known: false }
    }

    /// How so many prompts of so many tokens go through the denoiser.
    pub fn prompts(&self, size: ClipSize, count: usize, tokens: usize) -> Prompts {
        match count > 1 && self.batches(size).unwrap_or(false) {
            true => Prompts { passes: 1, rows: count, tokens },
            false => Prompts { passes: count, rows: 1, tokens },
        }
    }

    /// Whether both prompts of a guided step go through the model together: on real GPUs, which are not busy with one, as
    /// long as the clip is small enough that twice its tokens cost no memory to speak of and fit into a buffer.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidOptions`] when the clip is no whole number of latent cells.
    pub fn batches(&self, size: ClipSize) -> Result<bool> {
        const SMALL: usize = 8192; // tokens
        let tokens = self.tokens_of(size)?;
        let largest = self.denoiser.largest_bytes(size, self.codec.stride()).saturating_mul(2);
        let fits = self.compute.adapter().is_some_and(|gpu| largest <= gpu.max_storage_buffer_binding_bytes);
        Ok(fits && !self.compute.is_software() && tokens <= SMALL)
    }

    /// Tokens of a clip, as the denoiser sees it.
    ///
    /// # Errors
    /// As [`Stages::batches`].
    pub fn tokens_of(&self, size: ClipSize) -> Result<usize> {
        let cells: usize = self.codec.stride().cells(size)?.iter().product();
        Ok(cells / self.denoiser.patch().iter().product::<usize>())
    }

    /// The first plan that leaves room for the clip that the card suggests, else the last.
    pub fn choose(&self, choices: &[Plan], card: &ModelCard) -> Option<Plan> {
        let work = self.usual(card);
        let fits = |plan: &&Plan| self.peak(plan, work).is_none_or(|peak| peak <= plan.budget);
        choices.iter().find(fits).or(choices.last()).copied()
    }
}

/// What is asked for where nobody says anything.
pub(super) fn usual(card: &ModelCard) -> GenerateOptions {
    GivenOptions::default().settle(&card.default)
}
