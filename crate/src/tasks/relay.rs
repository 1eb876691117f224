//! The host of a task's windows: it keeps their frames back, and counts their steps as those of the whole.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;

use crate::host::{Event, GpuLedger, Host};

/// Stands between a window's generation and the caller.
pub(super) struct Relay<'a> {
    outer: &'a dyn Host,
    steps: usize,
    windows: usize,
    done: Cell<usize>,
    frames: RefCell<Vec<Vec<u8>>>,
}

impl<'a> Relay<'a> {
    /// For so many windows of so many steps each.
    pub fn new(outer: &'a dyn Host, steps: usize, windows: usize) -> Self {
        Self { outer, steps, windows, done: Cell::new(0), frames: RefCell::default() }
    }

    /// The caller.
    pub fn outer(&self) -> &'a dyn Host {
        self.outer
    }

    /// The frames that were kept back, which are forgotten.
    pub fn take(&self) -> Vec<Vec<u8>> {
        self.frames.take()
    }

    /// The next steps are those of another window.
    pub fn window_done(&self) {
        self.done.set(self.done.get() + 1);
    }
}

impl Host for Relay<'_> {
    fn event(&self, event: Event) {
        let before = self.done.get() * self.steps;
        match event {
            Event::Frame { rgba, .. } => self.frames.borrow_mut().push(rgba),
            Event::Step { step, seconds, .. } => {
                let num_steps = self.windows * self.steps;
                self.outer.event(Event::Step { step: before + step, num_steps, seconds });
            }
            Event::Preview { step, width, height, rgba } => {
                self.outer.event(Event::Preview { step: before + step, width, height, rgba });
            }
            // Said once is enough.
            Event::Warning { .. } if self.done.get() > 0 => {}
            other => self.outer.event(other),
        }
    }
    fn aborted(&self) -> bool {
        self.outer.aborted()
    }
    fn tick(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.outer.tick()
    }
    fn now_secs(&self) -> f64 {
        self.outer.now_secs()
    }
    fn free_memory(&self) -> Option<u64> {
        self.outer.free_memory()
    }
    fn gpu_ledger(&self) -> Option<&dyn GpuLedger> {
        self.outer.gpu_ledger()
    }
}
