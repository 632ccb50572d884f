//! How a stage walks over its map: which rows each thread takes, and how many of them at a time.
//!
//! The maps of pictures that go through a stage together lie one below the other, as one tall map. Rows are counted through
//! it; a window ends where its picture does.

use std::ops::Range;

use cloudpose_kernels::depthwise::Stride;

/// Output pixels that a band should have: enough rows for the register tiles, few enough that a panel of
/// a band stays in the first cache.
const BAND_PIXELS: usize = 256;
/// Output rows that a part should at least have: below, what is done twice at the seams outweighs.
const PART_ROWS: usize = 2;

/// The map of one picture that enters a depthwise convolution, and the convolution's windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Rows and columns of a window.
    pub(crate) size: usize,
    pub(crate) stride: Stride,
}

impl Map {
    pub(crate) fn out_height(&self) -> usize {
        self.height / self.stride.pixels()
    }

    pub(crate) fn out_width(&self) -> usize {
        self.width / self.stride.pixels()
    }
}

/// A walk over the maps of some pictures.
///
/// Threads take a run of output rows each, a *part*, and walk along it band by band. The rows at the seams of parts are
/// produced twice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bands {
    map: Map,
    pictures: usize,
    parts: usize,
    /// Output rows of a band.
    rows: usize,
    /// Rows that enter the depthwise convolution, of the most that a band sees.
    ring_rows: usize,
    /// Whether a band sees rows that the band before it has produced.
    overlap: bool,
}

/// Output rows that are made at once.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    pub(crate) rows: Range<usize>,
    /// The first output row of its part.
    pub(crate) part_top: usize,
    /// The rows that enter the depthwise convolution and that no band of the part before it has produced.
    pub(crate) fresh: Range<usize>,
}

impl Bands {
    /// A walk over `pictures` maps, one or more, that `threads` share.
    pub(crate) fn new(map: Map, pictures: usize, threads: usize) -> Self {
        let (step, height) = (map.stride.pixels(), pictures * map.out_height());
        let parts = threads.min(height.div_ceil(PART_ROWS));
        let most = (BAND_PIXELS / map.out_width()).max(1);
        let whole = most / map.out_height();
        if parts == 1 && pictures > 1 && whole > 0 {
            let rows = pictures.div_ceil(pictures.div_ceil(whole)) * map.out_height();
            return Self { map, pictures, parts, rows, ring_rows: rows * step, overlap: false };
        }
        let part_height = height.div_ceil(parts);
        let rows = part_height.div_ceil(part_height.div_ceil(most));
        let ring_rows = ((rows - 1) * step + map.size).min(pictures * map.height);
        Self { map, pictures, parts, rows, ring_rows, overlap: rows < part_height }
    }

    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    /// How many parts there are.
    pub(crate) fn parts(&self) -> usize {
        self.parts
    }

    /// Output pixels of the largest band.
    pub(crate) fn pixels(&self) -> usize {
        self.rows * self.map.out_width()
    }

    /// Rows of the ring in which those are kept that enter the depthwise convolution.
    pub(crate) fn ring_rows(&self) -> usize {
        self.ring_rows
    }

    /// Whether bands see rows that the band before has produced. If not, nothing has to be kept for the next one.
    pub(crate) fn overlap(&self) -> bool {
        self.overlap
    }

    /// The first output row of a part.
    pub(crate) fn part_top(&self, part: usize) -> usize {
        part * self.pictures * self.map.out_height() / self.parts
    }

    /// The bands of a part, from the top.
    pub(crate) fn of_part(&self, part: usize) -> impl Iterator<Item = Band> {
        let (bands, part_top, end) = (*self, self.part_top(part), self.part_top(part + 1));
        let mut produced = self.seen_by(part_top).start;
        (part_top..end).step_by(self.rows).map(move |top| {
            let rows = top..(top + bands.rows).min(end);
            let needed = bands.seen_by(rows.end - 1).end;
            Band { rows, part_top, fresh: std::mem::replace(&mut produced, needed)..needed }
        })
    }

