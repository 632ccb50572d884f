//! MoveNet MultiPose: several people, with boxes.
//!
//! The graph `movenet/multipose/lightning/1`:
//! 1. Centres are the six greatest cells of `sigmoid(center)` among those that are the maximum of their
//!    5×5 neighbourhood, within `peak_tolerance`.
//! 2. A person's box has its middle at the centre's cell plus the box offset head there, and the size the
//!    box scale head says; it is clipped to the input.
//! 3. The regression head at the centre says where each keypoint is expected.
//! 4. A keypoint's cell is the one in the box where `sigmoid(keypoints) · exp(−distance² / spread)` is
//!    greatest, the distance being that from the expected place and the spread `falloff` times the
//!    shorter side of the grid.
//! 5. Its place is that cell plus the offset head there. Its score is the greatest weighted heat that any
//!    of the six persons has for that keypoint in that cell.
//! 6. The person's score is the centre's score times the mean score of the keypoints above
//!    `min_keypoint_score`.
//!
//! The graph stops at six because its output has room for six. As a detector we take as many centres as [`CROWD`] says:
//! the same steps, with another number.

use super::search::{Falloff, HeatMaps, Region, distance2};
use super::{Grid, Head, Heads, Weights, refine, regress, sigmoid};
use crate::models::{ModelBox, ModelKeypoint, ModelPose};

/// Whom MultiPose reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct People {
    /// At most so many: those with the greatest centre scores.
    pub(crate) most: usize,
    /// Only who has at least this centre score, which no person's score exceeds.
    pub(crate) least_center: f32,
}

/// Those that the graph reports: six, whatever their scores.
pub(crate) const PUBLISHED: People = People { most: 6, least_center: 0.0 };
/// Everybody who may be somebody.
pub(crate) const CROWD: People = People { most: 32, least_center: 0.02 };

/// The reach of a centre's neighbourhood to each side, in cells: the graph's 5×5 max-pool.
const PEAK_REACH: usize = 2;

#[derive(Clone, Debug)]
pub(super) struct MultiPose {
    people: People,
    peak_tolerance: f32,
    falloff: f32,
    min_keypoint_score: f32,
    /// Keypoints of a person.
    keypoints: usize,
}

/// A person before the keypoints are looked for.
struct Candidate {
    center_score: f32,
    bounds: ModelBox,
    /// The cells inside the box.
    region: Region,
    /// Where the keypoints are expected, in cells (y, x).
    expected: Vec<(f32, f32)>,
}

impl MultiPose {
    pub(super) fn new(weights: &Weights, people: People) -> Self {
        Self {
            people,
            peak_tolerance: weights.scalar("decode.peak_tolerance"),
            falloff: weights.scalar("decode.falloff"),
            min_keypoint_score: weights.scalar("decode.min_keypoint_score"),
            keypoints: weights.architecture().keypoints,
        }
    }

    pub(super) fn most(&self) -> usize {
        self.people.most
    }

    pub(super) fn least_center(&self) -> f32 {
        self.people.least_center
    }

    pub(super) fn decode(&self, heads: &mut dyn Heads) -> Vec<ModelPose> {
        let grid = heads.grid();
        let falloff = Falloff::Gaussian { spread: grid.height.min(grid.width) as f32 * self.falloff };
        let centers = self.centers(heads.center(), grid);
        let candidate = |(score, cell)| Candidate::read(heads, cell, score, self.keypoints);
        let candidates: Vec<Candidate> = centers.into_iter().map(candidate).collect();
        candidates.iter().map(|candidate| self.pose(heads, candidate, &candidates, falloff)).collect()
    }

    /// The greatest peaks as (score, cell), by falling score, then by cell, as many as [`People`] says. Cells that are
    /// no peak count as 0, so they fill up the list if peaks are few and no score is asked for.
    fn centers(&self, logits: &[f32], grid: Grid) -> Vec<(f32, usize)> {
        let scores: Vec<f32> = logits.iter().copied().map(sigmoid).collect();
        let People { most, least_center } = self.people;
        let mut top: Vec<(f32, usize)> = Vec::with_capacity(most + 1);
        for (cell, &score) in scores.iter().enumerate() {
            let least = if top.len() < most { f32::NEG_INFINITY } else { top[most - 1].0 };
            if score <= least || score < least_center {
                continue;
            }
            let value = if self.is_peak(&scores, grid, cell) { score } else { 0.0 };
            if value > least && value >= least_center {
                let position = top.partition_point(|&(other, _)| other >= value);
                top.insert(position, (value, cell));
                top.truncate(most);
            }
        }
        top
    }

