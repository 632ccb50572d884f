//! One walk along the rows for each vector of channels.

use super::{RowTask, Stride};
use crate::vector::Vector;

/// Computes the output rows of `task`.
///
/// # Safety
/// Needs `V`'s instruction set, and a [`RowTask`] that [`crate::Kernels::depthwise_rows`] has checked,
/// packed for `V::LANES`.
#[inline(always)]
pub(crate) unsafe fn rows<V: Walks>(task: &RowTask<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        match (task.shape.stride, task.windows[0].count) {
            (Stride::One, 1) => V::walk::<1, 1>(task),
            (Stride::One, 2) => V::walk::<2, 1>(task),
            (Stride::One, _) => V::walk::<3, 1>(task),
            (Stride::Two, 1) => V::walk::<1, 2>(task),
            (Stride::Two, 2) => V::walk::<2, 2>(task),
            (Stride::Two, _) => V::walk::<3, 2>(task),
        }
    }
}

/// A vector type whose walks are functions of their own: see [`crate::pointwise::kernel::Tiles`].
pub(crate) trait Walks: Vector {
    /// [`walk`], compiled for this instruction set.
    ///
    /// # Safety
    /// As for [`walk`].
    unsafe fn walk<const R: usize, const S: usize>(task: &RowTask<'_>);
}

/// Walks along windows of `R` rows, `S` pixels from one to the next, once for each vector of channels.
///
/// # Safety
/// As for [`rows`]; `R` and `S` are the task's.
#[inline(always)]
pub(crate) unsafe fn walk<V: Vector, const R: usize, const S: usize>(task: &RowTask<'_>) {
    let channels = task.taps.channels;
    let mut channel = 0;
    // SAFETY: the caller's contract; `channel + count <= channels`.
    unsafe {
        while channel + V::LANES <= channels {
            one::<V, R, S>(task, channel, V::LANES);
            channel += V::LANES;
        }
        if channel < channels {
            one::<V, R, S>(task, channel, channels - channel);
        }
    }
}

#[inline(always)]
unsafe fn one<V: Vector, const R: usize, const S: usize>(task: &RowTask<'_>, channel: usize, count: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut lane = Lane::<V, R>::new(task, channel, count);
        let mut to = task.output.add(channel);
        for window in task.windows {
            for r in 0..R {
                lane.rows[r] = window.rows[r].add(channel);
            }
            if S == 1 {
                stride1(&lane, task, to);
            } else {
                stride2(&lane, task, to);
            }
            to = to.wrapping_add(task.shape.outputs() * task.shape.output_pitch);
        }
    }
}

/// One vector of channels: what both walks share.
struct Lane<V, const R: usize> {
    /// Of the window that is walked along.
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
            let mut taps = [[V::splat(0.0); 3]; R];
            for r in 0..R {
                for d in 0..3 {
                    taps[r][d] = V::load(data.add(((task.windows[0].first_tap + r) * 3 + d) * width));
                }
            }
            Self {
                rows: [std::ptr::null(); R],
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
                column[r] = V::load_up_to(self.rows[r].add(at), self.count);
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

    /// The pixels of a column times the taps `d` from the left: a chain of its own.
    #[inline(always)]
    unsafe fn share(&self, column: &[V; R], d: usize) -> V {
        // SAFETY: the caller's contract.
        unsafe {
            let mut sum = column[0].mul(self.taps[0][d]);
            for r in 1..R {
                sum = column[r].mul_add(self.taps[r][d], sum);
            }
            sum
        }
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
unsafe fn stride1<V: Vector, const R: usize>(lane: &Lane<V, R>, task: &RowTask<'_>, mut to: *mut f32) {
    // SAFETY: the caller's contract: columns `0..width` and outputs `0..width` exist.
    unsafe {
        let (input, output) = (task.shape.input_pitch, task.shape.output_pitch);
        let first = lane.column(0);
        let mut left = lane.add(&first, 1, lane.bias);
        let mut middle = lane.add(&first, 0, lane.bias);
        for x in 1..task.shape.width {
            let column = lane.column(x * input);
            lane.finish(left.add(lane.share(&column, 2)), to);
            to = to.add(output);
            left = middle.add(lane.share(&column, 1));
            middle = lane.add(&column, 0, lane.bias);
        }
        lane.finish(left, to);
    }
}

/// Even columns are in two windows, odd ones in one.
#[inline(always)]
unsafe fn stride2<V: Vector, const R: usize>(lane: &Lane<V, R>, task: &RowTask<'_>, mut to: *mut f32) {
    // SAFETY: the caller's contract: columns `0..width`, even, and outputs `0..width / 2` exist.
    unsafe {
        let (input, output) = (task.shape.input_pitch, task.shape.output_pitch);
        let mut sum = lane.add(&lane.column(0), 0, lane.bias);
        sum = lane.add(&lane.column(input), 1, sum);
        for x in 1..task.shape.width / 2 {
            let even = lane.column(2 * x * input);
            lane.finish(sum.add(lane.share(&even, 2)), to);
            to = to.add(output);
            sum = lane.add(&even, 0, lane.bias);
            sum = sum.add(lane.share(&lane.column((2 * x + 1) * input), 1));
        }
        lane.finish(sum, to);
    }
}
