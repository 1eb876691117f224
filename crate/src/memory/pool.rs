//! What a pool of GPU buffers grows to while tensors come and go: a stage rehearsed for a plan, without a number computed.
//!
//! In a tab each tensor has a buffer of its own, of its size, and the smallest free one that is large enough is taken again
//! (cubecl-server 0.11.3 `dynamic/exclusive.rs`; natively tensors share pages, which may be filled worse). None goes back before
//! the stage ends: what a stage takes is the sum of its buffers.

use std::cell::RefCell;
use std::rc::Rc;

/// Buffers are a multiple of so many bytes.
const ALIGNMENT: u64 = 256;

/// The buffers of a stage.
#[derive(Debug, Clone, Default)]
pub struct Pool(Rc<RefCell<Vec<Buffer>>>);

#[derive(Debug)]
struct Buffer {
    bytes: u64,
    free: bool,
}

/// A buffer in use until the last of its clones is dropped, as a tensor's is by the last of its views.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Never read: with the last clone the buffer becomes free.
    _place: Rc<Place>,
}

#[derive(Debug)]
struct Place {
    pool: Pool,
    index: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(buffer) = self.pool.0.borrow_mut().get_mut(self.index) {
            buffer.free = true;
        }
    }
}

impl Pool {
    /// A buffer for so many 32-bit values.
    pub fn take(&self, values: u64) -> Taken {
        let bytes = values.saturating_mul(4).div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT);
        let mut buffers = self.0.borrow_mut();
        let fitting = buffers.iter_mut().enumerate().filter(|(_, buffer)| buffer.free && buffer.bytes >= bytes);
        let index = match fitting.min_by_key(|(_, buffer)| buffer.bytes) {
            Some((index, buffer)) => {
                buffer.free = false;
                index
            }
            None => {
                buffers.push(Buffer { bytes, free: false });
                buffers.len() - 1
            }
        };
        Taken { _place: Rc::new(Place { pool: self.clone(), index }) }
    }

    /// A buffer for so many values that are made of what is `held`, which is free afterwards.
    pub fn turn<T>(&self, held: T, values: u64) -> Taken {
        let made = self.take(values);
        drop(held);
        made
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.0.borrow().iter().fold(0, |sum, buffer| sum.saturating_add(buffer.bytes))
    }

    /// Bytes that a stage holds at most: its buffers, and one of the largest more. Burn gives back what lay free for a thousand
    /// allocations, and a browser keeps that until its garbage collector comes.
    pub fn peak(&self) -> u64 {
        self.bytes().saturating_add(self.largest())
    }

    /// Bytes of the largest.
    pub fn largest(&self) -> u64 {
        self.0.borrow().iter().map(|buffer| buffer.bytes).max().unwrap_or(0)
    }

    /// Frames of one clip.
    pub fn frames(&self, channels: u64, frames: u64, pixels: u64) -> Frames {
        let _taken = self.take(channels.saturating_mul(frames).saturating_mul(pixels));
        Frames { _taken, channels, frames, pixels, view: false }
    }
}

/// A tensor `[1, C, F, H, W]` that is rehearsed.
#[derive(Debug, Clone)]
pub struct Frames {
    /// Never read, as [`Taken`]'s place.
    _taken: Taken,
    /// C
    pub channels: u64,
    /// F
    pub frames: u64,
    /// H × W
    pub pixels: u64,
    /// True for some frames of a tensor, which keep all of its buffer and lie apart in it.
    view: bool,
}

impl Frames {
    /// The last `count` frames, or all there are: no copy, so the whole buffer stays.
    pub fn last(&self, count: u64) -> Self {
        let frames = count.min(self.frames);
        Self { frames, view: self.view || frames < self.frames, ..self.clone() }
    }

    /// The same as one of our kernels reads it, side by side.
    pub fn read(&self, pool: &Pool) -> Self {
        match self.view && self.channels > 1 {
            true => pool.frames(self.channels, self.frames, self.pixels),
            false => self.clone(),
        }
    }

    /// A tensor of another shape in the same buffer.
    pub fn shaped(self, channels: u64, frames: u64, pixels: u64) -> Self {
        Self { channels, frames, pixels, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_free_buffer_that_is_large_enough_is_taken_again() {
        let pool = Pool::default();
        let (large, small) = (pool.take(1000), pool.take(100));
        assert_eq!((pool.bytes(), pool.largest()), (4096 + 512, 4096));
        drop((large, small));
        let (again, beside) = (pool.take(90), pool.take(90));
        assert_eq!(pool.bytes(), 4096 + 512, "the second takes the larger one");
        let third = pool.take(90);
        assert_eq!(pool.bytes(), 4096 + 512 + 512);
        drop((again, beside, third));
    }

    #[test]
    fn a_view_keeps_the_whole_buffer_and_is_copied_where_a_kernel_reads_it() {
        let pool = Pool::default();
        let frames = pool.frames(2, 4, 64);
        let last = frames.last(2);
        drop(frames);
        let copy = last.read(&pool);
        assert_eq!(pool.bytes(), 2048 + 1024);
        drop((last, copy));
        let whole = pool.frames(2, 4, 64);
        assert_eq!(whole.last(9).read(&pool).frames, 4);
        assert_eq!(pool.bytes(), 2048 + 1024, "all frames are read where they lie");
    }
}
