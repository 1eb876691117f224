//! Where tensors live: the CPU (Burn's `flex`) or a GPU (Burn on wgpu), chosen at run time.

use burn::tensor::Device;

use crate::error::{Error, Result};

/// Which kind of device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "Backend"))]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// Burn's pure-Rust CPU backend; in the browser one thread with WebAssembly SIMD.
    Cpu,
    /// WebGPU in the browser, wgpu (Vulkan, Metal, DX12) natively.
    Gpu,
}

/// What is known of a GPU adapter.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct AdapterInfo {
    /// The adapter's name as the driver gives it (often empty in browsers).
    pub name: String,
    /// The driver's own description.
    pub driver: String,
    /// The graphics interface used: `vulkan`, `metal`, `dx12`, `webgpu`.
    pub backend: String,
    /// True for an adapter that runs on the CPU (lavapipe, SwiftShader, WARP).
    pub software: bool,
    /// True if shaders may use 16-bit floats.
    pub f16: bool,
    /// Largest storage buffer that one binding may span and that can be made, bytes.
    pub max_storage_buffer_binding_bytes: u64,
    /// Storage buffers one shader stage may use.
    pub max_storage_buffers_per_stage: u32,
    /// Threads in one workgroup.
    pub max_workgroup_threads: u32,
}

/// A compute device that has been initialised.
#[derive(Debug, Clone)]
pub struct Compute {
    device: Device,
    adapter: Option<AdapterInfo>,
    queue: Option<wgpu::Queue>,
}

impl Compute {
    /// The CPU backend. Cannot fail.
    pub fn cpu() -> Self {
        Self { device: Device::flex(), adapter: None, queue: None }
    }

    /// The best GPU adapter there is; in a program the same device each time, as Burn opens one once. (A tab's worker has one
    /// engine, and no byte to spare.)
    ///
    /// # Errors
    /// [`Error::UnsupportedDevice`] when no adapter or device can be had, with the reason.
    #[cfg(not(target_family = "wasm"))]
    pub async fn gpu() -> Result<Self> {
        static OPENED: std::sync::OnceLock<Compute> = std::sync::OnceLock::new();
        match OPENED.get() {
            Some(opened) => Ok(opened.clone()),
            None => Self::open_gpu().await.map(|opened| OPENED.get_or_init(|| opened).clone()),
        }
    }

    /// The best GPU adapter there is.
    ///
    /// # Errors
    /// [`Error::UnsupportedDevice`] when no adapter or device can be had, with the reason.
    #[cfg(target_family = "wasm")]
    pub async fn gpu() -> Result<Self> {
        Self::open_gpu().await
    }

    async fn open_gpu() -> Result<Self> {
        // Few tasks per submission keep the time between two yields short.
        let (device, setup) = Device::wgpu_options()
            .tasks_max(32)
            .init_with_setup_async()
            .await
            .map_err(|e| Error::UnsupportedDevice(format!("no usable WebGPU adapter: {e}")))?;
        let info = setup.adapter.get_info();
        let limits = setup.device.limits();
        let adapter = AdapterInfo {
            name: info.name,
            driver: info.driver_info,
            backend: format!("{:?}", setup.backend).to_lowercase(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            f16: setup.device.features().contains(wgpu::Features::SHADER_F16),
            // Where buffers have the lower limit, theirs counts.
            max_storage_buffer_binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            max_storage_buffers_per_stage: limits.max_storage_buffers_per_shader_stage,
            max_workgroup_threads: limits.max_compute_invocations_per_workgroup,
        };
        Ok(Self { device, adapter: Some(adapter), queue: Some(setup.queue) })
    }

    /// The device chosen.
    ///
    /// # Errors
    /// As [`Compute::gpu`].
    pub async fn new(choice: DeviceChoice) -> Result<Self> {
        match choice {
            DeviceChoice::Cpu => Ok(Self::cpu()),
            DeviceChoice::Gpu => Self::gpu().await,
        }
    }

    /// The CPU under the name of a GPU with such a binding limit, bytes: for what is decided by limits alone.
    #[cfg(test)]
    pub fn pretended_gpu(max_storage_buffer_binding_bytes: u64) -> Self {
        let adapter = AdapterInfo {
            name: "pretended".into(),
            driver: String::new(),
            backend: "none".into(),
            software: false,
            f16: false,
            max_storage_buffer_binding_bytes,
            max_storage_buffers_per_stage: 8,
            max_workgroup_threads: 256,
        };
        Self { adapter: Some(adapter), ..Self::cpu() }
    }

    /// Burn's handle, for creating tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The adapter, if this is a GPU.
    pub fn adapter(&self) -> Option<&AdapterInfo> {
        self.adapter.as_ref()
    }

    /// The GPU's queue, for writing to its buffers.
    pub fn queue(&self) -> Option<&wgpu::Queue> {
        self.queue.as_ref()
    }

    /// True if work is queued on a GPU rather than done at once.
    pub fn is_gpu(&self) -> bool {
        self.adapter.is_some()
    }

    /// True if the "GPU" is a program on the CPU.
    pub fn is_software(&self) -> bool {
        self.adapter.as_ref().is_some_and(|a| a.software)
    }

    /// What ran, in words, for logs and the page.
    pub fn describe(&self) -> String {
        match &self.adapter {
            None => "CPU".into(),
            Some(a) if a.name.is_empty() => format!("GPU ({})", a.backend),
            Some(a) => format!("{} ({})", a.name, a.backend),
        }
    }

    /// Gives memory that no tensor uses any more back to the system, as far as the backend can.
    pub fn release_unused(&self) {
        self.device.memory_cleanup();
    }
}
