//! LoRAs against their definition, `W + strength · alpha / rank · up · down` computed here in plain numbers.

use std::collections::BTreeMap;
use std::rc::Rc;

use burn::tensor::{Tensor, TensorData};
use pollster::block_on;
use safetensors::tensor::{Dtype, TensorView};

use super::names;
use super::tests::{fixture, set_of};
use super::wan::{Timesteps, TransformerConfig, WanTransformer};
use crate::device::Compute;
use crate::host::SilentHost;
use crate::nn::loader::Loader;
use crate::pace::Pace;
use crate::weights::lora::Lora;
use crate::weights::{WeightFile, WeightSet};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A safetensors file of f32 tensors.
fn file(tensors: &Tensors, label: &str) -> WeightFile {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name.clone(), shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    WeightFile::parse(safetensors::serialize(views, None).unwrap(), label).unwrap()
}

/// Different, repeatable numbers around 0.
struct Numbers(u64);

fn random(numbers: &mut Numbers, shape: &[usize]) -> (Vec<usize>, Vec<f32>) {
    let mut next = || {
        numbers.0 = numbers.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((numbers.0 >> 40) as f32 / (1 << 23) as f32 - 1.0) * 1.7
    };
    (shape.to_vec(), (0..shape.iter().product::<usize>()).map(|_| next()).collect())
}

const RANK: usize = 3;
const ALPHA: f32 = 2.0;
const STRENGTH: f32 = 0.7;
/// Layers (diffusers, original name) that the LoRA changes, one of them twice as wide.
const LAYERS: [(&str, &str); 3] = [
    ("blocks.0.attn1.to_q", "blocks.0.self_attn.q"),
    ("blocks.1.attn2.to_v", "blocks.1.cross_attn.v"),
    ("blocks.0.ffn.net.0.proj", "blocks.0.ffn.0"),
];

