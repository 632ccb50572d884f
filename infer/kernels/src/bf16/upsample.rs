//! Bilinear ×2 upsampling of a row, a panel at a time: the formula is that of [`crate::upsample`], computed in float32 and
//! rounded. Relative error: below `6 · 2⁻²³`, and half a unit in the last place.

use super::{Bf16, Kernels, PANEL};
use crate::extent::end_of;

/// Checked rows, as the kernels take them.
pub(crate) struct UpsampleTask<'a> {
    near: &'a [Bf16],
    far: &'a [Bf16],
    pitch: usize,
    output: &'a mut [Bf16],
}

impl Kernels {
    /// Upsamples a panel of a row whose pixels are `pitch` apart, to `[twice as many][32]`. `near` and `far` are as
    /// [`source_rows`](crate::upsample::source_rows) says, from the panel's first channel on.
    ///
    /// # Panics
    /// If the output is not of whole pixels, two or more, or a row ends early.
    pub fn upsample_row(&self, near: &[Bf16], far: &[Bf16], pitch: usize, output: &mut [Bf16]) {
        assert!(!output.is_empty() && output.len().is_multiple_of(2 * PANEL), "two pixels for each");
        let end = end_of(output.len() / PANEL / 2, pitch, PANEL);
        assert!(end.is_some_and(|end| end <= near.len().min(far.len())), "input row ends early");
        // SAFETY: the lengths were checked, and the processor has the instructions: see `Kernels::of`.
        unsafe { (self.upsample_row)(&UpsampleTask { near, far, pitch, output }) }
    }
}

/// Writes the pixels of `task`.
///
/// # Safety
/// Only that the caller has the instruction set that this is compiled for.
#[inline(always)]
pub(super) unsafe fn row(task: &UpsampleTask<'_>) {
    let width = task.output.len() / PANEL / 2;
    let output = task.output.as_ptr().cast_mut().cast::<[Bf16; PANEL]>();
    let between = |x: usize| -> [f32; PANEL] {
        let [near, far] = [task.near, task.far].map(|row| &row[x * task.pitch..][..PANEL]);
        std::array::from_fn(|c| 0.75 * near[c].to_f32() + 0.25 * far[c].to_f32())
    };
    let mix = |side: &[f32; PANEL], middle: &[f32; PANEL]| -> [Bf16; PANEL] {
        std::array::from_fn(|c| Bf16::from_f32(0.25 * side[c] + 0.75 * middle[c]))
    };
    let mut left = between(0);
    let mut middle = left;
    for x in 0..width {
        let right = if x + 1 < width { between(x + 1) } else { middle };
        // SAFETY: the output has two pixels for each of the input's.
        unsafe {
            output.add(2 * x).write_unaligned(mix(&left, &middle));
            output.add(2 * x + 1).write_unaligned(mix(&right, &middle));
        }
        (left, middle) = (middle, right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::Unit;
    use crate::suite::{Numbers, assert_within};

    #[test]
    fn rows_are_upsampled_as_in_double_precision() {
        for unit in Unit::ALL {
            let Some(kernels) = Kernels::of(unit) else { continue };
            for (width, pitch) in [(1, 32), (2, 64), (3, 32), (24, 96)] {
                let mut numbers = Numbers::new(width);
                let [near, far] = [(); 2].map(|()| {
                    numbers.take(width * pitch).into_iter().map(Bf16::from_f32).collect::<Vec<_>>()
                });
                let mut output = vec![Bf16::default(); 2 * width * PANEL];
                kernels.upsample_row(&near, &far, pitch, &mut output);
                let at = |row: &[Bf16], x: usize, c: usize| f64::from(row[x * pitch + c].to_f32());
                let between = |x: usize, c: usize| 0.75 * at(&near, x, c) + 0.25 * at(&far, x, c);
                let mut expected = Vec::new();
                for x in 0..2 * width {
                    let side =
                        if x % 2 == 0 { (x / 2).saturating_sub(1) } else { (x / 2 + 1).min(width - 1) };
                    for c in 0..PANEL {
                        let value = 0.75 * between(x / 2, c) + 0.25 * between(side, c);
                        expected.push((value, value.abs() / 256.0 + 1e-6));
                    }
                }
                let output: Vec<f32> = output.iter().map(|number| number.to_f32()).collect();
                assert_within(&output, &expected, &format!("{unit}: {width} pixels, {pitch} apart"));
            }
        }
    }
}
