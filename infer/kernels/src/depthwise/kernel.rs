//! One walk along the rows for each vector of channels; those of 5×5 windows are in [`super::five`].

use super::{RowTask, Stride, five};
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
        match (task.taps.size, task.shape.stride, task.windows[0].count) {
            (3, Stride::One, 1) => V::walk::<3, 1, 1>(task),
            (3, Stride::One, 2) => V::walk::<3, 2, 1>(task),
            (3, Stride::One, _) => V::walk::<3, 3, 1>(task),
            (3, Stride::Two, 1) => V::walk::<3, 1, 2>(task),
            (3, Stride::Two, 2) => V::walk::<3, 2, 2>(task),
            (3, Stride::Two, _) => V::walk::<3, 3, 2>(task),
            (_, Stride::One, 1) => V::walk::<5, 1, 1>(task),
            (_, Stride::One, 2) => V::walk::<5, 2, 1>(task),
            (_, Stride::One, 3) => V::walk::<5, 3, 1>(task),
            (_, Stride::One, 4) => V::walk::<5, 4, 1>(task),
            (_, Stride::One, _) => V::walk::<5, 5, 1>(task),
            (_, Stride::Two, 1) => V::walk::<5, 1, 2>(task),
            (_, Stride::Two, 2) => V::walk::<5, 2, 2>(task),
            (_, Stride::Two, 3) => V::walk::<5, 3, 2>(task),
            (_, Stride::Two, 4) => V::walk::<5, 4, 2>(task),
            (_, Stride::Two, _) => V::walk::<5, 5, 2>(task),
        }
    }
}

/// A vector type whose walks are functions of their own: see [`crate::pointwise::kernel::Tiles`].
pub(crate) trait Walks: Vector {
    /// [`walk`], compiled for this instruction set.
    ///
    /// # Safety
    /// As for [`walk`].
    unsafe fn walk<const K: usize, const R: usize, const S: usize>(task: &RowTask<'_>);
}

/// Walks along windows of `K` columns, of which `R` rows are in the image, `S` pixels from one to the next, once for
/// each vector of channels.
///
/// # Safety
/// As for [`rows`]; `K`, `R` and `S` are the task's.
#[inline(always)]
pub(crate) unsafe fn walk<V: Vector, const K: usize, const R: usize, const S: usize>(task: &RowTask<'_>) {
    let channels = task.taps.channels;
    let mut channel = 0;
    // SAFETY: the caller's contract; `channel + count <= channels`.
    unsafe {
        while channel + V::LANES <= channels {
            one::<V, K, R, S>(task, channel, V::LANES);
            channel += V::LANES;
        }
        if channel < channels {
            one::<V, K, R, S>(task, channel, channels - channel);
        }
    }
}

#[inline(always)]
unsafe fn one<V: Vector, const K: usize, const R: usize, const S: usize>(
    task: &RowTask<'_>,
    channel: usize,
    count: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut lane = Lane::<V, K, R>::new(task, channel, count);
        let mut to = task.output.add(channel);
        for window in task.windows {
            for r in 0..R {
                lane.rows[r] = window.rows[r].add(channel);
            }
            match (K, S) {
                (3, 1) => stride1(&lane, task, to),
                (3, _) => stride2(&lane, task, to),
                (_, 1) => five::stride1(&lane, task, to),
                (_, _) => five::stride2(&lane, task, to),
            }
            to = to.wrapping_add(task.shape.outputs() * task.shape.output_pitch);
        }
    }
}

/// One vector of channels: what all walks share.
pub(super) struct Lane<V, const K: usize, const R: usize> {
    /// Of the window that is walked along.
    rows: [*const f32; R],
    taps: [[V; K]; R],
    pub(super) bias: V,
    low: V,
    high: V,
    count: usize,
}

impl<V: Vector, const K: usize, const R: usize> Lane<V, K, R> {
    #[inline(always)]
    unsafe fn new(task: &RowTask<'_>, channel: usize, count: usize) -> Self {
        // SAFETY: the caller's contract: taps are `[K² + 1][width]`, padded to whole vectors.
        unsafe {
            let width = task.taps.width;
            let data = task.taps.data.as_ptr().add(channel);
            let mut taps = [[V::splat(0.0); K]; R];
            for r in 0..R {
                for d in 0..K {
                    taps[r][d] = V::load(data.add(((task.windows[0].first_tap + r) * K + d) * width));
                }
            }
            Self {
                rows: [std::ptr::null(); R],
                taps,
                bias: V::load(data.add(K * K * width)),
                low: V::splat(task.taps.clamp.low),
                high: V::splat(task.taps.clamp.high),
                count,
            }
        }
    }

    /// The rows' pixels at float `at`.
    #[inline(always)]
    pub(super) unsafe fn column(&self, at: usize) -> [V; R] {
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
    pub(super) unsafe fn share(&self, column: &[V; R], d: usize) -> V {
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
    pub(super) unsafe fn finish(&self, sum: V, to: *mut f32) {
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
unsafe fn stride1<V: Vector, const K: usize, const R: usize>(
    lane: &Lane<V, K, R>,
    task: &RowTask<'_>,
    mut to: *mut f32,
) {
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
unsafe fn stride2<V: Vector, const K: usize, const R: usize>(
    lane: &Lane<V, K, R>,
    task: &RowTask<'_>,
    mut to: *mut f32,
) {
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
