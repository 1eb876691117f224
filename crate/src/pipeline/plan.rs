//! What of a model stays on the device, decided from the files' headers before any weights are read.
//!
//! A text encoder is needed once a prompt and can be many times larger than the rest (umT5-xxl beside Wan 1.3B): its
//! layers are streamed unless it is small. A transformer is streamed only where it does not fit beside what its clip takes: it
//! is read again in each step. What a clip's own tensors take depends on its size: the parts tell it, and the plan adds it up.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::device::Compute;
use crate::error::{Error, Result};
use crate::nn::loader::{is_table, largest_upload};
use crate::weights::{StoredType, TensorInfo, WeightSet};

/// Bytes that a model's weights may take where nobody says how many, at least.
pub const LEAST_BUDGET: u64 = 1 << 30;
/// And at most.
pub const MOST_BUDGET: u64 = 6 << 30;
/// Of a GPU's largest bindings, so many are its weights'.
pub const BINDINGS: u64 = 2;
/// Bytes on the CPU in a tab, whose memory ends at 4 GiB.
pub const TAB_BUDGET: u64 = 2 << 30;
/// Bytes that a tab's module can address: its memory cannot grow beyond them.
pub const TAB_MEMORY: u64 = 1 << 32;
/// A text encoder that takes a smaller share of the budget than this stays: a fourth.
const ENCODER_SHARE: u64 = 4;

/// Bytes of the buffers that launches read their sizes from, and into which pixels are read back, at most: measured with the
/// default model (Node, Dawn, lavapipe).
const LAUNCHES: u64 = 2 << 20;

/// What a component takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct PlannedPart {
    /// Bytes of its weights on the device, were they all kept.
    pub bytes: u64,
    /// True if its layers are read from their file when their turn comes.
    pub streamed: bool,
    /// Bytes that are on the device all the time: its weights, or, streamed, what is in no layer and the upload's buffer.
    pub kept_bytes: u64,
    /// Bytes of the layer whose turn it is; 0 where all are kept.
    pub passing_bytes: u64,
}

/// What a model takes on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Bytes that the model may take.
    pub budget: u64,
    /// The text encoder.
    pub text_encoder: PlannedPart,
    /// The transformer.
    pub transformer: PlannedPart,
    /// The video codec; it always stays.
    pub vae: PlannedPart,
    /// The image encoder of models that look at given pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub image_encoder: Option<PlannedPart>,
    /// Bytes of weights that are on the device at once, at least: what stays, and the largest layer that passes.
    pub resident_bytes: u64,
    /// Bytes that the device holds at most while the model is loaded: its weights, and what one of them takes beside them on
    /// its way there.
    pub load_bytes: u64,
    /// Bytes that the device holds while a clip of the default size is made from the longest prompt, the weights among them:
    /// on a GPU at most, on the CPU at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub peak_bytes: Option<u64>,
}

/// What the stages of a clip hold at most, bytes besides the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagePeaks {
    /// Words to embeddings.
    pub encode: u64,
    /// A picture to tokens.
    pub look: u64,
    /// Conditions and steps.
    pub denoise: u64,
    /// Latents to frames.
    pub decode: u64,
}

impl Plan {
    /// For the weights of a text encoder, a transformer and a video codec, and of an image encoder where there is one.
    pub fn new(
        compute: &Compute,
        budget: Option<u64>,
        [encoder, transformer, vae]: [&WeightSet; 3],
        image_encoder: Option<&WeightSet>,
    ) -> Self {
        let measured = |set| Measured::new(compute.is_gpu(), set);
        Self::of_bytes(
            budget.unwrap_or_else(|| default_budget(compute)),
            [encoder, transformer, vae].map(measured),
            image_encoder.map(measured),
        )
    }

