//! YOLOv8 and YOLO11, and YOLO26, as Ultralytics exports them.
//!
//! - Of the former a column for each of thousands of candidates, `[1, 4 + classes + numbers, N]`: middle and size of the
//!   box, the score of each class, and for each keypoint x, y and its score. What overlaps is left out here.
//! - Of the latter a row for each of the best, `[1, N, 6 + numbers]`: corners, score, class, keypoints. Nothing overlaps.

use super::{Corners, LEAST_SCORE, Output, keypoints, largest, suppress, unlike};
use crate::models::ModelPose;
use crate::task::Found;

/// As Ultralytics leaves out.
const OVERLAP: f32 = 0.7;
/// Numbers of the box.
const BOX: usize = 4;
/// Box, score and class.
const HEAD: usize = 6;

/// How an output of persons with keypoints lies.
enum Layout {
    /// A row of so many numbers for each of the best.
    Rows(usize),
    /// So many numbers in a column for each of so many candidates.
    Columns(usize, usize),
}

impl Layout {
    fn of(output: &Output) -> Option<Self> {
        let [1, first, second] = output.shape[..] else { return None };
        let are = |numbers: usize, head: usize| numbers > head && (numbers - head).is_multiple_of(3);
        // A candidate has fewer numbers than there are candidates.
        if are(first, BOX + 1) && second > first {
            return Some(Self::Columns(first, second));
        }
        are(second, HEAD).then_some(Self::Rows(second))
    }
}

/// How many keypoints a person has, by an output of [`poses`].
pub(super) fn keypoints_of(output: &Output) -> usize {
    match Layout::of(output) {
        Some(Layout::Rows(numbers)) => (numbers - HEAD) / 3,
        Some(Layout::Columns(numbers, _)) => (numbers - BOX - 1) / 3,
        None => 0,
    }
}

pub(super) fn poses(input: [usize; 2], outputs: &[Output]) -> Result<Found, String> {
    let expected = "box, score and keypoints of each person";
    let [output] = outputs else { return Err(unlike(expected, outputs)) };
    match Layout::of(output) {
        Some(Layout::Rows(numbers)) => Ok(Found::Poses(best(output, numbers, input, |_| true))),
        Some(Layout::Columns(_, columns)) => {
            let pose = |column: &[f32]| candidate(column, column[BOX], &column[BOX + 1..], input);
            Ok(Found::Poses(suppress(columns_of(output, columns, pose), OVERLAP)))
        }
        None => Err(unlike(expected, outputs)),
    }
}

pub(super) fn boxes(input: [usize; 2], person: usize, outputs: &[Output]) -> Result<Found, String> {
    let expected = "box and scores of each object";
    let [output] = outputs else { return Err(unlike(expected, outputs)) };
    match output.shape[..] {
        [1, rows, HEAD] if rows > 0 => {
            Ok(Found::Poses(best(output, HEAD, input, |class| class == person as f32)))
        }
        [1, numbers, columns] if numbers > BOX + person && columns > 0 => {
            // What is more likely something else is no person.
            let pose = |column: &[f32]| {
                let (class, score) = largest(&column[BOX..]);
                (class == person).then(|| candidate(column, score, &[], input))?
            };
            Ok(Found::Poses(suppress(columns_of(output, columns, pose), OVERLAP)))
        }
        _ => Err(unlike(expected, outputs)),
    }
}

fn columns_of(output: &Output, columns: usize, pose: impl Fn(&[f32]) -> Option<ModelPose>) -> Vec<ModelPose> {
    let column = |column| output.values.iter().skip(column).step_by(columns).copied().collect::<Vec<f32>>();
    (0..columns).filter_map(|index| pose(&column(index))).collect()
}

fn candidate(column: &[f32], score: f32, numbers: &[f32], input: [usize; 2]) -> Option<ModelPose> {
    let bounds = Corners::around([column[0], column[1]], [column[2], column[3]]).in_input(input);
    let keypoints = keypoints(numbers, input);
    (score >= LEAST_SCORE).then(|| ModelPose { score: score.min(1.0), keypoints, bounds: Some(bounds) })
}

