//! What is done number by number: activations, sums, products and maxima of maps.
//!
//! | activation | out |
//! |---|---|
//! | sigmoid | `1 / (1 + exp(−x))` |
//! | SiLU | `x · sigmoid(x)` |
//! | hard sigmoid | `clamp(slope · x + offset, 0, 1)` |
//! | hard swish | `x · hard sigmoid(x)` |
//!
//! `exp` is a polynomial of degree 6 on `[−ln 2 / 2, ln 2 / 2]` (Cody and Waite's reduction), scaled by a power of two: its
//! relative error is below `4 · 2⁻²⁴`, that of a sigmoid or SiLU below `8 · 2⁻²⁴`, and that of the hard ones below as much of their terms' sum. A sigmoid of less than −40 is that of −40,
//! `4 · 10⁻¹⁸`: what is smaller ends in numbers so small that processors take a hundred cycles for each. NaN stays NaN.

pub(crate) mod kernel;
#[cfg(test)]
mod tests;

use crate::{Clamp, Kernels};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// To a range.
    Clamp(Clamp),
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// `x · sigmoid(x)`.
    Silu,
    /// `clamp(slope · x + offset, 0, 1)`.
    HardSigmoid {
        /// Of the line.
        slope: f32,
        /// Of the line at 0.
        offset: f32,
    },
    /// `x · clamp(slope · x + offset, 0, 1)`.
    HardSwish {
        /// Of the line.
        slope: f32,
        /// Of the line at 0.
        offset: f32,
    },
}

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `a + b`.
    Sum,
    /// `a · b`.
    Product,
    /// The larger one; NaN if `b` is.
    Maximum,
}

impl Kernels {
    /// Applies `activation` to each of `values`.
    pub fn activate(&self, activation: Activation, values: &mut [f32]) {
        // SAFETY: the processor has the instructions: see `Kernels::of`.
        unsafe { (self.activate)(activation, values) }
    }

    /// Puts `a[i] = pairing(a[i], b[i])`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn pair(&self, pairing: Pairing, a: &mut [f32], b: &[f32]) {
        assert_eq!(a.len(), b.len(), "as many numbers on both sides");
        // SAFETY: the processor has the instructions: see `Kernels::of`.
        unsafe { (self.pair)(pairing, a, b) }
    }
}
