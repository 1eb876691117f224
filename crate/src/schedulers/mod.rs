//! From noise to latents along a grid of noise levels: which levels, and what one step does.
//!
//! Most models here are flow models: `latents = (1 − σ)·clean + σ·noise`, and the network predicts
//! `velocity = noise − clean`. Those whose scheduler is DDIM predict the noise itself (`ddim.rs`); what is said of a velocity here
//! is their prediction. A scheduler is asked for its timesteps, then called once per step:
//!
//! ```text
//! for (i, t) in scheduler.timesteps() { velocity = model(latents, t); latents = scheduler.step(velocity, i, latents) }
//! ```
//!
//! Levels are f64 numbers that hold f32 values wherever diffusers rounds to f32, so that the two agree.
//!
//! Source: diffusers 0.42.1 `schedulers/scheduling_unipc_multistep.py`, `scheduling_flow_match_euler_discrete.py`,
//! `scheduling_flow_map_euler_discrete.py`, `scheduling_ddim.py`.

mod ddim;
mod euler;
mod unipc;

#[cfg(test)]
mod tests;

use burn::tensor::Tensor;
use serde::Deserialize;

pub use ddim::DdimConfig;
pub use euler::{EulerConfig, FlowMapConfig};
pub use unipc::UniPcConfig;

use crate::error::{Error, Result};

const UNIPC: &str = "UniPCMultistepScheduler";
const EULER: &str = "FlowMatchEulerDiscreteScheduler";
const FLOW_MAP: &str = "FlowMapEulerDiscreteScheduler";
const DDIM: &str = "DDIMScheduler";

/// The classes of a [`SchedulerConfig`].
pub const CLASSES: [&str; 4] = [UNIPC, EULER, FLOW_MAP, DDIM];

/// A diffusers `scheduler_config.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "_class_name")]
pub enum SchedulerConfig {
    /// UniPC, the multistep solver of the Wan pipelines.
    #[serde(rename = "UniPCMultistepScheduler")]
    UniPc(UniPcConfig),
    /// Euler steps, with fresh noise at each level where `stochastic_sampling` is set (few-step models).
    #[serde(rename = "FlowMatchEulerDiscreteScheduler")]
    Euler(EulerConfig),
    /// Euler steps of flow-map models (AnyFlow).
    #[serde(rename = "FlowMapEulerDiscreteScheduler")]
    FlowMap(FlowMapConfig),
    /// DDIM, for models of a diffusion process (DiT).
    #[serde(rename = "DDIMScheduler")]
    Ddim(DdimConfig),
}

impl SchedulerConfig {
    /// True if shift, sampler and levels can be chosen: those of a diffusion process are its own.
    pub fn is_flow(&self) -> bool {
        !matches!(self, Self::Ddim(_))
    }

