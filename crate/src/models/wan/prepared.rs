//! A Wan model ready for a clip, or for several in one pass.

use burn::tensor::Tensor;

use super::fixed::Fixed;
use super::time::Timesteps;
use super::transformer::WanTransformer;
use super::vace::Control;
use crate::error::Error;
use crate::models::family::{Interval, Packed, PackedStep, Prepared};
use crate::pace::{Later, Pace};

/// What is known, in the form that the checkpoint takes it.
pub(super) enum Form {
    None,
    Vace(Control),
    /// `[1, C_extra, f, h, w]`
    Channels(Tensor<5>),
    /// `[1, z, 1, h, w]`
    CleanFirst(Tensor<5>),
}

/// Ready for one clip.
pub(super) struct WanPrepared<'a> {
    pub transformer: &'a WanTransformer,
    pub form: Form,
    /// One for each pass of a step: all prompts in one, or one each.
    pub fixed: Vec<Fixed>,
    /// Prompts in all.
    pub rows: usize,
    pub lead: usize,
}

impl Prepared for WanPrepared<'_> {
    fn lead_frames(&self) -> usize {
        self.lead
    }

    fn velocity<'a>(&'a self, latents: &'a Tensor<5>, step: Interval, pace: &'a Pace<'_>) -> Later<'a, Vec<Tensor<5>>> {
        Box::pin(async move {
            let [_, _, frames, height, width] = latents.dims();
            let whole = match self.transformer.config().is_flow_map() {
                true => Timesteps::Step(step),
                false => Timesteps::Shared(step.from),
            };
            let (input, timesteps) = match &self.form {
                Form::None | Form::Vace(_) => (latents.clone(), whole),
                Form::Channels(extra) => (Tensor::cat(vec![latents.clone(), extra.clone()], 1), whole),
                Form::CleanFirst(first) => {
                    let [pt, ph, pw] = self.transformer.config().patch_size;
                    let per_frame = (height / ph) * (width / pw);
                    let mut values = vec![step.from; frames / pt * per_frame];
                    values.iter_mut().take(per_frame).for_each(|t| *t = 0.0);
                    (with_first(latents.clone(), first), Timesteps::PerToken(values))
                }
            };
            let mut out = Vec::with_capacity(self.rows);
            for fixed in &self.fixed {
                let velocity = self.transformer.denoise(input.clone(), &timesteps, fixed, pace).await?;
                match velocity.dims()[0] {
                    1 => out.push(velocity),
                    rows => out.extend((0..rows).map(|row| velocity.clone().narrow(0, row, 1))),
                }
            }
            Ok(out)
        })
    }

    fn finish(&self, latents: Tensor<5>) -> Tensor<5> {
        match &self.form {
            Form::CleanFirst(first) => with_first(latents, first),
            _ => latents,
        }
    }
}

/// The latents with their first frame replaced.
fn with_first(latents: Tensor<5>, first: &Tensor<5>) -> Tensor<5> {
    let frames = latents.dims()[2];
    if frames == 1 {
        return first.clone();
    }
    Tensor::cat(vec![first.clone(), latents.narrow(2, 1, frames - 1)], 2)
}

/// Ready for several clips; every prompt of each is a row of its own.
pub(super) struct WanPacked<'a> {
    pub transformer: &'a WanTransformer,
    pub clips: Vec<WanPrepared<'a>>,
}

impl Packed for WanPacked<'_> {
    fn clips(&self) -> Vec<&dyn Prepared> {
        self.clips.iter().map(|clip| clip as &dyn Prepared).collect()
    }

    fn velocities<'a>(&'a self, steps: &'a [PackedStep], pace: &'a Pace<'_>) -> Later<'a, Vec<Vec<Tensor<5>>>> {
        Box::pin(async move {
            let mut rows = Vec::with_capacity(2 * steps.len());
            let mut counts = Vec::with_capacity(steps.len());
            for PackedStep { clip, latents, step } in steps {
                let Some(WanPrepared { form: Form::None | Form::Vace(_), fixed, .. }) = self.clips.get(*clip) else {
                    return Err(Error::Internal("a pack has clips of text only".into()));
                };
                rows.extend(fixed.iter().map(|fixed| (latents.clone(), step.from, fixed)));
                counts.push(fixed.len());
            }
            let mut found = self.transformer.denoise_packed(&rows, pace).await?.into_iter();
            Ok(counts.into_iter().map(|count| found.by_ref().take(count).collect()).collect())
        })
    }
}
