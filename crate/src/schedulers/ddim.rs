//! DDIM without fresh noise, for models that were trained to predict the noise of a diffusion process: `DDIMScheduler`.
//!
//! Here `latents = √ᾱ·clean + √(1 − ᾱ)·noise`; a grid's level σ is √(1 − ᾱ).
//!
//! Source: DDIM 2010.02502 eq. 12 with η = 0; diffusers 0.42.1 `schedulers/scheduling_ddim.py`.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::{Grid, Levels, check_num_steps, linspace, unsupported};
use crate::error::{Error, Result};

/// Options of `DDIMScheduler`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct DdimConfig {
    /// Steps of the diffusion process.
    pub num_train_timesteps: usize,
    /// Share of noise that the first step adds.
    pub beta_start: f64,
    /// Share of noise that the last step adds.
    pub beta_end: f64,
    /// How it grows between them.
    pub beta_schedule: BetaSchedule,
    /// The shares of all steps, in place of start, end and schedule.
    pub trained_betas: Option<Vec<f64>>,
    /// Whether the clean estimate is clamped to ±`clip_sample_range`.
    pub clip_sample: bool,
    /// See `clip_sample`.
    pub clip_sample_range: f64,
    /// Whether the last step ends without noise; else with that of the process's first step.
    pub set_alpha_to_one: bool,
    /// Added to the timesteps of `leading` spacing.
    pub steps_offset: usize,
    /// What the model predicts.
    pub prediction_type: Prediction,
    /// Not supported.
    pub thresholding: bool,
    /// How timesteps are chosen.
    pub timestep_spacing: Spacing,
    /// Not supported.
    pub rescale_betas_zero_snr: bool,
}

/// How the share of noise grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Evenly.
    Linear,
    /// Its square root evenly.
    ScaledLinear,
    /// So that ᾱ falls like a squared cosine.
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCos,
}

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The clean latents.
    Sample,
    /// `√ᾱ·noise − √(1 − ᾱ)·clean`.
    #[serde(rename = "v_prediction")]
    Velocity,
}

/// Which of the process's steps are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Every n-th from the first.
    Leading,
    /// Every n-th from the last.
    Trailing,
    /// From the first to the last.
    Linspace,
}

impl Default for DdimConfig {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            clip_sample: true,
            clip_sample_range: 1.0,
            set_alpha_to_one: true,
            steps_offset: 0,
            prediction_type: Prediction::Epsilon,
            thresholding: false,
            timestep_spacing: Spacing::Leading,
            rescale_betas_zero_snr: false,
        }
    }
}

/// Least ᾱ: latents are divided by its root. The steepest schedule that is published (a squared cosine) ends at 2e-9.
const LEAST_ALPHA: f64 = 1e-12;

/// Most steps of a process.
const MOST_TIMESTEPS: usize = 100_000;

/// The solver with its process: ᾱ of each timestep.
#[derive(Debug)]
pub(super) struct Ddim {
    config: DdimConfig,
    alphas: Vec<f64>,
}

impl Ddim {
    pub fn new(config: DdimConfig) -> Result<Self> {
        let refused =
            [("thresholding", config.thresholding), ("rescale_betas_zero_snr", config.rescale_betas_zero_snr)];
        if let Some((option, _)) = refused.iter().find(|(_, on)| *on) {
            return Err(unsupported(option, true, "false"));
        }
        let count = config.num_train_timesteps;
        if !(1..=MOST_TIMESTEPS).contains(&count) {
            return Err(Error::options(format!("num_train_timesteps must be 1 to {MOST_TIMESTEPS}, got {count}")));
        }
        if !(config.clip_sample_range > 0.0 && config.clip_sample_range.is_finite()) {
            let found = config.clip_sample_range;
            return Err(Error::options(format!("clip_sample_range must be finite and above 0, got {found}")));
        }
        let betas = config.betas();
        if betas.len() != count {
            let found = betas.len();
            return Err(Error::options(format!("trained_betas must be {count} (num_train_timesteps), got {found}")));
        }
        if let Some(beta) = betas.iter().find(|beta| !(**beta > 0.0 && **beta < 1.0)) {
            return Err(Error::options(format!("betas must be above 0 and below 1, got {beta}")));
        }
        // torch multiplies f32 numbers in f64 and rounds each product.
        let mut product = 1.0f64;
        let alphas = betas.iter().map(|beta| {
            product *= f64::from(1.0 - beta);
            f64::from(product as f32)
        });
        let alphas: Vec<f64> = alphas.collect();
        if let Some(step) = alphas.iter().position(|alpha| *alpha < LEAST_ALPHA) {
            return Err(Error::options(format!(
                "betas must leave {LEAST_ALPHA:e} of the clean latents' power at every step, got {:e} at step {step}",
                alphas[step]
            )));
        }
        Ok(Self { alphas, config })
    }

