//! The model's input from 8-bit pixels: `out = scale[c] · pixel + offset[c]`.

pub(crate) mod kernel;
#[cfg(test)]
mod tests;

use crate::Kernels;

/// Scale and offset of the three colour channels, repeated over whole vectors of any instruction set.
#[derive(Clone, Debug)]
pub struct Pattern {
    scale: [f32; Self::PERIOD],
    offset: [f32; Self::PERIOD],
}

impl Pattern {
    /// The shortest run of interleaved pixels that is whole vectors of 16 lanes.
    const PERIOD: usize = 48;

    /// The pattern of interleaved pixels with these scales and offsets, in the pixels' channel order.
    pub fn new(scale: [f32; 3], offset: [f32; 3]) -> Self {
        Self { scale: std::array::from_fn(|i| scale[i % 3]), offset: std::array::from_fn(|i| offset[i % 3]) }
    }
}

impl Kernels {
    /// Normalises interleaved three-channel pixels, beginning with the first channel.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn normalise(&self, pattern: &Pattern, pixels: &[u8], output: &mut [f32]) {
        assert_eq!(pixels.len(), output.len(), "one float a byte");
        // SAFETY: the processor has the instructions: see `Kernels::of`.
        unsafe { (self.normalise)(pattern, pixels, output) }
    }
}
