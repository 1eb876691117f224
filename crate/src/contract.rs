//! What crosses the border to JavaScript besides options, events and errors, which stand where they belong.
//!
//! `pkg/src/contract.ts` is written from these types (`npm run contract`), and a test below fails when it is not what
//! they say. It is ts-rs that derives TypeScript from them: it reads the serde attributes and doc comments that are
//! there anyway, is well kept, and needs no feature or build step (specta hides its stable parts behind release
//! candidates; tsify only writes while wasm-bindgen runs). It is a dev-dependency, so no build that ships knows of it.

mod given;
#[cfg(test)]
mod typescript;

pub use given::{EngineCondition, EnginePicture, EnginePiece};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::condition::Capabilities;
use crate::device::{AdapterInfo, Compute, DeviceChoice};
use crate::kernels::Kernel;
use crate::kernels::check::Finding;
use crate::options::{GenerateOptions, ModelDefaults};
use crate::pipeline::{Clip, Pipeline, Plan};

/// What the engine knows about the device it runs on.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct EngineInfo {
    /// Where the arithmetic runs.
    pub device: DeviceChoice,
    /// The GPU's adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub adapter: Option<AdapterInfo>,
    /// How large the module's memory has grown, bytes; it never shrinks.
    pub wasm_memory_bytes: u64,
}

impl EngineInfo {
    /// Of a device, in a module with so many bytes of memory.
    pub fn new(compute: &Compute, wasm_memory_bytes: u64) -> Self {
        let device = if compute.is_gpu() { DeviceChoice::Gpu } else { DeviceChoice::Cpu };
        Self { device, adapter: compute.adapter().cloned(), wasm_memory_bytes }
    }
}

/// What the engine read from the model folder.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct EngineModel {
    /// The name on its card; empty without one.
    pub name: String,
    /// Width must be a multiple of this, px.
    pub width_multiple: usize,
    /// Height must be a multiple of this, px.
    pub height_multiple: usize,
    /// The number of frames must be a multiple of this, and one.
    pub frame_multiple: usize,
    /// Prompts longer than this are cut, with a warning; tokens.
    pub max_tokens: usize,
    /// What it can be given besides text.
    pub capabilities: Capabilities,
    /// The names of its classes, by number, with commas between; empty ones where its folder names none, and no entries for a
    /// model of text.
    pub labels: Vec<String>,
    /// What of it stays on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub plan: Option<Plan>,
    /// What its card suggests.
    #[cfg_attr(test, ts(type = "ModelDefaults"))]
    pub defaults: ModelDefaults,
}

impl EngineModel {
    /// Of a loaded model.
    pub fn new(pipeline: &Pipeline) -> Self {
        let (card, rules) = (pipeline.card(), pipeline.rules());
        Self {
            name: card.name.clone(),
            width_multiple: rules.width_multiple,
            height_multiple: rules.height_multiple,
            frame_multiple: rules.frame_multiple,
            max_tokens: pipeline.max_tokens(),
            capabilities: pipeline.capabilities(),
            labels: pipeline.classes().map(|classes| classes.labels().to_vec()).unwrap_or_default(),
            plan: pipeline.plan().copied(),
            defaults: card.default.clone(),
        }
    }
}

/// What is known of a finished clip besides its frames, which were events.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct EngineResult {
    /// The noise's seed.
    pub seed: u64,
    /// Number of frames.
    pub num_frames: usize,
    /// Frame width, px.
    pub width: usize,
    /// Frame height, px.
    pub height: usize,
    /// Frames a second.
    pub fps: f64,
    /// The prompt's tokens.
    pub tokens: TokenCount,
    /// Seconds, by stage, and their `total`.
    #[cfg_attr(test, ts(type = "Record<string, number>"))]
    pub timings: BTreeMap<&'static str, f64>,
    /// Bytes that the GPU was planned to hold at most; missing on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub planned_bytes: Option<u64>,
    /// The device in words.
    pub device: String,
}

/// How much of a prompt the model read.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TokenCount {
    /// Tokens that were used.
    pub kept: usize,
    /// Tokens that the prompt has.
    pub total: usize,
}

impl EngineResult {
    /// Of a clip, what was asked for, and where it was made.
    pub fn new(clip: &Clip, options: &GenerateOptions, compute: &Compute) -> Self {
        let (kept, total) = clip.tokens;
        Self {
            seed: options.seed,
            num_frames: options.num_frames,
            width: options.width,
            height: options.height,
            fps: options.fps,
            tokens: TokenCount { kept, total },
            timings: clip.timings.clone(),
            planned_bytes: clip.planned_bytes,
            device: compute.describe(),
        }
    }
}

/// One kernel beside its plain twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct KernelFinding {
    /// Which kernel.
    #[cfg_attr(test, ts(type = "KernelName"))]
    pub kernel: Kernel,
    /// Relative L2 distance of the two results; null where the kernel gave no numbers.
    pub error: Option<f64>,
    /// True if the kernel is used.
    pub passed: bool,
}

impl From<Finding> for KernelFinding {
    fn from(finding: Finding) -> Self {
        Self { kernel: finding.kernel, error: finding.error, passed: finding.passed() }
    }
}

impl From<KernelFinding> for Finding {
    fn from(finding: KernelFinding) -> Self {
        Self { kernel: finding.kernel, error: finding.error }
    }
}

/// What a check of the GPU kernels found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct KernelReport {
    /// Of the kernels' texts, hexadecimal: findings of another revision say nothing.
    pub revision: String,
    /// One for each kernel; none on the CPU.
    pub findings: Vec<KernelFinding>,
}
