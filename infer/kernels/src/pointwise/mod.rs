//! Pointwise (1×1) convolution: a product of two matrices with what surrounds it fused in.
//!
//! ```text
//! out[m][n] = clamp(Σk left[m][k] · weights[k][n] + bias[n] (+ residual[m][n]))
//! ```
//!
//! The sum runs over `k` in order, bias (and residual) first, in one accumulator per element; only a column
//! that would be alone in its vector has an accumulator for each lane. Against a double-precision sum the error
//! is below `depth · 2⁻²⁴ · Σ|left · weights|`, the usual bound. Weights must be finite.
//!
//! - **Weights** are packed once into *panels*, as many columns as a register tile is wide (1 to 6 vectors),
//!   each `[depth][width]`, so that the inner loop reads one contiguous stream. Panels are padded with zeros.
//! - **left** is not copied. It is read through [`Segment`]s: runs of columns that are contiguous for
//!   each row. A plain `[rows, depth]` matrix is one segment; a tensor stored panel by panel is one
//!   segment a panel; the window of a 3×3 convolution is one segment a window row.
//! - **depth may be cut**: a call that starts at `depth_from > 0` continues the sums in the output, and
//!   only the call that reaches the full depth clamps. So a consumer can eat its input while it is being
//!   produced, a cache-sized group of channels at a time.
//! - **Zeros of the left side** cost nothing where the weights are packed for [`Activations::Sparse`].

mod column;
pub(crate) mod kernel;
#[cfg(test)]
mod reference;
pub(crate) mod sparse;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::extent::end_of;
use crate::{AlignedVec, Kernels, Slab};

/// The range that a layer's results are clamped to. NaN stays NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// Smallest result.
    pub low: f32,
    /// Largest result.
    pub high: f32,
}

impl Clamp {
    /// No activation.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };
    /// `max(x, 0)`.
    pub const RELU: Self = Self { low: 0.0, high: f32::INFINITY };
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Self = Self { low: 0.0, high: 6.0 };
}

/// A run of output columns that one register tile covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panel {
    /// The first column.
    pub first: usize,
    /// Columns in use.
    pub columns: usize,
    /// Columns in memory: `columns` rounded up to whole vectors, or 1.
    pub width: usize,
    /// The widths of the panels before this one, summed.
    pub offset: usize,
}

/// Consecutive columns of the left matrix: row `m` of them begins at `offset + m * stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where the first row begins, in floats.
    pub offset: usize,
    /// From one row to the next, in floats; rows may overlap.
    pub stride: usize,
    /// Columns.
    pub width: usize,
}

/// What the left side of a product is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// Hardly any zeros.
    Dense,
    /// Many zeros, as behind a ReLU: what they would add is left out.
    Sparse,
}

/// The weights of one pointwise layer, packed for one instruction set.
#[derive(Debug)]
pub struct Weights {
    depth: usize,
    columns: usize,
    clamp: Clamp,
    /// Lanes of the instruction set that the weights are packed for.
    lanes: usize,
    /// Rows of a tile, if the tiles are the sparse ones.
    sparse_rows: Option<usize>,
    panels: Vec<Panel>,
    data: AlignedVec,
    bias: AlignedVec,
}

/// The left side of a product, and which part of the product to compute.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    /// What the segments lie in.
    pub data: &'a [f32],
    /// The columns, in order; their widths sum to the depth that this call covers.
    pub segments: &'a [Segment],
    /// Rows.
    pub rows: usize,
    /// The row of the weights that meets the first column. If it is not 0 the call adds to the output.
    pub depth_from: usize,
}

/// Where the results go: row `m` begins at `m * stride`, with the first column of the computed panels.
#[derive(Debug)]
pub struct Output<'a> {
    /// The floats to write.
    pub data: &'a mut [f32],
    /// From one row to the next, in floats.
    pub stride: usize,
    /// Added to the result where the call starts the sums; laid out like the output.
    pub residual: Option<&'a [f32]>,
}

/// A checked product, as the kernels take it.
pub(crate) struct Product<'a> {
    left: *const f32,
    segments: &'a [Segment],
    rows: usize,
    panels: &'a [Panel],
    /// Total depth of the weights, and where this call starts in it.
    depth: usize,
    depth_from: usize,
    /// Rows of a tile, for weights that were packed for sparse ones.
    sparse_rows: usize,
    weights: *const f32,
    bias: *const f32,
    residual: *const f32,
    output: *mut f32,
    output_stride: usize,
    /// None if nothing is to be clamped, or not yet.
    clamp: Option<Clamp>,
}

impl Product<'_> {
    /// Where the weights of `panel` begin, for the depth of this call.
    ///
    /// # Safety
    /// `panel` must be one of the packed weights'.
    #[inline(always)]
    unsafe fn weights_of(&self, panel: &Panel) -> *const f32 {
        // SAFETY: panels lie one behind the other, each `[depth][width]`.
        unsafe { self.weights.add(panel.offset * self.depth + self.depth_from * panel.width) }
    }
}

/// Cuts `columns` into panels of `wide` vectors, 2 or 3, and the rest into few panels of 2 and 3 rather
/// than one of 1. A column that would be alone in its vector is a panel of its own, and of that width.
fn panels(columns: usize, lanes: usize, wide: usize) -> Vec<Panel> {
    let is_alone = lanes > 1 && columns % lanes == 1;
    let mut vectors = if is_alone { columns / lanes } else { columns.div_ceil(lanes) };
    let mut list = Vec::new();
    let (mut first, mut offset) = (0, 0);
    while vectors > 0 {
        let take = match (wide, vectors) {
            (_, 1..=3) => vectors,
            (3, 4) => 2,
            _ => wide,
        };
        let width = take * lanes;
        list.push(Panel { first, columns: width.min(columns - first), width, offset });
        vectors -= take;
        first += width;
        offset += width;
    }
    if is_alone {
        list.push(Panel { first, columns: 1, width: 1, offset });
    }
    list
}

