//! The denoising loop: noise to latents under guidance, with any model and any scheduler.
//!
//! Source: diffusers `pipeline_wan.py`, the loop in `__call__`; classifier-free guidance 2207.12598.

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::host::Event;
use crate::models::family::{Interval, Packed, PackedStep};
use crate::noise::TorchRng;
use crate::pace::{Later, Pace};
use crate::schedulers::Scheduler;

/// A clip on its way from noise to latents.
pub struct Sampling {
    /// Where it is: the noise at first, `[1, z, f, h, w]`.
    pub latents: Tensor<5>,
    /// A scheduler whose timesteps are set.
    pub scheduler: Scheduler,
    /// First step to run (above 0 when starting from a noised clip).
    pub start_step: usize,
    /// Where schedulers that add noise at each step draw it from.
    pub rng: TorchRng,
    /// Classifier-free guidance; used when the clip was prepared with two prompts.
    pub guidance_scale: f64,
}

impl Sampling {
    /// Steps to run.
    fn num_steps(&self) -> usize {
        self.scheduler.timesteps().len().saturating_sub(self.start_step)
    }

    /// Where a step begins and ends, counted from 0 for the first to run; `None` after the last.
    fn interval(&self, step: usize) -> Option<Interval> {
        let timesteps = self.scheduler.timesteps();
        let index = self.start_step + step;
        let from = *timesteps.get(index)?;
        let to = timesteps.get(index + 1).copied().unwrap_or(0.0);
        Some(Interval { from: from as f32, to: to as f32 })
    }
}

/// Runs all steps of one clip or of several, those of the same number in one pass of the model; one of fewer steps is done earlier.
/// `after_step` gets a step's number (from 1) and the estimate of the clean latents.
///
/// # Shapes
/// → the latents of each, as they were given
///
/// # Errors
/// As [`Packed::velocities`], and whatever `after_step` returns.
pub async fn run(
    packed: &dyn Packed,
    mut clips: Vec<Sampling>,
    pace: &Pace<'_>,
    after_step: &mut dyn AfterStep,
) -> Result<Vec<Tensor<5>>> {
    let num_steps = clips.iter().map(Sampling::num_steps).max().unwrap_or_default();
    for done in 0..num_steps {
        let started = pace.host().now_secs();
        let step_of = |(clip, sampling): (usize, &Sampling)| {
            let step = sampling.interval(done)?;
            Some(PackedStep { clip, latents: sampling.latents.clone(), step })
        };
        let steps: Vec<PackedStep> = clips.iter().enumerate().filter_map(step_of).collect();
        let velocities = packed.velocities(&steps, pace).await?;
        for (PackedStep { clip, latents, .. }, velocities) in steps.into_iter().zip(velocities) {
            let Some(clip) = clips.get_mut(clip) else { continue };
            let index = clip.start_step + done;
            let velocity = guided(velocities, clip.guidance_scale)?;
            if after_step.wanted() && done + 1 < num_steps {
                let clean = clip.scheduler.denoised(velocity.clone(), index, latents.clone())?;
                after_step.call(done + 1, clean).await?;
            }
            let noise = match clip.scheduler.needs_noise(index) {
                true => Some(draw_noise(&mut clip.rng, latents.dims(), &latents.device())),
                false => None,
            };
            clip.latents = clip.scheduler.step(velocity, index, latents, noise)?;
            pace.block_done(&clip.latents).await?;
        }
        pace.host().event(Event::Step { step: done + 1, num_steps, seconds: pace.host().now_secs() - started });
    }
    let finished = packed.clips().into_iter().zip(clips).map(|(prepared, clip)| prepared.finish(clip.latents));
    Ok(finished.collect())
}

/// The velocity of one step, led away from the negative prompt where there is one.
fn guided(velocities: Vec<Tensor<5>>, scale: f64) -> Result<Tensor<5>> {
    let mut velocities = velocities.into_iter();
    match (velocities.next(), velocities.next()) {
        (Some(conditional), Some(free)) => Ok(free.clone() + (conditional - free) * scale),
        (Some(conditional), None) => Ok(conditional),
        (None, _) => Err(Error::Internal("the model gave no velocity".into())),
    }
}

/// Something to do after each step; an object, because async closures cannot be named.
pub trait AfterStep {
    /// False if the estimate of the clean latents need not be computed.
    fn wanted(&self) -> bool;
    /// Gets the step's number (from 1) and the estimate.
    fn call(&mut self, step: usize, clean: Tensor<5>) -> Later<'_, ()>;
}

/// The generator's next normal numbers as a tensor, as `torch.randn(shape, generator=…)` draws them.
pub fn draw_noise(rng: &mut TorchRng, shape: [usize; 5], device: &Device) -> Tensor<5> {
    Tensor::from_data(TensorData::new(rng.randn(&shape), shape), device)
}
