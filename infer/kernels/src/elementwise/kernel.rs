//! Plain loops: the compiler vectorises them for the instruction set of the function they are inlined in.

use super::{Activation, Pairing};

#[inline(always)]
pub(crate) fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Clamp(clamp) => each(values, |x| {
            let x = if x < clamp.low { clamp.low } else { x };
            if x > clamp.high { clamp.high } else { x }
        }),
        Activation::Sigmoid => each(values, sigmoid),
        Activation::Silu => each(values, |x| x * sigmoid(x)),
        Activation::HardSigmoid { slope, offset } => each(values, |x| hard(slope, offset, x)),
        Activation::HardSwish { slope, offset } => each(values, |x| x * hard(slope, offset, x)),
    }
}

#[inline(always)]
pub(crate) fn pair(pairing: Pairing, a: &mut [f32], b: &[f32]) {
    match pairing {
        Pairing::Sum => both(a, b, |a, b| a + b),
        Pairing::Product => both(a, b, |a, b| a * b),
        Pairing::Maximum => both(a, b, |a, b| if a > b { a } else { b }),
    }
}

#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    for value in values {
        *value = function(*value);
    }
}

#[inline(always)]
fn both(a: &mut [f32], b: &[f32], function: impl Fn(f32, f32) -> f32) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = function(*a, *b);
    }
}

#[inline(always)]
fn hard(slope: f32, offset: f32, x: f32) -> f32 {
    let line = slope * x + offset;
    let line = if line < 0.0 { 0.0 } else { line };
    if line > 1.0 { 1.0 } else { line }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(if x < -LARGEST { LARGEST } else { -x }))
}

/// Adding and subtracting it rounds a number below 2²² to a whole one, which its lowest bits then hold.
const ROUND: f32 = 12_582_912.0;
/// `ln 2`, the first part short enough that its product with a whole number of 8 bits is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// The sigmoid of less than its negative is that.
const LARGEST: f32 = 40.0;
/// Below it a power of two is no float, and nothing beside 1.
const SMALLEST: f32 = -87.0;

/// Of at most [`LARGEST`]; what is below [`SMALLEST`] counts as that.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = if x < SMALLEST { SMALLEST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = x - whole * LN_2[0] - whole * LN_2[1];
    // 1 / n!
    let mut sum = 1.0 / 720.0;
    for factor in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * rest + factor;
    }
    // The exponent's bits of 2^whole.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    sum * power
}
