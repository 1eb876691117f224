//! Kernels of our own, one file each: WGSL beside a plain-tensor twin of the same name, and the CPU's in [`cpu`].
//!
//! The twin is the oracle of the tests, and what runs where a GPU's kernel failed its self-check. Which GPU kernels
//! are on is one process-wide mask, because there is one adapter in a process: the pipeline switches them on once it
//! knows the adapter, a bench switches them off to time stock Burn.

pub mod attention;
pub mod channel_norm;
pub mod check;
pub mod conv3d;
pub mod cpu;
pub mod gemm;
pub mod launch;
pub mod norm_modulate;
pub mod ops;
pub mod repack;
pub mod rms_rope;
mod rows;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A kernel that can be switched on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// Matrix product with bias and epilogue.
    Gemm,
    /// Attention without a score matrix.
    Attention,
    /// Causal 3-D convolution.
    Conv3d,
    /// Layer norm with modulation.
    NormModulate,
    /// RMS norm of queries and keys with their rotation.
    RmsRope,
    /// The VAE's channel norm with SiLU.
    ChannelNorm,
}

impl Kernel {
    /// All kernels, in the order of their self-checks.
    pub const ALL: [Self; 6] =
        [Self::Gemm, Self::Attention, Self::Conv3d, Self::NormModulate, Self::RmsRope, Self::ChannelNorm];

    /// The kernel's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Attention => "attention",
            Self::Conv3d => "conv3d",
            Self::NormModulate => "norm_modulate",
            Self::RmsRope => "rms_rope",
            Self::ChannelNorm => "channel_norm",
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// True if this kernel, not its twin, runs on the GPU.
    pub fn is_on(self) -> bool {
        MASK.load(Ordering::Relaxed) & self.bit() != 0
    }

    /// Switches the kernel on or off.
    pub fn set(self, on: bool) {
        match on {
            true => MASK.fetch_or(self.bit(), Ordering::Relaxed),
            false => MASK.fetch_and(!self.bit(), Ordering::Relaxed),
        };
    }
}

static MASK: AtomicU32 = AtomicU32::new(0);
static SOFTWARE: AtomicBool = AtomicBool::new(false);
static HALF: AtomicBool = AtomicBool::new(false);

/// Tells the kernels what adapter there is: one that runs on the CPU suffers from barriers and workgroup memory.
pub fn set_software_adapter(software: bool) {
    SOFTWARE.store(software, Ordering::Relaxed);
}

/// True if the adapter runs on the CPU (lavapipe, SwiftShader, WARP).
pub fn on_software_adapter() -> bool {
    SOFTWARE.load(Ordering::Relaxed)
}

/// Tiles in 16-bit floats for the matrix product and attention on real GPUs that have them: half the traffic of
/// workgroup memory, inputs rounded to 11 bits and cut off at ±65,504, sums in f32. Only for an adapter with `f16`
/// ([`crate::device::AdapterInfo`]). Off unless somebody asks: what it gains was not measured on a real GPU yet.
pub fn set_half_tiles(half: bool) {
    HALF.store(half, Ordering::Relaxed);
}

/// True if [`set_half_tiles`] switched them on.
pub fn half_tiles() -> bool {
    HALF.load(Ordering::Relaxed)
}
