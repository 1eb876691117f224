//! Single models: transformers, VAEs, GGUF types.

use burn::tensor::Tensor;
use pollster::block_on;
use std::rc::Rc;
use tabreel::config;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::models::clip::{self, ClipVision, ClipVisionConfig};
use tabreel::models::family::{Interval, Room, VideoCodec};
use tabreel::models::taehv::{self, Taehv};
use tabreel::models::wan::config::TRANSFORMER_CLASSES;
use tabreel::models::wan::{Control, Tiles, Timesteps, Vae, WanTransformer};
use tabreel::models::wan::{TransformerConfig, VaeConfig};
use tabreel::models::{names, registry};
use tabreel::nn::loader::Loader;
use tabreel::pace::Pace;
use tabreel::weights::WeightSet;
use tabreel_tests::{Array, Case};

/// Turns the crate's errors into a table cell.
pub fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A weight file of the case, under diffusers' names whatever names it bears.
pub fn weights(case: &Case, file: &str) -> Result<Rc<WeightSet>, String> {
    let bytes = std::fs::read(case.dir.join(file)).map_err(|e| format!("{file}: {e}"))?;
    names::to_diffusers(WeightSet::from_bytes(bytes, file).map_err(say)?).map(Rc::new).map_err(say)
}

/// The transformer in `file`, with the config under `key`.
pub fn load_transformer(case: &Case, compute: &Compute, key: &str, file: &str) -> Result<WanTransformer, String> {
    let json = case.config[key].to_string();
    let config: TransformerConfig = config::parse(json.as_bytes(), key, TRANSFORMER_CLASSES).map_err(say)?;
    block_on(WanTransformer::load(&Loader::new(&weights(case, file)?, compute.device()), &config)).map_err(say)
}

/// The VAE in `file`, with the config under `key`.
pub fn load_vae(case: &Case, compute: &Compute, key: &str, file: &str) -> Result<Vae, String> {
    let json = case.config[key].to_string();
    let config: VaeConfig = config::parse(json.as_bytes(), key, &["AutoencoderKLWan"]).map_err(say)?;
    block_on(Vae::load(&Loader::new(&weights(case, file)?, compute.device()), &config)).map_err(say)
}

/// One forward pass of a Wan transformer, from each weight file that the case has.
pub fn transformer(case: &mut Case, compute: &Compute) -> Result<(), String> {
    for file in ["weights.safetensors", "weights_original.safetensors"] {
        if case.dir.join(file).exists() {
            let model = load_transformer(case, compute, "weights", file)?;
            forward(case, compute, &model)?;
        }
    }
    Ok(())
}

fn forward(case: &mut Case, compute: &Compute, model: &WanTransformer) -> Result<(), String> {
    let device = compute.device();
    let pace = Pace::new(&SilentHost, compute);
    let latents = case.get("in.hidden_states")?.tensor::<5>(device);
    let embeds = case.get("in.encoder_hidden_states")?.tensor::<3>(device);
    let image_embeds = case.get("in.encoder_hidden_states_image").ok().map(|a| a.tensor::<3>(device));
    let control = match case.get("in.control_hidden_states") {
        Ok(latents) => {
            Some(Control { latents: latents.tensor(device), scales: case.get("in.control_scale")?.values.clone() })
        }
        Err(_) => None,
    };
    let given = case.get("in.timestep")?.clone();
    let timesteps = match given.shape.len() {
        1 => Timesteps::PerClip(given.values.clone()),
        _ => Timesteps::PerToken(given.values.clone()),
    };
    let run = |latents, timesteps: &Timesteps, embeds| {
        block_on(model.forward(latents, timesteps, embeds, image_embeds.clone(), control.as_ref(), &pace)).map_err(say)
    };
    let sample = run(latents, &timesteps, embeds.clone())?;
    case.compare_tensor("out.sample", sample);
    if let Ok(image) = case.get("in.image") {
        let image = run(image.tensor(device), &Timesteps::PerClip(vec![given.values[0]]), embeds.narrow(0, 0, 1))?;
        case.compare_tensor("out.image", image);
    }
    Ok(())
}

/// A flow-map model between two times. The reference has the frames before the channels, and times for each frame.
pub fn flow_map(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let model = load_transformer(case, compute, "weights", "weights.safetensors")?;
    let (device, pace) = (compute.device(), Pace::new(&SilentHost, compute));
    let time = |name: &str| -> Result<f32, String> {
        let times = &case.get(name)?.values;
        let same = times.iter().all(|time| *time == times[0]);
        same.then_some(times[0]).ok_or_else(|| format!("{name}: frames with times of their own are not supported"))
    };
    let step = Timesteps::Step(Interval { from: time("in.timestep")?, to: time("in.r_timestep")? });
    let latents = case.get("in.hidden_states")?.tensor::<5>(device).swap_dims(1, 2);
    let embeds = case.get("in.encoder_hidden_states")?.tensor::<3>(device);
    let sample = block_on(model.forward(latents.clone(), &step, embeds.clone(), None, None, &pace)).map_err(say)?;
    case.compare_tensor("out.sample", sample.swap_dims(1, 2));
    let one_time = block_on(model.forward(latents, &Timesteps::Shared(800.0), embeds, None, None, &pace));
    match one_time {
        Ok(_) => Err("one time alone was taken".into()),
        Err(_) => Ok(()),
    }
}

