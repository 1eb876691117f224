//! GPU memory where stages end.
//!
//! A browser frees a GPU buffer when JavaScript's garbage collector finds it, which knows nothing of its size: long
//! after Burn has forgotten a page, the GPU still holds it. So the host keeps a [`GpuLedger`](crate::host::GpuLedger) of the buffers made,
//! and where a stage ends, those that Burn has given up are destroyed by name. Natively dropping is freeing, there is
//! no ledger, and all of this does nothing.
//!
//! Which buffers Burn has given up is not told by Burn (cubecl-wgpu 0.11.3 `storage.rs`, `dealloc`); it follows from
//! sums: after a cleanup, what its pools hold beyond the weights must be exactly the buffers of the tensors that the
//! caller says live on. If the sums differ, nothing is destroyed.

pub mod pool;

use std::cell::Cell;

use burn::tensor::{Device, Shape, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use cubecl::wgpu::{AutoCompiler, WgpuServer};
use cubecl_runtime::memory_management::MemoryScope;

use crate::device::Compute;
use crate::host::Host;

/// What the weights of a loaded model hold.
#[derive(Debug, Default)]
pub struct StageMemory {
    weights: Cell<u64>,
}

impl StageMemory {
    /// Call when the weights lie on the device.
    pub fn loaded(&self, compute: &Compute, host: &dyn Host) {
        if let Some(ledger) = host.gpu_ledger()
            && let Some(bytes) = clean_up(compute)
        {
            self.weights.set(bytes);
            ledger.keep_all();
        }
    }

    /// Call where a stage ends, with the buffers of every tensor made since the load that lives on ([`buffer_of`]).
    pub fn stage_ended(&self, compute: &Compute, host: &dyn Host, kept: &[Option<wgpu::Buffer>]) {
        if let Some(ledger) = host.gpu_ledger()
            && let Some(bytes) = clean_up(compute)
        {
            let kept: Vec<_> = kept.iter().flatten().cloned().collect();
            let grown = bytes.saturating_sub(self.weights.get());
            if !ledger.destroy_but(&kept, grown) {
                log::debug!("GPU memory of a stage was not freed: {grown} bytes are still in use");
            }
        }
    }
}

/// Puts data on the device to stay there: as large as they are, outside the pools, whose pages are rounded up.
pub fn stay<T: Send>(data: TensorData, device: &Device, make: fn(TensorData, &Device) -> T) -> T {
    device.memory_persistent_allocations(data, |data| make(data, device))
}

/// Zeros that take the memory of one on the CPU, where a tensor may be a view: for what has a shape and is not computed with.
pub fn hollow<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::<D>::zeros([1; D], device).expand(Shape::new(shape))
}

/// The buffer in which a tensor lies; `None` for a tensor on the CPU.
pub fn buffer_of<const D: usize>(tensor: &Tensor<D>) -> Option<wgpu::Buffer> {
    let primitive = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
    let resource = primitive.client.get_resource::<WgpuServer<AutoCompiler>>(primitive.handle.clone()).ok()?;
    Some(resource.resource().buffer.clone())
}

/// Submits what is queued, returns unused pages, and says how many bytes tensors hold; `None` on the CPU.
fn clean_up(compute: &Compute) -> Option<u64> {
    let client = Tensor::<1>::empty([1], compute.device()).try_into_primitive::<CubeBackend>().ok()?.client;
    // A buffer must not be destroyed before the commands that use it have been handed to the queue.
    compute.device().flush().ok()?;
    compute.release_unused();
    let report = client.memory_report(MemoryScope::Device);
    Some(report.streams.iter().map(|stream| stream.pools.usage().bytes_reserved).sum())
}