    fn is_peak(&self, scores: &[f32], grid: Grid, cell: usize) -> bool {
        let (row, column) = (cell / grid.width, cell % grid.width);
        let rows = row.saturating_sub(PEAK_REACH)..(row + PEAK_REACH + 1).min(grid.height);
        let columns = column.saturating_sub(PEAK_REACH)..(column + PEAK_REACH + 1).min(grid.width);
        let neighbourhood = rows.flat_map(|y| &scores[y * grid.width..][columns.clone()]);
        let greatest = neighbourhood.copied().fold(f32::NEG_INFINITY, f32::max);
        greatest - scores[cell] < self.peak_tolerance
    }

    fn pose(
        &self,
        heads: &mut dyn Heads,
        candidate: &Candidate,
        candidates: &[Candidate],
        falloff: Falloff,
    ) -> ModelPose {
        let grid = heads.grid();
        let mut keypoints = vec![ModelKeypoint::default(); self.keypoints];
        for (keypoint, result) in keypoints.iter_mut().enumerate() {
            let maps = HeatMaps { grid, keypoints: self.keypoints, logits: heads.keypoints() };
            let cell = maps.best_cell(keypoint, candidate.expected[keypoint], falloff, &candidate.region);
            let heat = maps.heat(cell, keypoint);
            let score = candidates
                .iter()
                .filter(|other| other.region.contains(grid, cell))
                .map(|other| falloff.weigh(heat, distance2(grid, cell, other.expected[keypoint])))
                .fold(0.0, f32::max);
            let (y, x) = refine(heads, cell, keypoint);
            *result = ModelKeypoint { x: x / grid.width as f32, y: y / grid.height as f32, score };
        }
        let counted = keypoints.iter().map(|k| k.score).filter(|&score| score > self.min_keypoint_score);
        let (sum, count) = counted.fold((0.0, 0u8), |(sum, count), score| (sum + score, count + 1));
        let score = candidate.center_score * sum / f32::from(count.max(1));
        ModelPose { score, keypoints, bounds: Some(candidate.bounds) }
    }
}

