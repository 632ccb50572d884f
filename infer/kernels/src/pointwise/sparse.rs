//! Products that leave out the zeros of the left side.
//!
//! After a ReLU a third to three quarters of the activations are exactly zero, and `0 · weight` does not
//! change a sum. For each tile's rows, neighbouring pixels whose zeros are often the same ones, the columns in
//! which a row is not zero are listed once; every panel then runs along that list. The fewer rows
//! share a list the shorter it is, so these tiles are low and wide where the dense ones are high and narrow.
//! Sums are those of the dense tiles, bit by bit, but for the sign of a zero.

use std::mem::MaybeUninit;

use super::kernel::{begin, clamp_tile, store_tile};
use super::{Panel, Product};
use crate::aligned::LINE;
use crate::vector::Vector;

/// Vectors of the narrowest layer: below, making the lists costs what following them spares.
pub(super) const FEWEST_VECTORS: usize = 4;
/// Floats of a panel's weights that tiles run along at once: three quarters of a first cache of 32 kB.
const PANEL_FLOATS: usize = 6 * 1024;
/// The most columns in a list.
const LIST: usize = 256;
/// Tiles whose lists exist at once.
const LISTS: usize = 32;
/// Lists grow by this many entries, of which the last may be meaningless.
const STEP: usize = 8;

/// Rows of a tile of `vectors` vectors, if one of two rows can be `most` vectors wide.
pub(super) const fn tile_rows(vectors: usize, most: usize) -> usize {
    2 * most / vectors
}

/// A vector type whose sparse tiles are functions of their own: see [`super::kernel::Tiles`].
pub(crate) trait SparseTiles: Vector {
    /// [`tiles`], compiled for this instruction set.
    ///
    /// # Safety
    /// As for [`tiles`].
    unsafe fn sparse_tiles<const MR: usize, const NV: usize>(
        task: &Product<'_>,
        panel: &Panel,
        part: Part<'_>,
    );
}

/// What a call of the tiles adds to the sums: some columns of the left side, for some rows.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The left side at the part's first row and column.
    left: *const f32,
    /// From one row of it to the next.
    stride: usize,
    /// The first row.
    row: usize,
    /// The row of the weights that meets the first column, and how many follow.
    depth: usize,
    width: usize,
    /// Whether these are the sums' last columns.
    is_last: bool,
    /// One for each tile.
    lists: &'a [MaybeUninit<List>],
}

/// The columns of a tile's rows in which a row is not zero, counted from the part's first.
pub(crate) struct List {
    columns: [u16; LIST + STEP],
    len: usize,
}

/// For each byte the places of its ones, lowest first.
static ONES: [[u16; STEP]; 256] = ones();

