//! `bfmmla`: products of two rows by four depths and four depths by two columns, of Arm's FEAT_BF16.
//!
//! It wants of each column four depths side by side, where the packed weights have two: two vectors of them, of pairs that
//! follow one another, are woven anew for all rows of a tile.

use std::arch::{aarch64::*, asm};
use std::time::Instant;

use super::emulated::write;
use super::{BLOCK, PANEL, Product, TILE};
use crate::bf16::Bf16;

/// Pairs of rows of the largest register tile: with eight columns as many accumulators as leave room for the rest.
const MOST_PAIRS: usize = 4;
/// Columns of a register tile.
const COLUMNS: usize = 8;

/// Computes `task`.
///
/// # Safety
/// Needs FEAT_BF16, and a [`Product`] that [`super::Tiles::product`] has checked.
#[target_feature(enable = "neon,bf16")]
pub(in crate::bf16) unsafe fn product(task: &Product<'_>) {
    for panel in 0..task.panels {
        for first in (0..task.rows).step_by(2 * MOST_PAIRS) {
            let rows = (task.rows - first).min(2 * MOST_PAIRS);
            let mut sums = [[0.0; PANEL]; 2 * MOST_PAIRS];
            // SAFETY: the caller's contract: these rows are the task's.
            unsafe {
                match rows.div_ceil(2) {
                    1 => tiles::<1>(task, panel, first, &mut sums),
                    2 => tiles::<2>(task, panel, first, &mut sums),
                    3 => tiles::<3>(task, panel, first, &mut sums),
                    _ => tiles::<4>(task, panel, first, &mut sums),
                }
                for (row, sums) in sums[..rows].iter().enumerate() {
                    write(task, panel, first + row, *sums);
                }
            }
        }
    }
}

/// Sums of `PAIRS` pairs of rows, of which the last row may be missing: then the one before it stands in for it.
#[target_feature(enable = "neon,bf16")]
unsafe fn tiles<const PAIRS: usize>(
    task: &Product<'_>,
    panel: usize,
    first: usize,
    sums: &mut [[f32; PANEL]; 2 * MOST_PAIRS],
) {
    let row = |row: usize| task.left.wrapping_add((first + row).min(task.rows - 1) * task.left_stride);
    for at in (0..PANEL).step_by(COLUMNS) {
        // SAFETY: the caller's contract: these rows, weights and biases exist.
        unsafe {
            let bias = task.bias.add(panel * PANEL + at);
            // Of each pair of columns: the first row's two sums, then the second row's.
            let start: [float32x4_t; COLUMNS / 2] = std::array::from_fn(|two| {
                let two = vld1_f32(bias.add(2 * two));
                vcombine_f32(two, two)
            });
            let mut tile = [start; PAIRS];
            let mut weights = task.weights.add(panel * task.panel_len() + at / TILE * TILE * BLOCK);
            weights = weights.add(at % TILE * 2);
            for block in 0..task.blocks {
                for four in 0..BLOCK / 4 {
                    let depth = block * BLOCK + four * 4;
                    let mut columns = [vdupq_n_u32(0); COLUMNS / 2];
                    for half in 0..COLUMNS / 4 {
                        let from = weights.add(2 * four * BLOCK + half * 8);
                        let [upper, lower] = [from, from.add(BLOCK)].map(|from| vld1q_u32(from.cast()));
                        columns[2 * half] = vzip1q_u32(upper, lower);
                        columns[2 * half + 1] = vzip2q_u32(upper, lower);
                    }
                    for pair in 0..PAIRS {
                        let [even, odd] = [0, 1].map(|r| vld1_u32(row(2 * pair + r).add(depth).cast()));
                        let left = vcombine_u32(even, odd);
                        for two in 0..COLUMNS / 2 {
                            tile[pair][two] = multiply(tile[pair][two], left, columns[two]);
                        }
                    }
                }
                weights = weights.add(2 * TILE * BLOCK);
            }
            for pair in 0..PAIRS {
                for two in 0..COLUMNS / 2 {
                    let to = at + 2 * two;
                    vst1_f32(sums[2 * pair][to..].as_mut_ptr(), vget_low_f32(tile[pair][two]));
                    vst1_f32(sums[2 * pair + 1][to..].as_mut_ptr(), vget_high_f32(tile[pair][two]));
                }
            }
        }
    }
}

/// `sums` plus the products of two rows by four depths with two columns by four depths.
#[inline]
#[target_feature(enable = "neon,bf16")]
fn multiply(mut sums: float32x4_t, rows: uint32x4_t, columns: uint32x4_t) -> float32x4_t {
    // SAFETY: the caller has the instruction, which touches registers only.
    unsafe {
        asm!("bfmmla {sums:v}.4s, {rows:v}.8h, {columns:v}.8h", sums = inout(vreg) sums, rows = in(vreg) rows,
            columns = in(vreg) columns, options(pure, nomem, nostack, preserves_flags));
    }
    sums
}

/// Floating point operations a second on registers alone.
///
/// # Safety
/// Needs FEAT_BF16.
#[target_feature(enable = "neon,bf16")]
pub(in crate::bf16) unsafe fn peak() -> f64 {
    const CHAINS: usize = 16;
    const STEPS: usize = 10_000;
    let factor = vdupq_n_u32(std::hint::black_box(0x3c00_3c00));
    let mut sums = [vdupq_n_f32(0.0); CHAINS];
    let begun = Instant::now();
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = multiply(*sum, factor, factor);
        }
    }
    std::hint::black_box(sums.into_iter().fold(vdupq_n_f32(0.0), |a, b| vaddq_f32(a, b)));
    (CHAINS * STEPS * 32) as f64 / begun.elapsed().as_secs_f64()
}

/// Reads eight numbers: those at even places, then those at odd ones, as float32.
///
/// # Safety
/// They must be there.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::bf16) unsafe fn apart(from: *const Bf16) -> [float32x4_t; 2] {
    // SAFETY: the caller's contract.
    let bits = unsafe { vld1q_u32(from.cast()) };
    let odd = vandq_u32(bits, vdupq_n_u32(0xffff_0000));
    [vreinterpretq_f32_u32(vshlq_n_u32::<16>(bits)), vreinterpretq_f32_u32(odd)]
}
