//! What a running generation tells its caller, and how it yields to it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;

use burn::tensor::Tensor;

use crate::device::Compute;
use crate::error::{Error, Result};

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

/// Keeps a long computation polite: bounds the GPU work in flight, lets the host run and cancel.
///
/// Burn queues a whole forward pass at once in the browser (no back-pressure there), which would freeze the tab and
/// make a cancel land minutes late; so the models call [`Pace::block_done`] after each of their blocks.
pub struct Pace<'a> {
    host: &'a dyn Host,
    compute: &'a Compute,
    blocks_in_flight: usize,
    queued: Cell<usize>,
}

impl<'a> Pace<'a> {
    /// A pace that waits for the GPU after every second block (each block when it has only a software adapter).
    pub fn new(host: &'a dyn Host, compute: &'a Compute) -> Self {
        let blocks_in_flight = if compute.is_software() { 1 } else { 2 };
        Self { host, compute, blocks_in_flight, queued: Cell::new(0) }
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
        if self.compute.is_gpu() {
            self.queued.set(self.queued.get() + 1);
            if self.queued.get() >= self.blocks_in_flight {
                self.queued.set(0);
                settle(produced).await?;
            }
        }
        self.host.tick().await;
        if self.host.aborted() { Err(Error::Aborted) } else { Ok(()) }
    }
}

/// Waits until `tensor` has really been computed, by reading one element back.
///
/// `Device::sync` blocks and so aborts in the browser; an async read of one element is the portable way.
async fn settle<const D: usize>(tensor: &Tensor<D>) -> Result<()> {
    let one = tensor.clone().slice(std::array::from_fn::<_, D, _>(|_| 0..1));
    one.into_data_async().await.map_err(|e| Error::DeviceLost(format!("the GPU did not finish its work: {e}")))?;
    Ok(())
}
