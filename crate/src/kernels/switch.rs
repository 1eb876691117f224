//! Which kernels run on a device, and in which flavour.
//!
//! Each device has its own switches: [`super::check::prepare`] sets a GPU's once it knows the adapter, a bench switches
//! kernels off to time stock Burn. An op looks them up once, by the device of its first tensor.

use burn::tensor::Device;

use super::per_device::PerDevice;

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

    /// True if this kernel, not its twin, runs on `device`.
    pub fn is_on(self, device: &Device) -> bool {
        Switches::of(device).has(self)
    }

    /// Switches the kernel on or off on `device`. Convolutions and packed weights keep the kernel that they were loaded
    /// for.
    pub fn set(self, device: &Device, on: bool) {
        change(device, |switches| match on {
            true => switches.on |= self.bit(),
            false => switches.on &= !self.bit(),
        });
    }
}

/// What is chosen for one device.
#[derive(Debug, Clone, Copy)]
pub struct Switches {
    on: u32,
    cpu: bool,
    /// The adapter runs on the CPU (lavapipe, SwiftShader, WARP).
    pub software: bool,
    /// Tiles in 16-bit floats ([`set_half_tiles`]).
    pub half_tiles: bool,
}

static SWITCHES: PerDevice<Switches> = PerDevice::new();

impl Switches {
    /// The switches of `device` as they are now.
    pub fn of(device: &Device) -> Self {
        SWITCHES.get(device).unwrap_or_else(|| Self::first(device))
    }

    /// Before anything is chosen: the CPU's kernels are on, a GPU's wait for their self-check.
    fn first(device: &Device) -> Self {
        let cpu = *device == Device::flex();
        let on = if cpu { Kernel::ALL.into_iter().fold(0, |on, kernel| on | kernel.bit()) } else { 0 };
        Self { on, cpu, software: false, half_tiles: false }
    }

    /// True if the kernel is on.
    pub fn has(self, kernel: Kernel) -> bool {
        self.on & kernel.bit() != 0
    }

    /// Runs the kernel of this device's kind if it is on; `None` where it is off or has no variant for the case.
    pub fn run<T>(self, kernel: Kernel, gpu: impl FnOnce() -> Option<T>, cpu: impl FnOnce() -> Option<T>) -> Option<T> {
        match (self.has(kernel), self.cpu) {
            (false, _) => None,
            (true, true) => cpu(),
            (true, false) => gpu(),
        }
    }
}

fn change(device: &Device, change: impl FnOnce(&mut Switches)) {
    SWITCHES.update(device, |known| {
        let mut switches = known.copied().unwrap_or_else(|| Switches::first(device));
        change(&mut switches);
        switches
    });
}

/// Tells the kernels what adapter `device` is: one that runs on the CPU suffers from barriers and workgroup memory.
pub fn set_software_adapter(device: &Device, software: bool) {
    change(device, |switches| switches.software = software);
}

/// Tiles in 16-bit floats for the matrix product and attention on real GPUs that have them: half the traffic of
/// workgroup memory, inputs rounded to 11 bits and cut off at ±65,504, sums in f32. Only for an adapter with `f16`
/// ([`crate::device::AdapterInfo`]). Off unless somebody asks: what it gains was not measured on a real GPU yet.
pub fn set_half_tiles(device: &Device, half: bool) {
    change(device, |switches| switches.half_tiles = half);
}