    /// Reads a `scheduler_config.json`.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] for anything but JSON of one of these classes.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|e| Error::InvalidOptions(format!("scheduler_config.json: {e}")))
    }

    /// True if it goes straight from each level to the next along a mean velocity, as flow-map models need it.
    pub fn is_flow_map(&self) -> bool {
        matches!(self, Self::FlowMap(_))
    }

    /// The class as diffusers names it.
    pub fn class(&self) -> &'static str {
        match self {
            Self::UniPc(_) => UNIPC,
            Self::Euler(_) => EULER,
            Self::FlowMap(_) => FLOW_MAP,
            Self::Ddim(_) => DDIM,
        }
    }

    /// Replaces the fixed shift of the levels towards noise; [`Scheduler::new`] checks it. Of flow models only.
    pub fn set_shift(&mut self, shift: f64) {
        match self {
            Self::UniPc(c) => c.flow_shift = shift,
            Self::Euler(c) => c.shift = shift,
            Self::FlowMap(c) => c.shift = shift,
            Self::Ddim(_) => (),
        }
    }

    /// Puts another solver in the place of the model's own; shift and timesteps stay what they were. Of flow models only.
    pub fn set_sampler(&mut self, sampler: Sampler) {
        let (num_train_timesteps, shift, use_dynamic_shifting, time_shift_type, shift_terminal) = match &*self {
            Self::UniPc(c) => {
                (c.num_train_timesteps, c.flow_shift, c.use_dynamic_shifting, c.time_shift_type, c.shift_terminal)
            }
            Self::Euler(c) => {
                (c.num_train_timesteps, c.shift, c.use_dynamic_shifting, c.time_shift_type, c.shift_terminal)
            }
            Self::FlowMap(c) => (c.num_train_timesteps, c.shift, false, TimeShift::default(), None),
            Self::Ddim(_) => return,
        };
        *self = match (sampler, &*self) {
            // What it says beyond the grid (order, corrector) is its own.
            (Sampler::UniPc, Self::UniPc(_)) => return,
            // Its steps are Euler's, on a grid of its own.
            (Sampler::Euler, Self::FlowMap(_)) => return,
            (Sampler::UniPc, _) => Self::UniPc(UniPcConfig {
                num_train_timesteps,
                flow_shift: shift,
                use_dynamic_shifting,
                time_shift_type,
                shift_terminal,
                prediction_type: "flow_prediction".into(),
                use_flow_sigmas: true,
                ..UniPcConfig::default()
            }),
            (Sampler::Euler | Sampler::Stochastic, _) => Self::Euler(EulerConfig {
                num_train_timesteps,
                shift,
                use_dynamic_shifting,
                time_shift_type,
                shift_terminal,
                stochastic_sampling: sampler == Sampler::Stochastic,
                ..EulerConfig::default()
            }),
        };
    }

    /// Takes every shift and stretch away, so that [`Scheduler::set_sigmas`] takes levels as they are given: published
    /// few-step grids are shifted already.
    pub fn clear_shift(&mut self) {
        self.set_shift(1.0);
        match self {
            Self::UniPc(c) => (c.use_dynamic_shifting, c.shift_terminal) = (false, None),
            Self::Euler(c) => (c.use_dynamic_shifting, c.shift_terminal) = (false, None),
            Self::FlowMap(_) | Self::Ddim(_) => (),
        }
    }
}

/// A solver that can be chosen in the place of the model's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// UniPC, order 2.
    UniPc,
    /// Euler steps along the velocity.
    Euler,
    /// To the clean estimate and, with fresh noise, back to the next level: rCM, DMD, LCM and other few-step models.
    Stochastic,
}

impl Sampler {
    /// By its name, one of [`crate::options::SAMPLERS`].
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "unipc" => Some(Self::UniPc),
            "euler" => Some(Self::Euler),
            "stochastic" => Some(Self::Stochastic),
            _ => None,
        }
    }
}

/// A grid of noise levels and the timesteps the model is told for them.
#[derive(Debug, Clone, Default, PartialEq)]
struct Grid {
    /// 0…1000, one per step.
    timesteps: Vec<f64>,
    /// 1…0, one more than there are steps.
    sigmas: Vec<f64>,
}

/// A solver and where it stands.
#[derive(Debug)]
pub struct Scheduler {
    solver: Solver,
    grid: Grid,
}

#[derive(Debug)]
enum Solver {
    UniPc(Box<unipc::UniPc>),
    Euler(EulerConfig),
    FlowMap(FlowMapConfig),
    Ddim(ddim::Ddim),
}

impl Scheduler {
    /// A scheduler without a grid yet; call [`Scheduler::set_timesteps`] or [`Scheduler::set_sigmas`] next.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] naming an option that diffusers has and this crate does not.
    pub fn new(config: &SchedulerConfig) -> Result<Self> {
        let solver = match config.clone() {
            SchedulerConfig::UniPc(c) => Solver::UniPc(Box::new(unipc::UniPc::new(c)?)),
            SchedulerConfig::Euler(c) => Solver::Euler(c.checked()?),
            SchedulerConfig::FlowMap(c) => Solver::FlowMap(c.checked()?),
            SchedulerConfig::Ddim(c) => Solver::Ddim(ddim::Ddim::new(c)?),
        };
        Ok(Self { solver, grid: Grid::default() })
    }

    /// Chooses the scheduler's own grid of `num_steps` levels and starts anew.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] if `num_steps` is not 1…1000, or if the schedule needs `mu`
    /// ([`Scheduler::set_timesteps_shifted`]).
    pub fn set_timesteps(&mut self, num_steps: usize) -> Result<()> {
        self.set_grid(Levels::Count(num_steps), None)
    }

