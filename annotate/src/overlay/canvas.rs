//! Antialiased capsules on YUV planes.

use cloudpose_pixels::{PlanarImage, PlaneMut, bt601};

/// (x, y) in pixels, the first pixel's centre at (0.5, 0.5).
pub(super) type Point = [f32; 2];

/// A colour and how much of it covers what is below, 0 to 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub(super) rgb: [u8; 3],
    pub(super) opacity: f32,
}

impl From<[u8; 3]> for Paint {
    fn from(rgb: [u8; 3]) -> Self {
        Self { rgb, opacity: 1.0 }
    }
}

/// An image being drawn on.
pub(super) struct Canvas<'a> {
    luma: PlaneMut<'a>,
    chroma: Option<[PlaneMut<'a>; 2]>,
    /// Luma samples per chroma sample, (across, down).
    step: (usize, usize),
    /// Coverage of one luma row, in 1/256.
    row: Vec<u16>,
    /// Coverage of one chroma row, summed over the luma samples that share a chroma sample.
    chroma_row: Vec<u16>,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(image: &'a mut PlanarImage) -> Self {
        let step = image.subsampling().step();
        let (luma, chroma) = image.planes_mut();
        Self { luma, chroma, step, row: Vec::new(), chroma_row: Vec::new() }
    }

    /// (width, height) in pixels.
    pub(super) fn size(&self) -> [f32; 2] {
        [self.luma.width as f32, self.luma.height as f32]
    }

    /// Paints all that is at most `radius` away from the line between two points, which must be
    /// finite. A pixel half a pixel inside the edge is covered fully, one half a pixel outside not
    /// at all. A chroma sample is covered as much as its pixels are on average, so that edges keep
    /// their hue.
    pub(super) fn capsule(&mut self, from: Point, to: Point, radius: f32, paint: Paint) {
        let capsule = Capsule::new(from, to, radius);
        let (across, down) = self.step;
        let color = bt601::ycc_from_rgb(paint.rgb);
        let rows = pixels_between(from[1].min(to[1]), from[1].max(to[1]), capsule.reach(), self.luma.height);
        // Whole chroma rows, so that each is painted once.
        for band in rows.start / down..rows.end.div_ceil(down) {
            let band = band * down..((band + 1) * down).min(self.luma.height);
            let columns = capsule.columns(band.start as f32, band.end as f32, self.luma.width);
            if columns.is_empty() {
                continue;
            }
            // Whole chroma columns too.
            let chroma_columns = columns.start / across..columns.end.div_ceil(across);
            let columns = chroma_columns.start * across..columns.end;
            self.chroma_row.clear();
            self.chroma_row.resize(chroma_columns.len(), 0);
            for y in band.clone() {
                capsule.cover(y, columns.start, columns.len(), paint.opacity, &mut self.row);
                let samples = &mut self.luma.row_mut(y)[columns.clone()];
                blend(samples, &self.row, color[0]);
                match across {
                    1 => add_groups::<1>(&self.row, &mut self.chroma_row),
                    2 => add_groups::<2>(&self.row, &mut self.chroma_row),
                    _ => add_groups::<4>(&self.row, &mut self.chroma_row),
                }
            }
            // As many pixels share a chroma sample as a power of two.
            let shift = (across * down).trailing_zeros();
            for coverage in &mut self.chroma_row {
                *coverage >>= shift;
            }
            for (plane, value) in self.chroma.iter_mut().flatten().zip([color[1], color[2]]) {
                let samples = &mut plane.row_mut(band.start / down)[chroma_columns.clone()];
                blend(samples, &self.chroma_row, value);
            }
        }
    }
}

/// Adds the sum of each `N` values to one of `sums`; the last few may be less than `N`.
fn add_groups<const N: usize>(values: &[u16], sums: &mut [u16]) {
    let (groups, rest) = values.as_chunks::<N>();
    for (group, sum) in groups.iter().zip(&mut *sums) {
        *sum += group.iter().sum::<u16>();
    }
    if let Some(sum) = sums.get_mut(groups.len()) {
        *sum += rest.iter().sum::<u16>();
    }
}

