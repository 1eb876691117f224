//! What preparing once a clip saves: the default model's transformer, its 24 evaluations of a default clip with and without
//! redoing positions, the projected prompt and the control branch's input each time, in turns, on the CPU.
//!
//! `npm test -- rust` builds it; then `target/release/examples/prepare_once`.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use pollster::block_on;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::models::wan::{Control, Timesteps, TransformerConfig, WanTransformer};
use tabreel::nn::loader::Loader;
use tabreel::noise::randn;
use tabreel::pace::Pace;
use tabreel::pipeline::ModelFiles;
use tabreel_tests::root;

fn random<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(randn(seed, &shape), shape), &Device::flex())
}

fn main() {
    let mut files = ModelFiles::read_dir(&root().join("models/small-world")).expect("the default model");
    let config: TransformerConfig =
        serde_json::from_slice(files.require("transformer/config.json").expect("its configuration")).expect("JSON");
    let set = files.take_weights("transformer").expect("its weights");
    let compute = Compute::cpu();
    let model = WanTransformer::load(&Loader::new(&set, compute.device()), &config).expect("a sound model");
    let pace = Pace::new(&SilentHost, &compute);

    let [pt, ph, pw] = config.patch_size;
    let cells = [5 * pt, 8 * ph, 8 * pw];
    let [f, h, w] = cells;
    let latents = random(1, [1, config.in_channels, f, h, w]);
    let prompt = random(2, [1, 32, config.text_dim]);
    let scales = vec![1.0; config.vace_layers.len()];
    let control = Control { latents: random(3, [1, config.vace_in_channels, f, h, w]), scales };
    let control = (!config.vace_layers.is_empty()).then_some(&control);
    let time = Timesteps::Shared(500.0);

    const EVALUATIONS: usize = 24;
    let (mut each, mut once) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..EVALUATIONS {
            block_on(model.forward(latents.clone(), &time, prompt.clone(), None, control, &pace)).expect("a pass");
        }
        each.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let fixed = model.prepare(cells, prompt.clone(), None, control).expect("fitting shapes");
        for _ in 0..EVALUATIONS {
            block_on(model.denoise(latents.clone(), &time, &fixed, &pace)).expect("a pass");
        }
        once.push(start.elapsed().as_secs_f64());
    }
    let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let (each, once) = (least(&each), least(&once));
    println!(
        "{EVALUATIONS} evaluations, least of 5: prepared each time {each:.3} s, once {once:.3} s, {:.3} ×",
        each / once
    );
}
