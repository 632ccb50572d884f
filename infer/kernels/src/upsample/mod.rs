//! Bilinear ×2 upsampling with half-pixel centres, added to a row.
//!
//! ```text
//! v[x]        = ¾ · near[x] + ¼ · far[x]
//! out[2x]     += ¼ · v[x − 1] + ¾ · v[x]
//! out[2x + 1] += ¾ · v[x] + ¼ · v[x + 1]
//! ```
//!
//! Neighbours beyond the edge are the edge itself. `near` is the input row that the output row's centre
//! lies in, `far` the one on the other side (at the edge again `near`): TensorFlow's `ResizeBilinear` with
//! `half_pixel_centers`. Relative error against double precision: below `6 · 2⁻²⁴` of the terms' sum.

pub(crate) mod kernel;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use crate::Kernels;
use crate::extent::end_of;

/// A checked row, as the kernels take it.
pub(crate) struct UpsampleTask {
    near: *const f32,
    far: *const f32,
    shape: RowShape,
    output: *mut f32,
}

/// The pixels of a row.
#[derive(Clone, Copy, Debug)]
pub struct RowShape {
    /// Input pixels; the output has twice as many.
    pub width: usize,
    /// Channels to compute.
    pub channels: usize,
    /// Floats from one input pixel to the next.
    pub input_pitch: usize,
    /// Floats from one output pixel to the next.
    pub output_pitch: usize,
}

/// The input rows `(near, far)` that make output row `y`, of an input with `height` rows.
pub fn source_rows(y: usize, height: usize) -> (usize, usize) {
    let near = y / 2;
    let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(height - 1) };
    (near, far)
}

impl Kernels {
    /// Upsamples one row and adds it to `output`, as the module describes it.
    ///
    /// Rows are `[width][channels]` with any distance between pixels, as `shape` says.
    ///
    /// # Panics
    /// If a row ends early.
    pub fn upsample_add_row(&self, shape: RowShape, near: &[f32], far: &[f32], output: &mut [f32]) {
        let RowShape { width, channels, input_pitch, output_pitch } = shape;
        if width == 0 || channels == 0 {
            return;
        }
        assert!(channels <= output_pitch, "output pixels overlap");
        let input = end_of(width, input_pitch, channels);
        assert!(input.is_some_and(|end| end <= near.len().min(far.len())), "input row ends early");
        let pixels = width.saturating_mul(2);
        let end = end_of(pixels, output_pitch, channels);
        assert!(end.is_some_and(|end| end <= output.len()), "output row ends early");
        let task =
            UpsampleTask { near: near.as_ptr(), far: far.as_ptr(), shape, output: output.as_mut_ptr() };
        // SAFETY: every address the kernel derives from `task` was checked above, and the processor has
        // the instructions: see `Kernels::of`.
        unsafe { (self.upsample_add_row)(&task) }
    }
}