/// Moves samples toward a value, each by its coverage, in 1/256.
///
/// Both products fit 16 bits, which is what lets the compiler take eight samples at a time.
fn blend(samples: &mut [u8], coverage: &[u16], value: u8) {
    for (sample, &coverage) in samples.iter_mut().zip(coverage) {
        *sample = ((u16::from(*sample) * (256 - coverage) + u16::from(value) * coverage + 128) >> 8) as u8;
    }
}

/// The pixels whose centres lie between two coordinates, or up to `reach` outside, within `len`.
fn pixels_between(low: f32, high: f32, reach: f32, len: usize) -> std::ops::Range<usize> {
    // A float cast saturates, so that what is left of the image or right of it becomes empty.
    let start = (low - reach).floor() as usize;
    let end = (high + reach).ceil().min(len as f32) as usize;
    start.min(end)..end
}

/// All points within `radius` of a line.
struct Capsule {
    from: Point,
    along: Point,
    /// 1 / length², or 0 for a disc.
    inverse_length_squared: f32,
    radius: f32,
}

impl Capsule {
    fn new(from: Point, to: Point, radius: f32) -> Self {
        let along = [to[0] - from[0], to[1] - from[1]];
        let length_squared = along[0] * along[0] + along[1] * along[1];
        let inverse_length_squared = if length_squared > 1e-6 { 1.0 / length_squared } else { 0.0 };
        Self { from, along, inverse_length_squared, radius }
    }

    /// How far from the line a pixel's centre can be and still be covered.
    fn reach(&self) -> f32 {
        self.radius + 1.0
    }

    /// The columns that pixels between two heights can be covered in.
    fn columns(&self, top: f32, bottom: f32, width: usize) -> std::ops::Range<usize> {
        let reach = self.reach();
        let (mut begin, mut end) = (0.0, 1.0);
        if self.along[1].abs() > 1e-3 {
            // The part of the line, as fractions of it, that comes near these heights.
            let at = |y: f32| (y - self.from[1]) / self.along[1];
            let (a, b) = (at(top - reach), at(bottom + reach));
            begin = a.min(b).clamp(0.0, 1.0);
            end = a.max(b).clamp(0.0, 1.0);
        }
        let x = |t: f32| self.from[0] + t * self.along[0];
        pixels_between(x(begin).min(x(end)), x(begin).max(x(end)), reach, width)
    }

    /// Computes the coverage of `len` pixels of row `y` from column `x` on, times the opacity, in 1/256.
    ///
    /// Eight pixels at a time, in the narrow types that the compiler has vector instructions for.
    fn cover(&self, y: usize, x: usize, len: usize, opacity: f32, into: &mut Vec<u16>) {
        into.resize(len.next_multiple_of(8), 0);
        let dy = y as f32 + 0.5 - self.from[1];
        let mut first_dx = x as f32 + 0.5 - self.from[0];
        for eight in into.as_chunks_mut::<8>().0 {
            let mut covered = [0.0_f32; 8];
            for (i, covered) in (0_u16..).zip(&mut covered) {
                let dx = first_dx + f32::from(i);
                let t = (dx * self.along[0] + dy * self.along[1]) * self.inverse_length_squared;
                let t = t.clamp(0.0, 1.0);
                let (off_x, off_y) = (dx - t * self.along[0], dy - t * self.along[1]);
                let distance = (off_x * off_x + off_y * off_y).sqrt();
                *covered = (self.radius + 0.5 - distance).clamp(0.0, 1.0) * opacity;
            }
            for (coverage, covered) in eight.iter_mut().zip(covered) {
                // From 2²³ on a float's last bit is worth 1: the sum is rounded to whole 1/256, which are
                // then its low bits.
                *coverage = (covered * 256.0 + 8_388_608.0).to_bits() as u16;
            }
            first_dx += 8.0;
        }
        into.truncate(len);
    }
}
