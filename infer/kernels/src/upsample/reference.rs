//! The meaning of bilinear ×2 upsampling, in double precision, from the definition of half-pixel centres:
//! output `i` samples the input at `(i + ½) / 2 − ½`.

/// Upsamples `[height, width, channels]`; each element with its error bound.
pub(super) fn upsample(image: &[f32], height: usize, width: usize, channels: usize) -> Vec<(f64, f64)> {
    let mut result = Vec::new();
    for y in 0..2 * height {
        for x in 0..2 * width {
            for c in 0..channels {
                let (mut sum, mut magnitude) = (0.0, 0.0);
                for (row, down) in weights(y, height) {
                    for (column, across) in weights(x, width) {
                        let term = down * across * f64::from(image[(row * width + column) * channels + c]);
                        sum += term;
                        magnitude += term.abs();
                    }
                }
                result.push((sum, 6.0 * f64::from(f32::EPSILON) * magnitude));
            }
        }
    }
    result
}

/// The two inputs that make output `i`, and their weights.
fn weights(i: usize, size: usize) -> [(usize, f64); 2] {
    let at = (i as f64 + 0.5) / 2.0 - 0.5;
    let clamped = |index: f64| index.clamp(0.0, size as f64 - 1.0) as usize;
    let fraction = at - at.floor();
    [(clamped(at.floor()), 1.0 - fraction), (clamped(at.floor() + 1.0), fraction)]
}
