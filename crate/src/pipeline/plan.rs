//! What of a model stays on the device, decided from the files' headers before any weights are read.
//!
//! A text encoder is needed once a prompt and can be many times larger than the rest (umT5-xxl beside Wan 1.3B): its
//! layers are streamed unless it is small. A transformer is streamed only where it does not fit: it is read again in each
//! step. What a clip's own tensors take depends on its size and is not in the plan.

use serde::Serialize;

use crate::device::Compute;
use crate::weights::{TensorInfo, WeightSet};

/// Bytes that a model's weights may take where nobody says how many, at least.
const LEAST_BUDGET: u64 = 1 << 30;
/// And at most.
const MOST_BUDGET: u64 = 6 << 30;
/// A text encoder that takes a smaller share of the budget than this stays: a fourth.
const ENCODER_SHARE: u64 = 4;

/// What a component takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PlannedPart {
    /// Bytes of its weights on the device, were they all kept.
    pub bytes: u64,
    /// True if its layers are read from their file when their turn comes.
    pub streamed: bool,
}

/// What a model takes on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Bytes that the weights may take.
    pub budget: u64,
    /// The text encoder.
    pub text_encoder: PlannedPart,
    /// The transformer.
    pub transformer: PlannedPart,
    /// The video codec; it always stays.
    pub vae: PlannedPart,
}

impl Plan {
    /// For the weights of a text encoder, a transformer and a video codec.
    pub fn new(compute: &Compute, budget: Option<u64>, [encoder, transformer, vae]: [&WeightSet; 3]) -> Self {
        Self::of_bytes(
            budget.unwrap_or_else(|| default_budget(compute)),
            [encoder, transformer, vae].map(|set| bytes_on(compute.is_gpu(), set)),
        )
    }

    /// Bytes of the weights that stay on the device.
    pub fn resident(&self) -> u64 {
        let parts = [self.text_encoder, self.transformer, self.vae];
        parts.iter().filter(|part| !part.streamed).map(|part| part.bytes).sum()
    }

    /// True if any part is streamed.
    pub fn streams(&self) -> bool {
        self.text_encoder.streamed || self.transformer.streamed
    }

    fn of_bytes(budget: u64, [encoder, transformer, vae]: [u64; 3]) -> Self {
        let part = |bytes, streamed| PlannedPart { bytes, streamed };
        let encoder_streamed = encoder > budget / ENCODER_SHARE;
        let beside = vae + if encoder_streamed { 0 } else { encoder };
        Self {
            budget,
            text_encoder: part(encoder, encoder_streamed),
            transformer: part(transformer, transformer.saturating_add(beside) > budget),
            vae: part(vae, false),
        }
    }
}

fn is_table(info: &TensorInfo) -> bool {
    info.name == "shared.weight" || info.name.ends_with("embed_tokens.weight")
}

/// Weights as a GPU or the CPU keeps them: on a GPU matrices as they are stored, everything else as f32; an embedding table
/// is read by rows.
pub fn bytes_on(gpu: bool, set: &WeightSet) -> u64 {
    let as_stored = |info: &TensorInfo| gpu && info.shape.len() == 2;
    let bytes = |info: &TensorInfo| match info.dtype {
        dtype if as_stored(info) && dtype.is_float8() => 2 * info.len() as u64, // they become f16
        _ if as_stored(info) => info.stored_bytes(),
        _ => 4 * info.len() as u64,
    };
    set.infos().filter(|info| !is_table(info) && !set.is_beside(&info.name)).map(bytes).sum()
}

/// No browser says how much memory a GPU has; the largest binding is what its drivers scale with it. Natively the CPU's
/// memory is the system's to share out; in a tab it ends at 4 GiB.
fn default_budget(compute: &Compute) -> u64 {
    match compute.adapter() {
        Some(adapter) => (2 * adapter.max_storage_buffer_binding_bytes).clamp(LEAST_BUDGET, MOST_BUDGET),
        None if cfg!(target_arch = "wasm32") => 2 << 30,
        None => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    #[test]
    fn a_small_model_stays_whole() {
        let plan = Plan::of_bytes(GB, [2 << 20, 8 << 20, 5 << 20]);
        assert!(!plan.text_encoder.streamed && !plan.transformer.streamed && !plan.vae.streamed);
    }

    #[test]
    fn a_large_encoder_is_streamed_and_the_transformer_only_where_it_does_not_fit() {
        // Wan 1.3B at 4 bits with umT5-xxl and its VAE.
        let bytes = [3 * GB, GB * 3 / 4, GB / 2];
        let streamed = |budget| {
            let plan = Plan::of_bytes(budget, bytes);
            (plan.text_encoder.streamed, plan.transformer.streamed)
        };
        assert_eq!(streamed(4 * GB), (true, false));
        assert_eq!(streamed(GB), (true, true));
        assert_eq!(streamed(16 * GB), (false, false));
        assert_eq!(streamed(u64::MAX), (false, false));
    }
}
