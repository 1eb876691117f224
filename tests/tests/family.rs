//! The door is open: a family that the crate has never heard of, with other strides than Wan's, generates from a folder of
//! its own, and nothing but its entries in the registry says so.

mod toy;

use std::cell::RefCell;

use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView, serialize};
use tabreel::condition::{Condition, Picture, Values};
use tabreel::device::Compute;
use tabreel::error::Error;
use tabreel::host::{Event, Host, SilentHost};
use tabreel::models::registry::Registry;
use tabreel::noise::TorchRng;
use tabreel::options::GenerateOptions;
use tabreel::pipeline::{Inputs, ModelFiles, Pipeline};
use tabreel::tasks::{self, Beside, Task};
use tabreel_tests::root;

/// Width, height and bytes of each frame.
#[derive(Default)]
struct Frames(RefCell<Vec<(usize, usize, Vec<u8>)>>);

impl Host for Frames {
    fn event(&self, event: Event) {
        if let Event::Frame { width, height, rgba, .. } = event {
            self.0.borrow_mut().push((width, height, rgba));
        }
    }
}

/// A folder: tokenizer and text encoder of a fixture, toy transformer and toy codec.
fn folder(transformer_config: &str, pull: f32) -> ModelFiles {
    let mut files = ModelFiles::read_dir(&root().join("tests/fixtures/folder_t2v/model")).expect("the fixture");
    for part in ["transformer", "vae"] {
        files.remove(&format!("{part}/diffusion_pytorch_model.safetensors"));
    }
    let one = |name: &str, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![values.len()], &bytes).expect("a row");
        serialize([(name, view)], None).expect("a file")
    };
    files.insert(
        "model_index.json",
        br#"{"_class_name":"ToyPipeline","transformer":["toy","ToyTransformer"]}"#.to_vec(),
    );
    files.insert("transformer/config.json", transformer_config.as_bytes().to_vec());
    files.insert("transformer/model.safetensors", one("toy.pull", &[pull]));
    files.insert("vae/config.json", br#"{"_class_name":"ToyCodec"}"#.to_vec());
    files.insert("vae/model.safetensors", one("toy.gain", &[0.5]));
    files
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.denoisers.push(toy::DENOISER);
    registry.codecs.push(toy::CODEC);
    registry
}

fn load(registry: &Registry, transformer_config: &str) -> Result<Pipeline, Error> {
    block_on(Pipeline::load_with(registry, &folder(transformer_config, 1.0), Compute::cpu(), &SilentHost))
}

fn options() -> GenerateOptions {
    GenerateOptions {
        prompt: "A red circle moves left.".into(),
        class_label: None,
        negative_prompt: String::new(),
        width: 64,
        height: 32,
        num_frames: 17,
        fps: 8.0,
        num_steps: 6,
        guidance_scale: 1.0,
        seed: 3,
        preset: None,
        flow_shift: None,
        sampler: None,
        sigmas: None,
        preview: false,
    }
}

