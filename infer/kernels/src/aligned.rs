//! Floats that begin on a cache line.

use std::ops::{Deref, DerefMut};

/// A cache line, which is also the widest vector.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; Line::FLOATS]);

impl Line {
    const FLOATS: usize = 16;
}

/// A fixed number of floats, zero at first, whose first one lies on a 64-byte boundary.
#[derive(Clone, Debug, Default)]
pub struct AlignedVec {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedVec {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        Self { lines: vec![Line([0.0; Line::FLOATS]); len.div_ceil(Line::FLOATS)], len }
    }
}

impl Deref for AlignedVec {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` contiguous initialised floats: `Line` has no padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_on_a_cache_line_and_holds_what_it_says() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut floats = AlignedVec::zeroed(len);
            assert_eq!(floats.as_ptr() as usize % 64, 0);
            assert_eq!(floats.len(), len);
            floats.fill(1.0);
            assert_eq!(floats.iter().sum::<f32>(), len as f32);
        }
    }
}
