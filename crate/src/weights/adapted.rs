//! A set of weights with LoRAs laid over it: which tensor gets what, and where it is added.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::info::{StoredType, TensorInfo};
use super::lora::{Adapter, Applied, Difference, Lora, LowRank, fit, modules, other_sizes};
use super::rename::{Naming, renamed_names, to_foreign};
use super::set::WeightSet;
use crate::error::{Error, Result};

impl WeightSet {
    /// Lays a LoRA over the set, which has diffusers names; `namings` are the other schemes its keys may follow.
    ///
    /// Its tensors are read when the weights that they change are. Several may be laid over one set.
    ///
    /// # Errors
    /// [`Error::Weights`] when nothing of it fits, when it was made for a model of other sizes, or when it is damaged;
    /// [`Error::InvalidOptions`] when the strength is not finite.
    pub async fn apply_lora(&mut self, lora: Lora, namings: &[&dyn Naming]) -> Result<Applied> {
        let Lora { file, strength } = lora;
        if !strength.is_finite() {
            return Err(Error::options(format!(
                "a LoRA's strength must be finite, got {strength} for {}",
                file.label()
            )));
        }
        let file = Rc::new(file);
        let (modules, mut unmatched) = modules(&file).await?;
        let targets = Targets::new(self, modules.keys().map(String::as_str), namings);
        let mut adapters = Vec::new();
        let mut changed = BTreeSet::new();
        for (path, module) in &modules {
            let mut any = false;
            let mut add = |target: String, what: Difference| {
                any = true;
                changed.insert(target.clone());
                adapters.push((target, Adapter { file: file.clone(), what }));
            };
            if let (Some(down), Some(up)) = (module.down, module.up)
                && let Some(info) = targets.find(self, path, "weight")
            {
                let rank = fit(&file, down, up, info)?;
                let scale = strength * module.alpha.map_or(1.0, |alpha| alpha / rank as f32);
                add(info.name.clone(), Difference::LowRank { down: down.clone(), up: up.clone(), scale });
            }
            for (parameter, diff) in &module.diffs {
                if let Some(info) = targets.find(self, path, parameter) {
                    if diff.len() != info.len() {
                        return Err(other_sizes(&file, diff, info, diff.shape.first(), info.shape.first()));
                    }
                    diff.check_type()?;
                    add(info.name.clone(), Difference::Whole { info: (*diff).clone(), scale: strength });
                }
            }
            if !any {
                unmatched.extend(module.keys.iter().map(|key| (*key).to_owned()));
            }
        }
        if adapters.is_empty() {
            let found = match unmatched.first() {
                Some(first) => format!("{} tensors that fit nothing in it (the first: {first})", unmatched.len()),
                None => "no tensors".into(),
            };
            return Err(Error::weights(file.label(), "a LoRA for this model", found));
        }
        for (target, adapter) in adapters {
            self.adapters.entry(target).or_default().push(adapter);
        }
        unmatched.sort();
        Ok(Applied { changed: changed.len(), unmatched })
    }

    /// What the LoRAs laid over the set do to the weight of a linear layer beside its product, where it is not stored as
    /// f32: those that are, [`WeightSet::fetch`] gives with the difference added.
    ///
    /// # Errors
    /// [`Error::Weights`] when a value is infinite or not a number; [`Error::Fetch`] when a LoRA cannot be read.
    pub async fn low_rank(&self, name: &str) -> Result<Option<LowRank>> {
        let Some(info) = self.get(name).filter(|info| !merges(info)) else { return Ok(None) };
        let (output, mut out) = (info.shape.first().copied().unwrap_or(1), None::<LowRank>);
        for adapter in self.adapters.get(name).into_iter().flatten() {
            let part = match &adapter.what {
                Difference::LowRank { down, up, scale } => {
                    let up: Vec<f32> = adapter.values(up).await?.iter().map(|v| v * scale).collect();
                    LowRank { rank: up.len() / output.max(1), down: adapter.values(down).await?, up }
                }
                // A whole difference to a quantized weight: of full rank, down is the identity.
                Difference::Whole { info, scale } => {
                    let up: Vec<f32> = adapter.values(info).await?.iter().map(|v| v * scale).collect();
                    let rank = up.len() / output.max(1);
                    let down = (0..rank * rank).map(|i| f32::from(u8::from(i / rank == i % rank))).collect();
                    LowRank { down, up, rank }
                }
            };
            out = Some(match out {
                None => part,
                Some(before) => before.beside(part, output),
            });
        }
        Ok(out)
    }