    pub fn grid(&self, levels: Levels<'_>) -> Result<Grid> {
        let Levels::Count(num_steps) = levels else {
            return Err(Error::options(
                "sigmas are for flow models; this model's scheduler is DDIM, which takes steps",
            ));
        };
        let all = self.config.num_train_timesteps;
        check_num_steps(num_steps, all)?;
        let timesteps = self.config.timesteps(num_steps);
        if let Some(outside) = timesteps.iter().find(|t| **t >= all) {
            return Err(Error::options(format!("timesteps with steps_offset must be below {all}, got {outside}")));
        }
        let last = Some(self.before(0, all)).into_iter();
        let sigmas = timesteps.iter().map(|t| self.alphas[*t]).chain(last).map(|alpha| (1.0 - alpha).sqrt()).collect();
        Ok(Grid { timesteps: timesteps.into_iter().map(|t| t as f64).collect(), sigmas })
    }

    pub fn step(&self, grid: &Grid, prediction: Tensor<5>, index: usize, sample: Tensor<5>) -> Result<Tensor<5>> {
        let timestep = self.timestep(grid, index)?;
        let next = self.before(timestep, self.config.num_train_timesteps / grid.timesteps.len());
        let (clean, noise) = self.parts(prediction, timestep, sample);
        Ok(clean.mul_scalar(next.sqrt()) + noise.mul_scalar((1.0 - next).sqrt()))
    }

    /// The clean latents that a prediction points to.
    pub fn denoised(&self, grid: &Grid, prediction: Tensor<5>, index: usize, sample: Tensor<5>) -> Result<Tensor<5>> {
        Ok(self.parts(prediction, self.timestep(grid, index)?, sample).0)
    }

    pub fn add_noise(&self, grid: &Grid, original: Tensor<5>, noise: Tensor<5>, index: usize) -> Result<Tensor<5>> {
        let alpha = self.alphas[self.timestep(grid, index)?];
        Ok(original.mul_scalar(alpha.sqrt()) + noise.mul_scalar((1.0 - alpha).sqrt()))
    }

    /// The clean latents, clamped where the configuration says so, and the noise.
    fn parts(&self, prediction: Tensor<5>, timestep: usize, sample: Tensor<5>) -> (Tensor<5>, Tensor<5>) {
        let alpha = self.alphas[timestep];
        let (keep, add) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (clean, noise) = match self.config.prediction_type {
            Prediction::Epsilon => ((sample - prediction.clone().mul_scalar(add)).div_scalar(keep), prediction),
            Prediction::Sample => (prediction.clone(), (sample - prediction.mul_scalar(keep)).div_scalar(add)),
            Prediction::Velocity => (
                sample.clone().mul_scalar(keep) - prediction.clone().mul_scalar(add),
                prediction.mul_scalar(keep) + sample.mul_scalar(add),
            ),
        };
        let range = self.config.clip_sample_range;
        (if self.config.clip_sample { clean.clamp(-range, range) } else { clean }, noise)
    }

    /// ᾱ of the timestep `steps` before; beyond the first one, that of the end.
    fn before(&self, timestep: usize, steps: usize) -> f64 {
        match timestep.checked_sub(steps) {
            Some(before) => self.alphas[before],
            None if self.config.set_alpha_to_one => 1.0,
            None => self.alphas[0],
        }
    }

    fn timestep(&self, grid: &Grid, index: usize) -> Result<usize> {
        let last = grid.timesteps.len();
        let rule = || Error::options(format!("step index must be below {last}, the number of steps, got {index}"));
        grid.timesteps.get(index).map(|t| *t as usize).ok_or_else(rule)
    }
}

impl DdimConfig {
    /// The process's shares of noise, as torch's f32 numbers.
    fn betas(&self) -> Vec<f32> {
        let count = self.num_train_timesteps;
        if let Some(betas) = &self.trained_betas {
            return betas.iter().map(|beta| *beta as f32).collect();
        }
        match self.beta_schedule {
            BetaSchedule::Linear => torch_linspace(self.beta_start as f32, self.beta_end as f32, count),
            BetaSchedule::ScaledLinear => {
                let line = torch_linspace(self.beta_start.sqrt() as f32, self.beta_end.sqrt() as f32, count);
                line.into_iter().map(|root| root * root).collect()
            }
            BetaSchedule::SquaredCos => {
                let kept = |step: usize| {
                    let angle = (step as f64 / count as f64 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2;
                    angle.cos().powi(2)
                };
                (0..count).map(|step| (1.0 - kept(step + 1) / kept(step)).min(0.999) as f32).collect()
            }
        }
    }

    /// Largest first.
    fn timesteps(&self, num_steps: usize) -> Vec<usize> {
        let all = self.num_train_timesteps;
        match self.timestep_spacing {
            Spacing::Leading => (0..num_steps).rev().map(|i| i * (all / num_steps) + self.steps_offset).collect(),
            Spacing::Trailing => {
                let ratio = all as f64 / num_steps as f64;
                (0..num_steps).map(|i| (all as f64 - i as f64 * ratio).round_ties_even() as usize - 1).collect()
            }
            Spacing::Linspace => linspace(0.0, (all - 1) as f64, num_steps)
                .into_iter()
                .rev()
                .map(|t| t.round_ties_even() as usize)
                .collect(),
        }
    }
}

/// `torch.linspace` in f32, which counts from both ends.
fn torch_linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / count.saturating_sub(1).max(1) as f32;
    let value = |i: usize| match i < count / 2 {
        true => start + step * i as f32,
        false => end - step * (count - i - 1) as f32,
    };
    (0..count).map(value).collect()
}