    /// As [`Scheduler::set_timesteps`] for schedules with `use_dynamic_shifting`; `mu` is the log of the shift.
    ///
    /// # Errors
    /// As [`Scheduler::set_timesteps`].
    pub fn set_timesteps_shifted(&mut self, num_steps: usize, mu: f64) -> Result<()> {
        self.set_grid(Levels::Count(num_steps), Some(mu))
    }

    /// Takes given levels (largest first, without the final 0) and starts anew.
    ///
    /// The configured shift is applied to them, as diffusers does.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] unless the levels fall strictly and lie in 0 < σ ≤ 1, or if the schedule needs `mu`.
    pub fn set_sigmas(&mut self, sigmas: &[f64], mu: Option<f64>) -> Result<()> {
        check_levels("sigmas", sigmas)?;
        self.set_grid(Levels::Given(sigmas), mu)
    }

    fn set_grid(&mut self, levels: Levels<'_>, mu: Option<f64>) -> Result<()> {
        let grid = match &self.solver {
            Solver::UniPc(s) => s.config().grid(levels, mu)?,
            Solver::Euler(c) => c.grid(levels, mu)?,
            Solver::FlowMap(c) => c.grid(levels)?,
            Solver::Ddim(s) => s.grid(levels)?,
        };
        let steps = grid.sigmas.len().saturating_sub(1);
        check_levels("the shifted sigmas", grid.sigmas.get(..steps).unwrap_or_default())?;
        self.grid = grid;
        self.reset();
        Ok(())
    }

    /// What the model is told at each step, 0…1000, largest first.
    pub fn timesteps(&self) -> &[f64] {
        &self.grid.timesteps
    }

    /// The noise level before each step and, last, after all of them (0).
    pub fn sigmas(&self) -> &[f64] {
        &self.grid.sigmas
    }

    /// Forgets what earlier steps left behind, for a new clip on the same grid.
    pub fn reset(&mut self) {
        if let Solver::UniPc(s) = &mut self.solver {
            s.reset();
        }
    }

    /// True if [`Scheduler::step`] needs fresh noise at this step.
    pub fn needs_noise(&self, index: usize) -> bool {
        matches!(&self.solver, Solver::Euler(c) if c.stochastic_sampling)
            && self.grid.sigmas.get(index + 1).is_some_and(|s| *s > 0.0)
    }

    /// One step: the latents at level `index + 1` from those at level `index`.
    ///
    /// A step whose `index` does not follow the one before starts a new history, as the first step does.
    ///
    /// # Shapes
    /// `velocity`, `sample`, `noise` and the result: `[B, C, F, H, W]`.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] if `index` is not a step of the grid, or `noise` is missing where
    /// [`Scheduler::needs_noise`].
    pub fn step(
        &mut self,
        velocity: Tensor<5>,
        index: usize,
        sample: Tensor<5>,
        noise: Option<Tensor<5>>,
    ) -> Result<Tensor<5>> {
        let (sigma, next) = (self.level(index)?, self.level(index + 1)?);
        Ok(match &mut self.solver {
            Solver::Ddim(s) => s.step(&self.grid, velocity, index, sample)?,
            Solver::UniPc(s) => s.step(&self.grid, velocity, index, sample),
            Solver::Euler(c) if c.stochastic_sampling => {
                let clean = sample - velocity.mul_scalar(sigma);
                match noise {
                    _ if next == 0.0 => clean,
                    Some(noise) => clean.mul_scalar(1.0 - next) + noise.mul_scalar(next),
                    None => {
                        return Err(Error::InvalidOptions(format!("stochastic step {index} needs noise, got none")));
                    }
                }
            }
            Solver::Euler(_) | Solver::FlowMap(_) => sample + velocity.mul_scalar(next - sigma),
        })
    }

