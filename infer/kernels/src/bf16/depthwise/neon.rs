//! One walk along each row for every eight channels of the panel, the even and the odd ones in a vector each.

use std::arch::aarch64::*;

use super::{PANEL, Present, RowTask, SIZE};
use crate::bf16::Bf16;
use crate::bf16::product::neon::apart;
use crate::depthwise::Stride;

/// Floats of a vector.
const LANES: usize = 4;

/// The even and the odd channels of eight.
type Two = [float32x4_t; 2];

/// Computes the output rows of `task`.
///
/// # Safety
/// Needs a [`RowTask`] that [`crate::bf16::Kernels::depthwise_rows`] has checked.
#[target_feature(enable = "neon")]
pub(in crate::bf16) unsafe fn rows(task: &RowTask<'_>) {
    let row = task.outputs() * task.shape.output_pitch;
    for (y, window) in task.windows.iter().enumerate() {
        for eight in 0..PANEL / (2 * LANES) {
            let to = task.output.wrapping_add(y * row + eight * LANES);
            // SAFETY: the caller's contract.
            unsafe {
                match window.count {
                    1 => walk::<1>(task, window, eight, to),
                    2 => walk::<2>(task, window, eight, to),
                    _ => walk::<3>(task, window, eight, to),
                }
            }
        }
    }
}

/// Walks along the `R` rows of a window.
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn walk<const R: usize>(task: &RowTask<'_>, window: &Present, eight: usize, mut to: *mut Bf16) {
    // SAFETY: the caller's contract: the taps are those of a panel, the rows those in the image.
    unsafe {
        let two = |tap: usize| -> Two {
            [0, PANEL / 2].map(|half| vld1q_f32(task.taps.as_ptr().add(tap * PANEL + half + eight * LANES)))
        };
        let taps: [[Two; SIZE]; R] =
            std::array::from_fn(|r| std::array::from_fn(|d| two((window.first_tap + r) * SIZE + d)));
        let bias = two(SIZE * SIZE);
        let add = |x: usize, d: usize, mut sum: Two| {
            for r in 0..R {
                let column = apart(window.rows[r].add(x * task.shape.input_pitch + eight * 2 * LANES));
                for half in 0..2 {
                    sum[half] = vfmaq_f32(sum[half], column[half], taps[r][d][half]);
                }
            }
            sum
        };
        let (step, pad) = match task.shape.stride {
            Stride::One => (1, 1),
            Stride::Two => (2, 0),
        };
        for x in 0..task.outputs() {
            let mut sum = bias;
            for d in 0..SIZE {
                if let Some(column) = (x * step + d).checked_sub(pad).filter(|&at| at < task.shape.width) {
                    sum = add(column, d, sum);
                }
            }
            for (half, sum) in sum.into_iter().enumerate() {
                let mut lanes = [0.0; LANES];
                vst1q_f32(lanes.as_mut_ptr(), sum);
                let rounded = lanes.map(|sum| task.rounded(sum));
                to.add(half * PANEL / 2).cast::<[Bf16; LANES]>().write_unaligned(rounded);
            }
            to = to.add(task.shape.output_pitch);
        }
    }
}
