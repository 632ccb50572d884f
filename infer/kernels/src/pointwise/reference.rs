//! The meaning of a pointwise convolution, and its error bound, in double precision.

use crate::Clamp;

/// One product: `left` is `[rows, depth]`, `weights` `[depth, columns]` with `columns = bias.len()`,
/// `residual` (may be empty) `[rows, columns]`.
pub(super) struct Case {
    pub(super) left: Vec<f32>,
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) residual: Vec<f32>,
    pub(super) clamp: Clamp,
}

/// Each element of the result with its error bound.
pub(super) fn product(case: &Case) -> Vec<(f64, f64)> {
    let columns = case.bias.len();
    let depth = case.weights.len() / columns;
    let mut result = Vec::new();
    for (m, left) in case.left.chunks_exact(depth).enumerate() {
        for n in 0..columns {
            let residual = case.residual.get(m * columns + n).copied().unwrap_or(0.0);
            let mut sum = f64::from(case.bias[n]) + f64::from(residual);
            let mut magnitude = f64::from(case.bias[n].abs()) + f64::from(residual.abs());
            for k in 0..depth {
                let term = f64::from(left[k]) * f64::from(case.weights[k * columns + n]);
                sum += term;
                magnitude += term.abs();
            }
            let bound = (depth + 2) as f64 * f64::from(f32::EPSILON) * magnitude;
            result.push((sum.clamp(case.clamp.low.into(), case.clamp.high.into()), bound));
        }
    }
    result
}
