//! Floats that begin on a cache line, on huge pages where there are many.
//!
//! A model's weights are read from end to end for every frame. On pages of 4 KiB they need more address
//! translations than the processor keeps; and which physical pages they happen to get decides how well
//! they share the caches, so that the same program is faster one time than another.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// A cache line, which is also the widest vector, in bytes and floats.
const LINE_BYTES: usize = 64;
pub(crate) const LINE: usize = LINE_BYTES / size_of::<f32>();
/// A huge page of x86-64, and of arm64 with pages of 4 KiB, in bytes.
const HUGE_PAGE: usize = 2 << 20;
/// What a slab takes from the system at once, in floats.
const CHUNK: usize = 2 * HUGE_PAGE / size_of::<f32>();

/// One allocation.
#[derive(Debug)]
struct Block {
    start: NonNull<f32>,
    layout: Layout,
}

// SAFETY: a block is plain memory; who may touch which part of it is decided by `AlignedVec`.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// `floats` zeros, more than 0.
    fn zeroed(floats: usize) -> Self {
        let layout = Layout::array::<f32>(floats).and_then(|floats| {
            floats.align_to(if floats.size() < HUGE_PAGE { LINE_BYTES } else { HUGE_PAGE })
        });
        let layout = layout.expect("no model is that large");
        // SAFETY: the layout's size is not 0.
        let memory = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(memory.cast::<f32>()) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        if layout.align() == HUGE_PAGE {
            use rustix::mm::{Advice, madvise};
            // A kernel without huge pages refuses, and nothing is lost.
            // SAFETY: the range is ours, and the advice does not change what it holds.
            unsafe { madvise(memory.cast(), layout.size(), Advice::LinuxHugepage) }.ok();
        }
        // Only now, so that the first touch gets a huge page.
        // SAFETY: the memory is `floats` floats long, and zero bytes are the float 0.
        unsafe { start.write_bytes(0, floats) };
        Self { start, layout }
    }

    fn floats(&self) -> usize {
        self.layout.size() / size_of::<f32>()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and the last vector in it is gone.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) };
    }
}

/// `len` rounded up to whole cache lines, so that what comes next begins on one.
fn whole_lines(len: usize) -> usize {
    len.checked_next_multiple_of(LINE).expect("no model is that large")
}

/// Hands out vectors that lie side by side.
#[derive(Debug, Default)]
pub struct Slab {
    block: Option<Arc<Block>>,
    /// Floats of the block that are handed out.
    used: usize,
}

impl Slab {
    /// `len` zeros.
    pub fn zeroed(&mut self, len: usize) -> AlignedVec {
        let room = self.block.as_ref().map_or(0, |block| block.floats() - self.used);
        if room < len || self.block.is_none() {
            self.block = Some(Arc::new(Block::zeroed(whole_lines(len).max(CHUNK))));
            self.used = 0;
        }
        let block = self.block.clone().expect("there is one now");
        // SAFETY: there is room for `len` floats behind those that are handed out.
        let start = unsafe { block.start.add(self.used) };
        self.used = (self.used + whole_lines(len)).min(block.floats());
        AlignedVec { start, len, _block: block }
    }
}

/// A fixed number of floats, zero at first, whose first one lies on a 64-byte boundary.
#[derive(Debug)]
pub struct AlignedVec {
    start: NonNull<f32>,
    len: usize,
    /// Where `start` points into. No other vector has these `len` floats.
    _block: Arc<Block>,
}

// SAFETY: the vector alone owns its floats, as a `Vec<f32>` does.
unsafe impl Send for AlignedVec {}
// SAFETY: as above.
unsafe impl Sync for AlignedVec {}

impl AlignedVec {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let block = Block::zeroed(whole_lines(len).max(LINE));
        Self { start: block.start, len, _block: Arc::new(block) }
    }
}

impl Deref for AlignedVec {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the block holds these initialised floats for as long as we hold it, and they are ours.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::assert_refused;

    fn assert_fresh(floats: &mut AlignedVec, len: usize) {
        assert_eq!(floats.as_ptr() as usize % LINE_BYTES, 0);
        assert_eq!(floats.len(), len);
        assert!(floats.iter().all(|float| *float == 0.0));
        floats.fill(1.0);
    }

    #[test]
    fn begins_on_a_cache_line_and_holds_what_it_says() {
        for len in [0, 1, 15, 16, 17, 1000, CHUNK, CHUNK + 1] {
            assert_fresh(&mut AlignedVec::zeroed(len), len);
        }
    }

    #[test]
    fn more_than_there_can_be_is_refused() {
        // Each of them comes to few bytes where it wraps.
        for len in [usize::MAX, usize::MAX - 3, usize::MAX / 4 + 2, isize::MAX as usize / 4 + 1] {
            assert_refused("no model is that large", || drop(AlignedVec::zeroed(len)));
            assert_refused("no model is that large", || drop(Slab::default().zeroed(len)));
        }
    }

    #[test]
    fn vectors_of_a_slab_are_apart_and_outlive_it() {
        let mut slab = Slab::default();
        let sizes = [5, 0, 16, CHUNK / 2, 33, CHUNK / 2, CHUNK, CHUNK + 7, 1];
        let mut vectors: Vec<AlignedVec> = sizes.iter().map(|&len| slab.zeroed(len)).collect();
        drop(slab);
        for (vector, len) in vectors.iter_mut().zip(sizes) {
            assert_fresh(vector, len);
        }
        let sum: f64 = vectors.iter().flat_map(|v| v.iter()).map(|&f| f64::from(f)).sum();
        assert_eq!(sum, sizes.iter().sum::<usize>() as f64);
    }
}