    /// Clean latents with noise mixed in up to the level before step `index`, where a video-to-video run starts.
    ///
    /// # Shapes
    /// `original`, `noise` and the result: `[B, C, F, H, W]`.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] if `index` is not a level of the grid.
    pub fn add_noise(&self, original: Tensor<5>, noise: Tensor<5>, index: usize) -> Result<Tensor<5>> {
        if let Solver::Ddim(s) = &self.solver {
            return s.add_noise(&self.grid, original, noise, index);
        }
        let sigma = self.level(index)?;
        Ok(original.mul_scalar(1.0 - sigma) + noise.mul_scalar(sigma))
    }

    /// The clean latents that a velocity points to, for previews.
    ///
    /// # Shapes
    /// `velocity`, `sample` and the result: `[B, C, F, H, W]`.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] if `index` is not a level of the grid.
    pub fn denoised(&self, velocity: Tensor<5>, index: usize, sample: Tensor<5>) -> Result<Tensor<5>> {
        if let Solver::Ddim(s) = &self.solver {
            return s.denoised(&self.grid, velocity, index, sample);
        }
        Ok(sample - velocity.mul_scalar(self.level(index)?))
    }

    fn level(&self, index: usize) -> Result<f64> {
        let last = self.grid.sigmas.len().saturating_sub(1);
        let rule =
            || Error::InvalidOptions(format!("step index must be below {last}, the number of steps, got {index}"));
        self.grid.sigmas.get(index).copied().ok_or_else(rule)
    }
}

/// How a grid is asked for.
#[derive(Debug, Clone, Copy)]
enum Levels<'a> {
    Count(usize),
    Given(&'a [f64]),
}

fn check_levels(what: &str, sigmas: &[f64]) -> Result<()> {
    let falling = sigmas.windows(2).all(|w| matches!(w, [a, b] if a > b));
    if sigmas.is_empty() || !falling || !sigmas.iter().all(|s| *s > 0.0 && *s <= 1.0) {
        return Err(Error::InvalidOptions(format!("{what} must fall strictly within 1 ≥ σ > 0, got {sigmas:?}")));
    }
    Ok(())
}

fn check_num_steps(num_steps: usize, num_train_timesteps: usize) -> Result<()> {
    if !(1..=num_train_timesteps).contains(&num_steps) {
        return Err(Error::InvalidOptions(format!("num_steps must be 1…{num_train_timesteps}, got {num_steps}")));
    }
    Ok(())
}

/// `numpy.linspace(start, stop, count)`, rounding included.
fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    let step = (stop - start) / count.saturating_sub(1).max(1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    if let (Some(last), true) = (values.last_mut(), count > 1) {
        *last = stop;
    }
    values
}

/// Moves levels towards 1: the fixed shift, or the dynamic one that depends on `mu`.
fn shifted(sigma: f64, shift: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

/// Which function of `mu` a dynamic shift uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeShift {
    /// `e^mu / (e^mu + 1/σ − 1)`.
    #[default]
    Exponential,
    /// `mu / (mu + 1/σ − 1)`.
    Linear,
}

impl TimeShift {
    fn apply(self, mu: f64, sigma: f64) -> f64 {
        let shift = if self == Self::Exponential { mu.exp() } else { mu };
        shift / (shift + (1.0 / sigma - 1.0))
    }
}

/// The `mu` of a dynamic schedule.
fn required_mu(mu: Option<f64>) -> Result<f64> {
    match mu {
        Some(mu) if mu.is_finite() => Ok(mu),
        Some(mu) => Err(Error::InvalidOptions(format!("mu must be finite, got {mu}"))),
        None => Err(Error::InvalidOptions("this schedule uses use_dynamic_shifting and needs mu, got none".into())),
    }
}

/// Stretches falling levels so that the last one becomes `terminal`.
fn stretch_to_terminal(sigmas: &mut [f64], terminal: f64) {
    let Some(&last) = sigmas.last() else { return };
    let factor = (1.0 - last) / (1.0 - terminal);
    sigmas.iter_mut().for_each(|s| *s = 1.0 - (1.0 - *s) / factor);
}

/// An option that diffusers has and this crate does not.
fn unsupported(option: &str, value: impl std::fmt::Display, only: &str) -> Error {
    Error::InvalidOptions(format!("scheduler option {option} = {value} is not supported, only {only}"))
}

/// A number as diffusers' f32 tensors hold it.
fn to_f32(value: f64) -> f64 {
    f64::from(value as f32)
}
