//! NEON, which every 64-bit Arm processor has.

use std::arch::aarch64::*;

use super::Vector;

/// Four floats in a `q` register.
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

// SAFETY of every block below: the trait's contract gives the instruction set and the memory.
impl Vector for Neon {
    const LANES: usize = 4;
    const TILE_VECTORS: usize = 3;
    const TILE_ROWS: [usize; 3] = [8, 8, 8];
    const SPARSE_VECTORS: usize = 6;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { vdupq_n_f32(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        Self(unsafe { vld1q_f32(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0f32; 4];
        // SAFETY: see above; `count < 4`.
        unsafe {
            for (i, lane) in lanes.iter_mut().enumerate().take(count) {
                *lane = *from.add(i);
            }
            Self(vld1q_f32(lanes.as_ptr()))
        }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0f32; 4];
        // SAFETY: see above; `count < 4`.
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), self.0);
            for (i, lane) in lanes.iter().enumerate().take(count) {
                *to.add(i) = *lane;
            }
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vfmaq_f32(addend.0, self.0, factor.0) })
    }
    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            let bits = vorrq_u32(vreinterpretq_u32_f32(self.0), vreinterpretq_u32_f32(other.0));
            Self(vreinterpretq_f32_u32(bits))
        }
    }
    #[inline(always)]
    unsafe fn nonzero(self) -> u32 {
        // A lane's own bit where the lane is 0, and then those that are missing.
        // SAFETY: see above.
        unsafe {
            let bits = vld1q_u32([1, 2, 4, 8].as_ptr());
            15 - vaddvq_u32(vandq_u32(vceqzq_f32(self.0), bits))
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe { vaddvq_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(unsafe { vmulq_f32(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn clamp(self, low: Self, high: Self) -> Self {
        // These instructions return NaN when either operand is.
        // SAFETY: see above.
        Self(unsafe { vminq_f32(high.0, vmaxq_f32(low.0, self.0)) })
    }
}
