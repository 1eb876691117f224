//! Kernels of our own, one file each: WGSL beside a plain-tensor twin of the same name, and the CPU's in [`cpu`].
//!
//! The twin is the oracle of the tests, and what runs where a GPU's kernel failed its self-check. Which kernels are on
//! is chosen for each device ([`Switches`]).

pub mod attention;
pub mod channel_norm;
pub mod check;
pub mod conv3d;
pub mod cpu;
pub mod gemm;
pub mod launch;
pub mod norm_modulate;
pub mod ops;
mod per_device;
pub mod repack;
pub mod repack_gpu;
pub mod rms_rope;
mod rows;
mod switch;

pub use switch::{Kernel, Switches, set_half_tiles, set_software_adapter};