    /// As [`Plan::new`], and after it those that stream more: to be taken where a clip does not fit beside what stays.
    pub fn choices(
        compute: &Compute,
        budget: Option<u64>,
        [encoder, transformer, vae]: [&WeightSet; 3],
        image_encoder: Option<&WeightSet>,
    ) -> Vec<Self> {
        let measured = |set| Measured::new(compute.is_gpu(), set);
        let budget = budget.unwrap_or_else(|| default_budget(compute));
        Self::choices_of(budget, [encoder, transformer, vae].map(measured), image_encoder.map(measured))
    }

    fn choices_of(budget: u64, sizes: [Measured; 3], image: Option<Measured>) -> Vec<Self> {
        let mut choices = vec![Self::of_bytes(budget, sizes, image)];
        // What is read once a clip goes before what is read in each step; a model of classes has no encoder.
        let (once, each) = (sizes[0].all > 0, choices[0].transformer.streamed);
        for streamed in [[once, each], [once, true]] {
            let plan = Self::streaming(budget, sizes, image, streamed);
            if !choices.contains(&plan) {
                choices.push(plan);
            }
        }
        choices
    }

    /// The same of a model that has no use for its image encoder.
    pub fn without_image(self) -> Self {
        let plan = Self { image_encoder: None, ..self };
        Self { resident_bytes: plan.resident(), ..plan }
    }

    fn resident(&self) -> u64 {
        self.kept_bytes().saturating_add(self.parts().map(|part| part.passing_bytes).max().unwrap_or(0))
    }

    /// True if any part is streamed.
    pub fn streams(&self) -> bool {
        self.parts().any(|part| part.streamed)
    }

    /// Bytes that are on the device all the time.
    pub fn kept_bytes(&self) -> u64 {
        self.parts().map(|part| part.kept_bytes).sum()
    }

    /// Refuses weights that the device cannot hold, even with layers that are read when their turn comes. `stated` is the
    /// budget that somebody asked for: with one, a GPU is not doubted; `free` are the bytes of main memory that can be had.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with what is needed, what there is, and what helps.
    pub fn check(&self, compute: &Compute, stated: Option<u64>, free: Option<u64>) -> Result<()> {
        let needed = self.resident_bytes;
        let why = match (compute.adapter(), free) {
            (None, Some(free)) if needed > free => match stated {
                Some(budget) if budget > free => {
                    format!(
                        "{} are free: state less memory, so that layers are read when their turn comes",
                        in_words(free)
                    )
                }
                _ => format!("{} are free: {SMALLER_ON_CPU}", in_words(free)),
            },
            _ if stated.is_some() || needed <= self.budget => return Ok(()),
            (None, _) => format!("{} are allowed for them here: {SMALLER_ON_CPU}", in_words(self.budget)),
            (Some(adapter), _) => format!(
                "the GPU's limits suggest {} (its largest buffer for shaders has {:.1} MB): {SMALLER_ON_GPU}",
                in_words(self.budget),
                adapter.max_storage_buffer_binding_bytes as f64 / 1e6
            ),
        };
        let place = if compute.is_gpu() { "GPU memory" } else { "memory on the CPU" };
        Err(Error::OutOfMemory(format!(
            "the model's weights take at least {} of {place} at once, {why}",
            in_words(needed)
        )))
    }

    fn parts(&self) -> impl Iterator<Item = PlannedPart> {
        [self.text_encoder, self.transformer, self.vae].into_iter().chain(self.image_encoder)
    }

    /// Bytes that a clip with these stages takes at most.
    pub fn peak(&self, stages: StagePeaks) -> u64 {
        let transformer = self.transformer.passing_bytes;
        // The load read a layer of each to check it; they are gone when the first stage ends.
        let encode = self.parts().map(|part| part.passing_bytes).sum::<u64>().saturating_add(stages.encode);
        let look = self.image_encoder.map_or(0, |part| part.passing_bytes).saturating_add(stages.look);
        let denoise = transformer.saturating_add(stages.denoise);
        self.kept_bytes().saturating_add(encode.max(look).max(denoise).max(stages.decode)).saturating_add(LAUNCHES)
    }

