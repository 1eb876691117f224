//! The denoising loop: noise to latents under guidance, with any model and any scheduler.
//!
//! Source: diffusers `pipeline_wan.py`, the loop in `__call__`; classifier-free guidance 2207.12598.

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::Result;
use crate::host::Event;
use crate::models::family::{Interval, Prepared};
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
            let to = timesteps.get(index + 1).copied().unwrap_or(0.0);
            let interval = Interval { from: from as f32, to: to as f32 };
            let started = pace.host().now_secs();
            let velocity = self.guided(&latents, interval, pace).await?;
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

    /// The velocity of one step, led away from the negative prompt where there is one.
    async fn guided(&self, latents: &Tensor<5>, interval: Interval, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let mut velocities = self.prepared.velocity(latents, interval, pace).await?.into_iter();
        match (velocities.next(), velocities.next()) {
            (Some(conditional), Some(free)) => Ok(free.clone() + (conditional - free) * self.guidance_scale),
            (Some(conditional), None) => Ok(conditional),
            (None, _) => Err(crate::error::Error::Internal("the model gave no velocity".into())),
        }
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
