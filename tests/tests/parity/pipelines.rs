//! Schedulers, denoising loops, whole model folders.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use pollster::block_on;
use serde_json::{Value, json};
use tabreel::condition::{Capabilities, Condition, Picture, Piece, Values};
use tabreel::config;
use tabreel::device::Compute;
use tabreel::host::{Event, Host, SilentHost};
use tabreel::models::clip::pixel_values;
use tabreel::models::family::{ImageEncoder, Room, VideoCodec};
use tabreel::models::umt5::{Umt5Config, Umt5Encoder};
use tabreel::models::wan::VaeConfig;
use tabreel::models::wan::condition::vace_control;
use tabreel::models::wan::{Vae, WanDenoiser};
use tabreel::nn::loader::Loader;
use tabreel::noise::randn;
use tabreel::options::GenerateOptions;
use tabreel::pace::Pace;
use tabreel::pipeline::{Inputs, ModelCard, ModelFiles, Parts, Pipeline, PromptEmbeds};
use tabreel::schedulers::{Scheduler, SchedulerConfig};
use tabreel::size::ClipSize;
use tabreel::tokenizer::Tokenizer;
use tabreel_tests::{Array, Case};

use crate::models::{load_clip, load_transformer, load_vae, say};

pub fn scheduler(config: Value) -> Result<Scheduler, String> {
    let config: SchedulerConfig = serde_json::from_value(config).map_err(say)?;
    Scheduler::new(&config).map_err(say)
}

fn unipc(shift: &Value, order: u64) -> Value {
    json!({
        "_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true,
        "num_train_timesteps": 1000, "flow_shift": shift, "solver_order": order,
    })
}

pub fn number(args: &Value, key: &str) -> Result<f64, String> {
    args[key].as_f64().ok_or_else(|| format!("config.json: args.{key} must be a number"))
}

pub fn count(args: &Value, key: &str) -> Result<usize, String> {
    args[key].as_u64().map(|n| n as usize).ok_or_else(|| format!("config.json: args.{key} must be a whole number"))
}

