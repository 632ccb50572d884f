//! Which instruction set the kernels run on, and the one table that says which function that means.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::depthwise::kernel::Walks;
use crate::depthwise::{self, RowTask};
use crate::elementwise::{self, Activation, Pairing};
use crate::normalise;
use crate::pointwise::kernel::{Rows, Tiles};
use crate::pointwise::sparse::{Part, SparseTiles};
use crate::pointwise::{self, Panel, Product};
use crate::upsample::{self, UpsampleTask};
#[cfg(target_arch = "aarch64")]
use crate::vector::Neon;
#[cfg(target_arch = "x86_64")]
use crate::vector::{Avx2, Avx512};
use crate::vector::{Portable, Vector};

/// Forces an instruction set: `avx512`, `avx2`, `neon` or `portable`.
pub const ISA_VARIABLE: &str = "CLOUDPOSE_ISA";

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Nothing beyond the compilation target's baseline; the only one on other architectures.
    Portable,
    /// 64-bit Arm: 4 lanes.
    Neon,
    /// x86-64 with AVX2 and FMA: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512F: 16 lanes.
    Avx512,
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// The name is not one of ours.
    #[error("{ISA_VARIABLE}={0}: unknown, use avx512, avx2, neon or portable")]
    Unknown(String),
    /// This processor, or this build, does not have it.
    #[error("this processor does not support {0}")]
    Unsupported(Isa),
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for Isa {
    type Err = IsaError;
    fn from_str(name: &str) -> Result<Self, IsaError> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.to_string() == name)
            .ok_or_else(|| IsaError::Unknown(name.to_owned()))
    }
}

