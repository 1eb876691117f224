//! How a running generation stays polite: bounded work in flight, turns for the host, cancels between blocks.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use crate::device::Compute;
use crate::error::{Error, Result};
use crate::host::Host;

/// Keeps a long computation polite: bounds the GPU work in flight, lets the host run and cancel.
///
/// Burn queues a whole forward pass at once in the browser (no back-pressure there), which would freeze the tab and
/// make a cancel land minutes late; so the models call [`Pace::block_done`] after each of their blocks. It waits for
/// the block before, not for the one just queued: the GPU always has the next block to go on with.
pub struct Pace<'a> {
    host: &'a dyn Host,
    compute: &'a Compute,
    before: RefCell<Option<Fence>>,
}

/// A future of this crate behind a trait: models run one at a time, on one thread.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// Done once all work submitted before it is.
type Fence = Pin<Box<dyn Future<Output = Result<()>>>>;

impl<'a> Pace<'a> {
    /// A pace for work on `compute`.
    pub fn new(host: &'a dyn Host, compute: &'a Compute) -> Self {
        Self { host, compute, before: RefCell::new(None) }
    }

    /// The host behind this pace.
    pub fn host(&self) -> &'a dyn Host {
        self.host
    }

    /// Call after each block with something the block produced.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the host cancelled, [`Error::DeviceLost`] when the GPU no longer answers.
    pub async fn block_done<const D: usize>(&self, produced: &Tensor<D>) -> Result<()> {
        if let Some(fence) = fence(produced).await {
            let before = self.before.replace(Some(fence));
            if let Some(before) = before {
                before.await?;
            }
            if self.compute.is_software() {
                // No hardware to keep busy, and its work takes the time of everything else.
                self.settle().await?;
            }
        }
        self.host.tick().await;
        if self.host.aborted() { Err(Error::Aborted) } else { Ok(()) }
    }

    /// Waits for all blocks that were announced.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when the GPU no longer answers.
    pub async fn settle(&self) -> Result<()> {
        let last = self.before.take();
        match last {
            Some(fence) => fence.await,
            None => Ok(()),
        }
    }
}

/// Submits what is queued on the tensor's GPU and marks that point; `None` on the CPU.
async fn fence<const D: usize>(tensor: &Tensor<D>) -> Option<Fence> {
    let client = tensor.clone().try_into_primitive::<CubeBackend>().ok()?.client;
    let done = client.sync();
    let mut fence: Fence =
        Box::pin(
            async move { done.await.map_err(|e| Error::DeviceLost(format!("the GPU did not finish its work: {e}"))) },
        );
    // cubecl asks the queue for its word at the first poll only: a later one would cover later blocks too.
    let first = std::future::poll_fn(|context| Poll::Ready(fence.as_mut().poll(context))).await;
    Some(match first {
        Poll::Ready(done) => Box::pin(std::future::ready(done)),
        Poll::Pending => fence,
    })
}
