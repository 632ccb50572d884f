//! A single column of a product: a dot product a row, along the depth.
//!
//! As a register tile, one column would leave all lanes but one empty.

use super::{Panel, Product};
use crate::vector::Vector;

/// Rows at once: as many chains of multiply-adds as keep the processor busy.
const ROWS: usize = 8;

/// Computes `panel`, which is one column wide.
///
/// # Safety
/// As for [`super::kernel::product`].
#[inline(always)]
pub(super) unsafe fn column<V: Vector>(task: &Product<'_>, panel: &Panel) {
    let mut row = 0;
    // SAFETY: the caller's contract; `row + ROWS` and then `row` stay within the rows.
    unsafe {
        while row + ROWS <= task.rows {
            rows::<V, ROWS>(task, panel, row);
            row += ROWS;
        }
        for row in row..task.rows {
            rows::<V, 1>(task, panel, row);
        }
    }
}

#[inline(always)]
unsafe fn rows<V: Vector, const MR: usize>(task: &Product<'_>, panel: &Panel, row: usize) {
    // SAFETY: the caller's contract: the segments' columns of these rows and as many weights are readable.
    unsafe {
        let mut sums = [V::splat(0.0); MR];
        let mut weights = task.weights.add(panel.offset * task.depth + task.depth_from);
        for segment in task.segments {
            let left = task.left.add(segment.offset + row * segment.stride);
            let whole = segment.width / V::LANES * V::LANES;
            let mut column = 0;
            while column < whole {
                let weight = V::load(weights.add(column));
                for r in 0..MR {
                    sums[r] = V::load(left.add(r * segment.stride + column)).mul_add(weight, sums[r]);
                }
                column += V::LANES;
            }
            let rest = segment.width - whole;
            if rest > 0 {
                let weight = V::load_part(weights.add(whole), rest);
                for r in 0..MR {
                    sums[r] =
                        V::load_part(left.add(r * segment.stride + whole), rest).mul_add(weight, sums[r]);
                }
            }
            weights = weights.add(segment.width);
        }
        for r in 0..MR {
            let at = (row + r) * task.output_stride + panel.first - task.panels[0].first;
            let output = task.output.add(at);
            let before = if task.depth_from > 0 {
                *output
            } else {
                let residual = if task.residual.is_null() { 0.0 } else { *task.residual.add(at) };
                residual + *task.bias.add(panel.offset)
            };
            let sum = before + sums[r].sum();
            // What is not a number stays that.
            *output = task.clamp.map_or(sum, |clamp| sum.clamp(clamp.low, clamp.high));
        }
    }
}