impl Isa {
    /// All of them, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// Whether this processor and this build can run it.
    pub fn is_supported(self) -> bool {
        match self {
            Self::Portable => portable::is_supported(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::is_supported(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::is_supported(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::is_supported(),
            #[allow(unreachable_patterns, reason = "which sets are left over depends on the architecture")]
            _ => false,
        }
    }

    /// The best one that this processor supports.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_supported()).unwrap_or(Self::Portable)
    }
}

/// The kernels of one instruction set. Copies are cheap: it is a row of function pointers.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    isa: Isa,
    pub(crate) lanes: usize,
    pub(crate) tile_vectors: usize,
    pub(crate) sparse_vectors: usize,
    pub(crate) product: unsafe fn(&Product<'_>),
    pub(crate) sparse_product: unsafe fn(&Product<'_>),
    pub(crate) depthwise_rows: unsafe fn(&RowTask<'_>),
    pub(crate) upsample_add_row: unsafe fn(&UpsampleTask),
    pub(crate) normalise: unsafe fn(&normalise::Pattern, &[u8], &mut [f32]),
    pub(crate) activate: unsafe fn(Activation, &mut [f32]),
    pub(crate) pair: unsafe fn(Pairing, &mut [f32], &[f32]),
    pub(crate) peak: unsafe fn(f32) -> f32,
}

/// Defines the entry points of one instruction set: the only place where it is enabled, and looked for. What is
/// enabled is what was looked for, because it is one list.
macro_rules! entries {
    ($module:ident, $vector:ty, $isa:expr $(, $detect:ident: $($feature:tt),+)?) => {
        mod $module {
            use super::*;
            /// Whether the processor has every feature that is enabled below.
            pub(super) fn is_supported() -> bool {
                true $($(&& std::arch::$detect!($feature))+)?
            }
            // SAFETY, for all of them: callers uphold the generic body's contract; having come through
            // `Kernels::of`, the processor supports the features.
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn product(task: &Product<'_>) {
                // SAFETY: see above.
                unsafe { pointwise::kernel::product::<$vector>(task) }
            }
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn sparse_product(task: &Product<'_>) {
                // SAFETY: see above.
                unsafe { pointwise::sparse::product::<$vector>(task) }
            }
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn depthwise_rows(task: &RowTask<'_>) {
                // SAFETY: see above.
                unsafe { depthwise::kernel::rows::<$vector>(task) }
            }
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn upsample_add_row(task: &UpsampleTask) {
                // SAFETY: see above.
                unsafe { upsample::kernel::add_row::<$vector>(task) }
            }
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn normalise(pattern: &normalise::Pattern, from: &[u8], to: &mut [f32]) {
                normalise::kernel::normalise(pattern, from, to);
            }
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn activate(activation: Activation, values: &mut [f32]) {
                elementwise::kernel::activate(activation, values);
            }
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn pair(pairing: Pairing, a: &mut [f32], b: &[f32]) {
                elementwise::kernel::pair(pairing, a, b);
            }
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn peak(factor: f32) -> f32 {
                // SAFETY: see above.
                unsafe { crate::peak::chains::<$vector>(factor) }
            }
            #[inline(never)]
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn tiles<const MR: usize, const NV: usize>(task: &Product<'_>, panel: &Panel, rows: Rows) {
                // SAFETY: see above.
                unsafe { pointwise::kernel::tiles::<$vector, MR, NV>(task, panel, rows) }
            }
            #[inline(never)]
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn sparse_tiles<const MR: usize, const NV: usize>(
                task: &Product<'_>,
                panel: &Panel,
                part: Part<'_>,
            ) {
                // SAFETY: see above.
                unsafe { pointwise::sparse::tiles::<$vector, MR, NV>(task, panel, part) }
            }
            #[inline(never)]
            $($(#[target_feature(enable = $feature)])+)?
            unsafe fn walk<const K: usize, const R: usize, const S: usize>(task: &RowTask<'_>) {
                // SAFETY: see above.
                unsafe { depthwise::kernel::walk::<$vector, K, R, S>(task) }
            }
            impl Walks for $vector {
                #[inline(always)]
                unsafe fn walk<const K: usize, const R: usize, const S: usize>(task: &RowTask<'_>) {
                    // SAFETY: see above.
                    unsafe { walk::<K, R, S>(task) }
                }
            }
            impl Tiles for $vector {
                #[inline(always)]
                unsafe fn tiles<const MR: usize, const NV: usize>(
                    task: &Product<'_>,
                    panel: &Panel,
                    rows: Rows,
                ) {
                    // SAFETY: see above.
                    unsafe { tiles::<MR, NV>(task, panel, rows) }
                }
            }
            impl SparseTiles for $vector {
                #[inline(always)]
                unsafe fn sparse_tiles<const MR: usize, const NV: usize>(
                    task: &Product<'_>,
                    panel: &Panel,
                    part: Part<'_>,
                ) {
                    // SAFETY: see above.
                    unsafe { sparse_tiles::<MR, NV>(task, panel, part) }
                }
            }
            pub(super) const KERNELS: Kernels = Kernels {
                isa: $isa,
                lanes: <$vector>::LANES,
                tile_vectors: <$vector>::TILE_VECTORS,
                sparse_vectors: <$vector>::SPARSE_VECTORS,
                product,
                sparse_product,
                depthwise_rows,
                upsample_add_row,
                normalise,
                activate,
                pair,
                peak,
            };
        }
    };
}

entries!(portable, Portable, Isa::Portable);
#[cfg(target_arch = "aarch64")]
entries!(neon, Neon, Isa::Neon, is_aarch64_feature_detected: "neon");
#[cfg(target_arch = "x86_64")]
entries!(avx2, Avx2, Isa::Avx2, is_x86_feature_detected: "avx2", "fma", "popcnt");
#[cfg(target_arch = "x86_64")]
entries!(avx512, Avx512, Isa::Avx512, is_x86_feature_detected: "avx512f", "avx2", "fma", "popcnt");

/// The instruction set that [`ISA_VARIABLE`] names, if it names one.
pub(crate) fn forced() -> Result<Option<Isa>, IsaError> {
    match std::env::var(ISA_VARIABLE) {
        Ok(name) if !name.is_empty() => name.parse().map(Some),
        _ => Ok(None),
    }
}

impl Kernels {
    /// The kernels of `isa`.
    ///
    /// # Errors
    /// [`IsaError::Unsupported`] if this processor lacks it.
    pub fn of(isa: Isa) -> Result<Self, IsaError> {
        if !isa.is_supported() {
            return Err(IsaError::Unsupported(isa));
        }
        match isa {
            Isa::Portable => Ok(portable::KERNELS),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Ok(neon::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Ok(avx2::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Ok(avx512::KERNELS),
            #[allow(unreachable_patterns, reason = "which sets are left over depends on the architecture")]
            other => Err(IsaError::Unsupported(other)),
        }
    }

    /// The kernels of the best instruction set, or of the one that [`ISA_VARIABLE`] names. The choice is
    /// made once per process.
    ///
    /// # Errors
    /// [`IsaError`] if the variable names an instruction set that is unknown or that this processor lacks.
    pub fn detect() -> Result<Self, IsaError> {
        static CHOSEN: OnceLock<Result<Kernels, IsaError>> = OnceLock::new();
        CHOSEN.get_or_init(|| Self::of(forced()?.unwrap_or_else(Isa::best))).clone()
    }

    /// Floats of a vector.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert_eq!("sse9".parse::<Isa>(), Err(IsaError::Unknown("sse9".to_owned())));
    }

    #[test]
    fn an_instruction_set_the_processor_lacks_is_refused() {
        for isa in Isa::ALL {
            match Kernels::of(isa) {
                Ok(kernels) => assert!(isa.is_supported() && kernels.isa() == isa),
                Err(error) => {
                    assert!(!isa.is_supported());
                    assert_eq!(error, IsaError::Unsupported(isa));
                }
            }
        }
    }
}
