//! Low-rank differences to a model's weights (LoRA), as several tools store them.
//!
//! `W + strength · alpha / rank · up · down`, with `down` `[rank, in]` and `up` `[out, rank]`; and whole differences that
//! few-step LoRAs bring beside them (`diff` to a weight, `diff_b` to a bias, `diff_m` to a modulation).
//!
//! | keys | written by |
//! |---|---|
//! | `transformer.blocks.0.attn1.to_q.lora_A.weight`, `lora_B` | diffusers, PEFT |
//! | `diffusion_model.blocks.0.self_attn.q.lora_down.weight`, `lora_up`, `.alpha`, `.diff`, `.diff_b` | ComfyUI |
//! | `lora_unet_blocks_0_self_attn_q.lora_down.weight`, `lora_up`, `.alpha` | kohya's trainers |
//!
//! Source: LoRA 2106.09685 §4.1; `loaders/lora_conversion_utils.py` of diffusers, `comfy/lora.py` and
//! `comfy/weight_adapter/lora.py` of ComfyUI.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::info::TensorInfo;
use super::{MetaValue, WeightFile, decode, finite};
use crate::error::{Error, Result};

/// Words that tools put before a model's own names; the first that fits is cut off.
const PREFIXES: &[&str] = &[
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "lora_transformer_",
    "lora_unet_",
    "unet.",
    "net.",
];

/// Endings of a key, and what the tensor is.
const ENDINGS: &[(&str, Part)] = &[
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_A.default.weight", Part::Down),
    (".lora_B.default.weight", Part::Up),
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    (".lora_B.bias", Part::Diff("bias")),
    (".alpha", Part::Alpha),
    (".diff", Part::Diff("weight")),
    (".diff_b", Part::Diff("bias")),
    (".diff_m", Part::Diff("modulation")),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Down,
    Up,
    Alpha,
    /// A whole difference to the parameter of this name.
    Diff(&'static str),
}

/// The low-rank tensors `[rank, in]` of a file: none in a file that is no LoRA.
pub fn downs(file: &WeightFile) -> impl Iterator<Item = &TensorInfo> {
    let is_down = |name: &str| ENDINGS.iter().any(|(end, part)| *part == Part::Down && name.ends_with(end));
    file.tensors().iter().filter(move |info| is_down(&info.name))
}

/// A LoRA file and how strongly it is applied.
#[derive(Debug, Clone)]
pub struct Lora {
    /// The file, its header read.
    pub file: WeightFile,
    /// Factor of the whole difference; 1 is as it was trained, 0 is without it, below 0 is away from it.
    pub strength: f32,
}

/// What one LoRA does to one tensor.
#[derive(Debug, Clone)]
pub(super) struct Adapter {
    pub file: Rc<WeightFile>,
    pub what: Difference,
}

#[derive(Debug, Clone)]
pub(super) enum Difference {
    LowRank { down: TensorInfo, up: TensorInfo, scale: f32 },
    Whole { info: TensorInfo, scale: f32 },
}

/// Low-rank differences of one weight, several LoRAs' side by side, all factors in `up`.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// `[rank, in]`, row-major.
    pub down: Vec<f32>,
    /// `[out, rank]`, row-major.
    pub up: Vec<f32>,
    /// Sum of the ranks.
    pub rank: usize,
}

/// One module of a LoRA file.
#[derive(Debug, Default)]
pub(super) struct Module<'a> {
    pub down: Option<&'a TensorInfo>,
    pub up: Option<&'a TensorInfo>,
    pub alpha: Option<f32>,
    pub diffs: Vec<(&'static str, &'a TensorInfo)>,
    pub keys: Vec<&'a str>,
}

/// What a LoRA did to a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Tensors of the model that it changes.
    pub changed: usize,
    /// Keys of the file that fit nothing in the model, sorted.
    pub unmatched: Vec<String>,
}

impl Adapter {
    pub async fn values(&self, info: &TensorInfo) -> Result<Vec<f32>> {
        finite(&info.name, decode(info.dtype, &self.file.read(info).await?.here()))
    }
}

impl LowRank {
    /// Both as one of the sum of their ranks.
    pub(super) fn beside(mut self, other: Self, output: usize) -> Self {
        let mut up = Vec::with_capacity(self.up.len() + other.up.len());
        for row in 0..output {
            up.extend_from_slice(&self.up[row * self.rank..(row + 1) * self.rank]);
            up.extend_from_slice(&other.up[row * other.rank..(row + 1) * other.rank]);
        }
        self.down.extend(other.down);
        Self { down: self.down, up, rank: self.rank + other.rank }
    }
}

