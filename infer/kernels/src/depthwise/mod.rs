//! Depthwise 3×3 and 5×5 convolution of a few output rows, with bias and clamp.
//!
//! ```text
//! out[x][c] = clamp(bias[c] + Σr Σd rows[r][x·stride − pad + d][c] · weights[r][d][c])    r, d = 0..K
//! ```
//!
//! Padding is TensorFlow's `SAME` for the shapes that occur: `K / 2` columns and rows of zeros on every side at
//! stride 1; at stride 2, whose inputs must be even, one less on the left and at the top. Nothing is padded
//! in memory: a row outside of the image is `None`, and columns outside of it are never read.
//!
//! Rows are `[width][channels]` with any distance between pixels, so a row may be part of an NHWC tensor
//! or of a panel. The kernel walks a row once per vector of channels, with that vector's nine weights in
//! registers (of 25 some are read again): `K` loads and `K²` FMAs an output. A column's products are summed first,
//! then the columns: short chains of FMAs, where one of all would be longer than the processor looks ahead.
//! The error against a double-precision sum is below `(K² + 1) · 2⁻²⁴ · (|bias| + Σ|row · weight|)`.

pub(crate) mod five;
pub(crate) mod kernel;
#[cfg(test)]
pub(crate) mod reference;
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

    /// Rows (or columns) of zeros before the first, for windows of `size` rows.
    pub fn pad_before(self, size: usize) -> usize {
        match self {
            Self::One => size / 2,
            Self::Two => size / 2 - 1,
        }
    }
}

/// Weights and biases of some channels of a depthwise layer, padded to whole vectors.
#[derive(Debug)]
pub struct Taps {
    /// Rows and columns of a window: 3 or 5.
    size: usize,
    channels: usize,
    width: usize,
    /// `[size²][width]`, then the bias `[width]`.
    data: AlignedVec,
    clamp: Clamp,
}

/// A depthwise layer as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Rows and columns of a window.
    pub size: usize,
    /// `[size, size, channels]`, row-major.
    pub weights: &'a [f32],
    /// `[channels]`.
    pub bias: Option<&'a [f32]>,
}

/// The most output rows of a call.
pub const MOST_ROWS: usize = 16;

/// The most rows of a window.
pub const MOST_TAPS: usize = 5;

/// The `K` input rows around an output row; those outside of the image are missing.
pub type Window<'a, const K: usize = 3> = [Option<&'a [f32]>; K];

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

/// The rows of a window that are in the image: one to all, consecutive.
#[derive(Clone, Copy)]
pub(crate) struct Present {
    rows: [*const f32; MOST_TAPS],
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
    /// Packs channels `first..first + channels` of `weights`, `[size, size, total]` row-major. Without `bias`
    /// it is zero.
    ///
    /// # Panics
    /// If the size is not 3 or 5, `weights` is not `size²` rows, or the channels go beyond it.
    pub fn pack(
        kernels: &Kernels,
        slab: &mut Slab,
        Layer { size, weights, bias }: Layer<'_>,
        channels: std::ops::Range<usize>,
        clamp: Clamp,
    ) -> Self {
        assert!(size == 3 || size == 5, "windows are 3×3 or 5×5");
        let taps = size * size;
        assert!(weights.len().is_multiple_of(taps), "weights are [size, size, channels]");
        let total = weights.len() / taps;
        let width = channels.len().next_multiple_of(kernels.lanes);
        let mut data = slab.zeroed((taps + 1) * width);
        for (tap, from) in weights.chunks_exact(total).chain(bias).enumerate() {
            data[tap * width..][..channels.len()].copy_from_slice(&from[channels.clone()]);
        }
        Self { size, channels: channels.len(), width, data, clamp }
    }
}

impl Kernels {
    /// Computes the output rows of `windows`, [`MOST_ROWS`] or fewer, as the module describes it.
    ///
    /// Writes exactly the channels of `taps` of each output pixel.
    ///
    /// # Panics
    /// If there are too many windows, the taps are not of `K` rows, no row of a window is in the image or those that
    /// are do not follow one another, a row ends early, or the width is odd at stride 2.
    pub fn depthwise_rows<const K: usize>(
        &self,
        taps: &Taps,
        shape: RowShape,
        windows: &[Window<'_, K>],
        output: &mut [f32],
    ) {
        let channels = taps.channels;
        assert_eq!(taps.size, K, "taps of another size");
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
        let none = Present { rows: [std::ptr::null(); MOST_TAPS], count: 0, first_tap: 0 };
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
