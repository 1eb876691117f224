//! Grids and trajectories against the reference fixture, and the rules for bad options.

use std::path::PathBuf;

use burn::tensor::{Device, TensorData};

use super::*;
use crate::weights::WeightSet;

fn fixture() -> WeightSet {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/schedulers/io.safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{} is needed for this test: {e}", path.display()));
    WeightSet::from_bytes(bytes, "io.safetensors").unwrap()
}

fn tensor(values: &[f32], shape: [usize; 5]) -> Tensor<5> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
}

fn values(t: Tensor<5>) -> Vec<f32> {
    t.into_data().try_to_vec().unwrap()
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    let (mut error, mut norm) = (0.0f64, 0.0f64);
    for (g, w) in got.iter().zip(want) {
        error += f64::from(g - w).powi(2);
        norm += f64::from(*w).powi(2);
    }
    assert_eq!(got.len(), want.len());
    assert!((error / norm).sqrt() <= 1e-5, "{what}: relative L2 {}", (error / norm).sqrt());
}

/// Runs the given velocities through a scheduler and compares every state with the fixture's.
fn follow(tag: &str, mut scheduler: Scheduler, noise: Option<&str>) {
    let io = fixture();
    let read = |name: String| io.f32(&name).unwrap_or_else(|e| panic!("{e}"));
    let shape: [usize; 5] = io.get(&format!("in.{tag}.x")).unwrap().shape.clone().try_into().unwrap();
    let size: usize = shape.iter().product();
    for (what, ours) in [("timesteps", scheduler.timesteps().to_vec()), ("sigmas", scheduler.sigmas().to_vec())] {
        let theirs = read(format!("out.{tag}.{what}"));
        assert_eq!(ours.len(), theirs.len(), "{tag} {what}");
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - f64::from(*b)).abs() <= 1e-6 * a.abs().max(0.01), "{tag} {what}: {a} instead of {b}");
        }
    }
    let velocity = read(format!("in.{tag}.v"));
    let noise = noise.map(|n| read(n.into()));
    let trajectory = read(format!("out.{tag}.traj"));
    for pass in 0..2 {
        let mut sample = tensor(&read(format!("in.{tag}.x")), shape);
        for i in 0..scheduler.timesteps().len() {
            let at = i * size..(i + 1) * size;
            let noise = noise.as_ref().map(|n| tensor(&n[at.clone()], shape));
            sample = scheduler.step(tensor(&velocity[at.clone()], shape), i, sample, noise).unwrap();
            assert_close(&values(sample.clone()), &trajectory[at], &format!("{tag} pass {pass} step {i}"));
        }
    }
}

fn scheduler(json: serde_json::Value) -> Scheduler {
    Scheduler::new(&SchedulerConfig::from_json(&json.to_string()).unwrap()).unwrap()
}

fn unipc(shift: f64, order: usize) -> Scheduler {
    scheduler(serde_json::json!({
        "_class_name": "UniPCMultistepScheduler", "_diffusers_version": "0.42.1", "prediction_type": "flow_prediction",
        "use_flow_sigmas": true, "flow_shift": shift, "solver_order": order, "beta_start": 0.0001, "solver_p": null
    }))
}

fn euler(options: &serde_json::Value) -> Scheduler {
    let mut json = options.clone();
    json["_class_name"] = "FlowMatchEulerDiscreteScheduler".into();
    scheduler(json)
}

#[test]
fn unipc_of_orders_one_to_three_follows_the_reference() {
    let cases = [(3.0, 6, 2), (5.0, 20, 2), (8.0, 4, 3), (1.0, 5, 1), (3.0, 50, 2)];
    for (i, (shift, steps, order)) in cases.into_iter().enumerate() {
        let mut s = unipc(shift, order);
        s.set_timesteps(steps).unwrap();
        follow(&format!("unipc{i}"), s, None);
    }
}

#[test]
fn euler_follows_the_reference_with_shift_terminal_and_given_levels() {
    let mut s = euler(&serde_json::json!({"shift": 3.0}));
    s.set_timesteps(8).unwrap();
    follow("euler0", s, None);
    let mut s = euler(&serde_json::json!({"shift": 1.0, "use_dynamic_shifting": true, "shift_terminal": 0.1}));
    s.set_timesteps_shifted(8, 1.2).unwrap();
    follow("euler1", s, None);
    let mut s = euler(&serde_json::json!({"shift": 8.0}));
    s.set_sigmas(&[1.0, 0.757, 0.522], None).unwrap();
    follow("euler2", s, None);
    let mut s = euler(&serde_json::json!({}));
    s.set_sigmas(&[1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725], None).unwrap();
    follow("euler3", s, None);
}

