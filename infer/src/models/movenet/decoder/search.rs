//! Finds the cell where a keypoint's heat, weighted by the distance from where it is expected, is
//! greatest.
//!
//! The published graph weights the whole map and takes its arg max: an exponential or a square root a
//! cell, keypoint and person. The same cell is found by visiting few: the weighted heat at the expected
//! place is a lower bound of the maximum, the weight alone is an upper bound of every cell's value, and
//! so is the heat alone. Ties go to the lowest index, as in the graph.

use std::ops::Range;

use super::{Grid, sigmoid};

/// How a heat counts less with the distance from the expected place, in cells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Falloff {
    /// `heat / (distance + offset)`.
    Hyperbolic {
        /// In cells, more than 0.
        offset: f32,
    },
    /// `heat · exp(−distance² / spread)`.
    Gaussian {
        /// In cells², more than 0.
        spread: f32,
    },
}

impl Falloff {
    /// The weighted `heat` at squared distance `distance2`.
    pub(super) fn weigh(self, heat: f32, distance2: f32) -> f32 {
        match self {
            Self::Hyperbolic { offset } => heat / (distance2.sqrt() + offset),
            Self::Gaussian { spread } => heat * (-distance2 / spread).exp(),
        }
    }

    /// A distance beyond which no heat, being at most 1, weighs `value` or more.
    fn reach(self, value: f32) -> f32 {
        let exact = match self {
            Self::Hyperbolic { offset } => 1.0 / value - offset,
            Self::Gaussian { spread } => (-spread * value.ln()).max(0.0).sqrt(),
        };
        // A whole cell more than needed, for rounding.
        exact * 1.001 + 1.0
    }

    /// A logit below which no cell, at any distance, weighs `value` or more.
    fn least_logit(self, value: f32) -> f32 {
        let heat = match self {
            Self::Hyperbolic { offset } => value * offset,
            Self::Gaussian { .. } => value,
        };
        // Where the sigmoid saturates, many logits have the same heat: bounded away from there.
        (heat / (1.0 - heat)).ln().min(8.0) - 0.01
    }
}

/// A rectangle of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Region {
    pub(super) fn all(grid: Grid) -> Self {
        Self { rows: 0..grid.height, columns: 0..grid.width }
    }

    pub(super) fn contains(&self, grid: Grid, cell: usize) -> bool {
        self.rows.contains(&(cell / grid.width)) && self.columns.contains(&(cell % grid.width))
    }

    /// The cell of this region nearest to (y, x); none if the region is empty.
    fn nearest(&self, grid: Grid, (y, x): (f32, f32)) -> Option<usize> {
        if self.rows.is_empty() || self.columns.is_empty() {
            return None;
        }
        // A float beyond the range of usize, or NaN, saturates.
        let row = (y.round() as usize).clamp(self.rows.start, self.rows.end - 1);
        let column = (x.round() as usize).clamp(self.columns.start, self.columns.end - 1);
        Some(row * grid.width + column)
    }

    /// The part of this region at most `reach` from (y, x) in either axis.
    fn around(&self, (y, x): (f32, f32), reach: f32) -> Self {
        let clip = |range: &Range<usize>, middle: f32| {
            let start = range.start.max((middle - reach).floor() as usize);
            let end = range.end.min(((middle + reach).ceil() as usize).saturating_add(1));
            start..end
        };
        Self { rows: clip(&self.rows, y), columns: clip(&self.columns, x) }
    }
}

/// The squared distance, in cells², of `cell` from (y, x).
pub(super) fn distance2(grid: Grid, cell: usize, (y, x): (f32, f32)) -> f32 {
    let dy = (cell / grid.width) as f32 - y;
    let dx = (cell % grid.width) as f32 - x;
    dy * dy + dx * dx
}

/// The heat maps of all keypoints.
#[derive(Clone, Copy)]
pub(super) struct HeatMaps<'a> {
    pub(super) grid: Grid,
    /// Keypoints of a person: K.
    pub(super) keypoints: usize,
    /// `[H, W, K]`.
    pub(super) logits: &'a [f32],
}

