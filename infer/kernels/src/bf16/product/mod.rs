//! Pointwise (1×1) convolution of bfloat16: a product of two matrices with what surrounds it fused in.
//!
//! ```text
//! out[m][n] = clamp(round(Σk left[m][k] · weights[k][n] + bias[n] (+ residual[m][n])))
//! ```
//!
//! Products are exact, sums float32. In which order they are summed depends on the unit, and with it the last bits:
//!
//! - `Emulated` and `Avx512` (`vdpbf16ps`) add, in one accumulator that begins with the bias, for each pair of depths first
//!   the odd one's product, then the even one's, each rounded to nearest even. The same bits, but where a number comes
//!   below 2⁻¹²⁶, which the instruction takes for zero.
//! - `Amx` (`tdpbf16ps`) sums a block of 32 depths' even and odd products apart, from zero, then both, and adds that to the
//!   accumulator; roundings and denormals as above.
//!
//! Against a double-precision sum of the same bfloat16 numbers the error of all is below
//! `(depth + 4) · 2⁻²³ · Σ|terms|`, and half a unit in the last place of the result for its own rounding. The residual is
//! added last. The clamp is applied to the rounded number; that is the same as before, for its ends are bfloat16. Of
//! numbers that are none (NaN) it makes one of its ends.
//!
//! **Weights** are packed once: for each [panel](super::PANEL) of columns, for each block of 32 depths, two tiles of
//! `[16 pairs][16 columns][2]`, a kilobyte each, padded with zeros. What the left side has behind its depth, up to whole
//! blocks, is read: it must be finite.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(super) mod emulated;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::ops::Range;

use super::{Bf16, Kernels, PANEL, numbers, numbers_mut, padded};
use crate::extent::end_of;
use crate::{AlignedVec, Clamp, Slab};

/// Columns of a tile, and pairs of depths.
const TILE: usize = 16;
/// Depths of a block.
const BLOCK: usize = 2 * TILE;

/// In which order a layer's input has its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// That of the weights.
    Plain,
    /// Of each panel first the even channels, then the odd ones: what [`depthwise`](super::depthwise) writes.
    Split,
}

impl Order {
    /// The channel at a place.
    pub fn channel(self, place: usize) -> usize {
        let (panel, place) = (place / PANEL * PANEL, place % PANEL);
        match self {
            Self::Plain => panel + place,
            Self::Split => panel + 2 * (place % TILE) + place / TILE,
        }
    }
}

/// The weights of one pointwise layer.
#[derive(Debug)]
pub struct Weights {
    depth: usize,
    columns: usize,
    clamp: Clamp,
    data: AlignedVec,
    bias: AlignedVec,
}

/// The left side of a product: row `m` begins at `m * stride`.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    /// The numbers, in whole blocks of depths.
    pub data: &'a [Bf16],
    /// From one row to the next; rows may overlap.
    pub stride: usize,
    /// Rows.
    pub rows: usize,
}

/// Where the results go: row `m` begins at `m * stride`, with the first column of the computed panels, all of whose
/// columns are written.
#[derive(Debug)]
pub enum Output<'a> {
    /// Rounded.
    Half {
        /// The numbers to write.
        data: &'a mut [Bf16],
        /// From one row to the next.
        stride: usize,
        /// Added to the result; laid out like it.
        residual: Option<&'a [Bf16]>,
    },
    /// The sums as they are.
    Single {
        /// The floats to write.
        data: &'a mut [f32],
        /// From one row to the next.
        stride: usize,
    },
}

/// A checked product, as the kernels take it.
pub(crate) struct Product<'a> {
    left: *const Bf16,
    left_stride: usize,
    rows: usize,
    /// Blocks of depths.
    blocks: usize,
    /// Panels to compute, from the one at `weights` and `bias` on.
    panels: usize,
    weights: *const Bf16,
    bias: *const f32,
    to: To,
    stride: usize,
    /// None if nothing is to be clamped.
    clamp: Option<Clamp>,
    _memory: PhantomData<&'a mut Bf16>,
}

/// Where results go.
#[derive(Clone, Copy)]
enum To {
    /// The residual may be null.
    Half(*mut Bf16, *const Bf16),
    Single(*mut f32),
}

impl Product<'_> {
    /// Numbers of a panel's weights.
    fn panel_len(&self) -> usize {
        self.blocks * BLOCK * PANEL
    }
}

