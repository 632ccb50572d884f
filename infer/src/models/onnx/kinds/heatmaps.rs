//! Heat maps: for each keypoint a map of scores over the input. `[1, K, height, width]`.
//!
//! As MMPose decodes them (`MSRAHeatmap`): the highest cell, moved by a quarter of a cell to the side on which the
//! neighbour is higher.

use super::{Output, keypoint, largest, one_person, unlike};
use crate::task::Found;

pub(super) fn decode(outputs: &[Output]) -> Result<Found, String> {
    let expected = "a map for each keypoint";
    let [maps] = outputs else { return Err(unlike(expected, outputs)) };
    let &[1, _, height, width] = &maps.shape[..] else { return Err(unlike(expected, outputs)) };
    if height == 0 || width == 0 {
        return Err(unlike(expected, outputs));
    }
    let place = |map: &[f32]| {
        let (cell, score) = largest(map);
        let (column, row) = (cell % width, cell / width);
        let at = |column: usize, row: usize| map[row * width + column];
        let quarter = |before: Option<f32>, after: Option<f32>| match (before, after) {
            (Some(before), Some(after)) if before < after => 0.25,
            (Some(before), Some(after)) if before > after => -0.25,
            _ => 0.0,
        };
        let left = column.checked_sub(1).map(|column| at(column, row));
        let right = (column + 1 < width).then(|| at(column + 1, row));
        let above = row.checked_sub(1).map(|row| at(column, row));
        let below = (row + 1 < height).then(|| at(column, row + 1));
        let (x, y) = (column as f32 + quarter(left, right), row as f32 + quarter(above, below));
        keypoint([x, y, score], [width, height])
    };
    Ok(one_person(maps.values.chunks_exact(width * height).map(place).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::{output, persons};
    use super::*;

    #[test]
    fn keypoints_are_at_the_peak_and_a_quarter_beside() {
        let (width, height) = (4, 3);
        let mut maps = vec![0.0; 2 * width * height];
        // The peak in column 2, row 1; higher on the left and below.
        maps[width + 2] = 0.9;
        maps[width + 1] = 0.5;
        maps[width + 3] = 0.25;
        maps[2 * width + 2] = 0.125;
        // In the corner nothing is beside it.
        maps[width * height] = 0.5;
        let [person] = persons(decode(&[output("maps", &[1, 2, 3, 4], maps)])).try_into().unwrap();
        let [a, b] = person.keypoints[..] else { panic!("{person:?}") };
        assert_eq!((a.x, a.y, a.score), (1.75 / 4.0, 1.25 / 3.0, 0.9));
        assert_eq!((b.x, b.y, b.score), (0.0, 0.0, 0.5));
    }

    #[test]
    fn other_outputs_are_refused() {
        for shape in [&[1, 2, 3][..], &[2, 1, 1, 3], &[1, 6, 0, 1]] {
            let values = vec![0.0; shape.iter().product()];
            assert!(decode(&[output("maps", shape, values)]).unwrap_err().contains("maps"), "{shape:?}");
        }
    }
}