/// The model's tensors with the difference added, and the LoRA under each style of keys.
fn changed(set: &WeightSet) -> (Tensors, Vec<(&'static str, Tensors)>) {
    let mut whole: Tensors =
        set.infos().map(|info| (info.name.clone(), (info.shape.clone(), set.f32(&info.name).unwrap()))).collect();
    let (mut peft, mut comfy, mut kohya) = (Tensors::new(), Tensors::new(), Tensors::new());
    let mut rng = Numbers(5);
    for (diffusers, original) in LAYERS {
        let (shape, values) = whole.get_mut(&format!("{diffusers}.weight")).unwrap();
        let (output, input) = (shape[0], shape[1]);
        let (down, mut up) = (random(&mut rng, &[RANK, input]), random(&mut rng, &[output, RANK]));
        up.1.iter_mut().for_each(|v| *v *= 0.1);
        for (o, row) in values.chunks_exact_mut(input).enumerate() {
            for (i, v) in row.iter_mut().enumerate() {
                let product: f32 = (0..RANK).map(|r| up.1[o * RANK + r] * down.1[r * input + i]).sum();
                *v += STRENGTH * ALPHA / RANK as f32 * product;
            }
        }
        let flat = original.replace('.', "_");
        let alpha = (vec![], vec![ALPHA]);
        let scaled = (up.0.clone(), up.1.iter().map(|v| v * ALPHA / RANK as f32).collect());
        peft.insert(format!("transformer.{diffusers}.lora_A.weight"), down.clone());
        peft.insert(format!("transformer.{diffusers}.lora_B.weight"), scaled);
        comfy.insert(format!("diffusion_model.{original}.lora_down.weight"), down.clone());
        comfy.insert(format!("diffusion_model.{original}.lora_up.weight"), up.clone());
        comfy.insert(format!("diffusion_model.{original}.alpha"), alpha.clone());
        kohya.insert(format!("lora_unet_{flat}.lora_down.weight"), down);
        kohya.insert(format!("lora_unet_{flat}.lora_up.weight"), up);
        kohya.insert(format!("lora_unet_{flat}.alpha"), alpha);
    }
    (whole, vec![("PEFT", peft), ("ComfyUI", comfy), ("kohya", kohya)])
}

fn laid(mut set: WeightSet, loras: &[(&Tensors, f32)]) -> WeightSet {
    for (tensors, strength) in loras {
        let lora = Lora { file: file(tensors, "lora.safetensors"), strength: *strength };
        let applied = block_on(names::apply_lora(&mut set, lora)).unwrap();
        assert_eq!(applied.unmatched, Vec::<String>::new());
    }
    set
}

/// One pass of the fixture's transformer on the CPU.
fn sample(set: WeightSet, case: &str) -> Vec<f32> {
    let compute = Compute::cpu();
    let config: serde_json::Value = serde_json::from_slice(&fixture(&format!("{case}/config.json"))).unwrap();
    let config: TransformerConfig = serde_json::from_value(config["weights"].clone()).unwrap();
    let model = block_on(WanTransformer::load(&Loader::new(&Rc::new(set), compute.device()), &config)).unwrap();
    let io = set_of(&format!("{case}/io.safetensors"));
    let shape = |name: &str| io.get(name).unwrap().shape.clone();
    let values = |name: &str| io.f32(name).unwrap();
    let latents: Tensor<5> =
        Tensor::from_data(TensorData::new(values("in.hidden_states"), shape("in.hidden_states")), compute.device());
    let embeds: Tensor<3> = Tensor::from_data(
        TensorData::new(values("in.encoder_hidden_states"), shape("in.encoder_hidden_states")),
        compute.device(),
    );
    let timesteps = Timesteps::PerClip(values("in.timestep"));
    let pace = Pace::new(&SilentHost, &compute);
    let out = block_on(model.forward(latents, &timesteps, embeds, None, None, &pace)).unwrap();
    out.into_data().try_to_vec().unwrap()
}

fn relative(found: &[f32], wanted: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 = found.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
    (difference / wanted.iter().map(|v| square(*v)).sum::<f64>()).sqrt()
}

fn reference(tensors: &Tensors) -> WeightSet {
    WeightSet::new(vec![file(tensors, "changed.safetensors")]).unwrap()
}

#[test]
fn every_style_of_keys_gives_the_definition_beside_f32_and_quantized_weights() {
    for (case, weights) in [("wan_t2v", "weights.safetensors"), ("wan_gguf", "wan.gguf")] {
        let set = || names::to_diffusers(set_of(&format!("{case}/{weights}"))).unwrap();
        let (whole, styles) = changed(&set());
        let wanted = sample(reference(&whole), case);
        assert!(relative(&sample(set(), case), &wanted) > 1e-2, "the LoRA changes {case} too little to test with");
        for (style, lora) in &styles {
            let found = relative(&sample(laid(set(), &[(lora, STRENGTH)]), case), &wanted);
            assert!(found <= 1e-5, "{case}, keys of {style}: relative L2 {found:.2e}");
        }
        // Two add up.
        let found = sample(laid(set(), &[(&styles[0].1, 0.3), (&styles[1].1, STRENGTH - 0.3)]), case);
        assert!(relative(&found, &wanted) <= 1e-5, "{case}, two LoRAs: {:.2e}", relative(&found, &wanted));
    }
}

#[test]
fn whole_differences_change_biases_norms_and_modulations() {
    let set = || set_of("wan_t2v/weights.safetensors");
    let mut whole: Tensors =
        set().infos().map(|i| (i.name.clone(), (i.shape.clone(), set().f32(&i.name).unwrap()))).collect();
    let mut lora = Tensors::new();
    let mut rng = Numbers(9);
    let targets = [
        ("blocks.0.attn1.to_q.bias", "blocks.0.self_attn.q.diff_b"),
        ("blocks.1.attn1.norm_k.weight", "blocks.1.self_attn.norm_k.diff"),
        ("blocks.1.norm2.weight", "blocks.1.norm3.diff"),
        ("blocks.0.scale_shift_table", "blocks.0.diff_m"),
        ("blocks.0.attn2.to_k.weight", "blocks.0.cross_attn.k.diff"),
        ("patch_embedding.weight", "patch_embedding.diff"),
        ("scale_shift_table", "head.diff_m"),
    ];
    for (target, key) in targets {
        let (shape, values) = whole.get_mut(target).unwrap_or_else(|| panic!("{target}"));
        let mut diff = random(&mut rng, shape);
        diff.1.iter_mut().for_each(|v| *v *= 0.2);
        values.iter_mut().zip(&diff.1).for_each(|(v, d)| *v += STRENGTH * d);
        lora.insert(format!("diffusion_model.{key}"), diff);
    }
    let found = sample(laid(set(), &[(&lora, STRENGTH)]), "wan_t2v");
    let wanted = sample(reference(&whole), "wan_t2v");
    assert!(relative(&found, &wanted) <= 1e-5, "{:.2e}", relative(&found, &wanted));
}

#[test]
fn what_does_not_fit_is_told_in_words() {
    let lay = |tensors: &Tensors, strength| {
        let lora = Lora { file: file(tensors, "lora.safetensors"), strength };
        block_on(names::apply_lora(&mut set_of("wan_t2v/weights.safetensors"), lora))
    };
    let text = |tensors: &Tensors| lay(tensors, 1.0).unwrap_err().to_string();
    let one = |key: &str, shape: &[usize]| (key.to_owned(), (shape.to_vec(), vec![0.5; shape.iter().product()]));

    let wide = Tensors::from([
        one("diffusion_model.blocks.0.self_attn.q.lora_A.weight", &[4, 5120]),
        one("diffusion_model.blocks.0.self_attn.q.lora_B.weight", &[5120, 4]),
    ]);
    assert!(text(&wide).contains("lora.safetensors: expected a LoRA for a model of width 4"), "{}", text(&wide));
    assert!(text(&wide).contains("found one made for width 5120"), "{}", text(&wide));
    let other = Tensors::from([
        one("lora_te1_layers_0.lora_down.weight", &[4, 8]),
        one("lora_te1_layers_0.lora_up.weight", &[8, 4]),
    ]);
    assert!(
        text(&other).contains("fit nothing in it (the first: lora_te1_layers_0.lora_down.weight)"),
        "{}",
        text(&other)
    );
    let half = Tensors::from([one("transformer.blocks.0.attn1.to_q.lora_A.weight", &[4, 48])]);
    assert!(text(&half).contains("both factors"), "{}", text(&half));
    let dora = Tensors::from([one("transformer.blocks.0.attn1.to_q.dora_scale", &[4])]);
    assert!(text(&dora).contains("DoRA"), "{}", text(&dora));

    let (_, styles) = changed(&set_of("wan_t2v/weights.safetensors"));
    let mut more = styles[1].1.clone();
    more.extend([one("diffusion_model.blocks.77.self_attn.q.diff_b", &[48]), one("something", &[1])]);
    let applied = lay(&more, 1.0).unwrap();
    assert_eq!(applied.changed, LAYERS.len());
    assert_eq!(applied.unmatched, ["diffusion_model.blocks.77.self_attn.q.diff_b", "something"]);
    assert!(lay(&more, f32::NAN).unwrap_err().to_string().contains("strength must be finite, got NaN"));
}

#[test]
fn factors_of_a_type_that_nothing_here_decodes_are_refused_before_a_weight_is_read() {
    let (path, bytes) = ("transformer.blocks.0.attn1.to_q", [0; 4 * 48]);
    let factor = |name: &str, dtype, shape: [usize; 2]| {
        (format!("{path}.{name}.weight"), TensorView::new(dtype, shape.to_vec(), &bytes).unwrap())
    };
    let views = [factor("lora_A", Dtype::I8, [4, 48]), factor("lora_B", Dtype::U8, [48, 4])];
    let file = WeightFile::parse(safetensors::serialize(views, None).unwrap(), "eight.safetensors").unwrap();
    let mut set = set_of("wan_t2v/weights.safetensors");
    let told = block_on(names::apply_lora(&mut set, Lora { file, strength: 1.0 })).unwrap_err().to_string();
    assert_eq!(told, format!("{path}.lora_A.weight: expected a type that can be decoded here, found I8"));
}
