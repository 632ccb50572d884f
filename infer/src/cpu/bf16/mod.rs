//! MoveNet in bfloat16: the steps of the float32 engine, with maps of half the size.
//!
//! | module | what |
//! |---|---|
//! | `packed` | the layers, packed |
//! | `stage` | rows → depthwise → pointwise, fused, a band of rows at a time |
//! | `chain` | pointwise → pointwise, fused |
//! | `plan` | the steps for one input size |
//!
//! Every map between two layers is bfloat16, `[height, width, channels]` with the channels padded to whole panels, and
//! rounded once, where it is made. The heads' last layers and all that the decoder reads are float32.

mod chain;
mod packed;
mod plan;
mod stage;
#[cfg(test)]
mod tests;

pub(super) use chain::Chain;
pub(super) use packed::Packed;
pub(super) use plan::plan;
pub(super) use stage::Stage;

use cloudpose_kernels::bf16::{PANEL, padded};

/// Floats of the arena that a panel of a pixel takes.
const PANEL_FLOATS: usize = PANEL / 2;

/// Floats of the arena that a map takes.
fn map_len(pixels: usize, channels: usize) -> usize {
    pixels * padded(channels) / 2
}
