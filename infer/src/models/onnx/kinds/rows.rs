//! Outputs as MMDeploy has them: a row of `dets` for each box, `[1, N, 5]`: corners and score; and beside it `labels`,
//! `[1, N]`, or `keypoints`, `[1, N, K, 3]`: x, y, score. Nothing overlaps any more.

use super::{Corners, LEAST_SCORE, Output, keypoints, unlike};
use crate::models::ModelPose;
use crate::task::Found;

/// Numbers of a row of `dets`.
const ROW: usize = 5;

pub(super) fn poses(input: [usize; 2], outputs: &[Output]) -> Result<Found, String> {
    let expected = "dets [1, N, 5] and keypoints [1, N, K, 3]";
    let [dets, joints] = sorted(outputs).ok_or_else(|| unlike(expected, outputs))?;
    let (&[1, rows, ROW], &[1, same, count, 3]) = (&dets.shape[..], &joints.shape[..]) else {
        return Err(unlike(expected, outputs));
    };
    if rows != same || count == 0 {
        return Err(unlike(expected, outputs));
    }
    let joints = joints.values.chunks_exact(3 * count);
    let pose = |(row, numbers): (&[f32], &[f32])| pose(row, input, keypoints(numbers, input));
    Ok(Found::Poses(dets.values.chunks_exact(ROW).zip(joints).filter_map(pose).collect()))
}

pub(super) fn boxes(input: [usize; 2], person: usize, outputs: &[Output]) -> Result<Found, String> {
    let expected = "dets [1, N, 5] and labels [1, N]";
    let [labels, dets] = sorted(outputs).ok_or_else(|| unlike(expected, outputs))?;
    let (&[1, rows, ROW], &[1, same]) = (&dets.shape[..], &labels.shape[..]) else {
        return Err(unlike(expected, outputs));
    };
    if rows != same {
        return Err(unlike(expected, outputs));
    }
    let pose =
        |(row, &label): (&[f32], &f32)| (label == person as f32).then(|| pose(row, input, Vec::new()))?;
    Ok(Found::Poses(dets.values.chunks_exact(ROW).zip(&labels.values).filter_map(pose).collect()))
}

/// The two outputs, that of fewer dimensions first.
fn sorted(outputs: &[Output]) -> Option<[&Output; 2]> {
    let [a, b] = outputs else { return None };
    Some(if a.shape.len() <= b.shape.len() { [a, b] } else { [b, a] })
}

fn pose(row: &[f32], input: [usize; 2], keypoints: Vec<crate::models::ModelKeypoint>) -> Option<ModelPose> {
    let &[x_min, y_min, x_max, y_max, score] = row else { return None };
    let bounds = Corners { x_min, y_min, x_max, y_max }.in_input(input);
    (score >= LEAST_SCORE).then(|| ModelPose { score: score.min(1.0), keypoints, bounds: Some(bounds) })
}

#[cfg(test)]
mod tests {
    use super::super::{output, persons};
    use super::*;

    const INPUT: [usize; 2] = [64, 32];

    fn dets() -> Output {
        let rows = [[16.0, 8.0, 32.0, 24.0, 0.75], [0.0, 0.0, 8.0, 8.0, 0.5], [1.0, 1.0, 2.0, 2.0, 0.01]];
        output("dets", &[1, 3, 5], rows.concat())
    }

    #[test]
    fn persons_have_the_keypoints_of_their_row() {
        let numbers = [[20.0, 10.0, 0.5], [2.0, 4.0, 0.25], [0.0; 3]].concat();
        let keypoints = output("keypoints", &[1, 3, 1, 3], numbers);
        for outputs in [[dets(), keypoints.clone()], [keypoints, dets()]] {
            let [a, b] = persons(poses(INPUT, &outputs)).try_into().unwrap();
            assert_eq!((a.score, a.bounds.unwrap().x_max, a.keypoints[0].y), (0.75, 0.5, 10.0 / 32.0));
            assert_eq!((b.score, b.keypoints[0].x), (0.5, 2.0 / 64.0));
        }
    }

    #[test]
    fn boxes_are_those_of_persons() {
        let labels = output("labels", &[1, 3], vec![0.0, 2.0, 0.0]);
        let [only] = persons(boxes(INPUT, 0, &[dets(), labels.clone()])).try_into().unwrap();
        assert_eq!((only.score, only.keypoints.len()), (0.75, 0));
        assert_eq!(persons(boxes(INPUT, 2, &[labels, dets()]))[0].score, 0.5);
    }

    #[test]
    fn nobody_is_nobody() {
        let outputs = [output("dets", &[1, 0, 5], vec![]), output("keypoints", &[1, 0, 17, 3], vec![])];
        assert_eq!(persons(poses(INPUT, &outputs)), []);
        assert!(boxes(INPUT, 0, &outputs).is_err());
        assert!(poses(INPUT, &[dets(), output("keypoints", &[1, 2, 1, 3], vec![0.0; 6])]).is_err());
    }
}