fn best(
    output: &Output,
    numbers: usize,
    input: [usize; 2],
    is_wanted: impl Fn(f32) -> bool,
) -> Vec<ModelPose> {
    let pose = |row: &[f32]| {
        let [x_min, y_min, x_max, y_max, score, class] = row[..HEAD] else { return None };
        let bounds = Corners { x_min, y_min, x_max, y_max }.in_input(input);
        let keypoints = keypoints(&row[HEAD..], input);
        let is_one = score >= LEAST_SCORE && is_wanted(class);
        is_one.then(|| ModelPose { score: score.min(1.0), keypoints, bounds: Some(bounds) })
    };
    output.values.chunks_exact(numbers).filter_map(pose).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{output, persons};
    use super::*;
    use crate::models::ModelBox;

    const INPUT: [usize; 2] = [64, 32];

    /// Rows of numbers as columns.
    fn transposed<const N: usize>(rows: &[[f32; N]]) -> Output {
        let values = (0..N).flat_map(|number| rows.iter().map(move |row| row[number])).collect();
        output("output0", &[1, N, rows.len()], values)
    }

    #[test]
    fn candidates_are_columns_of_which_those_that_overlap_are_left_out() {
        let outputs = [transposed(&[
            [32.0, 16.0, 16.0, 8.0, 0.5, 30.0, 14.0, 0.25],
            [33.0, 16.0, 16.0, 8.0, 0.75, 31.0, 15.0, 0.5],
            [8.0, 8.0, 4.0, 4.0, 0.04, 1.0, 1.0, 1.0],
            [0.0; 8],
            [0.0; 8],
            [0.0; 8],
            [0.0; 8],
            [0.0; 8],
            [0.0; 8],
        ])];
        let [person] = persons(poses(INPUT, &outputs)).try_into().unwrap();
        assert_eq!((person.score, person.keypoints.len()), (0.75, 1));
        let keypoint = person.keypoints[0];
        assert_eq!((keypoint.x, keypoint.y, keypoint.score), (31.0 / 64.0, 15.0 / 32.0, 0.5));
        let bounds =
            ModelBox { x_min: 25.0 / 64.0, y_min: 12.0 / 32.0, x_max: 41.0 / 64.0, y_max: 20.0 / 32.0 };
        assert_eq!(person.bounds, Some(bounds));
    }

    #[test]
    fn the_best_are_rows() {
        let rows = [
            [8.0, 4.0, 16.0, 12.0, 0.5, 0.0, 10.0, 6.0, 0.25],
            [8.0, 4.0, 16.0, 12.0, 0.5, 0.0, 11.0, 6.0, 0.25],
            [0.0; 9],
        ];
        let found = persons(poses(INPUT, &[output("output0", &[1, 3, 9], rows.concat())]));
        assert_eq!(found.len(), 2, "the graph has left out what overlaps");
        assert_eq!(found[0].bounds.unwrap().x_max, 0.25);
        assert_eq!(found[1].keypoints[0].x, 11.0 / 64.0);
    }

    #[test]
    fn detectors_tell_persons_from_other_things() {
        let outputs = [transposed(&[[32.0, 16.0, 16.0, 8.0, 0.25, 0.5], [10.0, 16.0, 8.0, 8.0, 0.75, 0.5]])];
        let scores =
            |person| persons(boxes(INPUT, person, &outputs)).iter().map(|p| p.score).collect::<Vec<_>>();
        assert_eq!((scores(0), scores(1)), (vec![0.75], vec![0.5]));
        let rows = [[8.0, 4.0, 16.0, 12.0, 0.5, 0.0], [8.0, 4.0, 16.0, 12.0, 0.25, 1.0]].concat();
        let best = [output("output0", &[1, 2, 6], rows)];
        assert_eq!(persons(boxes(INPUT, 1, &best))[0].score, 0.25);
        assert!(boxes(INPUT, 9, &outputs).is_err(), "there is no such class");
    }
}
