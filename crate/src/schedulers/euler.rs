//! Euler steps along the straight flow: `FlowMatchEulerDiscreteScheduler`, `FlowMapEulerDiscreteScheduler`.
//!
//! Source: diffusers 0.42.1 `schedulers/scheduling_flow_match_euler_discrete.py`, `scheduling_flow_map_euler_discrete.py`.

use serde::Deserialize;

use super::{
    Grid, Levels, TimeShift, check_num_steps, linspace, required_mu, shifted, stretch_to_terminal, to_f32, unsupported,
};
use crate::error::{Error, Result};

/// Options of `FlowMatchEulerDiscreteScheduler`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct EulerConfig {
    /// Timestep of pure noise.
    pub num_train_timesteps: usize,
    /// Fixed shift of the levels towards noise; above 0.
    pub shift: f64,
    /// Shift by `mu` instead (resolution dependent).
    pub use_dynamic_shifting: bool,
    /// How `mu` shifts.
    pub time_shift_type: TimeShift,
    /// Stretch the levels so that the last one before 0 is this; 0…1.
    pub shift_terminal: Option<f64>,
    /// Step to the clean estimate and noise it anew to the next level (few-step distilled models).
    pub stochastic_sampling: bool,
    /// Not supported.
    pub invert_sigmas: bool,
    /// Not supported.
    pub use_karras_sigmas: Option<bool>,
    /// Not supported.
    pub use_exponential_sigmas: Option<bool>,
    /// Not supported.
    pub use_beta_sigmas: Option<bool>,
}

impl Default for EulerConfig {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            time_shift_type: TimeShift::Exponential,
            shift_terminal: None,
            stochastic_sampling: false,
            invert_sigmas: false,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            use_beta_sigmas: None,
        }
    }
}

impl EulerConfig {
    pub(super) fn checked(self) -> Result<Self> {
        let refused = [
            ("invert_sigmas", self.invert_sigmas),
            ("use_karras_sigmas", self.use_karras_sigmas == Some(true)),
            ("use_exponential_sigmas", self.use_exponential_sigmas == Some(true)),
            ("use_beta_sigmas", self.use_beta_sigmas == Some(true)),
        ];
        if let Some((option, _)) = refused.iter().find(|(_, on)| *on) {
            return Err(unsupported(option, true, "false"));
        }
        check_common(self.num_train_timesteps, self.shift, self.shift_terminal)?;
        Ok(self)
    }

    /// The default grid is shifted twice: its ends are already shifted, then the whole line is.
    pub(super) fn grid(&self, levels: Levels<'_>, mu: Option<f64>) -> Result<Grid> {
        let scale = self.num_train_timesteps as f64;
        let mut sigmas: Vec<f64> = match levels {
            Levels::Count(num_steps) => {
                check_num_steps(num_steps, self.num_train_timesteps)?;
                let end = |sigma: f32| {
                    let shift = self.shift as f32;
                    let sigma =
                        if self.use_dynamic_shifting { sigma } else { shift * sigma / (1.0 + (shift - 1.0) * sigma) };
                    f64::from(sigma) * scale
                };
                linspace(end(1.0), end(1.0 / self.num_train_timesteps as f32), num_steps)
                    .iter()
                    .map(|t| t / scale)
                    .collect()
            }
            Levels::Given(sigmas) => sigmas.iter().map(|s| to_f32(*s)).collect(),
        };
        if self.use_dynamic_shifting {
            let mu = required_mu(mu)?;
            sigmas.iter_mut().for_each(|s| *s = self.time_shift_type.apply(mu, *s));
        } else {
            sigmas.iter_mut().for_each(|s| *s = shifted(*s, self.shift));
        }
        if let Some(terminal) = self.shift_terminal.filter(|t| *t != 0.0) {
            stretch_to_terminal(&mut sigmas, terminal);
        }
        sigmas.iter_mut().for_each(|s| *s = to_f32(*s));
        let timesteps = sigmas.iter().map(|s| to_f32(s * scale)).collect();
        sigmas.push(0.0);
        Ok(Grid { timesteps, sigmas })
    }
}

/// Options of `FlowMapEulerDiscreteScheduler`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct FlowMapConfig {
    /// Timestep of pure noise.
    pub num_train_timesteps: usize,
    /// Fixed shift of the levels towards noise; above 0.
    pub shift: f64,
}

impl Default for FlowMapConfig {
    fn default() -> Self {
        Self { num_train_timesteps: 1000, shift: 1.0 }
    }
}

impl FlowMapConfig {
    pub(super) fn checked(self) -> Result<Self> {
        check_common(self.num_train_timesteps, self.shift, None)?;
        Ok(self)
    }

    /// Evenly spaced levels, shifted once; the reference keeps them in f64.
    pub(super) fn grid(&self, levels: Levels<'_>) -> Result<Grid> {
        let line = match levels {
            Levels::Count(num_steps) => {
                check_num_steps(num_steps, self.num_train_timesteps)?;
                let mut line = linspace(1.0, 0.0, num_steps + 1);
                line.pop();
                line
            }
            Levels::Given(sigmas) => sigmas.to_vec(),
        };
        let mut sigmas: Vec<f64> = line.iter().map(|s| shifted(*s, self.shift)).collect();
        let timesteps = sigmas.iter().map(|s| s * self.num_train_timesteps as f64).collect();
        sigmas.push(0.0);
        Ok(Grid { timesteps, sigmas })
    }
}

/// Rules that all configurations share.
pub(super) fn check_common(num_train_timesteps: usize, shift: f64, terminal: Option<f64>) -> Result<()> {
    if num_train_timesteps == 0 {
        return Err(Error::InvalidOptions("num_train_timesteps must be at least 1, got 0".into()));
    }
    if !(shift > 0.0 && shift.is_finite()) {
        return Err(Error::InvalidOptions(format!("flow shift must be finite and above 0, got {shift}")));
    }
    match terminal {
        Some(t) if !(0.0..1.0).contains(&t) => {
            Err(Error::InvalidOptions(format!("shift_terminal must be 0 ≤ t < 1, got {t}")))
        }
        _ => Ok(()),
    }
}
