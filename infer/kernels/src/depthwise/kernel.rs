//! One walk along a row for each vector of channels.

use super::{RowTask, Stride};
use crate::vector::Vector;

/// Computes one output row.
///
/// # Safety
/// Needs `V`'s instruction set, and a [`RowTask`] that [`crate::Kernels::depthwise_row`] has checked,
/// packed for `V::LANES`.
#[inline(always)]
pub(crate) unsafe fn row<V: Vector>(task: &RowTask<'_>) {
    let channels = task.taps.channels;
    let mut channel = 0;
    while channel < channels {
        let count = (channels - channel).min(V::LANES);
        // SAFETY: the caller's contract; `channel + count <= channels`.
        unsafe {
            match (task.shape.stride, task.count) {
                (Stride::One, 1) => stride1::<V, 1>(task, channel, count),
                (Stride::One, 2) => stride1::<V, 2>(task, channel, count),
                (Stride::One, _) => stride1::<V, 3>(task, channel, count),
                (Stride::Two, 1) => stride2::<V, 1>(task, channel, count),
                (Stride::Two, 2) => stride2::<V, 2>(task, channel, count),
                (Stride::Two, _) => stride2::<V, 3>(task, channel, count),
            }
        }
        channel += V::LANES;
    }
}

/// One vector of channels of the whole row: what both walks share.
struct Lane<V, const R: usize> {
    rows: [*const f32; R],
    taps: [[V; 3]; R],
    bias: V,
    low: V,
    high: V,
    count: usize,
}

impl<V: Vector, const R: usize> Lane<V, R> {
    #[inline(always)]
    unsafe fn new(task: &RowTask<'_>, channel: usize, count: usize) -> Self {
        // SAFETY: the caller's contract: taps are `[10][width]`, padded to whole vectors.
        unsafe {
            let width = task.taps.width;
            let data = task.taps.data.as_ptr().add(channel);
            let mut rows = [std::ptr::null(); R];
            let mut taps = [[V::splat(0.0); 3]; R];
            for r in 0..R {
                rows[r] = task.rows[r].add(channel);
                for d in 0..3 {
                    taps[r][d] = V::load(data.add(((task.first_tap + r) * 3 + d) * width));
                }
            }
            Self {
                rows,
                taps,
                bias: V::load(data.add(9 * width)),
                low: V::splat(task.taps.clamp.low),
                high: V::splat(task.taps.clamp.high),
                count,
            }
        }
    }

    /// The rows' pixels at float `at`.
    #[inline(always)]
    unsafe fn column(&self, at: usize) -> [V; R] {
        // SAFETY: the caller's contract.
        unsafe {
            let mut column = [V::splat(0.0); R];
            for r in 0..R {
                let from = self.rows[r].add(at);
                column[r] =
                    if self.count == V::LANES { V::load(from) } else { V::load_part(from, self.count) };
            }
            column
        }
    }

    /// `sum` plus the pixels of a column, times the taps `d` from the left.
    #[inline(always)]
    unsafe fn add(&self, column: &[V; R], d: usize, mut sum: V) -> V {
        for r in 0..R {
            // SAFETY: the caller's contract.
            sum = unsafe { column[r].mul_add(self.taps[r][d], sum) };
        }
        sum
    }

    #[inline(always)]
    unsafe fn finish(&self, sum: V, to: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe {
            let value = sum.clamp(self.low, self.high);
            if self.count == V::LANES {
                value.store(to);
            } else {
                value.store_part(to, self.count);
            }
        }
    }
}

/// Each column is loaded once and added to the three outputs whose windows it is in.
#[inline(always)]
unsafe fn stride1<V: Vector, const R: usize>(task: &RowTask<'_>, channel: usize, count: usize) {
    // SAFETY: the caller's contract: columns `0..width` and outputs `0..width` exist.
    unsafe {
        let lane = Lane::<V, R>::new(task, channel, count);
        let (input, output) = (task.shape.input_pitch, task.shape.output_pitch);
        let mut to = task.output.add(channel);

        let first = lane.column(0);
        let mut left = lane.add(&first, 1, lane.bias);
        let mut middle = lane.add(&first, 0, lane.bias);
        for x in 1..task.shape.width {
            let column = lane.column(x * input);
            lane.finish(lane.add(&column, 2, left), to);
            to = to.add(output);
            left = lane.add(&column, 1, middle);
            middle = lane.add(&column, 0, lane.bias);
        }
        lane.finish(left, to);
    }
}

/// Even columns are in two windows, odd ones in one.
#[inline(always)]
unsafe fn stride2<V: Vector, const R: usize>(task: &RowTask<'_>, channel: usize, count: usize) {
    // SAFETY: the caller's contract: columns `0..width`, even, and outputs `0..width / 2` exist.
    unsafe {
        let lane = Lane::<V, R>::new(task, channel, count);
        let (input, output) = (task.shape.input_pitch, task.shape.output_pitch);
        let mut to = task.output.add(channel);

        let mut sum = lane.add(&lane.column(0), 0, lane.bias);
        sum = lane.add(&lane.column(input), 1, sum);
        for x in 1..task.shape.width / 2 {
            let even = lane.column(2 * x * input);
            lane.finish(lane.add(&even, 2, sum), to);
            to = to.add(output);
            sum = lane.add(&even, 0, lane.bias);
            sum = lane.add(&lane.column((2 * x + 1) * input), 1, sum);
        }
        lane.finish(sum, to);
    }
}
