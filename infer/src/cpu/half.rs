//! Which models the processor computes in bfloat16.

use cloudpose_kernels::{Kernels, bf16};

use super::Error;
use crate::gpu::Precision;

/// How many times as fast as float32 bfloat16 must be multiplied to be worth its error: on a Xeon without AMX it is
/// slower than float32, with AVX512_BF16 on Zen 4 twice and with AMX eight times as fast.
const WORTH: f64 = 1.5;

/// Kernels on bfloat16, and who runs on them.
#[derive(Clone, Copy, Debug)]
pub struct Half {
    kernels: bf16::Kernels,
    /// Whether models do whose accuracy nobody has measured.
    is_asked_for: bool,
}

impl Half {
    /// What `precision` means on this processor, beside `single`; none if nothing is computed in bfloat16.
    ///
    /// # Errors
    /// [`Error::Isa`] if the instruction set that is to be used is unknown.
    pub fn of(precision: Precision, single: &Kernels) -> Result<Option<Self>, Error> {
        let is_asked_for = precision == Precision::Bf16;
        if precision == Precision::F32 {
            return Ok(None);
        }
        let kernels = bf16::Kernels::detect()?;
        let is_taken = is_asked_for || kernels.speed_up(single) >= WORTH;
        Ok(is_taken.then_some(Self { kernels, is_asked_for }))
    }

    /// The kernels for a model, of which somebody has measured or not that its accuracy holds.
    pub fn kernels(&self, is_measured: bool) -> Option<bf16::Kernels> {
        (is_measured || self.is_asked_for).then_some(self.kernels)
    }

    /// What multiplies.
    pub fn unit(&self) -> bf16::Unit {
        self.kernels.unit()
    }
}
