//! What the processor can do at most: multiply-adds on registers, nothing else.

use std::time::{Duration, Instant};

use crate::Kernels;
use crate::vector::Vector;

/// Independent sums: more than two units with a latency of four or five need, few enough for the
/// sixteen registers of AVX2.
const CHAINS: usize = 12;
/// Multiply-adds of a chain in a measurement: long enough for the clock to be exact.
const STEPS: usize = 100_000;

/// # Safety
/// Needs the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn chains<V: Vector>(factor: f32) -> f32 {
    let mut lanes = [0.0; 16];
    // SAFETY: the caller has the instruction set, and no vector has more than 16 lanes.
    unsafe {
        let factor = V::splat(factor);
        let mut sums = [V::splat(1.0); CHAINS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, factor);
            }
        }
        let total = sums.into_iter().fold(V::splat(0.0), |total, sum| total.add(sum));
        total.store(lanes.as_mut_ptr());
    }
    lanes[0]
}

impl Kernels {
    /// Floating point operations a second that this thread reaches now on registers alone, a multiply-add
    /// counting as two: the best of `duration`'s measurements.
    pub fn peak_flops(&self, duration: Duration) -> f64 {
        let operations = (2 * CHAINS * STEPS * self.lanes) as f64;
        let (begun, mut best) = (Instant::now(), 0.0_f64);
        while begun.elapsed() < duration {
            let run = Instant::now();
            // SAFETY: the processor has the instructions: see `Kernels::of`.
            std::hint::black_box(unsafe { (self.peak)(std::hint::black_box(0.5)) });
            best = best.max(operations / run.elapsed().as_secs_f64());
        }
        best
    }
}
