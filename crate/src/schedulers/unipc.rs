//! UniPC: a multistep predictor, and a corrector that reuses the next step's network call.
//!
//! Works on estimates of the clean latents, `x0 = sample − σ·velocity`, in the variable λ = ln((1 − σ)/σ).
//!
//! Source: Zhao et al., "UniPC" (<https://arxiv.org/abs/2302.04867>), the B(h) variants; diffusers 0.42.1
//! `schedulers/scheduling_unipc_multistep.py`.

use std::collections::VecDeque;

use burn::tensor::Tensor;
use serde::Deserialize;

use super::euler::check_common;
use super::{
    Grid, Levels, TimeShift, check_num_steps, linspace, required_mu, shifted, stretch_to_terminal, to_f32, unsupported,
};
use crate::error::{Error, Result};

/// Options of `UniPCMultistepScheduler`; defaults are diffusers'.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the names are diffusers' own; those without a doc accept only the value checked below
pub struct UniPcConfig {
    /// Timestep of pure noise.
    pub num_train_timesteps: usize,
    /// Order of the predictor, 1…3.
    pub solver_order: usize,
    /// `bh1` or `bh2`.
    pub solver_type: String,
    /// Fixed shift of the levels towards noise; above 0.
    pub flow_shift: f64,
    /// Shift by `mu` instead (resolution dependent).
    pub use_dynamic_shifting: bool,
    /// How `mu` shifts.
    pub time_shift_type: TimeShift,
    /// Stretch the levels so that the last one before the end is this; 0…1.
    pub shift_terminal: Option<f64>,
    /// Fall back to lower orders in the last steps.
    pub lower_order_final: bool,
    /// Steps after which the corrector is left out.
    pub disable_corrector: Vec<usize>,
    /// `zero`, or `sigma_min` to end at the last level instead.
    pub final_sigmas_type: String,
    pub prediction_type: String,
    pub use_flow_sigmas: bool,
    pub predict_x0: bool,
    pub thresholding: bool,
    pub solver_p: Option<serde_json::Value>,
    pub use_karras_sigmas: Option<bool>,
    pub use_exponential_sigmas: Option<bool>,
    pub use_beta_sigmas: Option<bool>,
}

impl Default for UniPcConfig {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            solver_order: 2,
            solver_type: "bh2".into(),
            flow_shift: 1.0,
            use_dynamic_shifting: false,
            time_shift_type: TimeShift::Exponential,
            shift_terminal: None,
            lower_order_final: true,
            disable_corrector: Vec::new(),
            final_sigmas_type: "zero".into(),
            prediction_type: "epsilon".into(),
            use_flow_sigmas: false,
            predict_x0: true,
            thresholding: false,
            solver_p: None,
            use_karras_sigmas: None,
            use_exponential_sigmas: None,
            use_beta_sigmas: None,
        }
    }
}

impl UniPcConfig {
    fn check(&self) -> Result<()> {
        if self.prediction_type != "flow_prediction" {
            return Err(unsupported("prediction_type", &self.prediction_type, "flow_prediction"));
        }
        for (option, value, only) in [
            ("use_flow_sigmas", self.use_flow_sigmas, true),
            ("predict_x0", self.predict_x0, true),
            ("thresholding", self.thresholding, false),
            ("solver_p", self.solver_p.is_some(), false),
            ("use_karras_sigmas", self.use_karras_sigmas == Some(true), false),
            ("use_exponential_sigmas", self.use_exponential_sigmas == Some(true), false),
            ("use_beta_sigmas", self.use_beta_sigmas == Some(true), false),
        ] {
            if value != only {
                return Err(unsupported(option, value, &only.to_string()));
            }
        }
        if !matches!(self.solver_type.as_str(), "bh1" | "bh2" | "midpoint" | "heun" | "logrho") {
            return Err(unsupported("solver_type", &self.solver_type, "bh1 and bh2"));
        }
        if !(1..=3).contains(&self.solver_order) {
            return Err(Error::InvalidOptions(format!("solver_order must be 1…3, got {}", self.solver_order)));
        }
        let ends_at_zero = match self.final_sigmas_type.as_str() {
            "zero" => true,
            "sigma_min" => false,
            other => return Err(unsupported("final_sigmas_type", other, "zero and sigma_min")),
        };
        // The step to σ = 0 is infinitely long in λ; only order 1 survives it (diffusers returns NaN here).
        if ends_at_zero && !self.lower_order_final && self.solver_order > 1 {
            return Err(unsupported(
                "lower_order_final",
                false,
                "true when final_sigmas_type is zero and solver_order is above 1",
            ));
        }
        check_common(self.num_train_timesteps, self.flow_shift, self.shift_terminal)
    }