    fn of_bytes(budget: u64, sizes: [Measured; 3], image: Option<Measured>) -> Self {
        // What is needed once a clip.
        let once = sizes[0].all > budget / ENCODER_SHARE;
        let kept = Self::streaming(budget, sizes, image, [once, false]);
        match kept.beside_transformer().saturating_add(sizes[1].all) > budget {
            true => Self::streaming(budget, sizes, image, [once, true]),
            false => kept,
        }
    }

    /// Bytes of what stays and passes, but for the transformer.
    fn beside_transformer(&self) -> u64 {
        let others = [Some(self.text_encoder), Some(self.vae), self.image_encoder];
        others.into_iter().flatten().map(|part| part.kept_bytes + part.passing_bytes).sum()
    }

    /// With the layers of the text encoder and of the transformer streamed so; an image encoder's where it is not small.
    fn streaming(
        budget: u64,
        [encoder, transformer, codec]: [Measured; 3],
        image: Option<Measured>,
        [once, each]: [bool; 2],
    ) -> Self {
        let part = |part: Measured, streamed| PlannedPart {
            bytes: part.all,
            streamed,
            kept_bytes: if streamed { part.all - part.in_layers + part.upload } else { part.all },
            passing_bytes: if streamed { part.layer } else { 0 },
        };
        let sizes = [Some(encoder), Some(transformer), Some(codec), image];
        let mut plan = Self {
            budget,
            text_encoder: part(encoder, once),
            transformer: part(transformer, each),
            vae: part(codec, false),
            image_encoder: image.map(|image| part(image, image.all > budget / ENCODER_SHARE)),
            resident_bytes: 0,
            load_bytes: 0,
            peak_bytes: None,
        };
        // What a part takes on its way beside what stays; the upload's buffer of a streamed one stays.
        let way = |(planned, size): (PlannedPart, Measured)| {
            let stays = if planned.streamed { size.upload } else { 0 };
            planned.passing_bytes.saturating_add(size.on_the_way.saturating_sub(stays))
        };
        let most = plan.parts().zip(sizes.into_iter().flatten()).map(way).max().unwrap_or(0);
        plan.resident_bytes = plan.resident();
        plan.load_bytes = plan.kept_bytes().saturating_add(most);
        plan
    }
}

/// The bytes of a component's weights on its device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Measured {
    all: u64,
    /// Of them, in layers: what stands below a number in its name (`blocks.7.ffn…`).
    in_layers: u64,
    /// The largest layer.
    layer: u64,
    /// The buffer through which matrices are uploaded.
    upload: u64,
    /// What one tensor takes beside its place while it is loaded, at most.
    on_the_way: u64,
}

impl Measured {
    fn new(gpu: bool, set: &WeightSet) -> Self {
        let mut layers: BTreeMap<&str, u64> = BTreeMap::new();
        let mut all = 0;
        for info in kept(set) {
            let bytes = tensor_bytes(gpu, info);
            all += bytes;
            if let Some(layer) = layer_of(&info.name) {
                *layers.entry(layer).or_default() += bytes;
            }
        }
        Self {
            all,
            in_layers: layers.values().sum(),
            layer: layers.values().copied().max().unwrap_or(0),
            upload: if gpu { largest_upload(set) } else { 0 },
            on_the_way: if gpu { largest_upload(set) } else { kept(set).map(beside_on_cpu).max().unwrap_or(0) },
        }
    }
}

/// On the CPU a tensor lies beside its values as it is stored, and a matrix as it was before it was turned.
fn beside_on_cpu(info: &TensorInfo) -> u64 {
    let unturned = if info.shape.len() == 2 { 4 * info.len() as u64 } else { 0 };
    info.stored_bytes() + unturned
}

/// A tensor's name up to and with its first number.
fn layer_of(name: &str) -> Option<&str> {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(&name[..end]);
        }
        end += 1;
    }
    None
}

