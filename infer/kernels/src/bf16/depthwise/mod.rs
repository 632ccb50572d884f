//! Depthwise 3×3 convolution of a few output rows of a panel, with bias and clamp.
//!
//! The formula and the padding are those of [`crate::depthwise`], with weights and sums in float32; the results are rounded
//! to bfloat16. Against a double-precision sum the error is below `10 · 2⁻²³ · (|bias| + Σ|row · weight|)`, and half a
//! unit in the last place of the result.
//!
//! A vector's even and odd numbers come apart with one instruction each, and are rounded side by side: so the output has
//! of the panel first the even channels, then the odd ones, [`Order::Split`]. The weights
//! of the layer that reads it are packed in that order.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(super) mod emulated;
#[cfg(test)]
mod tests;

use super::product::Order;
use super::{Bf16, Kernels, PANEL};
use crate::depthwise::{MOST_ROWS, RowShape};
use crate::extent::end_of;
use crate::{AlignedVec, Clamp, Slab};

/// Rows and columns of a window.
const SIZE: usize = 3;
/// Floats of a panel's weights and biases.
const TAPS: usize = (SIZE * SIZE + 1) * PANEL;

/// The three input rows around an output row, from the panel's first channel on; those outside of the image are missing.
pub type Window<'a> = [Option<&'a [Bf16]>; SIZE];

/// Weights and biases of a depthwise layer, padded to whole panels.
#[derive(Debug)]
pub struct Taps {
    /// For each panel `[9][32]`, then the bias `[32]`, in split order.
    data: AlignedVec,
    clamp: Clamp,
}

impl Taps {
    /// Packs `weights`, `[3, 3, channels]` row-major. Without `bias` it is zero.
    ///
    /// # Panics
    /// If `weights` is not nine rows, or the clamp is neither none nor begins at 0 and ends in a bfloat16.
    pub fn pack(slab: &mut Slab, weights: &[f32], bias: Option<&[f32]>, clamp: Clamp) -> Self {
        assert!(weights.len().is_multiple_of(SIZE * SIZE), "weights are [3, 3, channels]");
        let is_relu = clamp.low == 0.0 && Bf16::from_f32(clamp.high).to_f32() == clamp.high;
        assert!(clamp == Clamp::NONE || is_relu, "a clamp that rounding would change");
        let channels = weights.len() / (SIZE * SIZE);
        let mut data = slab.zeroed(channels.div_ceil(PANEL) * TAPS);
        for (panel, taps) in data.chunks_exact_mut(TAPS).enumerate() {
            for (to, from) in taps.chunks_exact_mut(PANEL).zip(weights.chunks_exact(channels).chain(bias)) {
                for (place, to) in to.iter_mut().enumerate() {
                    *to = from.get(Order::Split.channel(panel * PANEL + place)).copied().unwrap_or(0.0);
                }
            }
        }
        Self { data, clamp }
    }

    /// How many panels of channels.
    pub fn panels(&self) -> usize {
        self.data.len() / TAPS
    }
}

/// The rows of a window that are in the image: one to all, consecutive.
#[derive(Clone, Copy)]
pub(crate) struct Present {
    rows: [*const Bf16; SIZE],
    count: usize,
    /// The row of taps that meets `rows[0]`.
    first_tap: usize,
}

/// Checked rows, as the kernels take them.
pub(crate) struct RowTask<'a> {
    /// One for each output row.
    windows: &'a [Present],
    taps: &'a [f32; TAPS],
    shape: RowShape,
    clamp: Option<Clamp>,
    output: *mut Bf16,
}

impl RowTask<'_> {
    /// Pixels of an output row.
    fn outputs(&self) -> usize {
        self.shape.width / self.shape.stride.pixels()
    }
}

impl Kernels {
    /// Computes the output rows of `windows`, [`MOST_ROWS`] or fewer, of a panel of `taps`, as the module describes it.
    /// The shape's distances are in numbers.
    ///
    /// # Panics
    /// If there are too many windows, there is no such panel, no row of a window is in the image or those that are do
    /// not follow one another, a row ends early, or the width is odd at stride 2.
    pub fn depthwise_rows(
        &self,
        taps: &Taps,
        panel: usize,
        shape: RowShape,
        windows: &[Window<'_>],
        output: &mut [Bf16],
    ) {
        assert!(shape.width.is_multiple_of(shape.stride.pixels()), "odd width at stride 2");
        let outputs = shape.width / shape.stride.pixels();
        if outputs == 0 || windows.is_empty() {
            return;
        }
        let end_of = |pixels, pitch| end_of(pixels, pitch, PANEL).unwrap_or(usize::MAX);
        let pixels = outputs.saturating_mul(windows.len());
        assert!(pixels == 1 || PANEL <= shape.output_pitch, "output pixels overlap");
        assert!(end_of(pixels, shape.output_pitch) <= output.len(), "output row ends early");
        let input_end = end_of(shape.width, shape.input_pitch);
        assert!(windows.len() <= MOST_ROWS, "{} windows in a call", windows.len());
        let none = Present { rows: [std::ptr::null(); SIZE], count: 0, first_tap: 0 };
        let mut present = [none; MOST_ROWS];
        for (present, window) in present.iter_mut().zip(windows) {
            present.first_tap = window.iter().position(Option::is_some).expect("a row is in the image");
            for (tap, row) in window.iter().enumerate() {
                let Some(row) = row else { continue };
                assert!(tap == present.first_tap + present.count, "rows in the image are consecutive");
                assert!(input_end <= row.len(), "input row ends early");
                present.rows[present.count] = row.as_ptr();
                present.count += 1;
            }
        }
        let taps_of = taps.data.chunks_exact(TAPS).nth(panel).expect("the panel is one of the taps'");
        let task = RowTask {
            windows: &present[..windows.len()],
            taps: taps_of.try_into().expect("as long"),
            shape,
            clamp: (taps.clamp != Clamp::NONE).then_some(taps.clamp),
            output: output.as_mut_ptr(),
        };
        // SAFETY: every address the kernel derives from `task` was checked above, and the processor has the
        // instructions: see `Kernels::of`.
        unsafe { (self.depthwise_rows)(&task) }
    }
}
