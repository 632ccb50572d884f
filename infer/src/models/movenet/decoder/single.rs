//! MoveNet SinglePose: one person, the one nearest the middle of the input.
//!
//! The graph `movenet/singlepose/{lightning,thunder}/4`:
//! 1. The centre is the cell where `sigmoid(center) · center_weight` is greatest; the weight falls with
//!    the distance from the middle of the input.
//! 2. The regression head at that cell says where each keypoint is expected.
//! 3. A keypoint's cell is where `sigmoid(keypoints) / (distance from the expected place +
//!    distance_offset)` is greatest.
//! 4. Its place is that cell plus the offset head there, times `cell_size`; its score is the plain
//!    `sigmoid(keypoints)` there.

use super::search::{Falloff, HeatMaps, Region};
use super::{Heads, Weights, refine, regress, sigmoid};
use crate::models::{ModelKeypoint, ModelPose};

#[derive(Clone, Debug)]
pub(super) struct SinglePose {
    /// `[H, W]`.
    center_weight: Vec<f32>,
    falloff: Falloff,
    /// A cell's height and width as parts of the input's: 1/48 or 1/64, rounded to float16.
    cell_size: (f32, f32),
    /// Keypoints of a person.
    keypoints: usize,
}

impl SinglePose {
    pub(super) fn new(weights: &Weights) -> Self {
        let cell_size = weights.values("decode.cell_size");
        Self {
            center_weight: weights.values("decode.center_weight"),
            falloff: Falloff::Hyperbolic { offset: weights.scalar("decode.distance_offset") },
            cell_size: (cell_size[0], cell_size[1]),
            keypoints: weights.architecture().keypoints,
        }
    }

    pub(super) fn decode(&self, heads: &mut dyn Heads) -> ModelPose {
        let grid = heads.grid();
        assert_eq!(grid.cells(), self.center_weight.len(), "SinglePose takes inputs of one size");

        let center = self.center(heads.center());
        let expected = regress(heads, center, self.keypoints);
        let region = Region::all(grid);
        let mut keypoints = vec![ModelKeypoint::default(); self.keypoints];
        for (keypoint, result) in keypoints.iter_mut().enumerate() {
            let maps = HeatMaps { grid, keypoints: self.keypoints, logits: heads.keypoints() };
            let cell = maps.best_cell(keypoint, expected[keypoint], self.falloff, &region);
            let score = maps.heat(cell, keypoint);
            let (y, x) = refine(heads, cell, keypoint);
            *result = ModelKeypoint { x: x * self.cell_size.1, y: y * self.cell_size.0, score };
        }
        let score = keypoints.iter().map(|k| k.score).sum::<f32>() / self.keypoints as f32;
        ModelPose { score, keypoints, bounds: None }
    }

    fn center(&self, logits: &[f32]) -> usize {
        let mut best = (0, f32::NEG_INFINITY);
        for (cell, (&logit, &weight)) in logits.iter().zip(&self.center_weight).enumerate() {
            let value = sigmoid(logit) * weight;
            if value > best.1 {
                best = (cell, value);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::movenet::arch::Head;
    use crate::models::movenet::decoder::{DenseHeads, Grid};

    const GRID: Grid = Grid { height: 8, width: 8 };

    fn decoder() -> SinglePose {
        SinglePose {
            center_weight: (0..GRID.cells()).map(|cell| if cell == 27 { 1.0 } else { 0.5 }).collect(),
            falloff: Falloff::Hyperbolic { offset: 1.8 },
            cell_size: (0.125, 0.125),
            keypoints: 17,
        }
    }

    /// Heads that see nothing anywhere.
    fn empty() -> DenseHeads {
        let map = |head: Head, value: f32| (head, vec![value; GRID.cells() * head.channels(17)]);
        let maps = vec![
            map(Head::Center, -9.0),
            map(Head::Keypoints, -9.0),
            map(Head::Regression, 0.0),
            map(Head::Offset, 0.0),
        ];
        DenseHeads { grid: GRID, keypoints: 17, maps }
    }

    fn set(heads: &mut DenseHeads, head: Head, cell: usize, channel: usize, value: f32) {
        let map = &mut heads.maps.iter_mut().find(|(h, _)| *h == head).unwrap().1;
        map[cell * head.channels(17) + channel] = value;
    }

    #[test]
    fn the_central_person_wins_over_the_clearer_one_aside() {
        let mut heads = empty();
        set(&mut heads, Head::Center, 27, 0, 0.0);
        set(&mut heads, Head::Center, 56, 0, 2.0);
        assert_eq!(decoder().center(heads.center()), 27, "0.5 at full weight beats 0.88 at half");
    }

    #[test]
    fn a_keypoint_is_looked_for_near_where_the_center_expects_it() {
        let mut heads = empty();
        set(&mut heads, Head::Center, 27, 0, 5.0);
        // Expected one row up and two columns right of (3, 3): at (2, 5).
        set(&mut heads, Head::Regression, 27, 2 * 4, -1.0);
        set(&mut heads, Head::Regression, 27, 2 * 4 + 1, 2.0);
        // A hot cell there and a hotter one far away.
        set(&mut heads, Head::Keypoints, 2 * 8 + 5, 4, 1.0);
        set(&mut heads, Head::Keypoints, 7 * 8, 4, 3.0);
        set(&mut heads, Head::Offset, 2 * 8 + 5, 2 * 4, 0.5);
        set(&mut heads, Head::Offset, 2 * 8 + 5, 2 * 4 + 1, -0.25);

        let pose = decoder().decode(&mut heads);
        let keypoint = pose.keypoints[4];
        assert_eq!((keypoint.y, keypoint.x), (2.5 / 8.0, 4.75 / 8.0));
        assert!((keypoint.score - 0.731_058_6).abs() < 1e-6, "unweighted sigmoid(1): {}", keypoint.score);
        let mean = pose.keypoints.iter().map(|k| k.score).sum::<f32>() / 17.0;
        assert_eq!(pose.score, mean);
    }
}