#[test]
fn stochastic_and_flow_map_steps_follow_the_reference() {
    let mut s = euler(&serde_json::json!({"stochastic_sampling": true}));
    s.set_sigmas(&[1.0, 0.757, 0.522], None).unwrap();
    assert!(s.needs_noise(0) && s.needs_noise(1) && !s.needs_noise(2));
    follow("dmd", s, Some("in.dmd.noise"));
    let mut s = scheduler(serde_json::json!({"_class_name": "FlowMapEulerDiscreteScheduler", "shift": 5.0}));
    s.set_timesteps(4).unwrap();
    follow("flowmap", s, None);
}

/// A scheduler of Wan's own settings with another sampler, and levels that are not to be shifted again.
fn unshifted(sampler: Sampler, sigmas: &[f64]) -> Scheduler {
    let wan = serde_json::json!({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction",
        "use_flow_sigmas": true, "flow_shift": 3.0, "shift_terminal": 0.1});
    let mut config = SchedulerConfig::from_json(&wan.to_string()).unwrap();
    config.set_sampler(sampler);
    config.clear_shift();
    let mut scheduler = Scheduler::new(&config).unwrap();
    scheduler.set_sigmas(sigmas, None).unwrap();
    scheduler
}

#[test]
fn a_model_with_a_shift_samples_a_few_step_grid_as_it_is_given() {
    follow("dmd", unshifted(Sampler::Stochastic, &[1.0, 0.757, 0.522]), Some("in.dmd.noise"));
    let levels = [1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725];
    follow("euler3", unshifted(Sampler::Euler, &levels), None);
    let s = unshifted(Sampler::UniPc, &[0.9, 0.5]);
    assert_eq!((s.timesteps(), s.needs_noise(0)), (&[900.0, 500.0][..], false));
    // rCM's: the model is told 1000 σ.
    let s = unshifted(Sampler::Stochastic, &[0.98765, 0.93378, 0.85290, 0.60898]);
    assert!((s.timesteps()[0] - 987.65).abs() < 1e-3 && (s.sigmas()[3] - 0.60898).abs() < 1e-6, "{s:?}");
}

#[test]
fn another_sampler_keeps_the_shift_of_the_models_own() {
    let mut config = SchedulerConfig::from_json(
        r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0}"#,
    )
    .unwrap();
    config.set_sampler(Sampler::Euler);
    let mut s = Scheduler::new(&config).unwrap();
    s.set_timesteps(8).unwrap();
    follow("euler0", s, None);
    config.set_sampler(Sampler::UniPc);
    let mut s = Scheduler::new(&config).unwrap();
    s.set_timesteps(6).unwrap();
    follow("unipc0", s, None);
}

#[test]
fn noise_is_added_up_to_the_level_of_a_step() {
    let io = fixture();
    let mut s = unipc(3.0, 2);
    s.set_timesteps(10).unwrap();
    let shape = [1, 4, 2, 3, 3];
    let (x, n) = (io.f32("in.add_noise.x").unwrap(), io.f32("in.add_noise.n").unwrap());
    let noisy = s.add_noise(tensor(&x, shape), tensor(&n, shape), 3).unwrap();
    assert_close(&values(noisy), &io.f32("out.add_noise").unwrap(), "add_noise");
}

#[test]
fn every_solver_reaches_the_clean_latents_when_the_velocity_is_exact() {
    let shape = [1, 1, 1, 1, 4];
    let (clean, noise) = ([0.5, -1.0, 2.0, 0.0], [1.0f32, 0.3, -0.7, 2.0]);
    let velocity: Vec<f32> = noise.iter().zip(&clean).map(|(n, c)| n - c).collect();
    let bh1 = serde_json::json!({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction",
        "use_flow_sigmas": true, "solver_type": "bh1", "solver_order": 3, "disable_corrector": [0]});
    for mut s in
        [unipc(3.0, 3), unipc(3.0, 2), unipc(1.0, 1), euler(&serde_json::json!({"shift": 3.0})), scheduler(bh1)]
    {
        s.set_timesteps(7).unwrap();
        let first = s.sigmas()[0];
        let mut x = s.add_noise(tensor(&clean, shape), tensor(&noise, shape), 0).unwrap();
        for i in 0..7 {
            assert!(
                values(s.denoised(tensor(&velocity, shape), i, x.clone()).unwrap())
                    .iter()
                    .zip(&clean)
                    .all(|(a, b)| (a - b).abs() < 1e-4)
            );
            x = s.step(tensor(&velocity, shape), i, x, None).unwrap();
        }
        assert!(values(x).iter().zip(&clean).all(|(a, b)| (a - b).abs() < 1e-4), "from {first}: {:?}", s);
    }
}

#[test]
fn wan_timesteps_are_whole_numbers_cut_down() {
    let mut s = unipc(3.0, 2);
    s.set_timesteps(4).unwrap();
    assert_eq!(s.timesteps(), [999.0, 900.0, 750.0, 500.0]);
}

