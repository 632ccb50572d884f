//! The register tile, and the loops around it.

use super::{Panel, Product};
use crate::vector::Vector;

/// Computes all panels of `task`, each over all rows, so that a panel's weights stay in the first cache.
///
/// # Safety
/// Needs `V`'s instruction set, and a [`Product`] that [`crate::Kernels::pointwise`] has checked, packed
/// for `V::LANES`.
#[inline(always)]
pub(crate) unsafe fn product<V: Vector>(task: &Product<'_>) {
    let columns_from = task.panels[0].first;
    for panel in task.panels {
        let vectors = panel.width / V::LANES;
        // Even tiles: 36 rows in tiles of at most 8 are 5 tiles of 7 or 8, not 4 of 8 and one of 4.
        let tiles = task.rows.div_ceil(V::TILE_ROWS[vectors - 1]);
        let (rows, longer) = (task.rows / tiles, task.rows % tiles);
        let mut row = 0;
        for tile in 0..tiles {
            let count = rows + usize::from(tile < longer);
            // SAFETY: the caller's contract; `row + count <= task.rows`.
            unsafe {
                match vectors {
                    1 => tile_rows::<V, 1>(task, panel, columns_from, row, count),
                    2 => tile_rows::<V, 2>(task, panel, columns_from, row, count),
                    _ => tile_rows::<V, 3>(task, panel, columns_from, row, count),
                }
            }
            row += count;
        }
    }
}

/// Turns the number of rows into a constant.
#[inline(always)]
unsafe fn tile_rows<V: Vector, const NV: usize>(
    task: &Product<'_>,
    panel: &Panel,
    columns_from: usize,
    row: usize,
    count: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        match count {
            1 => tile::<V, 1, NV>(task, panel, columns_from, row),
            2 => tile::<V, 2, NV>(task, panel, columns_from, row),
            3 => tile::<V, 3, NV>(task, panel, columns_from, row),
            4 => tile::<V, 4, NV>(task, panel, columns_from, row),
            5 => tile::<V, 5, NV>(task, panel, columns_from, row),
            6 => tile::<V, 6, NV>(task, panel, columns_from, row),
            7 => tile::<V, 7, NV>(task, panel, columns_from, row),
            _ => tile::<V, 8, NV>(task, panel, columns_from, row),
        }
    }
}

/// `MR` rows by `NV` vectors of columns, in `MR · NV` accumulators.
#[inline(always)]
unsafe fn tile<V: Vector, const MR: usize, const NV: usize>(
    task: &Product<'_>,
    panel: &Panel,
    columns_from: usize,
    row: usize,
) {
    if MR > V::TILE_ROWS[NV - 1] {
        return; // never asked for: keeps tiles that do not fit the registers out of the binary
    }
    // SAFETY: the caller's contract.
    unsafe {
        let stride = task.output_stride;
        let at = row * stride + panel.first - columns_from;
        let output = task.output.add(at);
        let bias = task.bias.add(panel.offset);

        let mut sums = [[V::splat(0.0); NV]; MR];
        if task.depth_from > 0 {
            load_tile(&mut sums, output, stride, panel.columns);
        } else {
            if !task.residual.is_null() {
                load_tile(&mut sums, task.residual.add(at), stride, panel.columns);
            }
            for j in 0..NV {
                let bias = V::load(bias.add(j * V::LANES));
                for sum in &mut sums {
                    sum[j] = sum[j].add(bias);
                }
            }
        }

        let mut weights = task.weights.add(panel.offset * task.depth + task.depth_from * panel.width);
        for segment in task.segments {
            let left = task.left.add(segment.offset + row * segment.stride);
            for k in 0..segment.width {
                let mut columns = [V::splat(0.0); NV];
                for j in 0..NV {
                    columns[j] = V::load(weights.add(j * V::LANES));
                }
                for r in 0..MR {
                    let value = V::splat(*left.add(r * segment.stride + k));
                    for j in 0..NV {
                        sums[r][j] = value.mul_add(columns[j], sums[r][j]);
                    }
                }
                weights = weights.add(NV * V::LANES);
            }
        }

        let (low, high) = (V::splat(task.clamp.low), V::splat(task.clamp.high));
        for r in 0..MR {
            for j in 0..NV {
                let to = output.add(r * stride + j * V::LANES);
                let value = sums[r][j].clamp(low, high);
                let left_over = panel.columns - j * V::LANES;
                if left_over >= V::LANES {
                    value.store(to);
                } else {
                    value.store_part(to, left_over);
                }
            }
        }
    }
}

/// Reads a tile of an output or a residual, `columns` wide.
#[inline(always)]
unsafe fn load_tile<V: Vector, const MR: usize, const NV: usize>(
    tile: &mut [[V; NV]; MR],
    from: *const f32,
    stride: usize,
    columns: usize,
) {
    for r in 0..MR {
        for j in 0..NV {
            let left_over = columns - j * V::LANES;
            // SAFETY: the caller vouches for `columns` readable floats in each row.
            tile[r][j] = unsafe {
                let from = from.add(r * stride + j * V::LANES);
                if left_over >= V::LANES { V::load(from) } else { V::load_part(from, left_over) }
            };
        }
    }
}