impl HeatMaps<'_> {
    pub(super) fn logit(&self, cell: usize, keypoint: usize) -> f32 {
        self.logits[cell * self.keypoints + keypoint]
    }

    pub(super) fn heat(&self, cell: usize, keypoint: usize) -> f32 {
        sigmoid(self.logit(cell, keypoint))
    }

    /// The cell in `region` where `keypoint`'s heat, weighted by the distance from `expected` (y, x), is
    /// greatest; cell 0 if it is nowhere more than 0.
    pub(super) fn best_cell(
        &self,
        keypoint: usize,
        expected: (f32, f32),
        falloff: Falloff,
        region: &Region,
    ) -> usize {
        let weigh =
            |cell: usize| falloff.weigh(self.heat(cell, keypoint), distance2(self.grid, cell, expected));
        let Some(nearest) = region.nearest(self.grid, expected) else { return 0 };
        let (mut best_cell, mut best) = (nearest, weigh(nearest));
        let window = if best > 0.0 { region.around(expected, falloff.reach(best)) } else { region.clone() };
        let mut least_logit = falloff.least_logit(best);
        for row in window.rows {
            for cell in
                row * self.grid.width + window.columns.start..row * self.grid.width + window.columns.end
            {
                if self.logit(cell, keypoint) < least_logit {
                    continue;
                }
                let value = weigh(cell);
                if value > best || (value == best && cell < best_cell) {
                    (best_cell, best) = (cell, value);
                    least_logit = falloff.least_logit(best);
                }
            }
        }
        if best > 0.0 { best_cell } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYPOINTS: usize = 17;

    /// The published graph's way: weigh every cell of the map, outside the region by 0, first maximum.
    fn exhaustive(maps: HeatMaps<'_>, expected: (f32, f32), falloff: Falloff, region: &Region) -> usize {
        let mut best = (0, f32::NEG_INFINITY);
        for cell in 0..maps.grid.cells() {
            let inside = region.contains(maps.grid, cell);
            let value = if inside {
                falloff.weigh(maps.heat(cell, 3), distance2(maps.grid, cell, expected))
            } else {
                0.0
            };
            if value > best.1 {
                best = (cell, value);
            }
        }
        best.0
    }

    /// Pseudo-random numbers in 0..1 (a 32-bit xorshift).
    fn noise(seed: u32) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32
        }
    }

    #[test]
    fn pruned_search_finds_the_exhaustive_maximum() {
        let grid = Grid { height: 24, width: 40 };
        let falloffs = [Falloff::Hyperbolic { offset: 1.8 }, Falloff::Gaussian { spread: 7.2 }];
        for seed in 1..200u32 {
            let mut random = noise(seed);
            // From nearly flat to saturated maps, rounded so that ties occur.
            let amplitude = [0.5, 4.0, 12.0, 40.0][seed as usize % 4];
            let logits: Vec<f32> = (0..grid.cells() * KEYPOINTS)
                .map(|_| (amplitude * (2.0 * random() - 1.0) * 4.0).round() / 4.0)
                .collect();
            let maps = HeatMaps { grid, keypoints: KEYPOINTS, logits: &logits };
            let expected = (random() * 40.0 - 8.0, random() * 60.0 - 10.0);
            let mut range = |size: usize| {
                let (a, b) = ((random() * size as f32) as usize, (random() * size as f32) as usize);
                a.min(b)..a.max(b)
            };
            let region = Region { rows: range(grid.height), columns: range(grid.width) };
            for region in [Region::all(grid), region] {
                for falloff in falloffs {
                    assert_eq!(
                        maps.best_cell(3, expected, falloff, &region),
                        exhaustive(maps, expected, falloff, &region),
                        "seed {seed}, {falloff:?}, {region:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn nonsense_numbers_do_not_panic() {
        let grid = Grid { height: 4, width: 4 };
        let logits = vec![f32::NAN; grid.cells() * KEYPOINTS];
        let maps = HeatMaps { grid, keypoints: KEYPOINTS, logits: &logits };
        for expected in [(f32::NAN, f32::NAN), (f32::INFINITY, f32::NEG_INFINITY), (1e30, -1e30)] {
            let falloff = Falloff::Gaussian { spread: 1.2 };
            assert_eq!(maps.best_cell(0, expected, falloff, &Region::all(grid)), 0);
        }
    }
}