/// Cuts `columns` into as few panels as there can be for sparse tiles, about equally wide; returns the rows of
/// a tile too. None if there are too few columns.
fn sparse_panels(columns: usize, lanes: usize, most: usize) -> Option<(Vec<Panel>, usize)> {
    let vectors = columns.div_ceil(lanes);
    if vectors < sparse::FEWEST_VECTORS {
        return None;
    }
    let count = vectors.div_ceil(most);
    let panel = |index: usize| {
        let [first, end] = [index, index + 1].map(|i| (i * vectors).div_ceil(count) * lanes);
        Panel { first, columns: end.min(columns) - first, width: end - first, offset: first }
    };
    Some(((0..count).map(panel).collect(), sparse::tile_rows(vectors.div_ceil(count), most)))
}

impl Weights {
    /// Packs `weights` into `slab`: `[depth, columns]` row-major with `columns = bias.len()`.
    ///
    /// # Panics
    /// If `weights` is not a whole number of rows.
    pub fn pack(
        kernels: &Kernels,
        slab: &mut Slab,
        weights: &[f32],
        bias: &[f32],
        clamp: Clamp,
        activations: Activations,
    ) -> Self {
        let columns = bias.len();
        assert!(columns > 0 && weights.len().is_multiple_of(columns), "weights are [depth, columns]");
        let depth = weights.len() / columns;
        let sparse = match activations {
            Activations::Dense => None,
            Activations::Sparse => sparse_panels(columns, kernels.lanes, kernels.sparse_vectors),
        };
        let (panels, sparse_rows) = match sparse {
            Some((panels, rows)) => (panels, Some(rows)),
            None => (panels(columns, kernels.lanes, kernels.tile_vectors), None),
        };
        let padded: usize = panels.iter().map(|panel| panel.width).sum();
        let mut data = slab.zeroed(padded * depth);
        let mut packed_bias = slab.zeroed(padded);
        for panel in &panels {
            for k in 0..depth {
                let from = k * columns + panel.first;
                let to = panel.offset * depth + k * panel.width;
                data[to..to + panel.columns].copy_from_slice(&weights[from..from + panel.columns]);
            }
            packed_bias[panel.offset..panel.offset + panel.columns]
                .copy_from_slice(&bias[panel.first..panel.first + panel.columns]);
        }
        Self { depth, columns, clamp, lanes: kernels.lanes, sparse_rows, panels, data, bias: packed_bias }
    }

    /// Rows of the weights: the input channels.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Output channels.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the columns are cut.
    pub fn panels(&self) -> &[Panel] {
        &self.panels
    }
}

impl Kernels {
    /// How these kernels cut `columns` into panels: into as few as there can be, none overlapping.
    pub fn panels(&self, columns: usize) -> Vec<Panel> {
        panels(columns, self.lanes, self.tile_vectors)
    }

    /// Computes the `panels` of a pointwise convolution, as the module describes it.
    ///
    /// Writes exactly the `columns` of each panel; padding is left alone.
    ///
    /// # Panics
    /// If a segment, the output or the residual ends early, or the depth does not fit the weights.
    pub fn pointwise(&self, weights: &Weights, panels: Range<usize>, left: Left<'_>, output: Output<'_>) {
        let panels = &weights.panels[panels];
        let (Some(first), Some(last)) = (panels.first(), panels.last()) else { return };
        if left.rows == 0 {
            return;
        }
        assert_eq!(weights.lanes, self.lanes, "the weights were packed for other kernels");
        let mut depth_to = left.depth_from;
        for segment in left.segments {
            let rows = end_of(left.rows, segment.stride, segment.width);
            let end = rows.and_then(|rows| rows.checked_add(segment.offset));
            assert!(end.is_some_and(|end| end <= left.data.len()), "segment ends early: {segment:?}");
            depth_to = depth_to.saturating_add(segment.width);
        }
        assert!(depth_to <= weights.depth, "depth exceeds the weights'");
        let columns = last.first + last.columns - first.first;
        assert!(columns <= output.stride || left.rows == 1, "rows of the output overlap");
        let end = end_of(left.rows, output.stride, columns).unwrap_or(usize::MAX);
        assert!(end <= output.data.len(), "output ends early");
        assert!(output.residual.is_none_or(|r| end <= r.len()), "residual ends early");
        let product = Product {
            left: left.data.as_ptr(),
            segments: left.segments,
            rows: left.rows,
            panels,
            depth: weights.depth,
            depth_from: left.depth_from,
            sparse_rows: weights.sparse_rows.unwrap_or(0),
            weights: weights.data.as_ptr(),
            bias: weights.bias.as_ptr(),
            residual: output.residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
            output: output.data.as_mut_ptr(),
            output_stride: output.stride,
            clamp: (depth_to == weights.depth && weights.clamp != Clamp::NONE).then_some(weights.clamp),
        };
        // SAFETY: every address that the kernel derives from `product` was checked above, the panels'
        // weights and biases exist by construction, and the processor has the instructions: see
        // `Kernels::of`.
        unsafe {
            match weights.sparse_rows {
                None => (self.product)(&product),
                Some(_) => (self.sparse_product)(&product),
            }
        }
    }
}
