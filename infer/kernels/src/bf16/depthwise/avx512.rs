//! One walk along each row, with the panel's even and odd channels in a vector each.

use std::arch::x86_64::*;

use super::{PANEL, Present, RowTask, SIZE};
use crate::bf16::Bf16;
use crate::bf16::product::avx512::{bits_of, clamp, round};
use crate::depthwise::Stride;

/// Floats of a vector.
const LANES: usize = 16;

/// The even and the odd channels of a panel.
type Two = [__m512; 2];

/// Computes the output rows of `task`.
///
/// # Safety
/// Needs AVX512_BF16, and a [`RowTask`] that [`crate::bf16::Kernels::depthwise_rows`] has checked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(in crate::bf16) unsafe fn rows(task: &RowTask<'_>) {
    let row = task.outputs() * task.shape.output_pitch;
    for (y, window) in task.windows.iter().enumerate() {
        let to = task.output.wrapping_add(y * row);
        // SAFETY: the caller's contract.
        unsafe {
            match (task.shape.stride, window.count) {
                (Stride::One, 1) => stride1::<1>(task, window, to),
                (Stride::One, 2) => stride1::<2>(task, window, to),
                (Stride::One, _) => stride1::<3>(task, window, to),
                (Stride::Two, 1) => stride2::<1>(task, window, to),
                (Stride::Two, 2) => stride2::<2>(task, window, to),
                (Stride::Two, _) => stride2::<3>(task, window, to),
            }
        }
    }
}

/// What a walk along a window's rows needs.
struct Walk<const R: usize> {
    rows: [*const Bf16; R],
    taps: [[Two; SIZE]; R],
    bias: Two,
    /// The bits of the upper half of each float.
    upper: __m512i,
    /// None if nothing is clamped.
    high: Option<__m512i>,
}

impl<const R: usize> Walk<R> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn new(task: &RowTask<'_>, window: &Present) -> Self {
        // SAFETY: the caller's contract: the taps are those of a panel, the rows those in the image.
        unsafe {
            let two =
                |tap: usize| [0, LANES].map(|at| _mm512_loadu_ps(task.taps.as_ptr().add(tap * PANEL + at)));
            let mut taps = [[[_mm512_setzero_ps(); 2]; SIZE]; R];
            let mut rows = [std::ptr::null(); R];
            for r in 0..R {
                rows[r] = window.rows[r];
                for d in 0..SIZE {
                    taps[r][d] = two((window.first_tap + r) * SIZE + d);
                }
            }
            let high = task.clamp.map(|clamp| bits_of(clamp.high));
            Self {
                rows,
                taps,
                bias: two(SIZE * SIZE),
                upper: _mm512_set1_epi32(0xffff_0000_u32 as i32),
                high,
            }
        }
    }

    /// The rows' pixels at number `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn column(&self, at: usize) -> [Two; R] {
        let mut column = [[_mm512_setzero_ps(); 2]; R];
        for r in 0..R {
            // SAFETY: the caller's contract: a panel of that pixel is in the row.
            let bits = unsafe { _mm512_loadu_si512(self.rows[r].add(at).cast()) };
            let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits));
            column[r] = [even, _mm512_castsi512_ps(_mm512_and_si512(bits, self.upper))];
        }
        column
    }

    /// `sum` plus the pixels of a column, times the taps `d` from the left.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn add(&self, column: &[Two; R], d: usize, mut sum: Two) -> Two {
        for r in 0..R {
            for half in 0..2 {
                sum[half] = _mm512_fmadd_ps(column[r][half], self.taps[r][d][half], sum[half]);
            }
        }
        sum
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn finish(&self, [even, odd]: Two, to: *mut Bf16) {
        // SAFETY: the caller's contract: there is room for a panel.
        unsafe {
            let mut rounded = round(even, odd);
            if let Some(high) = self.high {
                rounded = clamp(rounded, high);
            }
            _mm512_storeu_si512(to.cast(), rounded);
        }
    }
}

/// Each column is loaded once and added to the three outputs whose windows it is in.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn stride1<const R: usize>(task: &RowTask<'_>, window: &Present, mut to: *mut Bf16) {
    // SAFETY: the caller's contract: columns `0..width` and outputs `0..width` exist.
    unsafe {
        let walk = Walk::<R>::new(task, window);
        let (input, output) = (task.shape.input_pitch, task.shape.output_pitch);
        let first = walk.column(0);
        let mut left = walk.add(&first, 1, walk.bias);
        let mut middle = walk.add(&first, 0, walk.bias);
        for x in 1..task.shape.width {
            let column = walk.column(x * input);
            walk.finish(walk.add(&column, 2, left), to);
            to = to.add(output);
            left = walk.add(&column, 1, middle);
            middle = walk.add(&column, 0, walk.bias);
        }
        walk.finish(left, to);
    }
}

/// Even columns are in two windows, odd ones in one.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn stride2<const R: usize>(task: &RowTask<'_>, window: &Present, mut to: *mut Bf16) {
    // SAFETY: the caller's contract: columns `0..width`, even, and outputs `0..width / 2` exist.
    unsafe {
        let walk = Walk::<R>::new(task, window);
        let (input, output) = (task.shape.input_pitch, task.shape.output_pitch);
        let mut sum = walk.add(&walk.column(0), 0, walk.bias);
        sum = walk.add(&walk.column(input), 1, sum);
        for x in 1..task.shape.width / 2 {
            let even = walk.column(2 * x * input);
            walk.finish(walk.add(&even, 2, sum), to);
            to = to.add(output);
            sum = walk.add(&even, 0, walk.bias);
            sum = walk.add(&walk.column((2 * x + 1) * input), 1, sum);
        }
        walk.finish(sum, to);
    }
}
