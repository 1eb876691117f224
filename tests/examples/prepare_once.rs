//! What the two ways of doing a clip's work together save, with the default model's transformer at its default size: 24
//! evaluations with and without redoing positions, the projected prompt and the control branch's input each time; and 12
//! guided steps as two passes each and as one batch of two. In turns, on the CPU, or with `gpu` on the best adapter.
//!
//! `npm test -- rust` builds it; then `target/release/examples/prepare_once [gpu]`.

use std::rc::Rc;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use pollster::block_on;
use tabreel::device::{Compute, DeviceChoice};
use tabreel::host::SilentHost;
use tabreel::kernels::check::prepare;
use tabreel::models::wan::{Control, Timesteps, TransformerConfig, WanTransformer};
use tabreel::nn::loader::Loader;
use tabreel::noise::randn;
use tabreel::pace::Pace;
use tabreel::pipeline::ModelFiles;
use tabreel_tests::root;

fn random<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(randn(seed, &shape), shape), device)
}

/// The least of five times of each of two ways, in turns, seconds; a way returns what it made, which is waited for.
fn compare(mut a: impl FnMut() -> Tensor<5>, mut b: impl FnMut() -> Tensor<5>) -> (f64, f64) {
    let mut least = [f64::INFINITY; 2];
    for _ in 0..5 {
        for (way, least) in [&mut a as &mut dyn FnMut() -> Tensor<5>, &mut b].into_iter().zip(&mut least) {
            let start = Instant::now();
            let _ = way().into_data();
            *least = least.min(start.elapsed().as_secs_f64());
        }
    }
    (least[0], least[1])
}

fn main() {
    let files = ModelFiles::read_dir(&root().join("models/small-world")).expect("the default model");
    let config: TransformerConfig =
        serde_json::from_slice(&block_on(files.require("transformer/config.json")).expect("its configuration"))
            .expect("JSON");
    let set = Rc::new(block_on(files.weights("transformer")).expect("its weights"));
    let choice = if std::env::args().any(|arg| arg == "gpu") { DeviceChoice::Gpu } else { DeviceChoice::Cpu };
    let compute = block_on(Compute::new(choice)).expect("the device");
    block_on(prepare(&compute));
    let model = block_on(WanTransformer::load(&Loader::new(&set, compute.device()), &config)).expect("a sound model");
    let pace = Pace::new(&SilentHost, &compute);

    let [pt, ph, pw] = config.patch_size;
    let cells = [5 * pt, 8 * ph, 8 * pw];
    let [f, h, w] = cells;
    let device = compute.device();
    let latents = random(1, [1, config.in_channels, f, h, w], device);
    let prompts = [2, 4].map(|seed| random(seed, [1, 32, config.text_dim], device));
    let scales = vec![1.0; config.vace_layers.len()];
    let control = Control { latents: random(3, [1, config.vace_in_channels, f, h, w], device), scales };
    let control = (!config.vace_layers.is_empty()).then_some(&control);
    let time = Timesteps::Shared(500.0);
    let fixed = |prompts: Tensor<3>| model.prepare(cells, prompts, None, control).expect("fitting shapes");
    let pass = |fixed: &_| block_on(model.denoise(latents.clone(), &time, fixed, &pace)).expect("a pass");
    let last = |made: Option<Tensor<5>>| made.expect("one evaluation at least");

    const EVALUATIONS: usize = 24;
    let forward = || block_on(model.forward(latents.clone(), &time, prompts[0].clone(), None, control, &pace));
    let each = || last((0..EVALUATIONS).fold(None, |_, _| Some(forward().expect("a pass"))));
    let once = || {
        let fixed = fixed(prompts[0].clone());
        last((0..EVALUATIONS).fold(None, |_, _| Some(pass(&fixed))))
    };
    let (each, once) = compare(each, once);
    println!("{EVALUATIONS} evaluations: prepared each time {each:.3} s, once {once:.3} s, {:.3} ×", each / once);

    let apart = prompts.clone().map(fixed);
    let together = fixed(Tensor::cat(prompts.to_vec(), 0));
    let two = || last((0..EVALUATIONS).fold(None, |_, i| Some(pass(&apart[i % 2]))));
    let batch = || last((0..EVALUATIONS / 2).fold(None, |_, _| Some(pass(&together))));
    let (two, batch) = compare(two, batch);
    println!(
        "{} guided steps: two passes {two:.3} s, a batch of two {batch:.3} s, {:.3} ×",
        EVALUATIONS / 2,
        two / batch
    );

    // Clips of three sizes: a picture, a short wide one, a tall one.
    let mixed: Vec<_> = [[1, 8, 8], [3, 6, 10], [2, 10, 6]]
        .into_iter()
        .enumerate()
        .map(|(i, [f, h, w])| {
            let cells = [f * pt, h * ph, w * pw];
            let seed = 10 + i as u64;
            let latents = random(seed, [1, config.in_channels, cells[0], cells[1], cells[2]], device);
            let scales = vec![1.0; config.vace_layers.len()];
            let shape = [1, config.vace_in_channels, cells[0], cells[1], cells[2]];
            let control = Control { latents: random(seed + 10, shape, device), scales };
            let control = (!config.vace_layers.is_empty()).then_some(&control);
            let fixed = model.prepare(cells, prompts[i % 2].clone(), None, control).expect("fitting shapes");
            (latents, 500.0, fixed)
        })
        .collect();
    let packed: Vec<_> = mixed.iter().map(|(latents, time, fixed)| (latents.clone(), *time, fixed)).collect();
    let ends = |made: Vec<Tensor<5>>| {
        last(Some(
            Tensor::cat(made.into_iter().map(|clip| clip.flatten::<1>(0, 4)).collect(), 0).reshape([1, 1, 1, 1, -1]),
        ))
    };
    let one_by_one = || {
        let pass = |(latents, time, fixed): &(Tensor<5>, f32, _)| {
            block_on(model.denoise(latents.clone(), &Timesteps::Shared(*time), fixed, &pace)).expect("a pass")
        };
        last((0..EVALUATIONS).fold(None, |_, _| Some(ends(mixed.iter().map(pass).collect()))))
    };
    let in_one = || {
        let pass = || block_on(model.denoise_packed(&packed, &pace)).expect("a pass");
        last((0..EVALUATIONS).fold(None, |_, _| Some(ends(pass()))))
    };
    let (apart, together) = compare(one_by_one, in_one);
    println!(
        "{EVALUATIONS} steps of three clips: one by one {apart:.3} s, packed {together:.3} s, {:.3} ×",
        apart / together
    );
}