/// Levels and trajectories for given velocities, so that only the solver is under test.
pub fn schedulers(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let device = compute.device();
    let args = case.config["args"].clone();
    let list = |key: &str| args[key].as_array().cloned().unwrap_or_default();
    for (i, k) in list("unipc").iter().enumerate() {
        let mut s = scheduler(unipc(&k["shift"], k["order"].as_u64().unwrap_or(2)))?;
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

    let mut s = scheduler(unipc(&json!(3.0), 2))?;
    s.set_timesteps(10).map_err(say)?;
    let index = case.get("in.add_noise.index")?.values[0] as usize;
    let (x, noise) = (case.get("in.add_noise.x")?.tensor(device), case.get("in.add_noise.n")?.tensor(device));
    case.compare_tensor("out.add_noise", s.add_noise(x, noise, index).map_err(say)?);
    Ok(())
}

pub fn follow(case: &mut Case, tag: &str, mut scheduler: Scheduler, device: &Device) -> Result<(), String> {
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

/// From given embeddings, noise and known pixels through `Pipeline::generate`, to latents, video and frames.
pub fn latents(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let args = case.config["args"].clone();
    let transformer = load_transformer(case, compute, "transformer", "transformer.safetensors")?;
    let load = |case: &Case| load_vae(case, compute, "vae", "vae.safetensors");
    let vae = load(case)?;
    let pace = Pace::new(&SilentHost, compute);
    let device = compute.device();
    let condition = condition(case, &args)?;
    let options = options(&args)?;
    let size = ClipSize { frames: options.num_frames, height: options.height, width: options.width };
    if case.kind() == "pipe_vace" {
        let timeline = condition.merge(size, &Capabilities::all()).map_err(say)?;
        let tensor = |values: &[f32], shape| Tensor::<5>::from_data(TensorData::new(values.to_vec(), shape), device);
        let step = vae.stride().space;
        let whole = |picture: &Picture| picture.on_white(size.height, size.width, step).map_err(say);
        for i in case.numbered("out.reference") {
            let values = whole(&picture_of_bytes(case, &format!("in.shape{i}_u8"))?)?;
            case.compare(&format!("out.reference{i}"), &Array { shape: vec![3, size.height, size.width], values });
        }
        let references = timeline.references.iter().map(|r| Ok(tensor(&whole(r)?, [1, 3, 1, size.height, size.width])));
        let references = references.collect::<Result<Vec<_>, String>>()?;
        let control = vace_control(&vae, size, timeline.video.as_ref(), &references, device, Room::ENDLESS, &pace);
        case.compare_tensor("out.conditioning", block_on(control).map_err(say)?);
    }
    let inputs = inputs(case, condition, device)?;
    let parts = Parts {
        text: None,
        image: None,
        denoiser: Box::new(WanDenoiser::new(transformer, case.kind() == "pipe_ti2v")),
        codec: Box::new(load(case)?),
        scheduler: serde_json::from_value(match case.kind() {
            "pipe_anyflow" => json!({ "_class_name": "FlowMapEulerDiscreteScheduler", "shift": args["shift"] }),
            _ => unipc(&args["shift"], 2),
        })
        .map_err(say)?,
        card: ModelCard::default(),
    };
    let pipeline = Pipeline::new(compute.clone(), parts).map_err(say)?;
    let host = FrameHost::default();
    let clip = block_on(pipeline.generate(&options, &inputs, &host)).map_err(say)?;
    case.compare("out.latents", &Array { shape: clip.latents_shape.to_vec(), values: clip.latents.clone() });
    // reference images lie before the clip
    let references = args["refs"].as_u64().unwrap_or(0) as usize;
    let latents = Tensor::<5>::from_data(TensorData::new(clip.latents, clip.latents_shape), device);
    let shown = latents.narrow(2, references, clip.latents_shape[2] - references);
    case.compare_tensor("out.video", block_on(vae.decode(vae.denormalise(shown), &pace)).map_err(say)?);
    frames_sent(case, &host)
}

/// The options of a case whose prompts are given as embeddings.
fn options(args: &Value) -> Result<GenerateOptions, String> {
    Ok(GenerateOptions {
        prompt: "given as embeddings".into(),
        class_label: None,
        negative_prompt: String::new(),
        width: count(args, "width")?,
        height: count(args, "height")?,
        num_frames: count(args, "frames")?,
        fps: 8.0,
        num_steps: count(args, "steps")?,
        guidance_scale: number(args, "cfg")?,
        seed: 0,
        preset: None,
        flow_shift: None,
        sampler: None,
        sigmas: None,
        preview: false,
    })
}

/// Its noise and embeddings, beside what is known of the clip.
fn inputs(case: &Case, condition: Condition, device: &Device) -> Result<Inputs, String> {
    let tensor = |name: &str| case.get(name).map(|a| a.tensor::<3>(device));
    Ok(Inputs {
        condition,
        latents: Some(case.get("in.latents")?.tensor::<5>(device)),
        prompt_embeds: Some(PromptEmbeds {
            prompt: tensor("in.prompt_embeds")?,
            negative: Some(tensor("in.negative_prompt_embeds")?),
        }),
    })
}

/// Models that look at their pictures: what CLIP sees, its tokens, and the latents of first + last frame and of a first frame.
pub fn clip(case: &mut Case, compute: &Compute) -> Result<(), String> {
    let args = case.config["args"].clone();
    let (options, device) = (options(&args)?, compute.device());
    let size = [options.height, options.width];
    let load_clip = |case: &Case| load_clip(case, compute, "image_encoder", "image_encoder.safetensors");
    let (encoder, pace) = (load_clip(case)?, Pace::new(&SilentHost, compute));
    let side = count(&args["image_encoder"], "image_size")?;
    let pictures = ["in.image_u8", "in.last_image_u8"].map(|name| {
        let rgb = &case.get(name)?.values;
        let rgba = rgb.chunks_exact(3).flat_map(|p| [p[0] as u8, p[1] as u8, p[2] as u8, 255]).collect();
        Picture::new(options.width, options.height, Values::Rgba(rgba)).map_err(say)
    });
    let [first, last] = pictures;
    let (first, last) = (first?, last?);
    let (mut seen, mut embeds) = (Vec::new(), Vec::new());
    for picture in [&first, &last] {
        let planes = picture.planes(size[0], size[1]).map_err(say)?;
        seen.extend(pixel_values(&planes, size, side));
        embeds.push(block_on(encoder.encode(&planes, size, &pace)).map_err(say)?);
    }
    case.compare("out.pixel_values", &Array { shape: vec![2, 3, side, side], values: seen });
    case.compare_tensor("out.image_embeds", Tensor::cat(embeds, 0));

    let pipeline = |case: &Case, key: &str, looks: bool| -> Result<Pipeline, String> {
        let transformer = load_transformer(case, compute, key, &format!("{key}.safetensors"))?;
        let parts = Parts {
            text: None,
            image: if looks { Some(Box::new(load_clip(case)?)) } else { None },
            denoiser: Box::new(WanDenoiser::new(transformer, false)),
            codec: Box::new(load_vae(case, compute, "vae", "vae.safetensors")?),
            scheduler: serde_json::from_value(unipc(&args["shift"], 2)).map_err(say)?,
            card: ModelCard::default(),
        };
        Pipeline::new(compute.clone(), parts).map_err(say)
    };
    let condition = |last: Option<&Picture>| {
        let mut pieces = vec![Piece::frame(0, first.clone())];
        pieces.extend(last.map(|last| Piece::frame(-1, last.clone())));
        Condition { pieces, paste: false, ..Condition::default() }
    };
    for (key, last, output) in
        [("transformer", Some(&last), "out.latents"), ("transformer_i2v", None, "out.latents_i2v")]
    {
        let inputs = inputs(case, condition(last), device)?;
        let clip = block_on(pipeline(case, key, true)?.generate(&options, &inputs, &SilentHost)).map_err(say)?;
        case.compare(output, &Array { shape: clip.latents_shape.to_vec(), values: clip.latents });
    }
    // What such a model cannot do it tells, and refuses before anything is computed.
    for (key, needs) in [("transformer", true), ("transformer_i2v", false)] {
        let can = pipeline(case, key, true)?.capabilities();
        if (can.image, can.last_image, can.needs_last_image) != (true, needs, needs) {
            return Err(format!("{key} says {can:?}"));
        }
    }
    let refused = |key: &str, looks: bool, last: Option<&Picture>| -> Result<String, String> {
        let (pipeline, condition) = (pipeline(case, key, looks)?, condition(last));
        let checked = pipeline.check(&options, &condition);
        Ok(checked.err().map(|e| e.to_string()).unwrap_or_default())
    };
    for (said, rule) in [
        (refused("transformer", true, None)?, "needs a picture for the last frame"),
        (refused("transformer_i2v", true, Some(&last))?, "takes no last frame"),
        (refused("transformer_i2v", false, None)?, "without its image_encoder/"),
    ] {
        if !said.contains(rule) {
            return Err(format!("\"{rule}\" was to be said, not \"{said}\""));
        }
    }
    Ok(())
}

/// Bytes `[H, W, 3]` as a picture.
fn picture_of_bytes(case: &Case, name: &str) -> Result<Picture, String> {
    let array = case.get(name)?;
    let [height, width, 3] = array.shape[..] else { return Err(format!("{name} must be [H, W, 3]")) };
    let rgba = array.values.chunks_exact(3).flat_map(|p| [p[0] as u8, p[1] as u8, p[2] as u8, 255]).collect();
    Picture::new(width, height, Values::Rgba(rgba)).map_err(say)
}

/// What the case gives of the clip, as pieces.
fn condition(case: &Case, args: &Value) -> Result<Condition, String> {
    // planes of 0…1 `[1, 3, H, W]`
    let planes = |name: &str| -> Result<Picture, String> {
        let array = case.get(name)?;
        let [1, 3, height, width] = array.shape[..] else { return Err(format!("{name} must be [1, 3, H, W]")) };
        let plane = height * width;
        let rgb = (0..plane).flat_map(|i| [0, 1, 2].map(|c| array.values[c * plane + i])).collect();
        Picture::new(width, height, Values::Rgb(rgb)).map_err(say)
    };
    // bytes `[F, H, W, C]`, one channel standing for three
    let pictures = |name: &str, channels: usize| -> Result<Vec<Picture>, String> {
        let array = case.get(name)?;
        let (height, width) = (count(args, "height")?, count(args, "width")?);
        let frame = |values: &[f32]| {
            let byte = |v: f32| v as u8;
            let rgba = match channels {
                1 => values.iter().flat_map(|&v| [byte(v), byte(v), byte(v), 255]).collect(),
                _ => values.chunks_exact(3).flat_map(|p| [byte(p[0]), byte(p[1]), byte(p[2]), 255]).collect(),
            };
            Picture::new(width, height, Values::Rgba(rgba)).map_err(say)
        };
        array.values.chunks_exact(height * width * channels).map(frame).collect()
    };
    let frame = Piece::frame;
    let pieces = match case.kind() {
        "pipe_ti2v" => vec![frame(0, planes("in.image")?)],
        "pipe_flf2v" => vec![frame(0, planes("in.image")?), frame(-1, planes("in.last_image")?)],
        "pipe_vace" => {
            let video = pictures("in.video_u8", 3)?;
            vec![
                Piece::clip(0, video.clone()),
                Piece::Mask(pictures("in.mask_u8", 1)?),
                Piece::Control(video),
                Piece::Reference(picture_of_bytes(case, "in.reference_u8")?),
            ]
        }
        "pipe_v2v" => {
            // The case gives the noised latents; the pixels they came from are not needed.
            let (width, height) = (count(args, "width")?, count(args, "height")?);
            let grey = Picture::new(width, height, Values::Rgb(vec![0.5; width * height * 3])).map_err(say)?;
            let frames = vec![grey; count(args, "frames")?];
            vec![Piece::Source { frames, strength: number(args, "strength")? }]
        }
        _ => Vec::new(),
    };
    let control_scale = args["scale"].as_f64().unwrap_or(1.0) as f32;
    // The reference shows what its decoder gives.
    Ok(Condition { pieces, control_scale, paste: false, ..Condition::default() })
}

/// Keeps the frames of a generation.
#[derive(Default)]
pub struct FrameHost(RefCell<Vec<u8>>);

impl Host for FrameHost {
    fn event(&self, event: Event) {
        if let Event::Frame { rgba, .. } = event {
            self.0.borrow_mut().extend(rgba);
        }
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
        class_label: None,
        negative_prompt: text("negative_prompt"),
        width: count(&args, "width")?,
        height: count(&args, "height")?,
        num_frames: count(&args, "num_frames")?,
        fps: 8.0,
        num_steps: count(&args, "num_steps")?,
        guidance_scale: number(&args, "guidance_scale")?,
        seed: args["seed"].as_u64().ok_or("args.seed must be a whole number")?,
        preset: None,
        flow_shift: None,
        sampler: None,
        sigmas: None,
        preview: false,
    };

    // the first stages alone, so that a difference further on can be placed
    let pace = Pace::new(&SilentHost, compute);
    let tokenizer = Tokenizer::from_json(&read("tokenizer/tokenizer.json")?).map_err(say)?;
    let c: Umt5Config =
        config::parse(&read("text_encoder/config.json")?, "config.json", &["UMT5EncoderModel"]).map_err(say)?;
    let files = ModelFiles::read_dir(&model).map_err(say)?;
    let set = Rc::new(block_on(files.weights("text_encoder")).map_err(say)?);
    let encoder = block_on(Umt5Encoder::load(&Loader::new(&set, compute.device()), &c)).map_err(say)?;
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
    let files = ModelFiles::read_dir(&model).map_err(say)?;
    let pipeline = block_on(Pipeline::load(&files, compute.clone(), &host)).map_err(say)?;
    let clip = block_on(pipeline.generate(&options, &Inputs::default(), &host)).map_err(say)?;
    case.compare("out.latents", &Array { shape: clip.latents_shape.to_vec(), values: clip.latents.clone() });

    let files = ModelFiles::read_dir(&model).map_err(say)?;
    let c: VaeConfig = config::parse(&read("vae/config.json")?, "config.json", &["AutoencoderKLWan"]).map_err(say)?;
    let set = Rc::new(block_on(files.weights("vae")).map_err(say)?);
    let vae = block_on(Vae::load(&Loader::new(&set, compute.device()), &c)).map_err(say)?;
    let latents = Tensor::<5>::from_data(TensorData::new(clip.latents, clip.latents_shape), compute.device());
    case.compare_tensor("out.video", block_on(vae.decode(vae.denormalise(latents), &pace)).map_err(say)?);

    frames_sent(case, &host)
}

/// The frames that the host was sent are those of `out.video`, as bytes.
pub fn frames_sent(case: &mut Case, host: &FrameHost) -> Result<(), String> {
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
