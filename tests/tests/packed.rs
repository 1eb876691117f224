//! A batch is more than one: clips of different sizes in one pass, and both prompts of a guided step, equal one by one.

use burn::tensor::{Device, Tensor, TensorData};
use pollster::block_on;
use std::rc::Rc;
use tabreel::config;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::models::wan::{Control, Fixed, Timesteps, TransformerConfig, WanTransformer};
use tabreel::nn::loader::Loader;
use tabreel::noise::randn;
use tabreel::pace::Pace;
use tabreel::weights::WeightSet;
use tabreel_tests::{Array, root};

const TOLERANCE: f64 = 1e-5;

fn model(case: &str) -> WanTransformer {
    let dir = root().join("tests/fixtures").join(case);
    let read = |file: &str| std::fs::read(dir.join(file)).expect("a committed fixture");
    let json: serde_json::Value = serde_json::from_slice(&read("config.json")).expect("JSON");
    let classes = ["WanTransformer3DModel", "WanVACETransformer3DModel"];
    let config: TransformerConfig =
        config::parse(json["weights"].to_string().as_bytes(), case, &classes).expect("its config");
    let set = Rc::new(WeightSet::from_bytes(read("weights.safetensors"), case).expect("its weights"));
    block_on(WanTransformer::load(&Loader::new(&set, &Device::flex()), &config)).expect("a sound model")
}

fn random<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(randn(seed, &shape), shape), &Device::flex())
}

/// One clip of each size with a prompt of its own; `apart` lies between the times of one and the next.
fn clips(model: &WanTransformer, sizes: &[[usize; 3]], apart: f32) -> Vec<(Tensor<5>, f32, Fixed)> {
    let c = model.config();
    let vace = c.vace_layers.len();
    let clip = |(i, &[f, h, w]): (usize, &[usize; 3])| {
        let seed = 10 * i as u64;
        let prompt = random(seed + 1, [1, 5 + i, c.text_dim]);
        let scales = vec![1.0 - 0.25 * i as f32; vace];
        let control = Control { latents: random(seed + 2, [1, c.vace_in_channels, f, h, w]), scales };
        let fixed = model.prepare([f, h, w], prompt, None, (vace > 0).then_some(&control)).expect("fitting shapes");
        (random(seed + 3, [1, c.in_channels, f, h, w]), 900.0 - apart * i as f32, fixed)
    };
    sizes.iter().enumerate().map(clip).collect()
}

fn distance(a: Tensor<5>, b: Tensor<5>) -> f64 {
    Array::from_tensor(a).relative_l2(&Array::from_tensor(b)).expect("the same shape")
}

#[test]
fn clips_of_different_sizes_in_one_pass_equal_one_by_one() {
    let compute = Compute::cpu();
    let pace = Pace::new(&SilentHost, &compute);
    for (case, apart) in [("wan_t2v", 300.0), ("wan_vace", 300.0), ("wan_vace", 0.0)] {
        let model = model(case);
        let clips = clips(&model, &[[3, 6, 10], [1, 4, 4], [2, 8, 6]], apart);
        let packed: Vec<_> = clips.iter().map(|(latents, time, fixed)| (latents.clone(), *time, fixed)).collect();
        let together = block_on(model.denoise_packed(&packed, &pace)).expect("a pass");
        assert_eq!(together.len(), clips.len());
        for (i, ((latents, time, fixed), packed)) in clips.iter().zip(together).enumerate() {
            let time = Timesteps::Shared(*time);
            let alone = block_on(model.denoise(latents.clone(), &time, fixed, &pace)).expect("a pass");
            let off = distance(packed, alone);
            assert!(off <= TOLERANCE, "{case}, times {apart} apart, clip {i}: {off:.1e}");
        }
    }
}

#[test]
fn both_prompts_of_a_guided_step_in_one_pass_equal_two_passes() {
    let compute = Compute::cpu();
    let pace = Pace::new(&SilentHost, &compute);
    for case in ["wan_t2v", "wan_vace"] {
        let model = model(case);
        let (c, cells) = (model.config(), [3, 6, 10]);
        let control =
            Control { latents: random(7, [1, c.vace_in_channels, 3, 6, 10]), scales: vec![0.8; c.vace_layers.len()] };
        let control = (!c.vace_layers.is_empty()).then_some(&control);
        let prompts = [random(1, [1, 6, c.text_dim]), random(2, [1, 6, c.text_dim])];
        let latents = random(3, [1, c.in_channels, 3, 6, 10]);
        let velocity = |prompts: Tensor<3>| {
            let fixed = model.prepare(cells, prompts, None, control).expect("fitting shapes");
            block_on(model.denoise(latents.clone(), &Timesteps::Shared(500.0), &fixed, &pace)).expect("a pass")
        };
        let both = velocity(Tensor::cat(prompts.to_vec(), 0));
        for (row, prompt) in prompts.into_iter().enumerate() {
            let off = distance(both.clone().narrow(0, row, 1), velocity(prompt));
            assert!(off <= TOLERANCE, "{case}, prompt {row}: {off:.1e}");
        }
    }
}

#[test]
fn a_packed_pass_refuses_nothing_and_batches() {
    let compute = Compute::cpu();
    let pace = Pace::new(&SilentHost, &compute);
    let e = block_on(model("wan_t2v").denoise_packed(&[], &pace)).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains("at least one clip"), "{e}");
}
