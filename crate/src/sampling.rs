//! The denoising loop: noise to latents under guidance, with any model and any scheduler.
//!
//! Source: diffusers `pipeline_wan.py`, the loop in `__call__`; classifier-free guidance 2207.12598.

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::host::Event;
use crate::models::family::{Interval, Prepared};
#[cfg(not(target_arch = "wasm32"))]
use crate::models::family::{Packed, PackedStep};
use crate::noise::TorchRng;
use crate::pace::{Later, Pace};
use crate::schedulers::Scheduler;

/// Everything a denoising run needs.
pub struct Sampling<'a> {
    /// The model, ready for this clip.
    pub prepared: &'a dyn Prepared,
    /// A scheduler whose timesteps are set.
    pub scheduler: &'a mut Scheduler,
    /// Classifier-free guidance; used when the model was prepared with two prompts.
    pub guidance_scale: f64,
    /// First step to run (above 0 when starting from a noised clip).
    pub start_step: usize,
    /// Where schedulers that add noise at each step draw it from.
    pub rng: &'a mut TorchRng,
}

impl Sampling<'_> {
    /// Runs all steps. `after_step` gets the step's number (from 1) and the estimate of the clean latents.
    ///
    /// # Shapes
    /// `latents` `[1, z, f, h, w]` → the same
    ///
    /// # Errors
    /// As [`Prepared::velocity`], and whatever `after_step` returns.
    pub async fn run(
        &mut self,
        mut latents: Tensor<5>,
        pace: &Pace<'_>,
        after_step: &mut dyn AfterStep,
    ) -> Result<Tensor<5>> {
        let timesteps = self.scheduler.timesteps().to_vec();
        let num_steps = timesteps.len().saturating_sub(self.start_step);
        for (index, &from) in timesteps.iter().enumerate().skip(self.start_step) {
            let started = pace.host().now_secs();
            let velocities = self.prepared.velocity(&latents, interval(&timesteps, index, from), pace).await?;
            let velocity = guided(velocities, self.guidance_scale)?;
            let step = index - self.start_step + 1;
            if after_step.wanted() && step < num_steps {
                let clean = self.scheduler.denoised(velocity.clone(), index, latents.clone())?;
                after_step.call(step, clean).await?;
            }
            let noise = match self.scheduler.needs_noise(index) {
                true => Some(draw_noise(self.rng, latents.dims(), &latents.device())),
                false => None,
            };
            latents = self.scheduler.step(velocity, index, latents, noise)?;
            pace.block_done(&latents).await?;
            pace.host().event(Event::Step { step, num_steps, seconds: pace.host().now_secs() - started });
        }
        Ok(self.prepared.finish(latents))
    }
}

/// The step that begins at level `index`, whose time is `from`.
fn interval(timesteps: &[f64], index: usize, from: f64) -> Interval {
    let to = timesteps.get(index + 1).copied().unwrap_or(0.0);
    Interval { from: from as f32, to: to as f32 }
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

/// A clip on its way in a pack.
#[cfg(not(target_arch = "wasm32"))]
pub struct PackedClip {
    /// Where it is: the noise at first, `[1, z, f, h, w]`.
    pub latents: Tensor<5>,
    /// A scheduler whose timesteps are set.
    pub scheduler: Scheduler,
    /// Where its scheduler draws fresh noise from.
    pub rng: TorchRng,
    /// Classifier-free guidance; used when the clip was prepared with two prompts.
    pub guidance_scale: f64,
}

/// Runs all steps of several clips, those of the same number in one pass of the model; one of fewer steps is done earlier.
///
/// # Shapes
/// → the latents of each, as they were given
///
/// # Errors
/// As [`Packed::velocities`].
#[cfg(not(target_arch = "wasm32"))]
pub async fn run_packed(packed: &dyn Packed, mut clips: Vec<PackedClip>, pace: &Pace<'_>) -> Result<Vec<Tensor<5>>> {
    let num_steps = clips.iter().map(|clip| clip.scheduler.timesteps().len()).max().unwrap_or_default();
    for index in 0..num_steps {
        let started = pace.host().now_secs();
        let step_of = |(number, clip): (usize, &PackedClip)| {
            let timesteps = clip.scheduler.timesteps();
            let step = interval(timesteps, index, *timesteps.get(index)?);
            Some(PackedStep { clip: number, latents: clip.latents.clone(), step })
        };
        let steps: Vec<PackedStep> = clips.iter().enumerate().filter_map(step_of).collect();
        let velocities = packed.velocities(&steps, pace).await?;
        for (PackedStep { clip, latents, .. }, velocities) in steps.into_iter().zip(velocities) {
            let Some(clip) = clips.get_mut(clip) else { continue };
            let noise = match clip.scheduler.needs_noise(index) {
                true => Some(draw_noise(&mut clip.rng, latents.dims(), &latents.device())),
                false => None,
            };
            let velocity = guided(velocities, clip.guidance_scale)?;
            clip.latents = clip.scheduler.step(velocity, index, latents, noise)?;
            pace.block_done(&clip.latents).await?;
        }
        pace.host().event(Event::Step { step: index + 1, num_steps, seconds: pace.host().now_secs() - started });
    }
    let finished = packed.clips().into_iter().zip(clips).map(|(prepared, clip)| prepared.finish(clip.latents));
    Ok(finished.collect())
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
