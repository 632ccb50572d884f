//! The meaning of a product, and its error bound, in double precision; and the bits of AMX.

use crate::Clamp;
use crate::bf16::Bf16;

/// One product: `left` is `[rows, depth]`, `weights` `[depth, columns]` with `columns = bias.len()`, `residual` (may be
/// empty) `[rows, columns]`.
pub(super) struct Case {
    pub(super) left: Vec<Bf16>,
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) residual: Vec<Bf16>,
    pub(super) clamp: Clamp,
}

/// Each sum with its error bound.
pub(super) fn product(case: &Case) -> Vec<(f64, f64)> {
    let columns = case.bias.len();
    let depth = case.weights.len() / columns;
    let mut result = Vec::new();
    for (m, left) in case.left.chunks_exact(depth).enumerate() {
        for n in 0..columns {
            let residual =
                case.residual.get(m * columns + n).map_or(0.0, |number| f64::from(number.to_f32()));
            let mut sum = f64::from(case.bias[n]) + residual;
            let mut magnitude = f64::from(case.bias[n].abs()) + residual.abs();
            for k in 0..depth {
                let weight = Bf16::from_f32(case.weights[k * columns + n]);
                let term = f64::from(left[k].to_f32()) * f64::from(weight.to_f32());
                sum += term;
                magnitude += term.abs();
            }
            let bound = (depth + 4) as f64 * f64::from(f32::EPSILON) * magnitude;
            result.push((sum.clamp(case.clamp.low.into(), case.clamp.high.into()), bound));
        }
    }
    result
}

/// The bound of a result that is rounded too.
pub(super) fn rounded(sums: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    sums.into_iter().map(|(sum, bound)| (sum, bound + (sum.abs() + bound) / 256.0)).collect()
}

/// The sums of `tdpbf16ps`, which are of a block of 32 depths after another, bit by bit.
pub(super) fn of_tiles(case: &Case) -> Vec<f32> {
    let columns = case.bias.len();
    let depth = case.weights.len() / columns;
    let mut result = Vec::new();
    for left in case.left.chunks_exact(depth) {
        for n in 0..columns {
            let mut sum = case.bias[n];
            for block in (0..depth).step_by(32) {
                let mut halves = [0.0_f32; 2];
                for k in block..depth.min(block + 32) {
                    halves[k % 2] +=
                        left[k].to_f32() * Bf16::from_f32(case.weights[k * columns + n]).to_f32();
                }
                sum += halves[0] + halves[1];
            }
            result.push(sum);
        }
    }
    result
}