/// The file's tensors by module path (prefix cut off); and keys that no ending explains.
pub(super) async fn modules(file: &WeightFile) -> Result<(BTreeMap<String, Module<'_>>, Vec<String>)> {
    let usual_alpha = peft_alpha(file);
    let (mut modules, mut unknown) = (BTreeMap::<String, Module<'_>>::new(), Vec::new());
    for info in file.tensors() {
        if info.name.ends_with(".dora_scale") {
            return Err(Error::weights(&info.name, "a LoRA without magnitudes", "DoRA, which is not supported"));
        }
        let ending = ENDINGS.iter().find_map(|(ending, part)| Some((info.name.strip_suffix(ending)?, *part)));
        let Some((path, part)) = ending else {
            unknown.push(info.name.clone());
            continue;
        };
        let mut path = path;
        while let Some(rest) = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix)) {
            path = rest;
        }
        let module = modules.entry(path.to_owned()).or_default();
        module.keys.push(&info.name);
        let twice = match part {
            Part::Down => module.down.replace(info).is_some(),
            Part::Up => module.up.replace(info).is_some(),
            Part::Alpha => {
                let values = finite(&info.name, decode(info.dtype, &file.read(info).await?.here()))?;
                let [alpha] = values[..] else {
                    return Err(Error::weights(&info.name, "one number", format!("shape {:?}", info.shape)));
                };
                module.alpha.replace(alpha).is_some()
            }
            Part::Diff(parameter) => {
                module.diffs.push((parameter, info));
                module.diffs.iter().filter(|(other, _)| *other == parameter).count() > 1
            }
        };
        if twice {
            return Err(Error::weights(&info.name, "one tensor of this kind for each layer", "a second one"));
        }
    }
    for (path, module) in &mut modules {
        if module.down.is_some() != module.up.is_some() {
            let found = module.keys.join(", ");
            return Err(Error::weights(format!("{}: {path}", file.label()), "both factors of a LoRA", found));
        }
        module.alpha = module.alpha.or(usual_alpha.map(|(alpha, rank)| match module.down {
            // PEFT scales by alpha / r of the configuration.
            Some(down) => alpha / rank * down.shape.first().copied().unwrap_or(1) as f32,
            None => 1.0,
        }));
    }
    Ok((modules, unknown))
}

/// `lora_alpha` and `r` of the configuration that PEFT puts into the metadata, where it does.
fn peft_alpha(file: &WeightFile) -> Option<(f32, f32)> {
    let text = file.metadata().get("lora_adapter_metadata").and_then(MetaValue::as_str)?;
    let config: serde_json::Value = serde_json::from_str(text).ok()?;
    let number = |key: &str| {
        let value = config.get(format!("transformer.{key}")).or_else(|| config.get(key))?.as_f64()? as f32;
        (value.is_finite() && value > 0.0).then_some(value)
    };
    number("lora_alpha").zip(number("r"))
}

/// The rank, where the factors fit each other and the weight.
pub(super) fn fit(file: &WeightFile, down: &TensorInfo, up: &TensorInfo, weight: &TensorInfo) -> Result<usize> {
    down.check_type().and_then(|()| up.check_type())?;
    let rank = down.shape.first().copied().unwrap_or(0);
    let (input, output) = (down.len().checked_div(rank).unwrap_or(0), up.shape.first().copied().unwrap_or(0));
    if rank == 0 || up.len() != output * rank {
        let found = format!("{:?} and {:?}", down.shape, up.shape);
        return Err(Error::weights(&down.name, "factors [rank, in] and [out, rank]", found));
    }
    let rows = weight.shape.first().copied().unwrap_or(1);
    let columns = weight.len().checked_div(rows).unwrap_or(0);
    match (input == columns, output == rows) {
        (true, true) => Ok(rank),
        (false, _) => Err(other_sizes(file, down, weight, Some(&input), Some(&columns))),
        (_, false) => Err(other_sizes(file, up, weight, Some(&output), Some(&rows))),
    }
}

pub(super) fn other_sizes(
    file: &WeightFile,
    key: &TensorInfo,
    weight: &TensorInfo,
    made: Option<&usize>,
    has: Option<&usize>,
) -> Error {
    let word = |n: Option<&usize>| n.map_or("other".into(), usize::to_string);
    Error::weights(
        file.label(),
        format!("a LoRA for a model of width {} ({} is {:?})", word(has), weight.name, weight.shape),
        format!("one made for width {} ({} is {:?})", word(made), key.name, key.shape),
    )
}
