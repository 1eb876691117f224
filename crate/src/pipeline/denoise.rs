//! The denoising loop: noise to latents under guidance.
//!
//! Source: diffusers `pipeline_wan.py`, `pipeline_wan_vace.py`, `pipeline_wan_i2v.py`, the loop in `__call__`;
//! classifier-free guidance 2207.12598.

use std::pin::Pin;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::Result;
use crate::host::Event;
use crate::models::wan::{Control, Timesteps, WanTransformer};
use crate::noise::TorchRng;
use crate::pace::Pace;
use crate::schedulers::Scheduler;

/// How the clip's known parts enter the model.
#[derive(Debug, Clone)]
pub enum Conditioning {
    /// Text only.
    None,
    /// The VACE control branch.
    Vace(Control),
    /// Extra input channels beside the latents (Wan I2V), and image tokens where the model takes them.
    Channels {
        /// `[1, C_extra, F, H, W]`
        extra: Tensor<5>,
        /// `[1 or 2, Li, D_image]`
        image_embeds: Option<Tensor<3>>,
    },
    /// A clean first latent frame with timestep 0 (Wan 2.2 TI2V), `[1, z, 1, H, W]`.
    CleanFirst(Tensor<5>),
}

/// Everything a denoising run needs.
pub struct Denoise<'a> {
    /// The model.
    pub transformer: &'a WanTransformer,
    /// A scheduler whose timesteps are set.
    pub scheduler: &'a mut Scheduler,
    /// `[1, Lt, D_text]`
    pub prompt_embeds: Tensor<3>,
    /// `[1, Lt, D_text]`; used when `guidance_scale` is above 1.
    pub negative_embeds: Option<Tensor<3>>,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
    /// What is known.
    pub conditioning: &'a Conditioning,
    /// First step to run (above 0 when starting from a noised clip).
    pub start_step: usize,
    /// Where schedulers that add noise at each step draw it from.
    pub rng: &'a mut TorchRng,
}

impl Denoise<'_> {
    /// Runs all steps. `after_step` gets the step's number (from 1) and the estimate of the clean latents.
    ///
    /// # Shapes
    /// `latents` `[1, z, F, H, W]` → the same
    ///
    /// # Errors
    /// As [`WanTransformer::forward`], and whatever `after_step` returns.
    pub async fn run(
        &mut self,
        mut latents: Tensor<5>,
        pace: &Pace<'_>,
        after_step: &mut dyn AsyncStep,
    ) -> Result<Tensor<5>> {
        let timesteps = self.scheduler.timesteps().to_vec();
        let num_steps = timesteps.len().saturating_sub(self.start_step);
        for (index, &timestep) in timesteps.iter().enumerate().skip(self.start_step) {
            let started = pace.host().now_secs();
            let velocity = self.velocity(&latents, timestep as f32, pace).await?;
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
        Ok(match self.conditioning {
            Conditioning::CleanFirst(first) => paste_first(latents, first),
            _ => latents,
        })
    }

    /// The guided velocity at one timestep.
    async fn velocity(&self, latents: &Tensor<5>, timestep: f32, pace: &Pace<'_>) -> Result<Tensor<5>> {
        let [_, _, frames, height, width] = latents.dims();
        let mut timesteps = Timesteps::PerClip(vec![timestep]);
        let mut control = None;
        let mut image_embeds = None;
        let input = match self.conditioning {
            Conditioning::None => latents.clone(),
            Conditioning::Vace(c) => {
                control = Some(c);
                latents.clone()
            }
            Conditioning::Channels { extra, image_embeds: tokens } => {
                image_embeds = tokens.clone();
                Tensor::cat(vec![latents.clone(), extra.clone()], 1)
            }
            Conditioning::CleanFirst(first) => {
                let [pt, ph, pw] = self.transformer.config().patch_size;
                let per_frame = (height / ph) * (width / pw);
                let mut values = vec![timestep; frames / pt * per_frame];
                values.iter_mut().take(per_frame).for_each(|t| *t = 0.0);
                timesteps = Timesteps::PerToken(values);
                paste_first(latents.clone(), first)
            }
        };
        let run = |embeds: Tensor<3>| {
            self.transformer.forward(input.clone(), &timesteps, embeds, image_embeds.clone(), control, pace)
        };
        let conditional = run(self.prompt_embeds.clone()).await?;
        match &self.negative_embeds {
            Some(negative) if self.guidance_scale > 1.0 => {
                let free = run(negative.clone()).await?;
                Ok(free.clone() + (conditional - free) * self.guidance_scale)
            }
            _ => Ok(conditional),
        }
    }
}

/// Something to do after each step; an object, because async closures cannot be named.
pub trait AsyncStep {
    /// False if the estimate of the clean latents need not be computed.
    fn wanted(&self) -> bool;
    /// Gets the step's number (from 1) and the estimate.
    fn call<'a>(&'a mut self, step: usize, clean: Tensor<5>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
}

/// Nothing to do after a step.
#[derive(Debug, Clone, Copy)]
pub struct NoStep;

impl AsyncStep for NoStep {
    fn wanted(&self) -> bool {
        false
    }
    fn call<'a>(&'a mut self, _: usize, _: Tensor<5>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The latents with their first frame replaced.
fn paste_first(latents: Tensor<5>, first: &Tensor<5>) -> Tensor<5> {
    let frames = latents.dims()[2];
    if frames == 1 {
        return first.clone();
    }
    Tensor::cat(vec![first.clone(), latents.narrow(2, 1, frames - 1)], 2)
}

/// The generator's next normal numbers as a tensor, as `torch.randn(shape, generator=…)` draws them.
pub fn draw_noise(rng: &mut TorchRng, shape: [usize; 5], device: &Device) -> Tensor<5> {
    Tensor::from_data(TensorData::new(rng.randn(&shape), shape), device)
}
