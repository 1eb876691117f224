//! Guidance as one batch of two equals two passes of one, in every way in which a model takes a clip's condition.

use pollster::block_on;
use std::rc::Rc;
use tabreel::condition::{Condition, Picture, Values};
use tabreel::config;
use tabreel::device::Compute;
use tabreel::host::SilentHost;
use tabreel::models::clip::{self, ClipVision, ClipVisionConfig};
use tabreel::models::family::{Alone, Denoiser, ImageEncoder, Request, Room};
use tabreel::models::wan::config::{TRANSFORMER_CLASSES, VAE_CLASSES};
use tabreel::models::wan::{TransformerConfig, Vae, VaeConfig, WanDenoiser, WanTransformer};
use tabreel::nn::loader::Loader;
use tabreel::noise::TorchRng;
use tabreel::pace::{Later, Pace};
use tabreel::sampling::{self, AfterStep, Sampling, draw_noise};
use tabreel::schedulers::{Scheduler, SchedulerConfig};
use tabreel::size::ClipSize;
use tabreel::weights::WeightSet;
use tabreel_tests::{Array, Case, root};

use burn::tensor::Tensor;

const TOLERANCE: f64 = 1e-5;
const SIZE: ClipSize = ClipSize { frames: 5, height: 32, width: 48 };

struct NoPreview;

impl AfterStep for NoPreview {
    fn wanted(&self) -> bool {
        false
    }
    fn call(&mut self, _: usize, _: Tensor<5>) -> Later<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The parts of a pipeline's fixture.
struct Model {
    denoiser: WanDenoiser,
    codec: Vae,
    image: Option<ClipVision>,
    scheduler: SchedulerConfig,
    condition: Condition,
}

fn model(name: &str, compute: &Compute) -> Model {
    let case = Case::open(&root().join("tests/fixtures").join(name)).expect("a committed fixture");
    let set = |part: &str| {
        let bytes = std::fs::read(case.dir.join(format!("{part}.safetensors"))).expect("its weights");
        Rc::new(WeightSet::from_bytes(bytes, part).expect("sound weights"))
    };
    let json = |part: &str| case.config[part].to_string();
    let config: TransformerConfig =
        config::parse(json("transformer").as_bytes(), name, TRANSFORMER_CLASSES).expect("its config");
    let flow_map = config.is_flow_map();
    let loader = Loader::new(&set("transformer"), compute.device());
    let transformer = WanTransformer::load(&loader, &config);
    let denoiser = WanDenoiser::new(block_on(transformer).expect("a sound model"), name == "pipe_ti2v");
    let config: VaeConfig = config::parse(json("vae").as_bytes(), name, VAE_CLASSES).expect("its config");
    let codec = block_on(Vae::load(&Loader::new(&set("vae"), compute.device()), &config)).expect("a sound model");
    let image = denoiser.looks().then(|| {
        let config: ClipVisionConfig =
            config::parse(json("image_encoder").as_bytes(), name, clip::ENTRY.classes).expect("its config");
        let loader = Loader::new(&set("image_encoder"), compute.device());
        let encoder = ClipVision::load(&loader, &config);
        block_on(encoder).expect("a sound model")
    });
    let scheduler = serde_json::json!({
        "_class_name": if flow_map { "FlowMapEulerDiscreteScheduler" } else { "UniPCMultistepScheduler" },
        "prediction_type": "flow_prediction", "use_flow_sigmas": true,
    });
    let scheduler = serde_json::from_value(scheduler).expect("a scheduler");
    let picture = |level: u8| {
        let rgba = (0..SIZE.height * SIZE.width).flat_map(|i| [(i * 5) as u8, (i / 48 * 7) as u8, level, 255]);
        Picture::new(SIZE.width, SIZE.height, Values::Rgba(rgba.collect())).expect("a picture")
    };
    let can = denoiser.capabilities();
    let condition = Condition::of_images(can.image.then(|| picture(200)), can.last_image.then(|| picture(40)));
    Model { denoiser, codec, image, scheduler, condition }
}

#[test]
fn one_batch_of_two_equals_two_passes_of_one() {
    let compute = Compute::cpu();
    let pace = Pace::new(&SilentHost, &compute);
    for name in ["pipe_t2v", "pipe_ti2v", "pipe_flf2v", "pipe_vace", "pipe_anyflow", "pipe_clip"] {
        let model = model(name, &compute);
        let timeline = model.condition.merge(SIZE, &model.denoiser.capabilities()).expect("what it can take");
        let guided = |batched: bool, guidance_scale: f64| {
            let mut rng = TorchRng::new(9);
            let mut draw = |shape: [usize; 5]| draw_noise(&mut rng, shape, compute.device());
            let prompt = |x: Tensor<5>| x.reshape([1, 6, model.denoiser.text_dim()]);
            let prompts = [(); 2].map(|()| prompt(draw([1, 1, 1, 6, model.denoiser.text_dim()]))).to_vec();
            let latents = draw([1, 4, 2, 4, 6]);
            let image_encoder = model.image.as_ref().map(|image| image as &dyn ImageEncoder);
            let (codec, room) = (&model.codec, Room::ENDLESS);
            let request = Request { timeline: &timeline, codec, room, image_encoder, prompts, batched };
            let prepared = block_on(model.denoiser.prepare(request, &pace)).expect("a clip that it can make");
            let mut scheduler = Scheduler::new(&model.scheduler).expect("a scheduler");
            scheduler.set_timesteps(2).expect("two steps");
            let clip = Sampling { latents, scheduler, start_step: 0, rng: TorchRng::new(1), guidance_scale };
            let latents = block_on(sampling::run(&Alone(prepared), vec![clip], &pace, &mut NoPreview));
            Array::from_tensor(latents.expect("latents").remove(0))
        };
        let (both, each) = (guided(true, 4.0), guided(false, 4.0));
        let off = both.relative_l2(&each).expect("the same shape");
        assert!(off <= TOLERANCE, "{name}: {off:.1e}");
        // The prompts differ, and so guidance does something.
        let other = guided(true, 2.0).relative_l2(&both).expect("the same shape");
        assert!(other > 1e-3, "{name}: {other:.1e}");
    }
}
