//! The few vector operations that every kernel is written in.
//!
//! A kernel is one generic body over [`Vector`]; [`crate::isa`] instantiates it once per instruction set
//! inside a function that enables that set. All methods are `#[inline(always)]`, so that they end up in
//! that function and compile to one instruction each.

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// `LANES` single precision floats in one register.
///
/// # Safety
/// Every method needs the instruction set of the implementing type; the pointer methods need as many
/// readable or writable floats as they name, at any alignment.
pub(crate) trait Vector: Copy {
    /// Floats in a vector.
    const LANES: usize;
    /// Vectors that a register tile should be wide, 2 or 3.
    const TILE_VECTORS: usize;
    /// Rows of a register tile that is 1, 2 and 3 vectors wide: as many accumulators as the registers
    /// hold beside the weights and two broadcasts (the compiler keeps two in flight), and at least the
    /// eight that two FMA units with a latency of four need.
    const TILE_ROWS: [usize; 3];
    /// Vectors that a sparse tile of two rows should be wide at most, 3 to 6.
    const SPARSE_VECTORS: usize;

    unsafe fn splat(value: f32) -> Self;
    /// Asks for the cache line at `_from`, any address, to be brought to the second cache.
    unsafe fn prefetch(_from: *const f32) {}
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Loads the first `count < LANES` floats; the other lanes are 0.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    /// Loads the first `count <= LANES` floats; the other lanes are 0.
    #[inline(always)]
    unsafe fn load_up_to(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller's contract.
        unsafe { if count == Self::LANES { Self::load(from) } else { Self::load_part(from, count) } }
    }
    /// Stores the first `count < LANES` lanes.
    unsafe fn store_part(self, to: *mut f32, count: usize);
    /// `self * factor + addend`, in one rounding where the instruction set has it.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The bits of either, in each lane.
    unsafe fn or(self, other: Self) -> Self;
    /// A bit for each lane, lowest first: whether it is neither 0 nor -0.
    unsafe fn nonzero(self) -> u32;
    unsafe fn add(self, other: Self) -> Self;
    /// All lanes added up, in an order of the instruction set's own.
    unsafe fn sum(self) -> f32;
    unsafe fn mul(self, other: Self) -> Self;
    /// `min(max(self, low), high)` per lane; NaN stays NaN.
    unsafe fn clamp(self, low: Self, high: Self) -> Self;
}