/// Weights as a GPU or the CPU keeps them; an embedding table is read by rows.
pub fn bytes_on(gpu: bool, set: &WeightSet) -> u64 {
    kept(set).map(|info| tensor_bytes(gpu, info)).sum()
}

/// What becomes tensors on the device.
fn kept(set: &WeightSet) -> impl Iterator<Item = &TensorInfo> {
    let becomes =
        |info: &&TensorInfo| !is_table(info) && !set.is_beside(&info.name) && info.dtype != StoredType::Unknown;
    set.infos().filter(becomes)
}

/// A weight as the device keeps it: on a GPU matrices and the kernels of convolutions as they are stored, but for the merged
/// taps of a convolution that doubles the size, everything else as f32.
fn tensor_bytes(gpu: bool, info: &TensorInfo) -> u64 {
    let halves = matches!(info.dtype, StoredType::F16 | StoredType::BF16);
    let doubles = info.shape.len() == 4 && info.name.contains("upsampler");
    match info.shape.len() {
        2 if gpu && info.dtype.is_float8() => 2 * info.len() as u64, // they become f16
        2 if gpu => info.stored_bytes(),
        4 if gpu && doubles => 4 * info.len() as u64 * 16 / 9,
        4 | 5 if gpu && halves => info.stored_bytes(),
        _ => 4 * info.len() as u64,
    }
}

/// What helps where weights are too large for a GPU.
const SMALLER_ON_GPU: &str = "take files of smaller types (GGUF Q4) or a smaller video codec (TAEHV), or state how much memory \
                              it has, and it is tried";
/// What helps where they are too large for the CPU, on which all become f32.
const SMALLER_ON_CPU: &str = "take a smaller model, a smaller video codec (TAEHV), or a GPU";