    pub(super) fn grid(&self, levels: Levels<'_>, mu: Option<f64>) -> Result<Grid> {
        let scale = self.num_train_timesteps as f64;
        let mut sigmas = match levels {
            Levels::Count(num_steps) => {
                check_num_steps(num_steps, self.num_train_timesteps)?;
                let mut line = linspace(1.0, 1.0 / scale, num_steps + 1);
                line.pop();
                line
            }
            Levels::Given(sigmas) => sigmas.to_vec(),
        };
        if self.use_dynamic_shifting {
            let mu = required_mu(mu)?;
            sigmas.iter_mut().for_each(|s| *s = self.time_shift_type.apply(mu, *s));
        } else {
            sigmas.iter_mut().for_each(|s| *s = shifted(*s, self.flow_shift));
        }
        if let Some(terminal) = self.shift_terminal.filter(|t| *t != 0.0) {
            stretch_to_terminal(&mut sigmas, terminal);
        }
        // λ is infinite at σ = 1.
        if let Some(first) = sigmas.first_mut().filter(|s| (**s - 1.0).abs() < 1e-6) {
            *first -= 1e-6;
        }
        let timesteps = sigmas.iter().map(|s| (s * scale).trunc()).collect();
        let end = if self.final_sigmas_type == "zero" { 0.0 } else { sigmas.last().copied().unwrap_or(0.0) };
        sigmas.push(end);
        sigmas.iter_mut().for_each(|s| *s = to_f32(*s));
        Ok(Grid { timesteps, sigmas })
    }
}

/// The solver and its memory of earlier steps.
#[derive(Debug)]
pub(super) struct UniPc {
    config: UniPcConfig,
    /// Clean estimates of the last steps, newest first, `[B, C, F, H, W]` each.
    estimates: VecDeque<Tensor<5>>,
    last: Option<LastStep>,
}

/// What the corrector needs of the step before.
#[derive(Debug)]
struct LastStep {
    index: usize,
    order: usize,
    sample: Tensor<5>,
}

impl UniPc {
    pub(super) fn new(config: UniPcConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config, estimates: VecDeque::new(), last: None })
    }

    pub(super) fn config(&self) -> &UniPcConfig {
        &self.config
    }

    pub(super) fn reset(&mut self) {
        self.estimates.clear();
        self.last = None;
    }

    /// `index` is a step of `grid` (checked by the caller).
    pub(super) fn step(&mut self, grid: &Grid, velocity: Tensor<5>, index: usize, sample: Tensor<5>) -> Tensor<5> {
        if self.last.as_ref().is_some_and(|l| l.index + 1 != index) {
            self.reset();
        }
        let estimate = sample.clone() - velocity.mul_scalar(grid.sigmas[index]);
        let sample = match self.last.take() {
            Some(last) if !self.config.disable_corrector.contains(&last.index) => {
                let update = Update::new(&grid.sigmas, last.index, last.order, &self.config.solver_type);
                update.corrected(last.sample, &self.estimates, estimate.clone())
            }
            _ => sample,
        };
        self.estimates.push_front(estimate);
        self.estimates.truncate(self.config.solver_order);

        let steps_left = grid.timesteps.len() - index;
        let allowed = if self.config.lower_order_final { steps_left } else { usize::MAX };
        let order = self.config.solver_order.min(allowed).min(self.estimates.len());
        let next = Update::new(&grid.sigmas, index, order, &self.config.solver_type)
            .predicted(sample.clone(), &self.estimates);
        self.last = Some(LastStep { index, order, sample });
        next
    }
}

/// The numbers of one step from level s to level t:
/// `x_t = keep·x_s + clean·m0 + slope·(Σ ρ_k·(m_k − m0)/r_k [+ ρ_last·(m_t − m0)])`, where m are clean estimates.
struct Update {
    keep: f64,
    clean: f64,
    slope: f64,
    /// `r_k`: how far back estimate k lies, in units of this step; the last is 1, the step's end.
    ratios: Vec<f64>,
    /// Right-hand side of the order conditions.
    moments: Vec<f64>,
}