#[test]
fn a_step_out_of_turn_starts_a_new_history() {
    let shape = [1, 1, 1, 1, 1];
    let v = || tensor(&[0.3], shape);
    let mut fresh = unipc(3.0, 2);
    fresh.set_timesteps(6).unwrap();
    let want = values(fresh.step(v(), 3, tensor(&[1.0], shape), None).unwrap());
    let mut used = unipc(3.0, 2);
    used.set_timesteps(6).unwrap();
    used.step(v(), 0, tensor(&[1.0], shape), None).unwrap();
    assert_eq!(values(used.step(v(), 3, tensor(&[1.0], shape), None).unwrap()), want);
}

#[test]
fn options_that_are_not_supported_are_named() {
    let refused = |json: serde_json::Value| {
        let config = SchedulerConfig::from_json(&json.to_string())?;
        Scheduler::new(&config).map(|_| ())
    };
    let unipc = |key: &str, value: serde_json::Value| {
        let mut json = serde_json::json!({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true});
        json[key] = value;
        refused(json).unwrap_err().to_string()
    };
    assert!(unipc("prediction_type", "epsilon".into()).contains("prediction_type = epsilon"));
    assert!(unipc("use_flow_sigmas", false.into()).contains("use_flow_sigmas"));
    assert!(unipc("thresholding", true.into()).contains("thresholding"));
    assert!(unipc("use_karras_sigmas", true.into()).contains("use_karras_sigmas"));
    assert!(unipc("solver_order", 4.into()).contains("solver_order must be 1…3, got 4"));
    assert!(unipc("flow_shift", 0.0.into()).contains("above 0, got 0"));
    assert!(unipc("lower_order_final", false.into()).contains("lower_order_final"));
    let other = refused(serde_json::json!({"_class_name": "PNDMScheduler"})).unwrap_err().to_string();
    assert!(other.contains("PNDMScheduler"), "{other}");
    let ddim = |key: &str, value: serde_json::Value| {
        let mut json = serde_json::json!({"_class_name": "DDIMScheduler"});
        json[key] = value;
        refused(json).unwrap_err().to_string()
    };
    assert!(ddim("thresholding", true.into()).contains("thresholding"));
    assert!(ddim("rescale_betas_zero_snr", true.into()).contains("rescale_betas_zero_snr"));
    assert!(ddim("num_train_timesteps", 0.into()).contains("1 to 100000, got 0"));
    assert!(ddim("beta_end", 1.5.into()).contains("above 0 and below 1"));
    assert!(ddim("beta_end", 0.9.into()).contains("of the clean latents' power at every step"));
    assert!(ddim("trained_betas", vec![0.1].into()).contains("trained_betas must be 1000"));
    let mochi = refused(serde_json::json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": true}));
    assert!(mochi.unwrap_err().to_string().contains("invert_sigmas"));
}

#[test]
fn bad_numbers_of_steps_levels_and_indices_are_refused() {
    let mut s = euler(&serde_json::json!({}));
    assert!(s.set_timesteps(0).unwrap_err().to_string().contains("num_steps must be 1…1000, got 0"));
    assert!(s.set_timesteps(1001).is_err());
    for bad in [&[][..], &[0.5, 0.7], &[1.0, 0.0], &[f64::NAN], &[1.5]] {
        assert!(s.set_sigmas(bad, None).unwrap_err().to_string().contains("fall strictly"), "{bad:?}");
    }
    s.set_timesteps(2).unwrap();
    let x = || tensor(&[1.0], [1, 1, 1, 1, 1]);
    assert!(s.step(x(), 2, x(), None).unwrap_err().to_string().contains("below 2"));
    let mut s = euler(&serde_json::json!({"stochastic_sampling": true}));
    s.set_timesteps(2).unwrap();
    assert!(s.step(x(), 0, x(), None).unwrap_err().to_string().contains("needs noise"));
    let mut s = euler(&serde_json::json!({"use_dynamic_shifting": true}));
    assert!(s.set_timesteps(4).unwrap_err().to_string().contains("mu"));
}

#[test]
fn ddim_takes_steps_and_no_levels() {
    let config = SchedulerConfig::from_json(r#"{"_class_name": "DDIMScheduler", "steps_offset": 1}"#).unwrap();
    let mut s = Scheduler::new(&config).unwrap();
    assert!(s.set_sigmas(&[1.0, 0.5], None).unwrap_err().to_string().contains("takes steps"));
    assert!(s.set_timesteps(1001).is_err());
    // Every step from the first, moved by one, would begin beyond the last.
    assert!(s.set_timesteps(1000).unwrap_err().to_string().contains("below 1000, got 1000"));
    s.set_timesteps(4).unwrap();
    assert_eq!(s.timesteps(), [751.0, 501.0, 251.0, 1.0]);
    let x = || tensor(&[1.0], [1, 1, 1, 1, 1]);
    assert!(s.step(x(), 4, x(), None).unwrap_err().to_string().contains("below 4"));
}

#[test]
fn every_sampler_that_can_be_asked_for_is_there() {
    assert!(crate::options::SAMPLERS.iter().all(|name| Sampler::named(name).is_some()));
}
