//! One walk along a row for each vector of channels.

use super::UpsampleTask;
use crate::vector::Vector;

/// Upsamples and adds one row.
///
/// # Safety
/// Needs `V`'s instruction set, and an [`UpsampleTask`] that [`crate::Kernels::upsample_add_row`] has
/// checked.
#[inline(always)]
pub(crate) unsafe fn add_row<V: Vector>(task: &UpsampleTask) {
    let mut channel = 0;
    while channel < task.shape.channels {
        let count = (task.shape.channels - channel).min(V::LANES);
        // SAFETY: the caller's contract; `channel + count <= channels`.
        unsafe { lane::<V>(task, channel, count) };
        channel += V::LANES;
    }
}

#[inline(always)]
unsafe fn lane<V: Vector>(task: &UpsampleTask, channel: usize, count: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let (quarter, three) = (V::splat(0.25), V::splat(0.75));
        let (width, pitch) = (task.shape.width, task.shape.output_pitch);
        let mut near = task.near.add(channel);
        let mut far = task.far.add(channel);
        let mut to = task.output.add(channel);

        let mut left = load::<V>(near, count).mul_add(three, load::<V>(far, count).mul(quarter));
        let mut middle = left;
        for x in 0..width {
            let right = if x + 1 < width {
                near = near.add(task.shape.input_pitch);
                far = far.add(task.shape.input_pitch);
                load::<V>(near, count).mul_add(three, load::<V>(far, count).mul(quarter))
            } else {
                middle
            };
            let most = middle.mul(three);
            accumulate(left.mul_add(quarter, most), to, count);
            accumulate(right.mul_add(quarter, most), to.add(pitch), count);
            to = to.add(2 * pitch);
            (left, middle) = (middle, right);
        }
    }
}

#[inline(always)]
unsafe fn load<V: Vector>(from: *const f32, count: usize) -> V {
    // SAFETY: the caller's contract.
    unsafe { if count == V::LANES { V::load(from) } else { V::load_part(from, count) } }
}

#[inline(always)]
unsafe fn accumulate<V: Vector>(value: V, to: *mut f32, count: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let sum = load::<V>(to, count).add(value);
        if count == V::LANES {
            sum.store(to);
        } else {
            sum.store_part(to, count);
        }
    }
}
