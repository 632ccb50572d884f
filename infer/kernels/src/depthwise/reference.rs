//! The meaning of a depthwise convolution, and its error bound, in double precision.

use super::Stride;
use crate::Clamp;

/// One convolution: `image` is `[height, width, channels]`, `weights` `[size, size, channels]`.
pub(crate) struct Case {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) size: usize,
    pub(crate) stride: Stride,
    pub(crate) image: Vec<f32>,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) clamp: Clamp,
}

/// Each element of the result with its error bound.
pub(crate) fn convolution(case: &Case) -> Vec<(f64, f64)> {
    let Case { height, width, channels, size, .. } = *case;
    let step = case.stride.pixels();
    let pad = case.stride.pad_before(size);
    let mut result = Vec::new();
    for y in 0..height / step {
        for x in 0..width / step {
            for c in 0..channels {
                let mut sum = case.bias.as_ref().map_or(0.0, |bias| f64::from(bias[c]));
                let mut magnitude = sum.abs();
                for (r, d) in (0..size).flat_map(|r| (0..size).map(move |d| (r, d))) {
                    let (row, column) = (y * step + r, x * step + d);
                    if row < pad || row - pad >= height || column < pad || column - pad >= width {
                        continue;
                    }
                    let pixel = case.image[((row - pad) * width + column - pad) * channels + c];
                    let term = f64::from(pixel) * f64::from(case.weights[(r * size + d) * channels + c]);
                    sum += term;
                    magnitude += term.abs();
                }
                let bound = (size * size + 1) as f64 * f64::from(f32::EPSILON) * magnitude;
                result.push((sum.clamp(case.clamp.low.into(), case.clamp.high.into()), bound));
            }
        }
    }
    result
}
