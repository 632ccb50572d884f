//! Eight floats in an array: what the compiler makes of it on any processor.

use super::Vector;

/// Eight floats without any particular instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Vector for Portable {
    const LANES: usize = 8;
    const TILE_VECTORS: usize = 2;
    const TILE_ROWS: [usize; 3] = [4, 2, 2];
    const SPARSE_VECTORS: usize = 3;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for eight readable floats.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for eight writable floats.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller vouches for `count` readable floats.
            *lane = unsafe { *from.add(i) };
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        for (i, lane) in self.0.iter().enumerate().take(count) {
            // SAFETY: the caller vouches for `count` writable floats.
            unsafe { *to.add(i) = *lane };
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // Two roundings: a fused one without hardware for it would be a library call per lane.
        let mut lanes = addend.0;
        for i in 0..8 {
            lanes[i] += self.0[i] * factor.0[i];
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| f32::from_bits(self.0[i].to_bits() | other.0[i].to_bits())))
    }
    #[inline(always)]
    unsafe fn nonzero(self) -> u32 {
        self.0.iter().enumerate().map(|(i, &lane)| u32::from(lane != 0.0) << i).sum()
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..8 {
            lanes[i] += other.0[i];
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0.iter().sum()
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..8 {
            lanes[i] *= other.0[i];
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        let mut lanes = self.0;
        for i in 0..8 {
            // Comparisons with NaN are false, so it passes through both.
            lanes[i] = if lanes[i] < low.0[i] { low.0[i] } else { lanes[i] };
            lanes[i] = if lanes[i] > high.0[i] { high.0[i] } else { lanes[i] };
        }
        Self(lanes)
    }
}
