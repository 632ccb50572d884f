//! NanoDet-Plus (RangiLyu, 2021, github.com/RangiLyu/nanodet: `nanodet_plus_head.py`, `integral.py`) as its authors export it:
//! for each cell of strides 8 to 64 the score of each class, and for each side of the box how likely it is so many cells
//! away (Li et al., "Generalized Focal Loss", 2020, arXiv:2006.04388, section 3.2). `[1, cells, classes + 4 · DISTANCES]`.

use super::{Corners, LEAST_SCORE, Output, largest, suppress, unlike};
use crate::models::ModelPose;
use crate::task::Found;

const STRIDES: [usize; 4] = [8, 16, 32, 64];
/// As its authors leave out.
const OVERLAP: f32 = 0.6;
/// Whole cells from 0 on that a side of a box may be away.
const DISTANCES: usize = 8;
/// Numbers behind the classes.
pub(in crate::models::onnx) const SIDES: usize = 4 * DISTANCES;

/// How many cells an input of that size has.
pub(in crate::models::onnx) fn cells([width, height]: [usize; 2]) -> usize {
    STRIDES.iter().map(|stride| width.div_ceil(*stride) * height.div_ceil(*stride)).sum()
}

pub(super) fn decode(input: [usize; 2], person: usize, outputs: &[Output]) -> Result<Found, String> {
    let expected = "scores and distances of each cell";
    let [output] = outputs else { return Err(unlike(expected, outputs)) };
    let [1, rows, numbers] = output.shape[..] else { return Err(unlike(expected, outputs)) };
    if rows != cells(input) || rows == 0 || numbers <= SIDES + person {
        return Err(unlike(expected, outputs));
    }
    let [width, height] = input;
    let places = STRIDES.iter().flat_map(|&stride| {
        let row = move |y| (0..width.div_ceil(stride)).map(move |x| [x * stride, y * stride, stride]);
        (0..height.div_ceil(stride)).flat_map(row)
    });
    let pose = |(row, place): (&[f32], [usize; 3])| {
        let (scores, sides) = row.split_at(numbers - SIDES);
        let (class, score) = largest(scores);
        if class != person || score < LEAST_SCORE {
            return None;
        }
        let [x, y, stride] = place.map(|pixels| pixels as f32);
        let mut away = sides.chunks_exact(DISTANCES).map(|side| stride * expected_distance(side));
        let [left, top, right, bottom] = [0; 4].map(|_| away.next().unwrap_or_default());
        let corners = Corners { x_min: x - left, y_min: y - top, x_max: x + right, y_max: y + bottom };
        let bounds = Some(corners.in_input(input));
        Some(ModelPose { score: score.min(1.0), keypoints: Vec::new(), bounds })
    };
    let found = output.values.chunks_exact(numbers).zip(places).filter_map(pose).collect();
    Ok(Found::Poses(suppress(found, OVERLAP)))
}

/// The mean of the distances, each as likely as the softmax of its number says.
fn expected_distance(logits: &[f32]) -> f32 {
    let (_, highest) = largest(logits);
    let powers = logits.iter().map(|logit| (logit - highest).exp());
    let (mut sum, mut all) = (0.0, 0.0);
    for (distance, power) in powers.enumerate() {
        sum += distance as f32 * power;
        all += power;
    }
    sum / all
}

#[cfg(test)]
mod tests {
    use super::super::{output, persons};
    use super::*;
    use crate::models::ModelBox;

    #[test]
    fn sides_lie_at_the_mean_of_their_distances() {
        // 64×40 pixels: 8×5 cells of 8 pixels, 4×3 of 16, 2×2 of 32, one of 64. Two classes.
        let (input, numbers) = ([64, 40], 2 + SIDES);
        assert_eq!(cells(input), 57);
        let mut values = vec![0.0; 57 * numbers];
        let row = &mut values[(40 + 4 + 1) * numbers..][..numbers];
        row[..2].copy_from_slice(&[0.75, 0.5]);
        // One cell to the left and above for sure, to the right as likely two as three, below nobody knows: 3.5.
        for (place, logit) in [(1, 60.0), (8 + 1, 60.0), (16 + 2, 50.0), (16 + 3, 50.0)] {
            row[2 + place] = logit;
        }
        // Rather of the other class.
        values[..2].copy_from_slice(&[0.25, 0.75]);
        let outputs = [output("output", &[1, 57, numbers], values)];
        let [person] = persons(decode(input, 0, &outputs)).try_into().unwrap();
        assert_eq!(person.score, 0.75);
        // The cell of stride 16 in column 1 and row 1, whose corner is (16, 16).
        let [width, height] = [64.0, 40.0];
        let bounds = ModelBox {
            x_min: 0.0,
            y_min: 0.0,
            x_max: (16.0 + 2.5 * 16.0) / width,
            y_max: (16.0 + 3.5 * 16.0) / height,
        };
        assert_eq!(person.bounds, Some(bounds));
        assert_eq!(persons(decode(input, 1, &outputs))[0].score, 0.75);
        assert!(decode([64, 64], 0, &outputs).unwrap_err().contains("57"), "another number of cells");
        assert!(decode(input, 2, &outputs).is_err(), "there is no such class");
    }
}
