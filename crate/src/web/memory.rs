//! The module's memory: how much of it is held, and word of what could not be had.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use wasm_bindgen::prelude::*;

use crate::pipeline::TAB_MEMORY;

#[wasm_bindgen]
extern "C" {
    /// The worker's ear for memory that could not be had; nobody need listen.
    #[wasm_bindgen(catch, js_namespace = globalThis, js_name = __tabreelNoMemory)]
    fn no_memory(bytes: f64) -> Result<(), JsValue>;
}

/// Bytes handed out and not yet given back.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts, and tells the worker of what could not be had: a failed allocation traps without
/// a panic, so without a word.
struct Telling;

#[global_allocator]
static ALLOCATOR: Telling = Telling;

impl Telling {
    fn told(got: *mut u8, bytes: usize) -> *mut u8 {
        match got.is_null() {
            // Nobody listens in a program that is no worker of ours.
            true => drop(no_memory(bytes as f64)),
            false => drop(HELD.fetch_add(bytes, Relaxed)),
        }
        got
    }
}

// SAFETY: every call is the system allocator's, with the arguments given.
unsafe impl GlobalAlloc for Telling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        Self::told(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        Self::told(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let got = Self::told(unsafe { System.realloc(old, layout, bytes) }, bytes);
        if !got.is_null() {
            HELD.fetch_sub(layout.size(), Relaxed);
        }
        got
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Bytes that can still be had.
pub(super) fn free() -> u64 {
    TAB_MEMORY.saturating_sub(HELD.load(Relaxed) as u64)
}
