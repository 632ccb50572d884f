//! Channels that cannot change a result, left out when the weights are packed.
//!
//! Of the 32 channels of Lightning's first block, training left 7 whose weights to the next layer are exactly
//! zero, and one that the activation cuts to zero whatever the picture: a quarter of that block's work.

/// The largest activation that enters a depthwise convolution: it comes from a ReLU6.
const LARGEST: f64 = 6.0;

/// The channels of a depthwise convolution, followed by a ReLU and a pointwise convolution, that can change the
/// result: all but those with no weight behind them, or with no activation above zero possible. Channels are
/// left out by the `multiple` only, fewer would leave a vector partly empty.
///
/// `taps` is `[9, channels]`, `bias` `[channels]`, `behind` `[channels, columns]`, the pointwise weights.
pub(super) fn channels_that_matter(
    taps: &[f32],
    bias: &[f32],
    behind: &[f32],
    multiple: usize,
) -> Vec<usize> {
    let channels = bias.len();
    let columns = behind.len() / channels;
    let is_idle = |channel: usize| {
        let taps = taps.iter().skip(channel).step_by(channels).map(|&tap| f64::from(tap));
        let bias = f64::from(bias[channel]);
        let largest = bias + LARGEST * taps.clone().map(|tap| tap.max(0.0)).sum::<f64>();
        // What the kernel's sum, in single precision, may be off by.
        let magnitude = bias.abs() + LARGEST * taps.map(f64::abs).sum::<f64>();
        let error = 10.0 * f64::from(f32::EPSILON) * magnitude;
        let unused = behind[channel * columns..][..columns].iter().all(|&weight| weight == 0.0);
        unused || largest + error <= 0.0
    };
    let mut droppable = (0..channels).filter(|&c| is_idle(c)).count() / multiple * multiple;
    let mut is_dropped = |channel| {
        let drop = droppable > 0 && is_idle(channel);
        droppable -= usize::from(drop);
        drop
    };
    (0..channels).filter(|&channel| !is_dropped(channel)).collect()
}

/// The named columns of a row-major matrix of `columns` columns.
pub(super) fn select_columns(matrix: &[f32], columns: usize, keep: &[usize]) -> Vec<f32> {
    matrix.chunks_exact(columns).flat_map(|row| keep.iter().map(|&column| row[column])).collect()
}

/// The named rows of a row-major matrix of `rows` rows.
pub(super) fn select_rows(matrix: &[f32], rows: usize, keep: &[usize]) -> Vec<f32> {
    let columns = matrix.len() / rows;
    keep.iter().flat_map(|&row| &matrix[row * columns..][..columns]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five channels: unused, certainly negative, all but certainly negative, and two that matter.
    fn layers() -> ([Vec<f32>; 2], Vec<f32>) {
        let mut taps = vec![0.5; 9 * 5];
        taps[1..].iter_mut().step_by(5).for_each(|tap| *tap = -0.25);
        let bias = vec![1.0, -0.5, -27.0, 1.0, 1.0];
        ([taps, bias], vec![0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 1.0, 0.0])
    }

    #[test]
    fn only_channels_that_cannot_matter_are_left_out() {
        let ([taps, bias], behind) = layers();
        assert_eq!(channels_that_matter(&taps, &bias, &behind, 1), [2, 3, 4]);
        assert_eq!(channels_that_matter(&taps, &bias, &behind, 2), [2, 3, 4]);
        assert_eq!(channels_that_matter(&taps, &bias, &behind, 3), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn rows_and_columns_are_selected_in_order() {
        let matrix = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(select_columns(&matrix, 3, &[0, 2]), [1.0, 3.0, 4.0, 6.0]);
        assert_eq!(select_rows(&matrix, 3, &[1, 2]), [3.0, 4.0, 5.0, 6.0]);
    }
}