const fn ones() -> [[u16; STEP]; 256] {
    let mut table = [[0; STEP]; 256];
    let mut byte = 0;
    while byte < table.len() {
        let (mut bit, mut count) = (0, 0);
        while bit < STEP as u16 {
            if byte >> bit & 1 == 1 {
                table[byte][count] = bit;
                count += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
}

/// Computes all panels of `task`, some columns of the left side and some rows at a time.
///
/// # Safety
/// As for [`super::kernel::product`], with weights that were packed for sparse tiles.
#[inline(always)]
pub(crate) unsafe fn product<V: SparseTiles>(task: &Product<'_>) {
    let mut lists = [const { MaybeUninit::<List>::uninit() }; LISTS];
    let widest = task.panels.iter().map(|panel| panel.width).max().unwrap_or(1);
    let most = (PANEL_FLOATS / widest).min(LIST) / V::LANES * V::LANES;
    let end = task.depth_from + task.segments.iter().map(|segment| segment.width).sum::<usize>();
    let height = task.sparse_rows;
    let mut depth = task.depth_from;
    for segment in task.segments {
        // Even parts: 144 columns of at most 128 are 2 × 72, not 128 and 16.
        let parts = segment.width.div_ceil(most).max(1);
        let even = segment.width.div_ceil(parts).next_multiple_of(V::LANES);
        for first in (0..parts).map(|part| part * even) {
            let width = even.min(segment.width - first);
            for row in (0..task.rows).step_by(LISTS * height) {
                let rows = (LISTS * height).min(task.rows - row);
                // SAFETY: the caller's contract: these columns of these rows lie in the segment.
                unsafe {
                    let left = task.left.add(segment.offset + row * segment.stride + first);
                    let (stride, is_last) = (segment.stride, depth + width == end);
                    let part = Part { left, stride, row, depth, width, is_last, lists: &[] };
                    let (whole, rest) = (rows / height, rows % height);
                    if whole > 0 {
                        list_tiles::<V>(&mut lists[..whole], height, part);
                        of_panels::<V>(task, height, Part { lists: &lists[..whole], ..part });
                    }
                    if rest > 0 {
                        let (left, row) = (left.add(whole * height * stride), row + whole * height);
                        let part = Part { left, row, ..part };
                        list_tiles::<V>(&mut lists[..1], rest, part);
                        of_panels::<V>(task, rest, Part { lists: &lists[..1], ..part });
                    }
                }
            }
            depth += width;
        }
    }
}

/// Makes the lists of consecutive tiles, each `height` rows high.
#[inline(always)]
unsafe fn list_tiles<V: Vector>(lists: &mut [MaybeUninit<List>], height: usize, part: Part<'_>) {
    // SAFETY: the caller's contract.
    unsafe {
        match height {
            1 => list_rows::<V, 1>(lists, part),
            2 => list_rows::<V, 2>(lists, part),
            _ => list_rows::<V, 3>(lists, part),
        }
    }
}

#[inline(always)]
unsafe fn list_rows<V: Vector, const MR: usize>(lists: &mut [MaybeUninit<List>], part: Part<'_>) {
    let mut left = part.left;
    for list in lists {
        let list = list.as_mut_ptr();
        let (mut len, mut column) = (0, 0);
        while column < part.width {
            let count = V::LANES.min(part.width - column);
            // SAFETY: the caller's contract: the rows are readable, and `LIST` columns and a step fit.
            unsafe {
                let mut any = V::load_up_to(left.add(column), count);
                for r in 1..MR {
                    any = any.or(V::load_up_to(left.add(r * part.stride + column), count));
                }
                len = append(list, len, column, any);
            }
            column += V::LANES;
        }
        // SAFETY: the list is there to be written.
        unsafe { (&raw mut (*list).len).write(len) };
        left = left.wrapping_add(MR * part.stride);
    }
}

/// Appends the lanes of `any` that are not zero, the first of which is `column`; returns the new length.
#[inline(always)]
unsafe fn append<V: Vector>(list: *mut List, mut len: usize, column: usize, any: V) -> usize {
    // SAFETY: the caller vouches for a list with room for a step behind the first `len`.
    unsafe {
        let mut lanes = any.nonzero();
        for step in 0..V::LANES.div_ceil(STEP) {
            let mut columns = ONES[(lanes & 0xff) as usize];
            for place in &mut columns {
                *place += (column + step * STEP) as u16;
            }
            (&raw mut (*list).columns).cast::<u16>().add(len).cast::<[u16; STEP]>().write_unaligned(columns);
            len += (lanes & 0xff).count_ones() as usize;
            lanes >>= STEP;
        }
        len
    }
}

/// Turns the shape of the tiles into constants.
#[inline(always)]
unsafe fn of_panels<V: SparseTiles>(task: &Product<'_>, height: usize, part: Part<'_>) {
    for panel in task.panels {
        // SAFETY: the caller's contract.
        unsafe {
            match panel.width / V::LANES {
                ..=2 => of_height::<V, 2>(task, panel, height, part),
                3 => of_height::<V, 3>(task, panel, height, part),
                4 => of_height::<V, 4>(task, panel, height, part),
                5 => of_height::<V, 5>(task, panel, height, part),
                _ => of_height::<V, 6>(task, panel, height, part),
            }
        }
    }
}

#[inline(always)]
unsafe fn of_height<V: SparseTiles, const NV: usize>(
    task: &Product<'_>,
    panel: &Panel,
    height: usize,
    part: Part<'_>,
) {
    // SAFETY: the caller's contract.
    unsafe {
        match height {
            1 => V::sparse_tiles::<1, NV>(task, panel, part),
            2 => V::sparse_tiles::<2, NV>(task, panel, part),
            _ => V::sparse_tiles::<3, NV>(task, panel, part),
        }
    }
}

/// Tiles of `MR` rows by `NV` vectors of columns, each along its list.
///
/// # Safety
/// Needs `V`'s instruction set; `task` as for [`product`], `panel` one of its panels with `NV` vectors, and
/// `part` within its rows and depth, with lists of `MR` rows each, all written.
#[inline(always)]
pub(crate) unsafe fn tiles<V: Vector, const MR: usize, const NV: usize>(
    task: &Product<'_>,
    panel: &Panel,
    part: Part<'_>,
) {
    if MR > tile_rows(NV, V::SPARSE_VECTORS) {
        return; // never asked for: keeps tiles that do not fit the registers out of the binary
    }
    // SAFETY: the caller's contract.
    unsafe {
        let weights = task.weights.add(panel.offset * task.depth + part.depth * panel.width);
        let mut next = following(task, panel, &part);
        let lines = (part.width * panel.width).div_ceil(LINE * part.lists.len());
        let mut left = part.left;
        let mut at = part.row * task.output_stride + panel.first - task.panels[0].first;
        for list in part.lists {
            // The first tile of a part reads its weights faster than the third cache gives them, and what
            // the list leaves out makes them hard to foresee.
            for _ in 0..lines {
                V::prefetch(next);
                next = next.wrapping_add(LINE);
            }
            let mut sums = begin::<V, MR, NV>(task, panel, at, part.depth);
            let mut rows = [left; MR];
            for r in 1..MR {
                rows[r] = left.add(r * part.stride);
            }
            let list = list.as_ptr();
            let columns = (&raw const (*list).columns).cast::<u16>();
            for index in 0..(*list).len {
                let column = usize::from(*columns.add(index));
                let weights = weights.add(column * NV * V::LANES);
                let mut values = [V::splat(0.0); MR];
                for r in 0..MR {
                    values[r] = V::splat(*rows[r].add(column));
                }
                for j in 0..NV {
                    let weights = V::load(weights.add(j * V::LANES));
                    for r in 0..MR {
                        sums[r][j] = values[r].mul_add(weights, sums[r][j]);
                    }
                }
            }
            if part.is_last {
                clamp_tile(task, &mut sums);
            }
            store_tile(sums, task.output.add(at), task.output_stride, panel.columns);
            left = left.wrapping_add(MR * part.stride);
            at += MR * task.output_stride;
        }
    }
}

/// The weights that are read after those of `panel` for `part`: the next panel's, or the next part's. May
/// point behind the last.
#[inline(always)]
fn following(task: &Product<'_>, panel: &Panel, part: &Part<'_>) -> *const f32 {
    let next = task.panels.iter().find(|next| next.offset > panel.offset);
    let (panel, depth) = next.map_or((&task.panels[0], part.depth + part.width), |next| (next, part.depth));
    task.weights.wrapping_add(panel.offset * task.depth + depth * panel.width)
}
