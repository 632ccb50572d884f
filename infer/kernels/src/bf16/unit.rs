//! What multiplies bfloat16, and the one table that says which function that means.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use super::depthwise::RowTask;
use super::product::Product;
use super::stem::StemTask;
use super::upsample::UpsampleTask;
use super::{depthwise, product, stem, upsample};
use crate::{Isa, IsaError};

/// What multiplies bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Nothing does: float32 arithmetic stands in, slowly. The same bits as `Avx512`.
    Emulated,
    /// x86-64 with AVX512_BF16: two products and sums in each of 16 lanes.
    Avx512,
    /// x86-64 with AMX-BF16, on Linux: products of whole tiles.
    Amx,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emulated => "emulated",
            Self::Avx512 => "avx512_bf16",
            Self::Amx => "amx_bf16",
        })
    }
}

impl Unit {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Emulated, Self::Avx512, Self::Amx];

    /// Whether this processor, this build and this system have it.
    pub fn is_supported(self) -> bool {
        match self {
            Self::Emulated => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::is_supported(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => avx512::is_supported() && product::amx::is_permitted(),
            #[allow(unreachable_patterns, reason = "which are left over depends on the architecture")]
            _ => false,
        }
    }

    /// The best one that goes with an instruction set that was asked for, or with any.
    fn best(isa: Option<Isa>) -> Self {
        let goes = |unit: &Self| match isa {
            None => true,
            Some(Isa::Avx512) => *unit != Self::Amx,
            Some(_) => *unit == Self::Emulated,
        };
        Self::ALL.into_iter().rev().find(|unit| goes(unit) && unit.is_supported()).unwrap_or(Self::Emulated)
    }
}

/// The kernels of one unit. Copies are cheap: it is a row of function pointers.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    unit: Unit,
    pub(super) product: unsafe fn(&Product<'_>),
    pub(super) depthwise_rows: unsafe fn(&RowTask<'_>),
    pub(super) stem_row: unsafe fn(&StemTask<'_>),
    pub(super) upsample_row: unsafe fn(&UpsampleTask<'_>),
    pub(super) peak: unsafe fn() -> f64,
}

const EMULATED: Kernels = Kernels {
    unit: Unit::Emulated,
    product: product::emulated::product,
    depthwise_rows: depthwise::emulated::rows,
    stem_row: stem::row,
    upsample_row: upsample::row,
    peak: product::emulated::peak,
};

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::*;

    pub(super) fn is_supported() -> bool {
        Isa::Avx512.is_supported()
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16")
    }

    pub(super) const KERNELS: Kernels = Kernels {
        unit: Unit::Avx512,
        product: product::avx512::product,
        depthwise_rows: depthwise::avx512::rows,
        stem_row,
        upsample_row,
        peak: product::avx512::peak,
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn stem_row(task: &StemTask<'_>) {
        // SAFETY: the caller's contract.
        unsafe { stem::row(task) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn upsample_row(task: &UpsampleTask<'_>) {
        // SAFETY: the caller's contract.
        unsafe { upsample::row(task) }
    }
}

impl Kernels {
    /// The kernels of `unit`; none if this processor lacks it.
    pub fn of(unit: Unit) -> Option<Self> {
        if !unit.is_supported() {
            return None;
        }
        match unit {
            Unit::Emulated => Some(EMULATED),
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 => Some(avx512::KERNELS),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Unit::Amx => Some(Self {
                unit: Unit::Amx,
                product: product::amx::product,
                peak: product::amx::peak,
                ..avx512::KERNELS
            }),
            #[allow(unreachable_patterns, reason = "which are left over depends on the architecture")]
            _ => None,
        }
    }

    /// The kernels of the best unit, or of the one that goes with the instruction set that
    /// [`ISA_VARIABLE`](crate::ISA_VARIABLE) names: `avx512` leaves out AMX.
    ///
    /// # Errors
    /// As [`crate::Kernels::detect`].
    pub fn detect() -> Result<Self, IsaError> {
        let forced = crate::isa::forced()?;
        Ok(Self::of(Unit::best(forced)).unwrap_or(EMULATED))
    }

    /// What multiplies.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// How many times as fast as `single` multiplies float32 this thread multiplies now, both on registers alone. Takes a
    /// few milliseconds, once a process.
    pub fn speed_up(&self, single: &crate::Kernels) -> f64 {
        static MEASURED: OnceLock<f64> = OnceLock::new();
        if self.unit == Unit::Emulated {
            return 0.0;
        }
        *MEASURED.get_or_init(|| {
            // SAFETY: the processor has the instructions: see `of`.
            let best = (0..8).map(|_| unsafe { (self.peak)() }).fold(0.0, f64::max);
            best / single.peak_flops(Duration::from_millis(4))
        })
    }
}