impl Candidate {
    fn read(heads: &mut dyn Heads, center: usize, center_score: f32, keypoints: usize) -> Self {
        let grid = heads.grid();
        let (mut size, mut offset) = ([0.0f32; 2], [0.0f32; 2]);
        heads.read(Head::BoxScale, center, 0, &mut size);
        heads.read(Head::BoxOffset, center, 0, &mut offset);
        let middle_y = (center / grid.width) as f32 + offset[0];
        let middle_x = (center % grid.width) as f32 + offset[1];
        let (half_height, half_width) = (0.5 * size[0].max(0.0), 0.5 * size[1].max(0.0));
        let (height, width) = (grid.height as f32, grid.width as f32);
        // Edges in cells. Not `clamp`: like the graph's min and max, this lets NaN become an edge.
        let y_min = (middle_y - half_height).min(height).max(0.0);
        let x_min = (middle_x - half_width).min(width).max(0.0);
        let y_max = (middle_y + half_height).min(height).max(0.0);
        let x_max = (middle_x + half_width).min(width).max(0.0);
        Self {
            center_score,
            bounds: ModelBox {
                x_min: x_min / width,
                y_min: y_min / height,
                x_max: x_max / width,
                y_max: y_max / height,
            },
            // A cell is inside if edge_min ≤ its index < edge_max.
            region: Region {
                rows: y_min.ceil() as usize..y_max.ceil() as usize,
                columns: x_min.ceil() as usize..x_max.ceil() as usize,
            },
            expected: regress(heads, center, keypoints),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::movenet::decoder::DenseHeads;

    const KEYPOINTS: usize = 17;

    const GRID: Grid = Grid { height: 16, width: 24 };

    fn decoder() -> MultiPose {
        MultiPose {
            people: PUBLISHED,
            peak_tolerance: 1e-6,
            falloff: 0.3,
            min_keypoint_score: 0.127,
            keypoints: KEYPOINTS,
        }
    }

    fn logit(score: f32) -> f32 {
        (score / (1.0 - score)).ln()
    }

    fn center_logits(scores: &[(usize, f32)]) -> Vec<f32> {
        let mut logits = vec![f32::NEG_INFINITY; GRID.cells()];
        for &(cell, score) in scores {
            logits[cell] = logit(score);
        }
        logits
    }

    fn cell(row: usize, column: usize) -> usize {
        row * GRID.width + column
    }

    #[test]
    fn only_the_greatest_of_a_neighbourhood_is_a_center() {
        let logits =
            center_logits(&[(cell(5, 5), 0.6), (cell(7, 7), 0.9), (cell(8, 7), 0.89), (cell(7, 10), 0.3)]);
        let centers = decoder().centers(&logits, GRID);
        let cells: Vec<usize> = centers.iter().map(|&(_, cell)| cell).collect();
        // (5, 5) and (8, 7) lie within two cells of (7, 7), (7, 10) does not. Then zeros, by index.
        assert_eq!(cells, [cell(7, 7), cell(7, 10), 0, 1, 2, 3]);
        assert!(centers[2..].iter().all(|&(score, _)| score == 0.0));
    }

    #[test]
    fn the_six_greatest_centers_come_in_order_and_ties_by_cell() {
        let scores = [(0, 0.5), (4, 0.2), (8, 0.7), (12, 0.5), (16, 0.1), (20, 0.9), (cell(6, 0), 0.3)];
        let centers = decoder().centers(&center_logits(&scores), GRID);
        let cells: Vec<usize> = centers.iter().map(|&(_, cell)| cell).collect();
        assert_eq!(cells, [20, 8, 0, 12, cell(6, 0), 4]);
    }

    #[test]
    fn a_crowd_is_everybody_with_a_score_and_nobody_else() {
        let row = |row: usize| (0..6).map(move |i| (cell(row, 3 * i), 0.3 + 0.01 * i as f32));
        let mut scores: Vec<_> = [0, 3, 6, 9, 12, 15].into_iter().flat_map(row).collect();
        scores.push((cell(0, 18), 0.019));
        let decoder = MultiPose { people: CROWD, ..decoder() };
        let centers = decoder.centers(&center_logits(&scores), GRID);
        assert_eq!(centers.len(), 32, "of 36");
        assert!(centers.iter().all(|&(score, _)| score > 0.299));
        assert_eq!(decoder.centers(&center_logits(&scores[36..]), GRID), [], "too faint");
        assert_eq!(decoder.centers(&center_logits(&scores[30..]), GRID).len(), 6);
    }

    fn one_person() -> DenseHeads {
        let heads = [
            (Head::Keypoints, logit(0.01)),
            (Head::BoxScale, 4.0),
            (Head::BoxOffset, 0.5),
            (Head::Regression, 1.0),
            (Head::Offset, 0.25),
        ];
        let maps = heads.map(|(head, value)| (head, vec![value; GRID.cells() * head.channels(KEYPOINTS)]));
        let mut maps = Vec::from(maps);
        maps.push((Head::Center, center_logits(&[(cell(8, 10), 0.8)])));
        DenseHeads { grid: GRID, keypoints: KEYPOINTS, maps }
    }

    fn heat(heads: &mut DenseHeads, cell: usize, keypoint: usize, score: f32) {
        heads.maps[0].1[cell * KEYPOINTS + keypoint] = logit(score);
    }

    #[test]
    fn keypoints_are_found_inside_the_box_only() {
        let mut heads = one_person();
        // The box is 4×4 cells around (8.5, 10.5): rows 7..=10, columns 9..=12.
        heat(&mut heads, cell(10, 12), 3, 0.5);
        heat(&mut heads, cell(11, 12), 3, 0.99);
        let pose = decoder().decode(&mut heads).remove(0);
        let bounds = pose.bounds.unwrap();
        assert_eq!((bounds.y_min, bounds.y_max), (6.5 / 16.0, 10.5 / 16.0));
        assert_eq!((bounds.x_min, bounds.x_max), (8.5 / 24.0, 12.5 / 24.0));
        assert_eq!((pose.keypoints[3].y, pose.keypoints[3].x), (10.25 / 16.0, 12.25 / 24.0));
        // Expected at (9, 11): one row and one column away, the spread being 0.3 · 16 cells².
        let weighted = 0.5 * (-2.0f32 / 4.8).exp();
        assert!((pose.keypoints[3].score - weighted).abs() < 1e-6);
    }

    #[test]
    fn a_person_scores_by_center_and_confident_keypoints() {
        let mut heads = one_person();
        heat(&mut heads, cell(9, 11), 0, 0.9);
        heat(&mut heads, cell(9, 11), 1, 0.5);
        let pose = decoder().decode(&mut heads).remove(0);
        assert!((pose.score - 0.8 * (0.9 + 0.5) / 2.0).abs() < 1e-5, "{}", pose.score);
    }

    #[test]
    fn a_person_without_confident_keypoints_or_box_scores_nothing() {
        let mut heads = one_person();
        assert_eq!(decoder().decode(&mut heads)[0].score, 0.0);
        heads.maps[1].1.fill(-1.0);
        let pose = decoder().decode(&mut heads).remove(0);
        assert_eq!(pose.score, 0.0);
        assert_eq!((pose.keypoints[0].y, pose.keypoints[0].x), (0.25 / 16.0, 0.25 / 24.0), "cell 0");
    }

    #[test]
    fn nonsense_heads_do_not_panic() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut heads = one_person();
            for (_, map) in &mut heads.maps {
                map.fill(value);
            }
            assert_eq!(decoder().decode(&mut heads).len(), PUBLISHED.most);
        }
    }
}