impl Update {
    fn new(sigmas: &[f64], from: usize, order: usize, solver_type: &str) -> Self {
        let lambda = |sigma: f64| (1.0 - sigma).ln() - sigma.ln();
        let (sigma_s, sigma_t) = (sigmas[from], sigmas[from + 1]);
        let h = lambda(sigma_t) - lambda(sigma_s); // ∞ in the step to σ = 0
        let phi_1 = (-h).exp_m1();
        let b_h = if solver_type == "bh1" { -h } else { phi_1 };

        let mut ratios: Vec<f64> = (1..order).map(|k| (lambda(sigmas[from - k]) - lambda(sigma_s)) / h).collect();
        ratios.push(1.0);
        let mut moments = Vec::with_capacity(order);
        let (mut phi, mut factorial) = (phi_1 / -h - 1.0, 1.0);
        for i in 1..=order {
            moments.push(phi * factorial / b_h);
            factorial *= (i + 1) as f64;
            phi = phi / -h - 1.0 / factorial;
        }
        let alpha_t = 1.0 - sigma_t;
        Self { keep: sigma_t / sigma_s, clean: -alpha_t * phi_1, slope: -alpha_t * b_h, ratios, moments }
    }

    /// The predictor, from earlier estimates only.
    fn predicted(&self, sample: Tensor<5>, estimates: &VecDeque<Tensor<5>>) -> Tensor<5> {
        let known = self.ratios.len() - 1;
        let weights = match known {
            0 => Vec::new(),
            1 => vec![0.5], // as the authors simplify order 2
            _ => solve_vandermonde(&self.ratios[..known], &self.moments[..known]),
        };
        self.base(sample, estimates, &weights)
    }

    /// The corrector, which also knows the estimate `arrived` at the step's end.
    fn corrected(&self, sample: Tensor<5>, estimates: &VecDeque<Tensor<5>>, arrived: Tensor<5>) -> Tensor<5> {
        let weights = match self.ratios.len() {
            1 => vec![0.5], // as the authors simplify order 1
            _ => solve_vandermonde(&self.ratios, &self.moments),
        };
        let last = weights.last().copied().unwrap_or(0.0);
        let difference = arrived - estimates[0].clone();
        self.base(sample, estimates, &weights) + difference.mul_scalar(self.slope * last)
    }

    /// Everything but the estimate at the step's end.
    fn base(&self, sample: Tensor<5>, estimates: &VecDeque<Tensor<5>>, weights: &[f64]) -> Tensor<5> {
        let newest = &estimates[0];
        let mut next = sample.mul_scalar(self.keep) + newest.clone().mul_scalar(self.clean);
        let known = self.ratios.len() - 1;
        for ((estimate, ratio), weight) in estimates.iter().skip(1).zip(&self.ratios[..known]).zip(weights) {
            next = next + (estimate.clone() - newest.clone()).mul_scalar(self.slope * weight / ratio);
        }
        next
    }
}

/// Solves `Σ_k ratios[k]^i · x[k] = moments[i]` for i = 0, 1, …; the ratios are distinct, so there is one solution.
fn solve_vandermonde(ratios: &[f64], moments: &[f64]) -> Vec<f64> {
    // Lagrange: x[k] pairs the moments with the coefficients of the polynomial that is 1 at ratio k and 0 at the others.
    (0..ratios.len())
        .map(|k| {
            let mut polynomial = vec![1.0];
            for (_, root) in ratios.iter().enumerate().filter(|(j, _)| *j != k) {
                let scale = ratios[k] - root;
                let mut product = vec![0.0; polynomial.len() + 1];
                for (i, c) in polynomial.iter().enumerate() {
                    product[i] -= c * root / scale;
                    product[i + 1] += c / scale;
                }
                polynomial = product;
            }
            polynomial.iter().zip(moments).map(|(c, m)| c * m).sum()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_conditions_are_solved() {
        let (ratios, moments) = ([-2.0, -0.7, 1.0], [0.9, 0.4, 0.3]);
        let x = solve_vandermonde(&ratios, &moments);
        for (i, want) in moments.iter().enumerate() {
            let got: f64 = ratios.iter().zip(&x).map(|(r, x)| r.powi(i as i32) * x).sum();
            assert!((got - want).abs() < 1e-12, "{i}: {got} {want}");
        }
    }
}
