//! A fixture's model and something to run it on.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::OnceLock;

use burn::tensor::{Tensor, TensorData};
use pollster::block_on;
use serde_json::Value;
use tabreel::config;
use tabreel::device::{Compute, DeviceChoice};
use tabreel::host::SilentHost;
use tabreel::kernels::check::prepare;
use tabreel::models::family::Interval;
use tabreel::models::names;
use tabreel::models::wan::config::TRANSFORMER_CLASSES;
use tabreel::models::wan::{Control, Timesteps, TransformerConfig, Vae, VaeConfig, WanTransformer};
use tabreel::nn::loader::Loader;
use tabreel::noise::randn;
use tabreel::pace::Pace;
use tabreel::weights::lora::Lora;
use tabreel::weights::{WeightFile, WeightSet};
use tabreel_tests::{Array, Case, read_arrays, root};

/// The device that `TABREEL_TEST_DEVICE` names: one for all tests, which begin at the same time.
fn compute() -> Compute {
    static OPENED: OnceLock<Compute> = OnceLock::new();
    let opened = OPENED.get_or_init(|| {
        let choice = match std::env::var("TABREEL_TEST_DEVICE").as_deref() {
            Ok("gpu") => DeviceChoice::Gpu,
            _ => DeviceChoice::Cpu,
        };
        let compute = block_on(Compute::new(choice)).expect("the device for these tests");
        block_on(prepare(&compute));
        compute
    });
    opened.clone()
}

/// Relative L2 between two ways to the same weights: none on the CPU.
pub fn tolerance() -> f64 {
    if std::env::var("TABREEL_TEST_DEVICE").as_deref() == Ok("gpu") { 2e-3 } else { 0.0 }
}

/// Sizes of the fixtures, and what they become where a block of 256 values must fit into a row: the width (and three and six
/// times of it), the feed-forward part's, the text's and the time's, and CLIP's.
const WIDE: [(usize, usize); 6] = [(48, 256), (144, 768), (288, 1536), (96, 512), (32, 256), (20, 256)];

fn widened(size: usize) -> usize {
    WIDE.iter().find(|(small, _)| *small == size).map_or(size, |(_, wide)| *wide)
}

/// A model with what goes into it.
pub struct Scene {
    case: String,
    config: Value,
    /// Under diffusers' names.
    pub tensors: BTreeMap<String, Array>,
    compute: Compute,
}

impl Scene {
    /// The fixture as it is, or `wide`, with random weights.
    pub fn of(case: &str, wide: bool) -> Self {
        let found = Case::open(&root().join("tests/fixtures").join(case)).expect("a committed fixture");
        let mut tensors = read_arrays(&found.dir.join("weights.safetensors")).expect("its weights");
        let mut config = found.config["weights"].clone();
        if wide {
            config["attention_head_dim"] = 128.into();
            for name in ["text_dim", "freq_dim", "ffn_dim", "image_dim", "added_kv_proj_dim"] {
                if let Some(size) = config[name].as_u64() {
                    config[name] = widened(size as usize).into();
                }
            }
            for (seed, (name, array)) in tensors.iter_mut().enumerate() {
                let shape: Vec<usize> = array.shape.iter().map(|size| widened(*size)).collect();
                let (line, inner) = (shape.len() == 1, shape[1..].iter().product::<usize>() as f32);
                // Gains of norms near 1, and matrices that keep the size of what goes through.
                let (middle, spread) = match line {
                    true => (if name.ends_with("weight") { 1.0 } else { 0.0 }, 0.2),
                    false => (0.0, 1.0 / inner.sqrt()),
                };
                let values = randn(seed as u64, &shape).iter().map(|v| middle + spread * v).collect();
                *array = Array { shape, values };
            }
        }
        Self { case: case.into(), config, tensors, compute: compute() }
    }

    /// What the model in this file makes of the scene's input.
    pub fn run(&self, file: Vec<u8>) -> Array {
        self.run_adapted(file, None)
    }

    /// The same with a LoRA over it.
    pub fn run_adapted(&self, file: Vec<u8>, lora: Option<Vec<u8>>) -> Array {
        let set = names::to_diffusers(WeightSet::from_bytes(file, &self.case).expect("a weight file"));
        let mut set = set.expect("names that are known");
        if let Some(bytes) = lora {
            let lora = Lora { file: WeightFile::parse(bytes, "lora").expect("a weight file"), strength: 0.5 };
            let applied = block_on(names::apply_lora(&mut set, lora)).expect("a LoRA of this model");
            assert_eq!((applied.changed, applied.unmatched), (2, Vec::new()));
        }
        let set = Rc::new(set);
        let loader = Loader::new(&set, self.compute.device());
        let json = self.config.to_string();
        let out = match self.case.contains("vae") {
            true => {
                let config = config::parse(json.as_bytes(), "config", &["AutoencoderKLWan"]).expect("its config");
                let vae = block_on(Vae::load(&loader, &config)).expect("a sound model");
                self.decode(&vae, &config)
            }
            false => {
                let config = config::parse(json.as_bytes(), "config", TRANSFORMER_CLASSES).expect("its config");
                let model = block_on(WanTransformer::load(&loader, &config)).expect("a sound model");
                self.denoise(&model, &config)
            }
        };
        block_on(loader.settle()).expect("finite weights");
        assert_eq!(set.unused(), Vec::<String>::new(), "{}", self.case);
        out
    }

    fn tensor<const D: usize>(&self, seed: u64, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(randn(seed, &shape), shape), self.compute.device())
    }

    /// A clip there and back.
    fn decode(&self, vae: &Vae, config: &VaeConfig) -> Array {
        let pace = Pace::new(&SilentHost, &self.compute);
        let side = 2 * config.scale_factor_spatial;
        let moments =
            block_on(vae.encode(&(self.tensor::<5>(1, [1, 3, 5, side, side]) * 0.3), &pace)).expect("latents");
        let latents = moments.narrow(1, 0, config.z_dim);
        let video = block_on(vae.decode(latents.clone(), &pace)).expect("a clip");
        let flat = |x: Tensor<5>| {
            let length = x.dims().iter().product::<usize>();
            x.reshape([length])
        };
        Array::from_tensor(Tensor::cat(vec![flat(latents), flat(video)], 0))
    }

    /// A step of a small clip, with all that the model takes.
    fn denoise(&self, model: &WanTransformer, c: &TransformerConfig) -> Array {
        let pace = Pace::new(&SilentHost, &self.compute);
        let cells = [2, 4, 6];
        let timesteps = match self.case.as_str() {
            "anyflow" => Timesteps::Step(Interval { from: 800.0, to: 300.0 }),
            "wan_ti2v" => Timesteps::PerToken((0..12).map(|i| if i < 6 { 0.0 } else { 700.0 }).collect()),
            _ => Timesteps::Shared(500.0),
        };
        let seen = c.image_dim.map(|dim| self.tensor(2, [2, c.pos_embed_seq_len.unwrap_or(10) / 2, dim]));
        let control = (!c.vace_layers.is_empty()).then(|| Control {
            latents: self.tensor(3, [1, c.vace_in_channels, 2, 4, 6]),
            scales: vec![0.8; c.vace_layers.len()],
        });
        let latents = self.tensor(4, [1, c.in_channels, cells[0], cells[1], cells[2]]);
        let prompt = self.tensor(5, [1, 7, c.text_dim]);
        let made = model.forward(latents, &timesteps, prompt, seen, control.as_ref(), &pace);
        let made = Array::from_tensor(block_on(made).expect("a velocity"));
        assert!(made.values.iter().all(|v| v.is_finite()), "{}", self.case);
        made
    }
}