/// Encoding and decoding at several lengths, whole and in tiles, from each weight file that the case has.
pub fn vae(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let device = compute.device();
    let pace = Pace::new(&SilentHost, compute);
    for file in ["weights.safetensors", "weights_original.safetensors"] {
        if !case.dir.join(file).exists() {
            continue;
        }
        let vae = load_vae(case, compute, "weights", file)?;
        for i in case.numbered("in.z") {
            let latents = case.get(&format!("in.z{i}"))?.tensor(device);
            let video = block_on(vae.decode(latents, &pace)).map_err(say)?;
            case.compare_tensor(&format!("out.video{i}"), video);
        }
        for i in case.numbered("in.video") {
            let video = case.get(&format!("in.video{i}"))?.tensor(device);
            let moments = block_on(vae.encode(&video, &pace)).map_err(say)?;
            case.compare_tensor(&format!("out.moments{i}"), moments);
        }
        if let Ok(latents) = case.get("in.z_tiled") {
            let sizes: Vec<usize> = case.get("in.tile")?.values.iter().map(|&v| v as usize).collect();
            let [height, width, stride_height, stride_width] = sizes[..] else {
                return Err("in.tile: four sizes".into());
            };
            let tiles = Tiles { height, width, stride_height, stride_width };
            let video = block_on(vae.decode_tiled(latents.tensor(device), tiles, &pace)).map_err(say)?;
            case.compare_tensor("out.video_tiled", video);
            let pixels = case.get("in.pixels_tiled")?.tensor::<5>(device);
            let moments = block_on(vae.encode_tiled(&pixels, tiles, &pace)).map_err(say)?;
            case.compare_tensor("out.moments_tiled", moments);
        }
    }
    Ok(())
}

/// The image encoder in `file`, with the config under `key`.
pub fn load_clip(case: &Case, compute: &Compute, key: &str, file: &str) -> Result<ClipVision, String> {
    let json = case.config[key].to_string();
    let config: ClipVisionConfig = config::parse(json.as_bytes(), key, clip::ENTRY.classes).map_err(say)?;
    let set = weights(case, file)?;
    let model = block_on(ClipVision::load(&Loader::new(&set, compute.device()), &config)).map_err(say)?;
    match set.unused().first() {
        Some(left) => Err(format!("{key}: {left} was not used")),
        None => Ok(model),
    }
}

/// The state before the last layer, for pixels that are given, from each weight file that the case has.
pub fn clip_vision(case: &mut Case, compute: &Compute) -> Result<(), String> {
    for file in ["weights.safetensors", "weights_original.pth"] {
        if case.dir.join(file).exists() {
            let model = load_clip(case, compute, "weights", file)?;
            let pixels = case.get("in.pixel_values")?.tensor::<4>(compute.device());
            let state = block_on(model.forward(pixels, &Pace::new(&SilentHost, compute))).map_err(say)?;
            case.compare_tensor("out.penultimate", state);
        }
    }
    Ok(())
}

/// The tiny codecs, told by their tensors: decoding frame by frame, encoding whole clips.
pub fn taehv(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let device = compute.device();
    let pace = Pace::new(&SilentHost, compute);
    for key in ["weights", "weights22"] {
        if !case.dir.join(format!("{key}.safetensors")).exists() {
            continue;
        }
        let set = weights(case, &format!("{key}.safetensors"))?;
        let known = registry::configure(&[taehv::ENTRY], &set, "vae/config.json").map_err(say)?;
        let config = serde_json::from_value(known.config).map_err(say)?;
        let codec = block_on(Taehv::load(&Loader::new(&set, device), &config)).map_err(say)?;
        for i in case.numbered(&format!("in.{key}.z")) {
            let latents = case.get(&format!("in.{key}.z{i}"))?.tensor::<5>(device);
            let mut stream = VideoCodec::decode_stream(&codec);
            let mut frames = Vec::new();
            for at in 0..latents.dims()[2] {
                frames.push(block_on(stream.push(latents.clone().narrow(2, at, 1), &pace)).map_err(say)?);
            }
            case.compare_tensor(&format!("out.{key}.video{i}"), Tensor::cat(frames, 2).clamp(-1.0, 1.0));
        }
        for i in case.numbered(&format!("in.{key}.video")) {
            let video = case.get(&format!("in.{key}.video{i}"))?.tensor::<5>(device);
            let latents = block_on(codec.encode(&video, Room::ENDLESS, &pace)).map_err(say)?;
            case.compare_tensor(&format!("out.{key}.latents{i}"), latents);
        }
        if let Some(left) = set.unused().first() {
            return Err(format!("{key}: {left} was not used"));
        }
    }
    Ok(())
}

/// A forward pass from a quantised GGUF file with the original names.
pub fn quantized_transformer(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let model = load_transformer(case, compute, "weights", "wan.gguf")?;
    forward(case, compute, &model)
}

/// The values of each GGUF tensor type.
pub fn gguf_types(case: &mut Case, _: &Compute) -> Result<(), String> {
    let set = weights(case, "types.gguf")?;
    for kind in case.names("out.") {
        let name = format!("{}.weight", kind.to_lowercase());
        let shape = set.get(&name).ok_or_else(|| format!("types.gguf has no {name}"))?.shape.clone();
        let values = set.f32(&name).map_err(say)?;
        case.compare(&format!("out.{kind}"), &Array { shape, values });
    }
    Ok(())
}
