//! Pictures of classes: DiT, its VAE, DDIM, and a whole folder.

use burn::tensor::{Tensor, TensorData};
use pollster::block_on;
use serde_json::json;
use tabreel::config;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::models::dit::{Dit, DitConfig};
use tabreel::models::kl::{KlConfig, KlVae};
use tabreel::nn::loader::Loader;
use tabreel::noise::randn;
use tabreel::options::GivenOptions;
use tabreel::pace::Pace;
use tabreel::pipeline::{Inputs, ModelFiles, Pipeline};
use tabreel_tests::{Array, Case};

use crate::models::{say, weights};
use crate::pipelines::{FrameHost, count, follow, frames_sent, number, scheduler};

/// The same values, pictures being clips of one frame.
fn as_clip(array: &Array) -> Array {
    let [b, c, h, w] = array.shape[..] else { return array.clone() };
    Array { shape: vec![b, c, 1, h, w], values: array.values.clone() }
}

/// Forward passes for several times and classes, the predicted variance with them.
pub fn transformer(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let (device, pace) = (compute.device(), Pace::new(&SilentHost, compute));
    let mut json = case.config["weights"].clone();
    // What diffusers has no key for stands among the arguments.
    for key in ["sample_frames", "attention_windows", "block_kind"] {
        if let Some(value) = case.config["args"].get(key) {
            json[key] = value.clone();
        }
    }
    let json = json.to_string();
    let config: DitConfig = config::parse(json.as_bytes(), "weights", &["DiTTransformer2DModel"]).map_err(say)?;
    let set = weights(case, "weights.safetensors")?;
    let model = block_on(Dit::load(&Loader::new(&set, device), &config)).map_err(say)?;
    for suffix in ["", "_picture"] {
        let Ok(latents) = case.get(&format!("in.hidden_states{suffix}")) else { continue };
        let latents = as_clip(latents).tensor::<5>(device);
        let labels = case.get(&format!("in.class_labels{suffix}"))?.values.clone();
        let class = |label: &f32| {
            // The last one is no class.
            let class = Some(*label as usize).filter(|class| *class < config.num_embeds_ada_norm);
            block_on(model.embed_class(class)).map_err(say)
        };
        let classes = Tensor::cat(labels.iter().map(class).collect::<Result<_, _>>()?, 0);
        let [_, _, frames, height, width] = latents.dims();
        let fixed = model.prepare([frames, height, width]).map_err(say)?;
        let times = case.get(&format!("in.timestep{suffix}"))?.values.clone();
        let sample = block_on(model.forward_all(latents, &times, &classes, &fixed, &pace)).map_err(say)?;
        let output = format!("out.sample{suffix}");
        let mut found = Array::from_tensor(sample);
        found.shape.clone_from(&case.get(&output)?.shape);
        case.compare(&output, &found);
    }
    match set.unused().first() {
        Some(left) => Err(format!("{left} was not used")),
        None => Ok(()),
    }
}

/// Encoding and decoding of a picture.
pub fn vae(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let (device, pace) = (compute.device(), Pace::new(&SilentHost, compute));
    let json = case.config["weights"].to_string();
    let config: KlConfig = config::parse(json.as_bytes(), "weights", &["AutoencoderKL"]).map_err(say)?;
    let set = weights(case, "weights.safetensors")?;
    let vae = block_on(KlVae::load(&Loader::new(&set, device), &config)).map_err(say)?;
    let video = block_on(vae.decode(case.get("in.z0")?.tensor(device), &pace)).map_err(say)?;
    case.compare_tensor("out.video0", video);
    let moments = block_on(vae.encode(&case.get("in.video0")?.tensor::<5>(device), &pace)).map_err(say)?;
    case.compare_tensor("out.moments0", moments);
    match set.unused().first() {
        Some(left) => Err(format!("{left} was not used")),
        None => Ok(()),
    }
}

/// DDIM's trajectories for given predictions.
pub fn ddim(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let configs = case.config["args"]["configs"].as_array().cloned().unwrap_or_default();
    for (i, settings) in configs.iter().enumerate() {
        let mut config = settings.clone();
        config["_class_name"] = json!("DDIMScheduler");
        let mut s = scheduler(config)?;
        s.set_timesteps(count(settings, "steps")?).map_err(say)?;
        let tensor =
            |name: &str| Ok::<_, String>(case.get(&format!("in.ddim{i}.{name}"))?.tensor::<5>(compute.device()));
        let noisy = s.add_noise(tensor("x")?, tensor("n")?, 2).map_err(say)?;
        case.compare_tensor(&format!("out.ddim{i}.noisy"), noisy);
        follow(case, &format!("ddim{i}"), s, compute.device())?;
    }
    Ok(())
}

/// A saved DiTPipeline folder, from a class's name and a seed to latents and pixels.
pub fn folder(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let args = case.config["args"].clone();
    let noise = case.get("in.latents")?.clone();
    let seed = args["seed"].as_u64().ok_or("args.seed must be a whole number")?;
    let drawn = Array { values: randn(seed, &noise.shape), shape: noise.shape.clone() };
    let difference = drawn.relative_l2(&noise);
    case.results.push(("noise of the seed".into(), difference));

    let files = ModelFiles::read_dir(&case.dir.join("model")).map_err(say)?;
    let host = FrameHost::default();
    let pipeline = block_on(Pipeline::load(&files, compute.clone(), &host)).map_err(say)?;
    let given = GivenOptions {
        class_label: args["label"].as_str().map(str::to_owned),
        num_steps: Some(count(&args, "steps")?),
        guidance_scale: Some(number(&args, "cfg")?),
        seed: Some(seed),
        ..GivenOptions::default()
    };
    // Size and number of frames are what the folder says of itself.
    let options = given.settle(&pipeline.card().default);
    let latents = Some(noise.tensor(compute.device()));
    let inputs = Inputs { latents, ..Inputs::default() };
    let clip = block_on(pipeline.generate(&options, &inputs, &host)).map_err(say)?;
    case.compare("out.latents", &Array { shape: clip.latents_shape.to_vec(), values: clip.latents.clone() });

    let json = std::fs::read(case.dir.join("model/vae/config.json")).map_err(say)?;
    let config: KlConfig = config::parse(&json, "vae/config.json", &["AutoencoderKL"]).map_err(say)?;
    let set = std::rc::Rc::new(block_on(files.weights("vae")).map_err(say)?);
    let vae = block_on(KlVae::load(&Loader::new(&set, compute.device()), &config)).map_err(say)?;
    let latents = Tensor::<5>::from_data(TensorData::new(clip.latents, clip.latents_shape), compute.device());
    let pace = Pace::new(&SilentHost, compute);
    let video = block_on(vae.decode(vae.denormalise(latents), &pace)).map_err(say)?;
    case.compare_tensor("out.video", video.clamp(-1.0, 1.0));
    frames_sent(case, &host)
}