#[test]
fn a_toy_family_with_other_strides_generates_from_its_folder() {
    let loaded = load(&registry(), r#"{"_class_name":"ToyTransformer"}"#);
    let pipeline = loaded.expect("a sound folder");
    assert_eq!((pipeline.rules().width_multiple, pipeline.rules().frame_multiple), (32, 8));
    // an orange picture for the first frame: the toy pulls every latent towards what is given
    let orange = Picture::new(2, 1, Values::Rgba([255, 128, 0, 255].repeat(2))).expect("a picture");
    let inputs = Inputs { condition: Condition::of_images(Some(orange), None), ..Inputs::default() };
    let host = Frames::default();
    let clip = block_on(pipeline.generate(&options(), &inputs, &host)).expect("a clip");
    assert_eq!(clip.latents_shape, [1, toy::CHANNELS, 3, 1, 2]);
    let frames = host.0.take();
    assert_eq!(frames.len(), 17);
    for (width, height, rgba) in &frames {
        assert_eq!((*width, *height), (64, 32));
        let [r, g, b, a] = rgba[..4] else { panic!("four bytes a pixel") };
        assert!(r > 250 && g.abs_diff(128) < 3 && b < 5 && a == 255, "{r} {g} {b} {a}");
    }
}

#[test]
fn a_loop_of_the_prompt_alone_is_refused_before_its_clip_is_made() {
    let pipeline = load(&registry(), "{}").expect("a sound folder");
    let (task, beside, host) = (Task::Loop { clip: Vec::new() }, Beside::default(), Frames::default());
    let made = block_on(tasks::run(&pipeline, &options(), &task, &beside, &host));
    let e = made.err().map(|e| e.to_string()).unwrap_or_default();
    assert_eq!(e, "this model takes no last frame: it is a toy");
    assert!(host.0.take().is_empty());
    let single = GenerateOptions { num_frames: 1, ..options() };
    let e = tasks::check(&pipeline, &single, &task, &beside).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains("3 frames at least") && e.contains("got 1"), "{e}");
}

#[test]
fn a_configuration_without_a_class_is_recognised_by_its_tensors() {
    let loaded = load(&registry(), "{}");
    assert_eq!(loaded.expect("a sound folder").rules().frame_multiple, 8);
}

#[test]
fn a_family_that_is_not_in_the_registry_is_named() {
    let loaded = load(&Registry::default(), r#"{"_class_name":"ToyTransformer"}"#);
    let e = loaded.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains("ToyPipeline"), "{e}");
}

#[test]
fn a_clip_must_fit_the_codecs_stride() {
    let loaded = load(&registry(), "{}");
    let pipeline = loaded.expect("a sound folder");
    let refusal = |options: GenerateOptions| {
        block_on(pipeline.generate(&options, &Inputs::default(), &SilentHost)).err().map(|e| e.to_string())
    };
    let e = refusal(GenerateOptions { num_frames: 13, ..options() }).unwrap_or_default();
    assert!(e.contains("8n + 1") && e.contains("13"), "{e}");
    let e = refusal(GenerateOptions { width: 48, ..options() }).unwrap_or_default();
    assert!(e.contains("multiple of 32 px") && e.contains("48"), "{e}");
}

/// With a pull of a half the estimate of the clean latents is half of what it is made from, so two steps fit on a line.
#[test]
fn the_stochastic_sampler_goes_to_the_clean_estimate_and_back_with_torchs_next_noise() {
    let files = folder(r#"{"_class_name":"ToyTransformer"}"#, 0.5);
    let pipeline = block_on(Pipeline::load_with(&registry(), &files, Compute::cpu(), &SilentHost)).expect("a folder");
    let made = |sampler: &str, sigmas: &[f64]| {
        let options = GenerateOptions {
            sampler: Some(sampler.into()),
            num_steps: sigmas.len(),
            sigmas: Some(sigmas.to_vec()),
            ..options()
        };
        let clip = block_on(pipeline.generate(&options, &Inputs::default(), &SilentHost)).expect("a clip");
        (clip.latents, clip.latents_shape)
    };
    let (found, shape) = made("stochastic", &[0.9, 0.5]);
    let mut rng = TorchRng::new(options().seed);
    let (first, second) = (rng.randn(&shape), rng.randn(&shape));
    for ((found, a), b) in found.iter().zip(&first).zip(&second) {
        let clean = 0.5 * 0.9 * a; // the grid begins at 0.9: so much noise, and no more
        let wanted = 0.5 * (0.5 * clean + 0.5 * b);
        assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
    }
    // Euler along v = 0.5 x / σ: x · (1 + 0.5 (0.5 − 0.9) / 0.9), then to 0.
    let (found, _) = made("euler", &[0.9, 0.5]);
    for (found, a) in found.iter().zip(&first) {
        let wanted = 0.9 * a * (1.0 - 0.5 * 0.4 / 0.9) * 0.5;
        assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
    }
}
