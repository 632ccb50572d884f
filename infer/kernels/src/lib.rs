//! CPU SIMD kernels of the pose engine: pointwise GEMM, depthwise convolutions, upsample-add, activations, normalisation.
//!
//! Sits under the CPU engine of `cloudpose-infer`, which decides what runs in which order on which memory;
//! this crate only computes. It knows no tensors, models or threads, and is the only place on the CPU side
//! with `unsafe` code: everything public checks lengths and is safe.
//!
//! | module | what |
//! |---|---|
//! | [`Kernels`], [`Isa`] | the instruction set, chosen once; one table of functions per set |
//! | [`pointwise`] | 1×1 convolution with bias, clamp and residual; with [`pointwise::Segment`]s also the first 3×3 convolution |
//! | [`depthwise`] | 3×3 and 5×5 depthwise convolution, stride 1 and 2 |
//! | [`upsample`] | bilinear ×2 upsampling, added to a row |
//! | [`elementwise`] | activations, sums, products, maxima |
//! | [`bf16`] | convolutions of bfloat16 |
//! | [`normalise`] | 8-bit pixels to the model's input range |
//! | `peak` | what the processor can do at most, to compare with |
//! | `extent` | how far strided data reach, for the checks |
//! | `vector` | the operations the kernels are written in, per instruction set |
//!
//! Activations are float32 but in [`bf16`], channels last. Each kernel's module states its formula, order of summation
//! and error bound, and tests hold every instruction set to it.
#![expect(unsafe_code, reason = "SIMD intrinsics and raw pointers in inner loops: what this crate is for")]
#![expect(
    clippy::needless_range_loop,
    reason = "register tiles: constant bounds over several arrays at once, which must unroll completely"
)]

mod aligned;
pub mod bf16;
pub mod depthwise;
pub mod elementwise;
mod extent;
mod isa;
pub mod normalise;
mod peak;
pub mod pointwise;
#[cfg(test)]
mod suite;
pub mod upsample;
mod vector;

pub use aligned::{AlignedVec, Slab};
pub use isa::{ISA_VARIABLE, Isa, IsaError, Kernels};
pub use pointwise::Clamp;
