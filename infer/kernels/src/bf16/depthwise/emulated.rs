//! Pixel by pixel.

use super::{PANEL, RowTask, SIZE};
use crate::bf16::{Bf16, product::Order};

/// Computes the output rows of `task`.
///
/// # Safety
/// Needs a [`RowTask`] that [`crate::bf16::Kernels::depthwise_rows`] has checked.
pub(in crate::bf16) unsafe fn rows(task: &RowTask<'_>) {
    let (outputs, step) = (task.outputs(), task.shape.stride.pixels());
    let pad = task.shape.stride.pad_before(SIZE);
    let channels: [usize; PANEL] = std::array::from_fn(|place| Order::Split.channel(place));
    let taps = |tap: usize| &task.taps[tap * PANEL..][..PANEL];
    for (y, window) in task.windows.iter().enumerate() {
        for x in 0..outputs {
            let mut sums: [f32; PANEL] = std::array::from_fn(|place| taps(SIZE * SIZE)[place]);
            for r in 0..window.count {
                for d in 0..SIZE {
                    let Some(column) = (x * step + d).checked_sub(pad).filter(|&at| at < task.shape.width)
                    else {
                        continue;
                    };
                    // SAFETY: the caller's contract: the row has that column.
                    let pixel = unsafe {
                        window.rows[r]
                            .add(column * task.shape.input_pitch)
                            .cast::<[Bf16; PANEL]>()
                            .read_unaligned()
                    };
                    let taps = taps((window.first_tap + r) * SIZE + d);
                    for place in 0..PANEL {
                        sums[place] += pixel[channels[place]].to_f32() * taps[place];
                    }
                }
            }
            let round = |sum: f32| {
                let sum = Bf16::from_f32(sum);
                task.clamp.map_or(sum, |clamp| Bf16::from_f32(sum.to_f32().max(clamp.low).min(clamp.high)))
            };
            let at = (y * outputs + x) * task.shape.output_pitch;
            // SAFETY: the caller's contract: the output has that pixel.
            unsafe { task.output.add(at).cast::<[Bf16; PANEL]>().write_unaligned(sums.map(round)) };
        }
    }
}
