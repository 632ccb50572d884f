//! CenterFace (Xu et al., 2019, arXiv:1911.03599): on cells of 4 pixels whether a face's middle is there, `[1, 1, h, w]`, the
//! logarithms of its height and width in cells, `[1, 2, h, w]`, where in the cell the middle is, and the landmarks as
//! shares of the box, five of y and x, `[1, 10, h, w]`.

use super::{Corners, Output, keypoint, suppress, unlike};
use crate::models::ModelPose;
use crate::task::Found;

/// Pixels of a cell.
const CELL: f32 = 4.0;
/// Eyes, nose, corners of the mouth.
pub(super) const LANDMARKS: usize = 5;
/// Numbers of the landmarks.
const NUMBERS: usize = 2 * LANDMARKS;
/// As its authors leave out.
const OVERLAP: f32 = 0.3;
/// Faces with a lower score are left out before anything else is done with them.
const LEAST_SCORE: f32 = 0.2;

pub(super) fn decode(input: [usize; 2], outputs: &[Output]) -> Result<Found, String> {
    let expected = "maps of 1, 2, 2 and 10 channels";
    let [sure, size, offset, landmarks] = outputs else { return Err(unlike(expected, outputs)) };
    let [1, 1, height, width] = sure.shape[..] else { return Err(unlike(expected, outputs)) };
    for (map, channels) in [(size, 2), (offset, 2), (landmarks, NUMBERS)] {
        if map.shape != [1, channels, height, width] {
            return Err(unlike(expected, outputs));
        }
    }
    let cells = height * width;
    let face = |(cell, &score): (usize, &f32)| {
        if score < LEAST_SCORE || score.is_nan() {
            return None;
        }
        let at = |map: &Output, channel: usize| map.values[channel * cells + cell];
        let (column, row) = ((cell % width) as f32, (cell / width) as f32);
        let [down, across] = [0, 1].map(|axis| CELL * at(size, axis).exp());
        let y = CELL * (row + at(offset, 0) + 0.5);
        let x = CELL * (column + at(offset, 1) + 0.5);
        let corners = Corners::around([x, y], [across, down]);
        let landmark = |index: usize| {
            let x = corners.x_min + across * at(landmarks, 2 * index + 1);
            let y = corners.y_min + down * at(landmarks, 2 * index);
            keypoint([x, y, score], input)
        };
        let keypoints = (0..LANDMARKS).map(landmark).collect();
        Some(ModelPose { score: score.min(1.0), keypoints, bounds: Some(corners.in_input(input)) })
    };
    let faces = sure.values.iter().enumerate().filter_map(face).collect();
    Ok(Found::Poses(suppress(faces, OVERLAP)))
}

#[cfg(test)]
mod tests {
    use super::super::{output, persons};
    use super::*;
    use crate::models::ModelBox;

    #[test]
    fn faces_are_around_their_cells() {
        // 2 rows of 3 cells; a face in row 1, column 2.
        let mut maps = [vec![0.0; 6], vec![0.0; 12], vec![0.0; 12], vec![0.0; 60]];
        maps[0][5] = 0.5;
        (maps[1][5], maps[1][6 + 5]) = (2f32.ln(), 0.0);
        (maps[2][5], maps[2][6 + 5]) = (0.25, -0.5);
        (maps[3][5], maps[3][6 + 5]) = (0.5, 0.25);
        let [sure, size, offset, landmarks] = maps;
        let outputs = [
            output("a", &[1, 1, 2, 3], sure),
            output("b", &[1, 2, 2, 3], size),
            output("c", &[1, 2, 2, 3], offset),
            output("d", &[1, 10, 2, 3], landmarks),
        ];
        let [face] = persons(decode([12, 8], &outputs)).try_into().unwrap();
        // Middle (8, 7), 4 wide, 8 high.
        let bounds = ModelBox { x_min: 6.0 / 12.0, y_min: 3.0 / 8.0, x_max: 10.0 / 12.0, y_max: 11.0 / 8.0 };
        assert_eq!((face.score, face.bounds), (0.5, Some(bounds)));
        assert_eq!((face.keypoints[0].x, face.keypoints[0].y), (7.0 / 12.0, 7.0 / 8.0));
        assert_eq!(face.keypoints.len(), 5);
        assert!(decode([12, 8], &outputs[..3]).is_err());
    }
}