    /// The rows that the window of an output row sees; those outside of its picture are missing.
    pub(crate) fn window<const K: usize>(&self, row: usize) -> [Option<usize>; K] {
        let seen = self.seen_by(row);
        let (step, pad) = (self.map.stride.pixels(), self.map.stride.pad_before(K));
        std::array::from_fn(|r| (row * step + r).checked_sub(pad).filter(|row| seen.contains(row)))
    }

    /// How many of the `rows` lie in the ring behind the first without a break.
    pub(crate) fn neighbours(&self, rows: &Range<usize>) -> usize {
        rows.len().min(self.ring_rows - rows.start % self.ring_rows)
    }

    /// Rows in the picture that the window of an output row sees.
    fn seen_by(&self, row: usize) -> Range<usize> {
        let Map { height, size, stride, .. } = self.map;
        let (picture, top) = (row / self.map.out_height() * height, row * stride.pixels());
        let pad = stride.pad_before(size);
        top.saturating_sub(pad).max(picture)..(top + size - pad).min(picture + height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks of every kind, with the output rows that they make in order.
    fn walks() -> impl Iterator<Item = (Map, usize, usize)> {
        let strides = [(Stride::One, 3), (Stride::Two, 3), (Stride::One, 5), (Stride::Two, 5)];
        let sizes = [[2, 2], [6, 6], [8, 8], [12, 12], [16, 16], [48, 48], [4, 300]];
        strides.into_iter().flat_map(move |(stride, size)| {
            sizes.into_iter().flat_map(move |[height, width]| {
                let map = Map { height, width, size, stride };
                (1..=9).flat_map(move |pictures| [1, 2, 3, 7].map(|threads| (map, pictures, threads)))
            })
        })
    }

    #[test]
    fn every_row_is_made_once_of_rows_of_its_picture_that_are_in_the_ring() {
        for (map, pictures, threads) in walks() {
            let what = format!("{pictures} of {map:?} on {threads}");
            let bands = Bands::new(map, pictures, threads);
            let mut made = 0;
            for part in 0..bands.parts() {
                assert_eq!(bands.part_top(part), made, "{what}");
                // What each row of the ring holds.
                let mut ring = vec![None; bands.ring_rows()];
                for band in bands.of_part(part) {
                    assert_eq!((band.rows.start, band.part_top), (made, bands.part_top(part)), "{what}");
                    assert!(band.rows.len() * map.out_width() <= bands.pixels(), "{what}");
                    if !bands.overlap() {
                        ring.fill(None);
                    }
                    for row in band.fresh.clone() {
                        ring[row % bands.ring_rows()] = Some(row);
                    }
                    for row in band.rows.clone() {
                        let picture = row / map.out_height();
                        let inside = picture * map.height..(picture + 1) * map.height;
                        let window = if map.size == 3 {
                            bands.window::<3>(row).to_vec()
                        } else {
                            bands.window::<5>(row).to_vec()
                        };
                        let top = row * map.stride.pixels();
                        for (r, seen) in window.into_iter().enumerate() {
                            let expected = (top + r).checked_sub(map.stride.pad_before(map.size));
                            assert_eq!(seen, expected.filter(|row| inside.contains(row)), "{what}");
                            assert!(seen.is_none_or(|row| ring[row % ring.len()] == Some(row)), "{what}");
                        }
                    }
                    made = band.rows.end;
                }
            }
            assert_eq!(made, pictures * map.out_height(), "{what}");
        }
    }

    #[test]
    fn small_maps_fill_a_band_with_whole_pictures() {
        let map = Map { height: 6, width: 6, size: 3, stride: Stride::One };
        let ends =
            |pictures| Bands::new(map, pictures, 1).of_part(0).map(|band| band.rows.end).collect::<Vec<_>>();
        assert_eq!(ends(4), [24]);
        assert_eq!(ends(8), [24, 48], "even ones, not seven and one");
        assert!(!Bands::new(map, 8, 1).overlap());
    }
}