impl Weights {
    /// Packs `weights` into `slab`, rounded: `[depth, columns]` row-major with `columns = bias.len()`, for a left side
    /// whose channels come in that order.
    ///
    /// # Panics
    /// If `weights` is not a whole number of rows, or the clamp is neither none nor begins at 0 and ends in a bfloat16.
    pub fn pack(slab: &mut Slab, weights: &[f32], bias: &[f32], clamp: Clamp, order: Order) -> Self {
        let columns = bias.len();
        assert!(columns > 0 && weights.len().is_multiple_of(columns), "weights are [depth, columns]");
        let is_relu = clamp.low == 0.0 && Bf16::from_f32(clamp.high).to_f32() == clamp.high;
        assert!(clamp == Clamp::NONE || is_relu, "a clamp that rounding would change");
        let depth = weights.len() / columns;
        let (blocks, panels) = (depth.div_ceil(BLOCK), columns.div_ceil(PANEL));
        let mut data = slab.zeroed(panels * blocks * BLOCK * PANEL / 2);
        let packed = numbers_mut(&mut data);
        for place in 0..blocks * BLOCK {
            let Some(row) = weights.chunks_exact(columns).nth(order.channel(place)) else { continue };
            let (block, pair, half) = (place / BLOCK, place % BLOCK / 2, place % 2);
            for (column, &weight) in row.iter().enumerate() {
                let tile = (column / PANEL * blocks + block) * 2 + column % PANEL / TILE;
                packed[(tile * TILE + pair) * BLOCK + 2 * (column % TILE) + half] = Bf16::from_f32(weight);
            }
        }
        let mut packed_bias = slab.zeroed(panels * PANEL);
        packed_bias[..columns].copy_from_slice(bias);
        Self { depth, columns, clamp, data, bias: packed_bias }
    }

    /// Rows of the weights: the input channels.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Output channels.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// [Panels](super::PANEL) of output channels.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }
}

/// The tile registers of this thread, set up for products until it is dropped. Without AMX there is nothing to set up.
#[derive(Debug)]
pub struct Tiles {
    kernels: Kernels,
    /// Of one thread.
    _stays: PhantomData<*const ()>,
}

impl Kernels {
    /// Sets up for products on this thread: worth doing once for many.
    pub fn tiles(&self) -> Tiles {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit() == super::Unit::Amx {
            amx::enter();
        }
        Tiles { kernels: *self, _stays: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.kernels.unit() == super::Unit::Amx {
            amx::leave();
        }
    }
}

impl Tiles {
    /// Computes the `panels` of a pointwise convolution, as the module describes it.
    ///
    /// # Panics
    /// If the left side, the output or the residual ends early, or rows of the output overlap.
    pub fn product(&self, weights: &Weights, panels: Range<usize>, left: Left<'_>, output: Output<'_>) {
        assert!(panels.end <= weights.panels(), "there are {} panels", weights.panels());
        if panels.is_empty() || left.rows == 0 {
            return;
        }
        let end = end_of(left.rows, left.stride, padded(weights.depth));
        assert!(end.is_some_and(|end| end <= left.data.len()), "the left side ends early");
        let (len, stride) = match &output {
            Output::Half { data, stride, residual } => {
                (residual.map_or(data.len(), |residual| residual.len().min(data.len())), *stride)
            }
            Output::Single { data, stride } => (data.len(), *stride),
        };
        let columns = panels.len() * PANEL;
        assert!(columns <= stride || left.rows == 1, "rows of the output overlap");
        let end = end_of(left.rows, stride, columns);
        assert!(end.is_some_and(|end| end <= len), "the output or the residual ends early");
        let to = match output {
            Output::Half { data, residual, .. } => {
                To::Half(data.as_mut_ptr(), residual.map_or(std::ptr::null(), <[Bf16]>::as_ptr))
            }
            Output::Single { data, .. } => To::Single(data.as_mut_ptr()),
        };
        let blocks = weights.depth.div_ceil(BLOCK);
        let product = Product {
            left: left.data.as_ptr(),
            left_stride: left.stride,
            rows: left.rows,
            blocks,
            panels: panels.len(),
            weights: numbers(&weights.data)[panels.start * blocks * BLOCK * PANEL..].as_ptr(),
            bias: weights.bias[panels.start * PANEL..].as_ptr(),
            to,
            stride,
            clamp: (weights.clamp != Clamp::NONE).then_some(weights.clamp),
            _memory: PhantomData,
        };
        // SAFETY: every address that the kernel derives from `product` was checked above or exists by construction, the
        // processor has the instructions (see `Kernels::of`), and the tile registers are set up.
        unsafe { (self.kernels.product)(&product) }
    }
}
