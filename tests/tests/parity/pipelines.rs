//! Schedulers, denoising loops, whole model folders.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;

use burn::tensor::{Device, Tensor, TensorData};
use pollster::block_on;
use serde_json::{Value, json};
use tabreel::config;
use tabreel::device::Compute;
use tabreel::host::{Event, Host, SilentHost};
use tabreel::models::umt5::{Umt5Config, Umt5Encoder};
use tabreel::models::wan::VaeConfig;
use tabreel::models::wan::condition::{Known, first_last_channels, vace_control};
use tabreel::models::wan::{Control, Vae};
use tabreel::nn::loader::Loader;
use tabreel::noise::{TorchRng, randn};
use tabreel::options::GenerateOptions;
use tabreel::pace::Pace;
use tabreel::pipeline::{Conditioning, Denoise, Given, ModelFiles, NoStep, Pipeline};
use tabreel::schedulers::{Scheduler, SchedulerConfig};
use tabreel::tokenizer::Tokenizer;
use tabreel_tests::{Array, Case};

use crate::models::{load_transformer, load_vae, say};

fn scheduler(config: Value) -> Result<Scheduler, String> {
    let config: SchedulerConfig = serde_json::from_value(config).map_err(say)?;
    Scheduler::new(&config).map_err(say)
}

fn unipc(shift: &Value, order: u64) -> Result<Scheduler, String> {
    scheduler(json!({
        "_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true,
        "num_train_timesteps": 1000, "flow_shift": shift, "solver_order": order,
    }))
}

fn number(args: &Value, key: &str) -> Result<f64, String> {
    args[key].as_f64().ok_or_else(|| format!("config.json: args.{key} must be a number"))
}

fn count(args: &Value, key: &str) -> Result<usize, String> {
    args[key].as_u64().map(|n| n as usize).ok_or_else(|| format!("config.json: args.{key} must be a whole number"))
}

