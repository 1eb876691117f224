//! What a running generation tells its caller, and what it asks of it.

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

/// The named stages of a generation, in the order of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Prompt to token ids.
    Tokenize,
    /// Token ids, or a class, to prompt embeddings.
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

/// One thing that happened during a load or a generation. Pixels are not serialized: they cross borders beside the event.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "EngineEvent"))]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
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
    /// What comes from here on is about these clips of a batch.
    Clips {
        /// The first of them, counted from 0.
        first: usize,
        /// How many.
        count: usize,
    },
    /// A stage began.
    Stage {
        /// Which.
        stage: Stage,
    },
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
        /// `width × height × 4` bytes, rows top to bottom.
        #[serde(skip)]
        rgba: Vec<u8>,
    },
    /// Something the user should know that is not an error.
    Warning {
        /// A sentence.
        message: String,
    },
    /// A finished frame, in order.
    Frame {
        /// 0 for the first frame.
        index: usize,
        /// Frame width, pixels.
        width: usize,
        /// Frame height, pixels.
        height: usize,
        /// `width × height × 4` bytes, rows top to bottom.
        #[serde(skip)]
        rgba: Vec<u8>,
    },
}

impl Event {
    /// A warning with the message given.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::Warning { message: message.into() }
    }
}

/// The caller's side of a generation: receives events, may cancel, gets its turn.
pub trait Host {
    /// Receives an event. Must not block. Without a body of its own nobody listens.
    fn event(&self, _: Event) {}
    /// True once the caller wants out; polled between transformer blocks.
    fn aborted(&self) -> bool {
        false
    }
    /// Gives the caller's event loop a turn (nothing to do natively).
    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(std::future::ready(()))
    }
    /// Seconds on a monotonic clock (`std::time` does not exist in the browser); 0 where nobody asks.
    fn now_secs(&self) -> f64 {
        0.0
    }
    /// Bytes of main memory that can still be had, where that is known.
    fn free_memory(&self) -> Option<u64> {
        None
    }
    /// The host's account of GPU buffers, where buffers must be destroyed by name.
    fn gpu_ledger(&self) -> Option<&dyn GpuLedger> {
        None
    }
}

/// The host's account of the GPU buffers made on its device.
pub trait GpuLedger {
    /// All buffers made so far stay.
    fn keep_all(&self);
    /// Destroys the buffers made since [`GpuLedger::keep_all`] that are not among `kept`, provided that those hold
    /// `bytes` bytes in all; false if they do not.
    fn destroy_but(&self, kept: &[wgpu::Buffer], bytes: u64) -> bool;
}

/// Lets everything pass: for tests and for calls that need neither progress nor cancel.
#[derive(Debug, Default, Clone, Copy)]
pub struct SilentHost;

impl Host for SilentHost {}

/// Passes a host's clock, turns and cancel on, and keeps its events back.
pub struct Quiet<'a>(pub &'a dyn Host);

impl Host for Quiet<'_> {
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
