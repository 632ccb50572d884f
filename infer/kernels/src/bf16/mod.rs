//! Kernels on bfloat16: what a float32 is without its last sixteen binary digits.
//!
//! Processors multiply it two to sixteen times as fast as float32, and sum in float32. Activations and the weights of
//! pointwise layers are bfloat16, rounded to nearest even once where they are made; sums, biases and the weights of
//! depthwise layers are float32.
//!
//! Maps are channels last. Their channels are padded to whole [panels](PANEL), and **the padding is finite**: zeros
//! in everything that a kernel writes. Denormals count as zero, as they do for the processors' instructions.
//!
//! | module | what |
//! |---|---|
//! | [`Kernels`], [`Unit`] | what multiplies, chosen once; one table of functions per unit |
//! | [`product`] | 1×1 convolution with bias, clamp and residual |
//! | [`depthwise`] | 3×3 depthwise convolution, stride 1 and 2 |
//! | [`stem`] | 8-bit pixels to the windows of the first 3×3 convolution |
//! | [`upsample`] | bilinear ×2 upsampling of a row |

pub mod depthwise;
mod number;
pub mod product;
pub mod stem;
mod unit;
pub mod upsample;

pub use number::{Bf16, numbers, numbers_mut, widen};
pub use unit::{Kernels, Unit};

/// Channels of a panel: a cache line of them.
pub const PANEL: usize = 32;

/// Channels in memory of a map with that many: whole panels.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(PANEL)
}
