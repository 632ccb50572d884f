//! SimCC (Li et al., 2022, arXiv:2107.03332): for each keypoint a row of scores along either axis, each pixel of the
//! input cut in bins. `[1, K, bins across]`, `[1, K, bins down]`.
//!
//! As MMPose decodes it (`get_simcc_maximum`): where the scores are highest; the lower of the two is the keypoint's.

use super::{Output, keypoint, largest, one_person, unlike};
use crate::task::Found;

pub(super) fn decode(input: [usize; 2], outputs: &[Output]) -> Result<Found, String> {
    let expected = "a row of bins across and one down for each keypoint";
    let [across, down] = outputs else { return Err(unlike(expected, outputs)) };
    let ([1, keypoints, columns], [1, same, rows]) = (&across.shape[..], &down.shape[..]) else {
        return Err(unlike(expected, outputs));
    };
    if keypoints != same || *columns == 0 || *rows == 0 {
        return Err(unlike(expected, outputs));
    }
    let axes = across.values.chunks_exact(*columns).zip(down.values.chunks_exact(*rows));
    let place = |(across, down)| {
        let ((column, sure_across), (row, sure_down)) = (largest(across), largest(down));
        let x = column as f32 * input[0] as f32 / *columns as f32;
        let y = row as f32 * input[1] as f32 / *rows as f32;
        keypoint([x, y, sure_across.min(sure_down)], input)
    };
    Ok(one_person(axes.map(place).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::{output, persons};
    use super::*;

    #[test]
    fn keypoints_are_where_both_rows_are_highest() {
        // An input of 4×6 pixels, two bins a pixel.
        let mut across = vec![0.0; 2 * 8];
        let mut down = vec![0.0; 2 * 12];
        (across[5], down[9]) = (0.75, 0.5);
        (across[8], down[12 + 11]) = (1.5, 1.25);
        let outputs = [output("x", &[1, 2, 8], across), output("y", &[1, 2, 12], down)];
        let [person] = persons(decode([4, 6], &outputs)).try_into().unwrap();
        let [a, b] = person.keypoints[..] else { panic!("{person:?}") };
        assert_eq!((a.x, a.y, a.score), (2.5 / 4.0, 4.5 / 6.0, 0.5));
        assert_eq!((b.x, b.y, b.score), (0.0, 5.5 / 6.0, 1.0), "scores go up to 1");
        assert_eq!(person.score, 0.75);
    }

    #[test]
    fn other_outputs_are_refused() {
        let x = || output("x", &[1, 2, 2], vec![0.0; 4]);
        for outputs in [vec![x()], vec![x(), output("y", &[1, 3, 2], vec![0.0; 6])], vec![x(), x(), x()]] {
            assert!(decode([1, 1], &outputs).unwrap_err().contains("x [1, 2, 2]"));
        }
    }
}
