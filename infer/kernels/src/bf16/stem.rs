//! From 8-bit pixels to the windows of the first convolution, 3×3 at stride 2, as rows of a product with a depth of
//! 3 × 9.
//!
//! A pixel less the value that the model takes for zero is a bfloat16, exactly, where that value is a multiple of ½: 127.5
//! with MoveNet. Its scale goes into the weights. Padding is TensorFlow's `SAME` at stride 2: a column on the right and a
//! row at the bottom.

use super::{Bf16, Kernels, PANEL};

/// Colours of a pixel.
const COLOURS: usize = 3;
/// Numbers of a window's row.
const RUN: usize = 3 * COLOURS;
/// Numbers that are copied at once, of which those behind the run are overwritten or meet no weights.
const COPIED: usize = 16;

/// For each colour and value of a pixel, what enters the convolution.
#[derive(Debug)]
pub struct Levels(Box<[[Bf16; 256]; COLOURS]>);

impl Levels {
    /// `zero`: the value of a pixel of each colour that the model takes for zero.
    pub fn new(zero: [f32; COLOURS]) -> Self {
        let of = |colour: usize| std::array::from_fn(|value| Bf16::from_f32(value as f32 - zero[colour]));
        Self(Box::new([of(0), of(1), of(2)]))
    }

    /// Numbers of a row of pixels that [`row`](Self::row) writes: the pixels, one of padding, and room for a copy.
    pub fn row_len(pixels: usize) -> usize {
        ((pixels + 1) * COLOURS + COPIED).next_multiple_of(PANEL)
    }

    /// Writes a row of RGB pixels, and zeros behind it; of a row outside of the image, zeros.
    ///
    /// # Panics
    /// If `to` is not as long as [`row_len`](Self::row_len) says.
    pub fn row(&self, pixels: Option<&[u8]>, to: &mut [Bf16]) {
        let Some(pixels) = pixels else { return to.fill(Bf16::default()) };
        assert_eq!(to.len(), Self::row_len(pixels.len() / COLOURS), "a row and its padding");
        let (row, padding) = to.split_at_mut(pixels.len());
        for (to, pixel) in row.chunks_exact_mut(COLOURS).zip(pixels.chunks_exact(COLOURS)) {
            for colour in 0..COLOURS {
                to[colour] = self.0[colour][usize::from(pixel[colour])];
            }
        }
        padding.fill(Bf16::default());
    }
}

/// Checked rows, as the kernels take them.
pub(crate) struct StemTask<'a> {
    rows: [&'a [Bf16]; 3],
    windows: &'a mut [Bf16],
}

impl Kernels {
    /// Writes the windows of an output row, `[outputs][32]`, of the three `rows` of pixels that it reads.
    ///
    /// # Panics
    /// If `windows` is not of whole windows, or the rows are not those of twice as many pixels.
    pub fn stem_row(&self, rows: [&[Bf16]; 3], windows: &mut [Bf16]) {
        assert!(windows.len().is_multiple_of(PANEL), "whole windows");
        let len = Levels::row_len(2 * windows.len() / PANEL);
        assert!(rows.iter().all(|row| row.len() == len), "rows of twice as many pixels");
        // SAFETY: the lengths were checked, and the processor has the instructions: see `Kernels::of`.
        unsafe { (self.stem_row)(&StemTask { rows, windows }) }
    }
}

/// Writes the windows of `task`.
///
/// # Safety
/// Only that the caller has the instruction set that this is compiled for.
#[inline(always)]
pub(super) unsafe fn row(task: &StemTask<'_>) {
    let windows = task.windows.as_ptr().cast_mut();
    for output in 0..task.windows.len() / PANEL {
        // SAFETY: rows end with room for a copy behind their last window; the last run of a window begins at 18 and its copy
        // would end behind the window, so it is shortened.
        unsafe {
            let to = windows.add(output * PANEL);
            for (r, row) in task.rows.iter().enumerate() {
                let from = row.as_ptr().add(2 * COLOURS * output);
                let count = COPIED.min(PANEL - r * RUN);
                match count {
                    COPIED => from.copy_to_nonoverlapping(to.add(r * RUN), COPIED),
                    _ => from.copy_to_nonoverlapping(to.add(r * RUN), PANEL - 2 * RUN),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::Unit;

    #[test]
    fn windows_hold_the_pixels_that_a_convolution_reads() {
        let (width, zero) = (10, 127.5);
        let levels = Levels::new([zero; 3]);
        let pixels: Vec<Vec<u8>> =
            (0..3).map(|row| (0..2 * width * 3).map(|i| (i * 7 + row * 91) as u8).collect()).collect();
        for unit in Unit::ALL {
            let Some(kernels) = Kernels::of(unit) else { continue };
            for present in [3, 2] {
                let rows = [0, 1, 2].map(|row| {
                    let mut to = vec![Bf16::from_f32(9.0); Levels::row_len(2 * width)];
                    levels.row((row < present).then_some(&pixels[row]), &mut to);
                    to
                });
                let mut windows = vec![Bf16::default(); width * PANEL];
                kernels.stem_row([&rows[0], &rows[1], &rows[2]], &mut windows);
                for (x, window) in windows.chunks_exact(PANEL).enumerate() {
                    for (row, run) in window[..3 * RUN].chunks_exact(RUN).enumerate() {
                        for (at, number) in run.iter().enumerate() {
                            let pixel = pixels[row].get(x * 6 + at).filter(|_| row < present);
                            let expected = pixel.map_or(0.0, |&pixel| f32::from(pixel) - zero);
                            assert_eq!(number.to_f32(), expected, "{unit}: window {x}, row {row}, {at}");
                        }
                    }
                    assert!(window.iter().all(|number| number.to_f32().is_finite()));
                }
            }
        }
    }
}
