//! YOLOX (Ge et al., 2021, arXiv:2107.08430) as Megvii exports it: for each cell of strides 8, 16 and 32 the box in cells,
//! whether anything is there, and the score of each class. `[1, cells, 5 + classes]`.

use super::{Corners, LEAST_SCORE, Output, largest, suppress, unlike};
use crate::models::ModelPose;
use crate::task::Found;

const STRIDES: [usize; 3] = [8, 16, 32];
/// As Megvii leaves out.
const OVERLAP: f32 = 0.45;
/// Numbers before the classes.
const HEAD: usize = 5;

/// How many cells an input of that size has.
pub(in crate::models::onnx) fn cells([width, height]: [usize; 2]) -> usize {
    STRIDES.iter().map(|stride| (width / stride) * (height / stride)).sum()
}

pub(super) fn decode(input: [usize; 2], person: usize, outputs: &[Output]) -> Result<Found, String> {
    let expected = "box and scores of each cell";
    let [output] = outputs else { return Err(unlike(expected, outputs)) };
    let [1, rows, numbers] = output.shape[..] else { return Err(unlike(expected, outputs)) };
    if rows != cells(input) || rows == 0 || numbers <= HEAD + person {
        return Err(unlike(expected, outputs));
    }
    let [width, height] = input;
    let places = STRIDES.iter().flat_map(|&stride| {
        let row = move |y| (0..width / stride).map(move |x| (x as f32, y as f32, stride as f32));
        (0..height / stride).flat_map(row)
    });
    let pose = |(row, (x, y, stride)): (&[f32], (f32, f32, f32))| {
        let (class, sure) = largest(&row[HEAD..]);
        let score = row[4] * sure;
        if class != person || score < LEAST_SCORE {
            return None;
        }
        let middle = [(row[0] + x) * stride, (row[1] + y) * stride];
        let size = [row[2].exp() * stride, row[3].exp() * stride];
        let bounds = Corners::around(middle, size).in_input(input);
        Some(ModelPose { score: score.min(1.0), keypoints: Vec::new(), bounds: Some(bounds) })
    };
    let found = output.values.chunks_exact(numbers).zip(places).filter_map(pose).collect();
    Ok(Found::Poses(suppress(found, OVERLAP)))
}

#[cfg(test)]
mod tests {
    use super::super::{output, persons};
    use super::*;
    use crate::models::ModelBox;

    #[test]
    fn boxes_are_in_cells_of_their_stride() {
        // 32×64 pixels: 4×8 cells of 8 pixels, 2×4 of 16, 1×2 of 32. Two classes.
        let input = [32, 64];
        assert_eq!(cells(input), 42);
        let mut values = vec![0.0; 42 * 7];
        // Of stride 16: the fourth cell, in column 1 and row 1.
        values[(32 + 3) * 7..][..7].copy_from_slice(&[0.25, 0.5, 0.0, 2f32.ln(), 0.5, 0.5, 0.25]);
        // Of stride 8, and rather of the other class.
        values[..7].copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 1.0, 0.25, 0.75]);
        let outputs = [output("output", &[1, 42, 7], values)];
        let [person] = persons(decode(input, 0, &outputs)).try_into().unwrap();
        assert_eq!(person.score, 0.25);
        // Middle (20, 24), 16 wide, 32 high.
        let bounds =
            ModelBox { x_min: 12.0 / 32.0, y_min: 8.0 / 64.0, x_max: 28.0 / 32.0, y_max: 40.0 / 64.0 };
        assert_eq!(person.bounds, Some(bounds));
        assert_eq!(persons(decode(input, 1, &outputs))[0].score, 0.75);
        assert!(decode([64, 64], 0, &outputs).unwrap_err().contains("[1, 42, 7]"), "another number of cells");
        assert!(decode(input, 2, &outputs).is_err(), "there is no such class");
    }
}
