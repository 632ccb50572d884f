//! NanoDet and NanoDet-Plus (RangiLyu, 2020 and 2021, github.com/RangiLyu/nanodet: `nanodet_head.py`, `nanodet_plus_head.py`,
//! `integral.py`) as their authors export them: for each cell the score of each class, and for each side of the box how
//! likely it is so many cells away (Li et al., "Generalized Focal Loss", 2020, arXiv:2006.04388, section 3.2).
//!
//! NanoDet-Plus: `[1, cells, classes + 4 · 8]` for strides 8 to 64, from the corners of the cells on. NanoDet: for strides 8, 16
//! and 32 `[1, cells, classes]`, then for each `[1, cells, 4 · distances]`, from the middles of the cells on.

use super::{Corners, LEAST_SCORE, Output, largest, suppress, unlike};
use crate::models::ModelPose;
use crate::task::Found;

const STRIDES_OF_PLUS: [usize; 4] = [8, 16, 32, 64];
const STRIDES: [usize; 3] = [8, 16, 32];
/// As its authors leave out.
const OVERLAP: f32 = 0.6;
/// Numbers behind the classes of NanoDet-Plus: whole cells from 0 to 7 that a side may be away, for each of four.
pub(in crate::models::onnx) const SIDES_OF_PLUS: usize = 4 * 8;

/// How many cells of NanoDet-Plus an input of that size has.
pub(in crate::models::onnx) fn cells_of_plus(input: [usize; 2]) -> usize {
    STRIDES_OF_PLUS.iter().map(|stride| cells(input, *stride)).sum()
}

fn cells([width, height]: [usize; 2], stride: usize) -> usize {
    width.div_ceil(stride) * height.div_ceil(stride)
}

/// Whether outputs of those shapes are NanoDet's.
pub(in crate::models::onnx) fn is_nanodet(input: [usize; 2], shapes: &[&[usize]]) -> bool {
    let (scores, sides) = shapes.split_at(shapes.len() / 2);
    let fits = |(stride, (scores, sides)): (&usize, (&&[usize], &&[usize]))| {
        let rows = cells(input, *stride);
        matches!((*scores, *sides), (&[1, first, classes], &[1, second, numbers])
            if first == rows && second == rows && classes > 0 && numbers >= 8 && numbers.is_multiple_of(4))
    };
    shapes.len() == 2 * STRIDES.len() && STRIDES.iter().zip(scores.iter().zip(sides)).all(fits)
}

pub(super) fn decode(input: [usize; 2], person: usize, outputs: &[Output]) -> Result<Found, String> {
    let shapes: Vec<&[usize]> = outputs.iter().map(|output| &output.shape[..]).collect();
    let mut found = Vec::new();
    match shapes[..] {
        [&[1, rows, numbers]]
            if rows == cells_of_plus(input) && rows > 0 && numbers > SIDES_OF_PLUS + person =>
        {
            let mut values = outputs[0].values.chunks_exact(numbers);
            for stride in STRIDES_OF_PLUS {
                let rows = values.by_ref().take(cells(input, stride));
                let rows = rows.map(|row| row.split_at(numbers - SIDES_OF_PLUS));
                level(input, person, stride, 0.0, rows, &mut found);
            }
        }
        _ if is_nanodet(input, &shapes) && shapes[0][2] > person => {
            let (scores, sides) = outputs.split_at(STRIDES.len());
            for (stride, (scores, sides)) in STRIDES.into_iter().zip(scores.iter().zip(sides)) {
                let rows = scores.values.chunks_exact(scores.shape[2]);
                let rows = rows.zip(sides.values.chunks_exact(sides.shape[2]));
                level(input, person, stride, 0.5, rows, &mut found);
            }
        }
        _ => return Err(unlike("scores and distances of each cell", outputs)),
    }
    Ok(Found::Poses(suppress(found, OVERLAP)))
}

/// Adds the persons of one stride: `rows` are scores and likely distances of each cell, which counts from `offset` of
/// itself on.
fn level<'a>(
    input: [usize; 2],
    person: usize,
    stride: usize,
    offset: f32,
    rows: impl Iterator<Item = (&'a [f32], &'a [f32])>,
    found: &mut Vec<ModelPose>,
) {
    let columns = input[0].div_ceil(stride);
    let stride = stride as f32;
    for (cell, (scores, sides)) in rows.enumerate() {
        let (class, score) = largest(scores);
        if class != person || score < LEAST_SCORE {
            continue;
        }
        let [x, y] = [cell % columns, cell / columns].map(|at| (at as f32 + offset) * stride);
        let mut away = sides.chunks_exact(sides.len() / 4).map(|side| stride * expected_distance(side));
        let [left, top, right, bottom] = [0; 4].map(|_| away.next().unwrap_or_default());
        let corners = Corners { x_min: x - left, y_min: y - top, x_max: x + right, y_max: y + bottom };
        let bounds = Some(corners.in_input(input));
        found.push(ModelPose { score: score.min(1.0), keypoints: Vec::new(), bounds });
    }
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
        let (input, numbers) = ([64, 40], 2 + SIDES_OF_PLUS);
        assert_eq!(cells_of_plus(input), 57);
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

    #[test]
    fn sides_of_the_older_heads_lie_around_the_middles_of_cells() {
        // 32×32 pixels: 16 cells of 8 pixels, 4 of 16, one of 32. Two classes; 0, 1 or 2 cells away.
        let level =
            |cells: usize, numbers: usize| output("", &[1, cells, numbers], vec![0.0; cells * numbers]);
        let mut outputs =
            vec![level(16, 2), level(4, 2), level(1, 2), level(16, 12), level(4, 12), level(1, 12)];
        // Of stride 16 the last cell, whose middle is (24, 24).
        outputs[1].values[7] = 0.75;
        for (place, logit) in [(1, 60.0), (3, 60.0), (6, 50.0), (7, 50.0)] {
            outputs[4].values[3 * 12 + place] = logit;
        }
        let [person] = persons(decode([32, 32], 1, &outputs)).try_into().unwrap();
        let bounds = ModelBox { x_min: 8.0 / 32.0, y_min: 24.0 / 32.0, x_max: 1.0, y_max: 40.0 / 32.0 };
        assert_eq!((person.score, person.bounds), (0.75, Some(bounds)));
        assert!(persons(decode([32, 32], 0, &outputs)).is_empty());
        assert!(decode([32, 32], 2, &outputs).is_err(), "there is no such class");
        outputs.swap(0, 1);
        assert!(decode([32, 32], 1, &outputs).unwrap_err().contains("16"), "another order");
    }
}
