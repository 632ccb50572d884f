//! The register tile, and the loops around it.

use super::column::column;
use super::{Panel, Product};
use crate::vector::Vector;

/// Floats of the largest register tile: 8 rows of 3 vectors of 16.
const LARGEST_TILE: usize = 384;

/// A vector type whose register tiles are functions of their own.
///
/// Each tile must have the registers to itself: inlined into one function, their accumulators end up in
/// memory.
pub(crate) trait Tiles: Vector {
    /// [`tiles`], compiled for this instruction set.
    ///
    /// # Safety
    /// As for [`tiles`].
    unsafe fn tiles<const MR: usize, const NV: usize>(task: &Product<'_>, panel: &Panel, rows: Rows);
}

/// Consecutive rows, cut into tiles of the same height.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    first: usize,
    tiles: usize,
}

/// Computes all panels of `task`, each over all rows, so that a panel's weights stay in the first cache.
///
/// # Safety
/// Needs `V`'s instruction set, and a [`Product`] that [`crate::Kernels::pointwise`] has checked, packed
/// for `V::LANES`.
#[inline(always)]
pub(crate) unsafe fn product<V: Tiles>(task: &Product<'_>) {
    for panel in task.panels {
        let vectors = panel.width / V::LANES;
        if vectors == 0 {
            // SAFETY: the caller's contract.
            unsafe { column::<V>(task, panel) };
            continue;
        }
        // Even tiles: 36 rows in tiles of at most 8 are 5 tiles of 7 or 8, not 4 of 8 and one of 4.
        let tiles = task.rows.div_ceil(V::TILE_ROWS[vectors - 1]);
        let (height, higher) = (task.rows / tiles, task.rows % tiles);
        let first = Rows { first: 0, tiles: higher };
        let rest = Rows { first: higher * (height + 1), tiles: tiles - higher };
        for (height, rows) in [(height + 1, first), (height, rest)] {
            if rows.tiles == 0 {
                continue;
            }
            // SAFETY: the caller's contract; the tiles cover the task's rows.
            unsafe {
                match vectors {
                    1 => of_height::<V, 1>(task, panel, height, rows),
                    2 => of_height::<V, 2>(task, panel, height, rows),
                    _ => of_height::<V, 3>(task, panel, height, rows),
                }
            }
        }
    }
}

/// Turns the height of the tiles into a constant.
#[inline(always)]
unsafe fn of_height<V: Tiles, const NV: usize>(task: &Product<'_>, panel: &Panel, height: usize, rows: Rows) {
    // SAFETY: the caller's contract.
    unsafe {
        match height {
            1 => V::tiles::<1, NV>(task, panel, rows),
            2 => V::tiles::<2, NV>(task, panel, rows),
            3 => V::tiles::<3, NV>(task, panel, rows),
            4 => V::tiles::<4, NV>(task, panel, rows),
            5 => V::tiles::<5, NV>(task, panel, rows),
            6 => V::tiles::<6, NV>(task, panel, rows),
            7 => V::tiles::<7, NV>(task, panel, rows),
            _ => V::tiles::<8, NV>(task, panel, rows),
        }
    }
}

/// Tiles of `MR` rows by `NV` vectors of columns, each in `MR · NV` accumulators.
///
/// # Safety
/// Needs `V`'s instruction set; `task` as for [`product`], `panel` one of its panels with `NV` vectors,
/// and `rows` within its rows.
#[inline(always)]
pub(crate) unsafe fn tiles<V: Vector, const MR: usize, const NV: usize>(
    task: &Product<'_>,
    panel: &Panel,
    rows: Rows,
) {
    if MR > V::TILE_ROWS[NV - 1] {
        return; // never asked for: keeps tiles that do not fit the registers out of the binary
    }
    // SAFETY: the caller's contract.
    unsafe {
        let stride = task.output_stride;
        let mut row = rows.first;
        for _ in 0..rows.tiles {
            let at = row * stride + panel.first - task.panels[0].first;
            let output = task.output.add(at);
            let mut sums = begin::<V, MR, NV>(task, panel, at, task.depth_from);
            let mut weights = task.weights_of(panel);
            for segment in task.segments {
                // One moving pointer for three rows: `[p]`, `[p + step]` and `[p + 2 · step]` are
                // addresses that x86 forms for nothing.
                let step = segment.stride;
                let mut upper = task.left.add(segment.offset + row * step);
                let mut middle = upper.wrapping_add(3 * step);
                let mut lower = upper.wrapping_add(6 * step);
                for _ in 0..segment.width {
                    let mut columns = [V::splat(0.0); NV];
                    for j in 0..NV {
                        columns[j] = V::load(weights.add(j * V::LANES));
                    }
                    for r in 0..MR {
                        let from = [upper, middle, lower][r / 3].add(r % 3 * step);
                        let value = V::splat(*from);
                        for j in 0..NV {
                            sums[r][j] = value.mul_add(columns[j], sums[r][j]);
                        }
                    }
                    weights = weights.add(NV * V::LANES);
                    upper = upper.wrapping_add(1);
                    middle = middle.wrapping_add(1);
                    lower = lower.wrapping_add(1);
                }
            }
            clamp_tile(task, &mut sums);
            store_tile(sums, output, stride, panel.columns);
            row += MR;
        }
    }
}

