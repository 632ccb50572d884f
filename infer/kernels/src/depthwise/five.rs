//! Walks along windows of five columns.

use super::RowTask;
use super::kernel::Lane;
use crate::vector::Vector;

/// Each column is loaded once and added to the five outputs whose windows it is in.
///
/// # Safety
/// As for [`super::kernel::rows`].
#[inline(always)]
pub(super) unsafe fn stride1<V: Vector, const K: usize, const R: usize>(
    lane: &Lane<V, K, R>,
    task: &RowTask<'_>,
    mut to: *mut f32,
) {
    let width = task.shape.width;
    // SAFETY: the caller's contract: columns `0..width` and outputs `0..width` exist.
    unsafe {
        // The sums of outputs x − 2 to x + 2, column x being the next.
        let mut sums = [lane.bias; 5];
        for x in 0..width {
            let column = lane.column(x * task.shape.input_pitch);
            for i in 0..5 {
                sums[i] = sums[i].add(lane.share(&column, 4 - i));
            }
            if x >= 2 {
                lane.finish(sums[0], to);
                to = to.add(task.shape.output_pitch);
            }
            sums = [sums[1], sums[2], sums[3], sums[4], lane.bias];
        }
        if width >= 2 {
            lane.finish(sums[0], to);
            to = to.add(task.shape.output_pitch);
        }
        lane.finish(sums[1], to);
    }
}

/// Even columns are in two windows, odd ones in three.
///
/// # Safety
/// As for [`super::kernel::rows`].
#[inline(always)]
pub(super) unsafe fn stride2<V: Vector, const K: usize, const R: usize>(
    lane: &Lane<V, K, R>,
    task: &RowTask<'_>,
    mut to: *mut f32,
) {
    let input = task.shape.input_pitch;
    // SAFETY: the caller's contract: columns `0..width`, even, and outputs `0..width / 2` exist.
    unsafe {
        let even = lane.column(0);
        let odd = lane.column(input);
        let mut before = lane.bias.add(lane.share(&even, 1)).add(lane.share(&odd, 2));
        let mut sum = lane.bias.add(lane.share(&odd, 0));
        for x in 1..task.shape.width / 2 {
            let even = lane.column(2 * x * input);
            let odd = lane.column((2 * x + 1) * input);
            before = before.add(lane.share(&even, 3)).add(lane.share(&odd, 4));
            lane.finish(before, to);
            to = to.add(task.shape.output_pitch);
            before = sum.add(lane.share(&even, 1)).add(lane.share(&odd, 2));
            sum = lane.bias.add(lane.share(&odd, 0));
        }
        lane.finish(before, to);
    }
}
