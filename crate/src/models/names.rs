//! The schemes of names that the models bring, in one place for those who read or write a file of any model.

use std::collections::BTreeMap;

use super::{clip, umt5, wan};
use crate::error::Result;
use crate::weights::WeightSet;
use crate::weights::lora::{Applied, Lora};
use crate::weights::rename::{self, Naming};

/// Every scheme besides diffusers'. A transformer's file may also hold a VAE's names: it is asked for first.
const NAMINGS: [&dyn Naming; 5] =
    [&umt5::LlamaNames, &umt5::WanNames, &clip::WanNames, &wan::TransformerNames, &wan::VaeNames];

/// The set under diffusers (transformers) names, whoever wrote it.
///
/// # Errors
/// [`crate::error::Error::Weights`] when two tensors would get the same name.
pub fn to_diffusers(set: WeightSet) -> Result<WeightSet> {
    rename::to_diffusers(set, &NAMINGS)
}

/// Lays a LoRA over a set under diffusers names, whoever wrote it.
///
/// # Errors
/// As [`WeightSet::apply_lora`].
pub async fn apply_lora(set: &mut WeightSet, lora: Lora) -> Result<Applied> {
    set.apply_lora(lora, &NAMINGS).await
}

/// The original name of every diffusers name of a Wan transformer or VAE; others stay as they are.
pub fn to_original<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    rename::to_foreign(names, &NAMINGS)
}
