//! What a running generation tells its caller, and how it yields to it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;

use crate::device::Compute;
use crate::error::{Error, Result};
use crate::memory::GpuLedger;

/// The named stages of a generation, in the order of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Prompt to token ids.
    Tokenize,
    /// Token ids to prompt embeddings.
    EncodeText,
    /// Known pixels to control latents.
    Condition,
    /// Noise to latents.
    Denoise,
    /// Latents to frames.
    Decode,
}

impl Stage {
    /// The stage's name as it crosses borders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::EncodeText => "encode-text",
            Self::Condition => "condition",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
        }
    }
}

/// One thing that happened during a load or a generation.
#[derive(Debug, Clone)]
pub enum Event {
    /// A component of the model folder is being built.
    Loading {
        /// Components built so far.
        loaded: usize,
        /// Components in all.
        total: usize,
        /// The component's folder name.
        what: &'static str,
    },
    /// A stage began.
    Stage(Stage),
    /// A denoising step ended.
    Step {
        /// 1 for the first step.
        step: usize,
        /// Steps in all.
        num_steps: usize,
        /// Wall time of this step, seconds.
        seconds: f64,
    },
    /// An estimate of the finished picture after a step: the first latent frame, decoded alone.
    Preview {
        /// The step it was made after.
        step: usize,
        /// Picture width, pixels.
        width: usize,
        /// Picture height, pixels.
        height: usize,
        /// `width × height × 4` bytes.
        rgba: Vec<u8>,
    },
    /// Something the user should know that is not an error.
    Warning(String),
    /// A finished frame, in order.
    Frame {
        /// 0 for the first frame.
        index: usize,
        /// Frame width, pixels.
        width: usize,
        /// Frame height, pixels.
        height: usize,
        /// `width × height × 4` bytes.
        rgba: Vec<u8>,
    },
}

/// The caller's side of a generation: receives events, may cancel, gets its turn.
pub trait Host {
    /// Receives an event. Must not block.
    fn event(&self, event: Event);
    /// True once the caller wants out; polled between transformer blocks.
    fn aborted(&self) -> bool;
    /// Gives the caller's event loop a turn (a no-op natively).
    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;
    /// Seconds on a monotonic clock (`std::time` does not exist in the browser).
    fn now_secs(&self) -> f64;
    /// The host's account of GPU buffers, where buffers must be destroyed by name.
    fn gpu_ledger(&self) -> Option<&dyn GpuLedger> {
        None
    }
}

/// Lets everything pass: for tests and for calls that need neither progress nor cancel.
#[derive(Debug, Default, Clone, Copy)]
pub struct SilentHost;

impl Host for SilentHost {
    fn event(&self, _: Event) {}
    fn aborted(&self) -> bool {
        false
    }
    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(std::future::ready(()))
    }
    fn now_secs(&self) -> f64 {
        0.0
    }
}

/// Passes a host's clock, turns and cancel on, and keeps its events back.
pub struct Quiet<'a>(pub &'a dyn Host);

impl Host for Quiet<'_> {
    fn event(&self, _: Event) {}
    fn aborted(&self) -> bool {
        self.0.aborted()
    }
    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.0.tick()
    }
    fn now_secs(&self) -> f64 {
        self.0.now_secs()
    }
    fn gpu_ledger(&self) -> Option<&dyn GpuLedger> {
        self.0.gpu_ledger()
    }
}

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
