//! Depthwise 3×3 convolution of a few output rows, with bias and clamp.
//!
//! ```text
//! out[x][c] = clamp(bias[c] + Σr Σd rows[r][x·stride − pad + d][c] · weights[r][d][c])    r, d = 0..3
//! ```
//!
//! Padding is TensorFlow's `SAME` for the shapes that occur: one column and row of zeros on every side at
//! stride 1, on the right and the bottom only at stride 2 (whose inputs must be even). Nothing is padded
//! in memory: a row outside of the image is `None`, and columns outside of it are never read.
//!
//! Rows are `[width][channels]` with any distance between pixels, so a row may be part of an NHWC tensor
//! or of a panel. The kernel walks a row once per vector of channels, with that vector's nine weights in
//! registers: three loads and nine FMAs an output. A column's three products are summed first, then the
//! columns: three short chains of FMAs, where one of nine would be longer than the processor looks ahead.
//! The error against a double-precision sum is below `10 · 2⁻²⁴ · (|bias| + Σ|row · weight|)`.

pub(crate) mod kernel;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use crate::extent::end_of;
use crate::{AlignedVec, Clamp, Kernels, Slab};

/// The distance between the centres of neighbouring windows, in pixels, down and across.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stride {
    /// As many outputs as inputs.
    One,
    /// Half as many.
    Two,
}

impl Stride {
    /// The distance in pixels.
    pub fn pixels(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// Rows (or columns) of zeros before the first.
    pub fn pad_before(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 0,
        }
    }
}

/// Weights and biases of some channels of a depthwise layer, padded to whole vectors.
#[derive(Debug)]
pub struct Taps {
    channels: usize,
    width: usize,
    /// `[9][width]`, then the bias `[width]`.
    data: AlignedVec,
    clamp: Clamp,
}

/// The most output rows of a call.
pub const MOST_ROWS: usize = 16;

/// The three input rows around an output row; those outside of the image are missing.
pub type Window<'a> = [Option<&'a [f32]>; 3];

/// Rows of pixels to read and to write.
#[derive(Clone, Copy, Debug)]
pub struct RowShape {
    /// Pixels of an input row.
    pub width: usize,
    /// Floats from one input pixel to the next.
    pub input_pitch: usize,
    /// Floats from one output pixel to the next; a row begins where the one before it ends.
    pub output_pitch: usize,
    /// Between windows.
    pub stride: Stride,
}

impl RowShape {
    /// Pixels of an output row.
    fn outputs(&self) -> usize {
        self.width / self.stride.pixels()
    }
}

/// The rows of a window that are in the image: one to three, consecutive.
#[derive(Clone, Copy)]
pub(crate) struct Present {
    rows: [*const f32; 3],
    count: usize,
    /// The row of taps that meets `rows[0]`.
    first_tap: usize,
}

/// Checked rows, as the kernels take them.
pub(crate) struct RowTask<'a> {
    /// One for each output row, all with the same rows of taps.
    windows: &'a [Present],
    taps: &'a Taps,
    shape: RowShape,
    output: *mut f32,
}

impl Taps {
    /// Packs channels `first..first + channels` of `weights`, `[3, 3, total]` row-major. Without `bias`
    /// it is zero.
    ///
    /// # Panics
    /// If `weights` is not nine rows, or the channels go beyond it.
    pub fn pack(
        kernels: &Kernels,
        slab: &mut Slab,
        weights: &[f32],
        bias: Option<&[f32]>,
        channels: std::ops::Range<usize>,
        clamp: Clamp,
    ) -> Self {
        assert!(weights.len().is_multiple_of(9), "weights are [3, 3, channels]");
        let total = weights.len() / 9;
        let width = channels.len().next_multiple_of(kernels.lanes);
        let mut data = slab.zeroed(10 * width);
        for (tap, from) in weights.chunks_exact(total).chain(bias).enumerate() {
            data[tap * width..][..channels.len()].copy_from_slice(&from[channels.clone()]);
        }
        Self { channels: channels.len(), width, data, clamp }
    }
}

impl Kernels {
    /// Computes the output rows of `windows`, [`MOST_ROWS`] or fewer, as the module describes it.
    ///
    /// Writes exactly the channels of `taps` of each output pixel.
    ///
    /// # Panics
    /// If there are too many windows, all rows of one are missing or only the middle one is, a row ends early, or
    /// the width is odd at stride 2.
    pub fn depthwise_rows(&self, taps: &Taps, shape: RowShape, windows: &[Window<'_>], output: &mut [f32]) {
        let channels = taps.channels;
        assert!(shape.width.is_multiple_of(shape.stride.pixels()), "odd width at stride 2");
        let outputs = shape.outputs();
        if outputs == 0 || channels == 0 || windows.is_empty() {
            return;
        }
        let end_of = |pixels, pitch| end_of(pixels, pitch, channels).unwrap_or(usize::MAX);
        let pixels = outputs.saturating_mul(windows.len());
        assert!(pixels == 1 || channels <= shape.output_pitch, "output pixels overlap");
        assert!(end_of(pixels, shape.output_pitch) <= output.len(), "output row ends early");
        let input_end = end_of(shape.width, shape.input_pitch);
        assert!(taps.width.is_multiple_of(self.lanes), "taps were packed for other kernels");
        assert!(windows.len() <= MOST_ROWS, "{} windows in a call", windows.len());
        let mut present = [Present { rows: [std::ptr::null(); 3], count: 0, first_tap: 0 }; MOST_ROWS];
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
        let mut row = 0;
        for windows in
            present[..windows.len()].chunk_by(|a, b| (a.first_tap, a.count) == (b.first_tap, b.count))
        {
            let output = output[row * outputs * shape.output_pitch..].as_mut_ptr();
            row += windows.len();
            let task = RowTask { windows, taps, shape, output };
            // SAFETY: every address the kernel derives from `task` was checked above, and the processor has
            // the instructions: see `Kernels::of`.
            unsafe { (self.depthwise_rows)(&task) }
        }
    }
}