    /// Adds what the LoRAs do to the values of a tensor.
    pub(super) async fn add_differences(&self, name: &str, values: &mut [f32]) -> Result<()> {
        for adapter in self.adapters.get(name).into_iter().flatten() {
            match &adapter.what {
                Difference::Whole { info, scale } => {
                    let diff = adapter.values(info).await?;
                    values.iter_mut().zip(diff).for_each(|(v, d)| *v += scale * d);
                }
                Difference::LowRank { down, up, scale } => {
                    let (down_values, up_values) = (adapter.values(down).await?, adapter.values(up).await?);
                    let input = down.len() / down.shape[0].max(1);
                    let rank = down.shape[0];
                    for (row, factors) in values.chunks_exact_mut(input.max(1)).zip(up_values.chunks_exact(rank.max(1)))
                    {
                        for (factor, line) in factors.iter().zip(down_values.chunks_exact(input.max(1))) {
                            let factor = scale * factor;
                            row.iter_mut().zip(line).for_each(|(v, d)| *v += factor * d);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// True if a LoRA does something to this tensor: then its values are not those of its file.
    pub fn is_adapted(&self, name: &str) -> bool {
        self.adapters.contains_key(name)
    }

    /// True if [`WeightSet::fetch`] must add a difference to this tensor.
    pub(super) fn is_merged(&self, info: &TensorInfo) -> bool {
        merges(info) && self.adapters.contains_key(&info.name)
    }
}

/// Whether a difference is added to the stored values: where that costs no memory. Others keep their type, and a linear
/// layer takes the difference beside them.
fn merges(info: &TensorInfo) -> bool {
    info.dtype == StoredType::F32
}

/// How the module paths of a file are found among the names of a set.
struct Targets {
    /// Path with a parameter's name → the set's name; only where the two differ.
    renamed: BTreeMap<String, String>,
}

impl Targets {
    fn new<'a>(set: &WeightSet, paths: impl Iterator<Item = &'a str>, namings: &[&dyn Naming]) -> Self {
        let paths: Vec<&str> = paths.collect();
        let mut renamed = BTreeMap::new();
        // kohya writes `_` for `.`, which cannot be undone without the names themselves.
        if paths.iter().any(|path| !path.contains('.')) {
            let original = paths.iter().any(|path| path.contains("_self_attn_") || path.contains("_cross_attn_"));
            let names = match original {
                true => to_foreign(set.names(), namings),
                false => set.names().map(|name| (name.to_owned(), name.to_owned())).collect(),
            };
            for (name, written) in names {
                if let Some((path, parameter)) = written.rsplit_once('.') {
                    renamed.insert(format!("{}.{parameter}", path.replace('.', "_")), name);
                }
            }
        }
        // All names at once: a scheme is told by names that only it has.
        let all: Vec<String> = paths
            .iter()
            .flat_map(|path| ["weight", "bias", "modulation"].map(|parameter| format!("{path}.{parameter}")))
            .collect();
        for (from, to) in renamed_names(all.iter().map(String::as_str), namings) {
            renamed.entry(from).or_insert(to);
        }
        Self { renamed }
    }

    fn find<'a>(&self, set: &'a WeightSet, path: &str, parameter: &str) -> Option<&'a TensorInfo> {
        let name = format!("{path}.{parameter}");
        set.get(self.renamed.get(&name).unwrap_or(&name)).or_else(|| set.get(path).filter(|_| parameter == "weight"))
    }
}