/// Clamps complete sums, where the layer has an activation.
#[inline(always)]
pub(super) unsafe fn clamp_tile<V: Vector, const MR: usize, const NV: usize>(
    task: &Product<'_>,
    sums: &mut [[V; NV]; MR],
) {
    let Some(clamp) = task.clamp else { return };
    // SAFETY: the caller's contract.
    unsafe {
        let (low, high) = (V::splat(clamp.low), V::splat(clamp.high));
        for r in 0..MR {
            for j in 0..NV {
                sums[r][j] = sums[r][j].clamp(low, high);
            }
        }
    }
}

/// What the sums begin with: what is in the output already, or the bias and the residual.
#[inline(always)]
pub(super) unsafe fn begin<V: Vector, const MR: usize, const NV: usize>(
    task: &Product<'_>,
    panel: &Panel,
    at: usize,
    depth: usize,
) -> [[V; NV]; MR] {
    // SAFETY: the caller's contract.
    unsafe {
        if depth > 0 {
            return load_tile(task.output.add(at), task.output_stride, panel.columns);
        }
        let mut sums = [[V::splat(0.0); NV]; MR];
        if !task.residual.is_null() {
            sums = load_tile(task.residual.add(at), task.output_stride, panel.columns);
        }
        for j in 0..NV {
            let bias = V::load(task.bias.add(panel.offset + j * V::LANES));
            for r in 0..MR {
                sums[r][j] = sums[r][j].add(bias);
            }
        }
        sums
    }
}

/// Reads a tile of an output or a residual, `columns` wide.
#[inline(always)]
unsafe fn load_tile<V: Vector, const MR: usize, const NV: usize>(
    from: *const f32,
    stride: usize,
    columns: usize,
) -> [[V; NV]; MR] {
    // SAFETY: the caller vouches for `columns` readable floats in each row; the buffer has as many rows.
    unsafe {
        if columns == NV * V::LANES {
            return load_whole(from, stride);
        }
        let mut buffer = [0.0; LARGEST_TILE];
        copy_rows(from, stride, buffer.as_mut_ptr(), NV * V::LANES, [MR, columns]);
        load_whole(buffer.as_ptr(), NV * V::LANES)
    }
}

#[inline(always)]
unsafe fn load_whole<V: Vector, const MR: usize, const NV: usize>(
    from: *const f32,
    stride: usize,
) -> [[V; NV]; MR] {
    // SAFETY: the caller vouches for `NV` readable vectors in each row.
    unsafe {
        let mut tile = [[V::splat(0.0); NV]; MR];
        for r in 0..MR {
            for j in 0..NV {
                tile[r][j] = V::load(from.add(r * stride + j * V::LANES));
            }
        }
        tile
    }
}

/// Writes a tile of the output, `columns` wide.
#[inline(always)]
pub(super) unsafe fn store_tile<V: Vector, const MR: usize, const NV: usize>(
    tile: [[V; NV]; MR],
    to: *mut f32,
    stride: usize,
    columns: usize,
) {
    // SAFETY: the caller vouches for `columns` writable floats in each row; the buffer has as many rows.
    unsafe {
        if columns == NV * V::LANES {
            return store_whole(tile, to, stride);
        }
        let mut buffer = [0.0; LARGEST_TILE];
        store_whole(tile, buffer.as_mut_ptr(), NV * V::LANES);
        copy_rows(buffer.as_ptr(), NV * V::LANES, to, stride, [MR, columns]);
    }
}

#[inline(always)]
unsafe fn store_whole<V: Vector, const MR: usize, const NV: usize>(
    tile: [[V; NV]; MR],
    to: *mut f32,
    stride: usize,
) {
    for r in 0..MR {
        for j in 0..NV {
            // SAFETY: the caller vouches for `NV` writable vectors in each row.
            unsafe { tile[r][j].store(to.add(r * stride + j * V::LANES)) };
        }
    }
}

/// Copies rows of floats.
///
/// # Safety
/// `from` must be readable, `to` writable for `[rows, columns]` of their strides, and they must not
/// overlap.
unsafe fn copy_rows(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    [rows, columns]: [usize; 2],
) {
    for r in 0..rows {
        // SAFETY: the caller's contract.
        unsafe { from.add(r * from_stride).copy_to_nonoverlapping(to.add(r * to_stride), columns) };
    }
}