/// Levels and trajectories for given velocities, so that only the solver is under test.
pub fn schedulers(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let device = compute.device();
    let args = case.config["args"].clone();
    let list = |key: &str| args[key].as_array().cloned().unwrap_or_default();
    for (i, k) in list("unipc").iter().enumerate() {
        let mut s = unipc(&k["shift"], k["order"].as_u64().unwrap_or(2))?;
        s.set_timesteps(count(k, "steps")?).map_err(say)?;
        follow(case, &format!("unipc{i}"), s, device)?;
    }
    for (i, k) in list("euler").iter().enumerate() {
        let mu = k["mu"].as_f64();
        let mut s = scheduler(json!({
            "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": k["shift"], "use_dynamic_shifting": mu.is_some(),
            "shift_terminal": k["terminal"],
        }))?;
        let sigmas: Option<Vec<f64>> = k["sigmas"].as_array().map(|s| s.iter().filter_map(Value::as_f64).collect());
        match (sigmas, mu) {
            (Some(sigmas), mu) => s.set_sigmas(&sigmas, mu),
            (None, Some(mu)) => s.set_timesteps_shifted(count(k, "steps")?, mu),
            (None, None) => s.set_timesteps(count(k, "steps")?),
        }
        .map_err(say)?;
        follow(case, &format!("euler{i}"), s, device)?;
    }
    let mut s = scheduler(
        json!({ "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 1.0, "stochastic_sampling": true }),
    )?;
    s.set_sigmas(&[1.0, 0.757, 0.522], None).map_err(say)?;
    follow(case, "dmd", s, device)?;
    let mut s = scheduler(json!({ "_class_name": "FlowMapEulerDiscreteScheduler", "shift": 5.0 }))?;
    s.set_timesteps(4).map_err(say)?;
    follow(case, "flowmap", s, device)?;

    let mut s = unipc(&json!(3.0), 2)?;
    s.set_timesteps(10).map_err(say)?;
    let index = case.get("in.add_noise.index")?.values[0] as usize;
    let (x, noise) = (case.get("in.add_noise.x")?.tensor(device), case.get("in.add_noise.n")?.tensor(device));
    case.compare_tensor("out.add_noise", s.add_noise(x, noise, index).map_err(say)?);
    Ok(())
}

fn follow(case: &mut Case, tag: &str, mut scheduler: Scheduler, device: &Device) -> Result<(), String> {
    let row = |values: &[f64]| Array { shape: vec![values.len()], values: values.iter().map(|&v| v as f32).collect() };
    case.compare(&format!("out.{tag}.timesteps"), &row(scheduler.timesteps()));
    case.compare(&format!("out.{tag}.sigmas"), &row(scheduler.sigmas()));
    let velocities = case.get(&format!("in.{tag}.v"))?.tensor::<6>(device);
    let noise = case.get(&format!("in.{tag}.noise")).ok().map(|n| n.tensor::<6>(device));
    let mut x = case.get(&format!("in.{tag}.x"))?.tensor::<5>(device);
    let mut trajectory = Vec::new();
    for i in 0..scheduler.timesteps().len() {
        let at = |all: Tensor<6>| all.narrow(0, i, 1).squeeze_dim::<5>(0);
        x = scheduler.step(at(velocities.clone()), i, x, noise.clone().map(at)).map_err(say)?;
        trajectory.push(x.clone().unsqueeze_dim::<6>(0));
    }
    case.compare_tensor(&format!("out.{tag}.traj"), Tensor::cat(trajectory, 0));
    Ok(())
}

/// A denoising loop from given embeddings, noise and known pixels, to latents and video.
pub fn latents(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let args = case.config["args"].clone();
    let pace = Pace::new(&SilentHost, compute);
    let transformer = load_transformer(case, compute, "transformer", "transformer.safetensors")?;
    let vae = load_vae(case, compute, "vae", "vae.safetensors")?;
    let conditioning = conditioning(case, &args, &vae, &pace)?;
    if let Conditioning::Vace(control) = &conditioning {
        case.compare_tensor("out.conditioning", control.latents.clone());
    }
    let steps = count(&args, "steps")?;
    let mut scheduler = unipc(&args["shift"], 2)?;
    scheduler.set_timesteps(steps).map_err(say)?;
    let kept = args["strength"].as_f64().map_or(steps, |s| ((steps as f64 * s) as usize).min(steps));
    let tensor = |name: &str| case.get(name).map(|a| a.tensor::<3>(compute.device()));
    let mut denoise = Denoise {
        transformer: &transformer,
        scheduler: &mut scheduler,
        prompt_embeds: tensor("in.prompt_embeds")?,
        negative_embeds: Some(tensor("in.negative_prompt_embeds")?),
        guidance_scale: number(&args, "cfg")?,
        conditioning: &conditioning,
        start_step: steps - kept,
        rng: &mut TorchRng::new(0), // UniPC draws nothing
    };
    let noise = case.get("in.latents")?.tensor::<5>(compute.device());
    let latents = block_on(denoise.run(noise, &pace, &mut NoStep)).map_err(say)?;
    case.compare_tensor("out.latents", latents.clone());
    // reference images lie before the clip
    let references = args["refs"].as_u64().unwrap_or(0) as usize;
    let frames = latents.dims()[2] - references;
    let shown = vae.denormalise(latents.narrow(2, references, frames));
    case.compare_tensor("out.video", block_on(vae.decode(shown, &pace)).map_err(say)?);
    Ok(())
}

fn conditioning(case: &Case, args: &Value, vae: &Vae, pace: &Pace<'_>) -> Result<Conditioning, String> {
    let device = vae.device();
    // 0…1 `[1, 3, H, W]` → −1…1 `[1, 3, 1, H, W]`
    let picture = |name: &str| case.get(name).map(|a| a.tensor::<4>(&device).unsqueeze_dim::<5>(2) * 2.0 - 1.0);
    match case.kind() {
        "pipe_ti2v" => {
            let first = block_on(vae.encode_normalised(picture("in.image")?, pace)).map_err(say)?;
            Ok(Conditioning::CleanFirst(first))
        }
        "pipe_flf2v" => {
            let (first, last) = (picture("in.image")?, picture("in.last_image")?);
            let extra =
                block_on(first_last_channels(vae, count(args, "frames")?, first, Some(last), pace)).map_err(say)?;
            Ok(Conditioning::Channels { extra, image_embeds: None })
        }
        "pipe_vace" => {
            // bytes `[F, H, W, 3]` → −1…1 `[1, 3, F, H, W]`
            let video = |a: Tensor<4>| (a / 127.5 - 1.0).permute([3, 0, 1, 2]).unsqueeze_dim::<5>(0);
            let known = Known {
                video: video(case.get("in.video_u8")?.tensor(&device)),
                mask: (case.get("in.mask_u8")?.tensor::<3>(&device) / 255.0).unsqueeze::<5>(),
            };
            let reference = video(case.get("in.reference_u8")?.tensor::<3>(&device).unsqueeze_dim(0));
            let [_, _, frames, height, width] = known.video.dims();
            let latents =
                block_on(vace_control(vae, [frames, height, width], Some(&known), &[reference], pace)).map_err(say)?;
            let blocks = case.config["transformer"]["vace_layers"].as_array().map_or(0, Vec::len);
            Ok(Conditioning::Vace(Control { latents, scales: vec![number(args, "scale")? as f32; blocks] }))
        }
        _ => Ok(Conditioning::None),
    }
}

/// Keeps the frames of a generation.
#[derive(Default)]
struct FrameHost(RefCell<Vec<u8>>);

impl Host for FrameHost {
    fn event(&self, event: Event) {
        if let Event::Frame { rgba, .. } = event {
            self.0.borrow_mut().extend(rgba);
        }
    }
    fn aborted(&self) -> bool {
        false
    }
    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(std::future::ready(()))
    }
    fn now_secs(&self) -> f64 {
        0.0
    }
}

/// A saved diffusers folder, from prompt text and seed to latents and pixels.
pub fn folder(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let args = case.config["args"].clone();
    let text = |key: &str| args[key].as_str().unwrap_or_default().to_owned();
    let model = case.dir.join("model");
    let read = |path: &str| std::fs::read(model.join(path)).map_err(|e| format!("{path}: {e}"));
    let options = GenerateOptions {
        prompt: text("prompt"),
        negative_prompt: text("negative_prompt"),
        width: count(&args, "width")?,
        height: count(&args, "height")?,
        num_frames: count(&args, "num_frames")?,
        fps: 8.0,
        num_steps: count(&args, "num_steps")?,
        guidance_scale: number(&args, "guidance_scale")?,
        seed: args["seed"].as_u64().ok_or("args.seed must be a whole number")?,
        flow_shift: None,
        preview: false,
    };

    // the first stages alone, so that a difference further on can be placed
    let pace = Pace::new(&SilentHost, compute);
    let tokenizer = Tokenizer::from_json(&read("tokenizer/tokenizer.json")?).map_err(say)?;
    let c: Umt5Config =
        config::parse(&read("text_encoder/config.json")?, "config.json", &["UMT5EncoderModel"]).map_err(say)?;
    let mut files = ModelFiles::read_dir(&model).map_err(say)?;
    let set = files.take_weights("text_encoder").map_err(say)?;
    let encoder = Umt5Encoder::load(&Loader::new(&set, compute.device()), &c).map_err(say)?;
    let max_tokens = count(&args, "max_sequence_length")?;
    for (output, prompt) in
        [("out.prompt_embeds", &options.prompt), ("out.negative_prompt_embeds", &options.negative_prompt)]
    {
        let ids = tokenizer.encode(prompt, max_tokens).map_err(say)?.ids;
        let embeds = block_on(encoder.forward(&ids, &vec![1; ids.len()], 1, &pace)).map_err(say)?;
        let [_, length, dim] = embeds.dims();
        let padding = Tensor::<3>::zeros([1, max_tokens - length, dim], compute.device());
        case.compare_tensor(output, Tensor::cat(vec![embeds, padding], 1));
    }
    let shape = case.get("out.noise")?.shape.clone();
    case.compare("out.noise", &Array { values: randn(options.seed, &shape), shape });

    let host = FrameHost::default();
    let mut files = ModelFiles::read_dir(&model).map_err(say)?;
    let pipeline = block_on(Pipeline::load(&mut files, compute.clone(), &host)).map_err(say)?;
    let clip = block_on(pipeline.generate(&options, &Given::default(), &host)).map_err(say)?;
    case.compare("out.latents", &Array { shape: clip.latents_shape.to_vec(), values: clip.latents.clone() });

    let mut files = ModelFiles::read_dir(&model).map_err(say)?;
    let c: VaeConfig = config::parse(&read("vae/config.json")?, "config.json", &["AutoencoderKLWan"]).map_err(say)?;
    let set = files.take_weights("vae").map_err(say)?;
    let vae = Vae::load(&Loader::new(&set, compute.device()), &c).map_err(say)?;
    let latents = Tensor::<5>::from_data(TensorData::new(clip.latents, clip.latents_shape), compute.device());
    case.compare_tensor("out.video", block_on(vae.decode(vae.denormalise(latents), &pace)).map_err(say)?);

    // the frames that the host was sent are those, as bytes
    let video = case.get("out.video")?;
    let [_, _, frames, height, width] = video.shape[..] else { return Err("out.video must have rank 5".into()) };
    let pixels = frames * height * width;
    let sent = host.0.take();
    let wrong = (0..pixels * 4).filter(|&i| {
        let (pixel, channel) = (i / 4, i % 4);
        let expected = if channel == 3 {
            255.0
        } else {
            (video.values[channel * pixels + pixel] * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0
        };
        sent.get(i).is_none_or(|&byte| (f32::from(byte) - expected).abs() > 0.75)
    });
    let wrong = wrong.count() + sent.len().abs_diff(pixels * 4);
    let frames = if wrong == 0 { Ok(0.0) } else { Err(format!("{wrong} of {} bytes are off", pixels * 4)) };
    case.results.push(("frames sent to the host".into(), frames));
    Ok(())
}