/// Bytes as a visitor reads them: GB, below a tenth MB.
pub(super) fn in_words(bytes: u64) -> String {
    match bytes {
        0..100_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// No browser says how much memory a GPU has; the largest binding is what its drivers scale with it. Natively the CPU's
/// memory is the system's to share out.
fn default_budget(compute: &Compute) -> u64 {
    match compute.adapter() {
        Some(adapter) => (BINDINGS * adapter.max_storage_buffer_binding_bytes).clamp(LEAST_BUDGET, MOST_BUDGET),
        None if cfg!(target_arch = "wasm32") => TAB_BUDGET,
        None => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1 << 30;

    /// Ten layers of all its bytes.
    fn whole(all: u64) -> Measured {
        Measured { all, in_layers: all, layer: all / 10, upload: all / 100, on_the_way: all / 100 }
    }

    #[test]
    fn stages_are_added_up_beside_what_stays() {
        let plan = Plan::of_bytes(1000, [2000, 500, 300].map(whole), None);
        assert!(plan.text_encoder.streamed && plan.transformer.streamed);
        assert_eq!(plan.kept_bytes(), 20 + 5 + 300);
        let peak = |encode, denoise, decode| plan.peak(StagePeaks { encode, look: 0, denoise, decode }) - LAUNCHES;
        assert_eq!(peak(7, 0, 0), 325 + 200 + 50 + 7);
        assert_eq!(peak(0, 400, 0), 325 + 50 + 400);
        assert_eq!(peak(0, 0, 900), 325 + 900);
    }

    #[test]
    fn an_image_encoder_is_streamed_unless_it_is_small_and_counts_in_its_stage() {
        let small = Plan::of_bytes(1000, [100, 200, 100].map(whole), Some(whole(200)));
        assert!(!small.streams());
        assert_eq!(small.kept_bytes(), 600);
        let plan = Plan::of_bytes(1000, [100, 200, 100].map(whole), Some(whole(500)));
        assert!(plan.image_encoder.is_some_and(|part| part.streamed) && !plan.transformer.streamed);
        let stages = StagePeaks { encode: 0, look: 70, denoise: 30, decode: 30 };
        assert_eq!(plan.peak(stages) - LAUNCHES, 400 + 5 + 50 + 70);
    }

    #[test]
    fn a_load_takes_what_stays_and_what_is_on_its_way() {
        let kept = Plan::of_bytes(10_000, [2000, 500, 300].map(whole), None);
        assert!(!kept.streams());
        assert_eq!(kept.load_bytes, 2800 + 20);
        // A layer of the encoder at its largest; the upload's buffer stays anyway.
        let streamed = Plan::of_bytes(1000, [2000, 500, 300].map(whole), None);
        assert_eq!(streamed.load_bytes, streamed.kept_bytes() + 200);
    }

    #[test]
    fn choices_stream_more_and_more() {
        let streamed = |budget, sizes: [u64; 3]| {
            let choices = Plan::choices_of(budget, sizes.map(whole), None);
            let of = |plan: Plan| (plan.text_encoder.streamed, plan.transformer.streamed);
            choices.into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(streamed(10_000, [2000, 500, 300]), [(false, false), (true, false), (true, true)]);
        assert_eq!(streamed(2000, [2000, 500, 300]), [(true, false), (true, true)]);
        assert_eq!(streamed(500, [2000, 500, 300]), [(true, true)]);
        // A model of classes.
        assert_eq!(streamed(2000, [0, 500, 300]), [(false, false), (false, true)]);
    }

    /// What a plan says of weights of which `layers` of `layer` bytes each are a part's, with an upload's buffer.
    fn sized(rest: u64, [layers, layer, upload]: [u64; 3]) -> Measured {
        let in_layers = layers * layer;
        Measured { all: rest + in_layers, in_layers, layer, upload, on_the_way: upload }
    }

    #[test]
    fn peaks_are_near_those_measured_at_true_shapes() {
        // tests/true-shape/write.py, Q4_0, the codec's convolutions f16 (README, large models); weights added up from their
        // shapes, stages as models/*/rehearsal.rs and its like have them.
        let umt5 = sized(16_384, [24, 108_568_576, 23_592_960]);
        let wan = |layers| sized(14_905_600, [layers, 26_264_576, 7_962_624]);
        let (taehv, vae22) = (sized(22_658_380, [0; 3]), sized(1_518_074_736, [0; 3]));
        let stages = |encode, denoise, decode| StagePeaks { encode, look: 0, denoise, decode };
        let near = |budget: u64, sizes: [Measured; 3], stages: StagePeaks, measured: f64| {
            let found = Plan::of_bytes(budget, sizes, None).peak(stages) as f64 / 1e9;
            assert!((found / measured - 1.0).abs() < 0.16, "{found:.3} GB, {measured} measured");
        };
        // 64 × 64 × 1, whole: kept, and streamed.
        near(2 << 30, [umt5, wan(30), taehv], stages(1 << 20, 20 << 20, 10 << 20), 0.99);
        near(700 << 20, [umt5, wan(30), taehv], stages(1 << 20, 20 << 20, 10 << 20), 0.21);
        // 512 × 288 × 33, two layers: what the steps take, and what decoding takes.
        near(2 << 30, [umt5, wan(2), taehv], stages(0, 348_766_208, 0), 0.43);
        near(2 << 30, [umt5, wan(2), taehv], stages(0, 0, 301_105_152), 0.49);
        // Wan 2.2 TI2V-5B, two layers, 128 × 128 × 5 with its own codec.
        let ti2v = sized(52_839_168, [2, 92_327_936, 31_850_496]);
        near(4 << 30, [umt5, ti2v, vae22], stages(0, 100 << 20, 361_021_440), 2.18);
    }

    fn refusal(plan: &Plan, compute: &Compute, stated: Option<u64>, free: Option<u64>) -> String {
        match plan.check(compute, stated, free) {
            Ok(()) => String::new(),
            Err(Error::OutOfMemory(message)) => message,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn weights_that_cannot_be_held_are_refused_with_what_is_needed_what_there_is_and_what_helps() {
        let cpu = Compute::cpu();
        // 3 GB of codec, which always stays, and a layer of the encoder.
        let bytes = [10, 1, 3].map(|gb| whole(gb * 1_000_000_000));
        let plan = Plan::of_bytes(2_000_000_000, bytes, None);
        assert_eq!(plan.resident_bytes, 4_110_000_000);
        assert_eq!(
            refusal(&plan, &cpu, None, Some(4_000_000_000)),
            "the model's weights take at least 4.1 GB of memory on the CPU at once, 4.0 GB are free: take a smaller model, a \
             smaller video codec (TAEHV), or a GPU"
        );
        let allowed =
            "the model's weights take at least 4.1 GB of memory on the CPU at once, 2.0 GB are allowed for them here: ";
        assert!(refusal(&plan, &cpu, None, Some(u64::MAX)).starts_with(allowed));
        // Who states how much is believed, up to what there is.
        assert_eq!(refusal(&plan, &cpu, Some(2_000_000_000), Some(u64::MAX)), "");
        assert_eq!(refusal(&plan, &cpu, Some(2_000_000_000), None), "");
        let all = Plan::of_bytes(50_000_000_000, bytes, None);
        assert!(!all.streams());
        let told = refusal(&all, &cpu, Some(50_000_000_000), Some(8_000_000_000));
        assert!(told.contains("at least 14.0 GB") && told.contains("8.0 GB are free: state less memory"), "{told}");
        assert_eq!(refusal(&all, &cpu, Some(50_000_000_000), Some(14_000_000_000)), "");
    }

    #[test]
    fn a_gpu_is_judged_by_its_limits_and_not_by_main_memory() {
        let gpu = Compute::pretended_gpu(128 << 20);
        let bytes = [10, 1, 3].map(|gb| whole(gb * 1_000_000_000));
        let plan = Plan::of_bytes(default_budget(&gpu), bytes, None);
        let told = refusal(&plan, &gpu, None, Some(1));
        assert_eq!(
            told,
            "the model's weights take at least 4.1 GB of GPU memory at once, the GPU's limits suggest 1.1 GB (its largest buffer for \
             shaders has 134.2 MB): take files of smaller types (GGUF Q4) or a smaller video codec (TAEHV), or state how much memory \
             it has, and it is tried"
        );
        assert_eq!(refusal(&plan, &gpu, Some(1 << 30), Some(1)), "");
        let large = Compute::pretended_gpu(4 << 30);
        assert_eq!(refusal(&Plan::of_bytes(default_budget(&large), bytes, None), &large, None, Some(1)), "");
    }

    #[test]
    fn a_layer_is_what_stands_below_a_number() {
        assert_eq!(layer_of("blocks.12.ffn.net.0.proj.weight"), Some("blocks.12"));
        assert_eq!(layer_of("encoder.block.3.layer.0.SelfAttention.q.weight"), Some("encoder.block.3"));
        assert_eq!(layer_of("condition_embedder.text_embedder.linear_1.weight"), None);
    }

    #[test]
    fn a_small_model_stays_whole() {
        let plan = Plan::of_bytes(GB, [2 << 20, 8 << 20, 5 << 20].map(whole), None);
        assert!(!plan.text_encoder.streamed && !plan.transformer.streamed && !plan.vae.streamed);
    }

    #[test]
    fn a_large_encoder_is_streamed_and_the_transformer_only_where_it_does_not_fit() {
        // Wan 1.3B at 4 bits with umT5-xxl and its VAE.
        let bytes = [3 * GB, GB * 3 / 4, GB / 2];
        let streamed = |budget| {
            let plan = Plan::of_bytes(budget, bytes.map(whole), None);
            (plan.text_encoder.streamed, plan.transformer.streamed)
        };
        assert_eq!(streamed(4 * GB), (true, false));
        assert_eq!(streamed(GB), (true, true));
        assert_eq!(streamed(16 * GB), (false, false));
        assert_eq!(streamed(u64::MAX), (false, false));
    }
}
