//! `vdpbf16ps`, and how AVX-512 rounds a panel.

use std::arch::x86_64::*;
use std::time::Instant;

use super::{BLOCK, PANEL, Product, TILE, To};
use crate::bf16::Bf16;

/// Rows of the largest register tile: with two vectors each as many accumulators as the registers hold.
const MOST_ROWS: usize = 12;

/// Computes `task`.
///
/// # Safety
/// Needs AVX512_BF16, and a [`Product`] that [`super::Tiles::product`] has checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(in crate::bf16) unsafe fn product(task: &Product<'_>) {
    // Even tiles: 36 rows in tiles of at most 12 are 3 of 12; 38 are 4 of 9 and 10.
    let tiles = task.rows.div_ceil(MOST_ROWS);
    let (height, higher) = (task.rows / tiles, task.rows % tiles);
    for panel in 0..task.panels {
        let mut row = 0;
        for tile in 0..tiles {
            let rows = height + usize::from(tile < higher);
            // SAFETY: the caller's contract; the tiles cover the task's rows.
            unsafe {
                match rows {
                    1 => tile_of::<1>(task, panel, row),
                    2 => tile_of::<2>(task, panel, row),
                    3 => tile_of::<3>(task, panel, row),
                    4 => tile_of::<4>(task, panel, row),
                    5 => tile_of::<5>(task, panel, row),
                    6 => tile_of::<6>(task, panel, row),
                    7 => tile_of::<7>(task, panel, row),
                    8 => tile_of::<8>(task, panel, row),
                    9 => tile_of::<9>(task, panel, row),
                    10 => tile_of::<10>(task, panel, row),
                    11 => tile_of::<11>(task, panel, row),
                    _ => tile_of::<12>(task, panel, row),
                }
            }
            row += rows;
        }
    }
}

/// `MR` rows of a panel. Never inlined: the accumulators need the registers to themselves.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile_of<const MR: usize>(task: &Product<'_>, panel: usize, row: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let bias = task.bias.add(panel * PANEL);
        let mut sums = [[_mm512_loadu_ps(bias), _mm512_loadu_ps(bias.add(TILE))]; MR];
        let mut weights = task.weights.add(panel * task.panel_len());
        let stride = task.left_stride;
        // One moving pointer for three rows: `[p]`, `[p + step]` and `[p + 2 · step]` are addresses that x86
        // forms for nothing.
        let left = task.left.add(row * stride);
        let mut moving = [0, 1, 2, 3].map(|three| left.wrapping_add(3 * three * stride));
        for _ in 0..task.blocks {
            for _ in 0..TILE {
                let [first, second] =
                    [0, TILE * BLOCK].map(|at| pairs(_mm512_loadu_si512(weights.add(at).cast())));
                for r in 0..MR {
                    let pair = moving[r / 3].add(r % 3 * stride).cast::<i32>().read_unaligned();
                    let pair = pairs(_mm512_set1_epi32(pair));
                    sums[r][0] = _mm512_dpbf16_ps(sums[r][0], pair, first);
                    sums[r][1] = _mm512_dpbf16_ps(sums[r][1], pair, second);
                }
                weights = weights.add(BLOCK);
                moving.iter_mut().for_each(|left| *left = left.wrapping_add(2));
            }
            weights = weights.add(TILE * BLOCK);
        }
        for r in 0..MR {
            finish(task, row + r, panel, sums[r]);
        }
    }
}

/// Reads a vector as pairs of bfloat16.
#[inline(always)]
fn pairs(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes without invalid bits.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
}

/// The bits of two vectors of float32, the lower one first, rounded to bfloat16.
///
/// # Safety
/// Needs AVX512_BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(in crate::bf16) unsafe fn round(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 64 bytes without invalid bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Clamps bfloat16 from 0 to `high`, the bits of one above 0 in each lane: as such numbers order as integers do, and those
/// below 0 are negative integers.
///
/// # Safety
/// Needs AVX-512BW.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::bf16) unsafe fn clamp(numbers: __m512i, high: __m512i) -> __m512i {
    _mm512_min_epi16(_mm512_max_epi16(numbers, _mm512_setzero_si512()), high)
}

/// What `clamp` takes.
///
/// # Safety
/// Needs AVX-512BW.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::bf16) unsafe fn bits_of(high: f32) -> __m512i {
    _mm512_set1_epi16((high.to_bits() >> 16) as i16)
}

/// Adds the residual to a row's sums in a panel, rounds, clamps and writes them.
///
/// # Safety
/// As for [`product`], for a row and a panel of `task`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn finish(task: &Product<'_>, row: usize, panel: usize, [mut low, mut high]: [__m512; 2]) {
    let at = row * task.stride + panel * PANEL;
    // SAFETY: the caller's contract.
    unsafe {
        match task.to {
            To::Half(to, residual) => {
                if !residual.is_null() {
                    let residual = residual.add(at);
                    low = _mm512_add_ps(low, wide(residual));
                    high = _mm512_add_ps(high, wide(residual.add(TILE)));
                }
                let mut rounded = round(low, high);
                if let Some(range) = task.clamp {
                    rounded = clamp(rounded, bits_of(range.high));
                }
                _mm512_storeu_si512(to.add(at).cast(), rounded);
            }
            To::Single(to) => {
                if let Some(range) = task.clamp {
                    let [from, to] = [range.low, range.high].map(|end| _mm512_set1_ps(end));
                    [low, high] = [low, high].map(|sum| _mm512_min_ps(_mm512_max_ps(sum, from), to));
                }
                _mm512_storeu_ps(to.add(at), low);
                _mm512_storeu_ps(to.add(at + TILE), high);
            }
        }
    }
}

/// Sixteen numbers as float32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn wide(from: *const Bf16) -> __m512 {
    // SAFETY: the caller's contract.
    let bits = unsafe { _mm256_loadu_si256(from.cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
}

/// Floating point operations a second on registers alone.
///
/// # Safety
/// Needs AVX512_BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(in crate::bf16) unsafe fn peak() -> f64 {
    const CHAINS: usize = 16;
    const STEPS: usize = 10_000;
    let factor = pairs(_mm512_set1_epi32(std::hint::black_box(0x3c00_3c00)));
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    let begun = Instant::now();
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, factor, factor);
        }
    }
    std::hint::black_box(sums.into_iter().fold(_mm512_setzero_ps(), |a, b| _mm512_add_ps(a, b)));
    (CHAINS * STEPS * 4 * TILE) as f64 / begun.elapsed().as_secs_f64()
}
