//! A flow-map model (AnyFlow) in a folder: its solver comes with it, and those that would misread its velocity are refused.

use pollster::block_on;
use serde_json::json;
use tabreel::device::Compute;
use tabreel::error::Error;
use tabreel::host::SilentHost;
use tabreel::noise::randn;
use tabreel::options::{GivenOptions, ModelDefaults};
use tabreel::pipeline::{Inputs, ModelFiles, Pipeline};
use tabreel_tests::{Array, Case, read_arrays, root, safetensors_file, small_clip};

fn fixture(name: &str) -> std::path::PathBuf {
    root().join("tests/fixtures").join(name)
}

/// The other parts of a folder with a plain Wan, whose scheduler is UniPC.
fn others() -> ModelFiles {
    let mut files = ModelFiles::read_dir(&fixture("folder_t2v/model")).expect("the fixture");
    files.clear_part("transformer");
    files
}

/// A folder as diffusers' `AnyFlowPipeline` saves one, with a scheduler of this class.
fn folder(scheduler: &str) -> ModelFiles {
    let (mut files, case) = (others(), Case::open(&fixture("pipe_anyflow")).expect("the fixture"));
    let index = json!({ "_class_name": "AnyFlowPipeline", "transformer": ["diffusers", "AnyFlowTransformer3DModel"] });
    files.insert("model_index.json", index.to_string().into_bytes());
    files.insert("transformer/config.json", case.config["transformer"].to_string().into_bytes());
    let weights = std::fs::read(case.dir.join("transformer.safetensors")).expect("the fixture");
    files.insert("transformer/diffusion_pytorch_model.safetensors", weights);
    let scheduler = json!({
        "_class_name": scheduler, "shift": 5.0, "flow_shift": 5.0, "use_flow_sigmas": true,
        "prediction_type": "flow_prediction",
    });
    files.insert("scheduler/scheduler_config.json", scheduler.to_string().into_bytes());
    files
}

fn load(files: &ModelFiles) -> Result<Pipeline, Error> {
    block_on(Pipeline::load(files, Compute::cpu(), &SilentHost))
}

fn latents(pipeline: &Pipeline, sampler: Option<&str>) -> Result<Vec<f32>, Error> {
    let given = GivenOptions { guidance_scale: Some(1.0), sampler: sampler.map(str::to_owned), ..small_clip() };
    let options = given.settle(&ModelDefaults::default());
    block_on(pipeline.generate(&options, &Inputs::default(), &SilentHost)).map(|clip| clip.latents)
}

fn said<T>(result: Result<T, Error>) -> String {
    result.err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn a_folder_of_anyflow_generates_and_refuses_solvers_that_misread_its_velocity() {
    let pipeline = load(&folder("FlowMapEulerDiscreteScheduler")).expect("a sound folder");
    let own = latents(&pipeline, None).expect("a clip");
    assert!(own.iter().all(|v| v.is_finite()));
    assert_eq!(own, latents(&pipeline, Some("euler")).expect("its own steps are Euler's"));
    for sampler in ["unipc", "stochastic"] {
        let e = said(latents(&pipeline, Some(sampler)));
        assert!(e.contains("sampler must be euler") && e.contains(sampler), "{e}");
    }
}

#[test]
fn a_scheduler_of_another_kind_in_its_folder_is_named() {
    for class in ["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"] {
        let e = said(load(&folder(class)));
        assert!(e.contains("scheduler/scheduler_config.json") && e.contains("FlowMapEulerDiscreteScheduler"), "{e}");
        assert!(e.contains(&format!("found class {class}")), "{e}");
    }
}

/// The fixture's tensors at the width of one head of 128, which a file without a config.json must have.
fn loose() -> Vec<u8> {
    let wide = |size: &usize| match size {
        48 => 128,
        96 => 256,
        288 => 768,
        other => *other,
    };
    let small = read_arrays(&fixture("pipe_anyflow/transformer.safetensors")).expect("the fixture");
    let made = small.into_iter().enumerate().map(|(seed, (name, array))| {
        let shape: Vec<usize> = array.shape.iter().map(wide).collect();
        let values = randn(seed as u64, &shape).iter().map(|v| v * 0.1).collect();
        (name, Array { shape, values })
    });
    safetensors_file(&made.collect())
}

#[test]
fn a_loose_file_brings_its_solver_into_a_folder_of_a_plain_wan() {
    let mut files = others();
    files.insert("transformer/anyflow.safetensors", loose());
    let pipeline = load(&files).expect("parts that fit");
    assert!(latents(&pipeline, None).expect("a clip").iter().all(|v| v.is_finite()));
    assert!(said(latents(&pipeline, Some("unipc"))).contains("flow-map model"));
}
