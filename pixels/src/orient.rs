//! Planes turned upright as EXIF says (tag 0x0112, Exif 2.32 section 4.6.4).

use crate::{Component, Orientation, PlanarImage, Plane, PlaneMut, Subsampling};

/// Side of the squares that rows and columns are exchanged in: source and destination of one stay
/// in the first-level cache.
const TILE: usize = 32;

/// A turn as what happens to source coordinates: mirrored, then exchanged.
#[derive(Clone, Copy)]
struct Turn {
    mirror_x: bool,
    mirror_y: bool,
    transpose: bool,
}

impl From<Orientation> for Turn {
    fn from(orientation: Orientation) -> Self {
        let (mirror_x, mirror_y, transpose) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (true, false, false),
            Orientation::Rotate180 => (true, true, false),
            Orientation::FlipVertical => (false, true, false),
            Orientation::Rotate90FlipH => (false, false, true),
            Orientation::Rotate90 => (false, true, true),
            Orientation::Rotate270FlipH => (true, true, true),
            Orientation::Rotate270 => (true, false, true),
        };
        Self { mirror_x, mirror_y, transpose }
    }
}

/// Whether a picture's width becomes its height.
pub(crate) fn swaps_sides(orientation: Orientation) -> bool {
    Turn::from(orientation).transpose
}

/// Writes the picture `stored` upright `into` another image.
///
/// 4:2:2 becomes 4:4:0 when turned by 90°, and so on. Where a mirrored side is not a whole number of
/// chroma samples, the chroma grid would come to lie between pixels: such an image becomes 4:4:4 first.
pub(crate) fn turn(stored: &mut PlanarImage, orientation: Orientation, into: &mut PlanarImage) {
    let turn = Turn::from(orientation);
    let (across, down) = stored.subsampling().step();
    let grid_moves = turn.mirror_x && !stored.width().is_multiple_of(across)
        || turn.mirror_y && !stored.height().is_multiple_of(down);
    if grid_moves {
        repeat_chroma(stored, into);
        std::mem::swap(stored, into);
    }

    let (width, height, subsampling) = (stored.width(), stored.height(), stored.subsampling());
    if turn.transpose {
        into.resize(height, width, subsampling.transposed());
    } else {
        into.resize(width, height, subsampling);
    }
    let (luma, chroma) = into.planes_mut();
    turn_plane(stored.luma(), luma, turn);
    for (component, to) in [Component::U, Component::V].into_iter().zip(chroma.into_iter().flatten()) {
        let from = stored.plane(component).expect("both images have chroma");
        turn_plane(from, to, turn);
    }
    into.extend_edges();
}

fn turn_plane(from: Plane<'_>, mut to: PlaneMut<'_>, turn: Turn) {
    let mirrored = |mirror: bool, i: usize, len: usize| if mirror { len - 1 - i } else { i };
    if !turn.transpose {
        for y in 0..to.height {
            let source = from.row(mirrored(turn.mirror_y, y, from.height));
            let row = to.row_mut(y);
            row.copy_from_slice(source);
            if turn.mirror_x {
                row.reverse();
            }
        }
        return;
    }
    for top in (0..to.height).step_by(TILE) {
        for left in (0..to.width).step_by(TILE) {
            for y in top..to.height.min(top + TILE) {
                let source_x = mirrored(turn.mirror_x, y, from.width);
                let right = to.width.min(left + TILE);
                for (x, sample) in (left..right).zip(&mut to.row_mut(y)[left..right]) {
                    let source_y = mirrored(turn.mirror_y, x, from.height);
                    *sample = from.samples[source_y * from.stride + source_x];
                }
            }
        }
    }
}

/// Gives every pixel its own chroma sample: the one it shared.
fn repeat_chroma(from: &PlanarImage, into: &mut PlanarImage) {
    let (across, down) = from.subsampling().step();
    into.resize(from.width(), from.height(), Subsampling::S444);
    let (mut luma, chroma) = into.planes_mut();
    for y in 0..luma.height {
        luma.row_mut(y).copy_from_slice(from.luma().row(y));
    }
    for (component, mut to) in [Component::U, Component::V].into_iter().zip(chroma.into_iter().flatten()) {
        let plane = from.plane(component).expect("only an image with chroma is subsampled");
        for y in 0..to.height {
            let source = plane.row(y / down);
            for (x, sample) in to.row_mut(y).iter_mut().enumerate() {
                *sample = source[x / across];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels numbered by where they are, so that any misplaced one shows.
    fn numbered(width: usize, height: usize, subsampling: Subsampling) -> PlanarImage {
        let mut image = PlanarImage::new(width, height, subsampling);
        let (mut luma, chroma) = image.planes_mut();
        for y in 0..luma.height {
            for (x, sample) in luma.row_mut(y).iter_mut().enumerate() {
                *sample = (7 * x + 31 * y) as u8;
            }
        }
        for (i, mut plane) in chroma.into_iter().flatten().enumerate() {
            for y in 0..plane.height {
                for (x, sample) in plane.row_mut(y).iter_mut().enumerate() {
                    *sample = (5 * x + 17 * y + 100 * i) as u8;
                }
            }
        }
        image
    }

    /// The YUV of every pixel, chroma repeated.
    fn pixels(image: &PlanarImage) -> Vec<Vec<[u8; 3]>> {
        let (across, down) = image.subsampling().step();
        (0..image.height())
            .map(|y| {
                (0..image.width())
                    .map(|x| {
                        let chroma = |c| image.plane(c).map_or(128, |p| p.row(y / down)[x / across]);
                        [image.luma().row(y)[x], chroma(Component::U), chroma(Component::V)]
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn all_turns_move_whole_pixels() {
        // Where EXIF says row 0 and column 0 of the stored picture lie in the upright one.
        let upright_of = |exif: u8, (w, h): (usize, usize), (x, y): (usize, usize)| match exif {
            1 => (x, y),
            2 => (w - 1 - x, y),
            3 => (w - 1 - x, h - 1 - y),
            4 => (x, h - 1 - y),
            5 => (y, x),
            6 => (h - 1 - y, x),
            7 => (h - 1 - y, w - 1 - x),
            _ => (y, w - 1 - x),
        };
        for subsampling in Subsampling::ALL {
            for size in [(8, 8), (40, 36), (37, 35), (1, 1), (5, 1)] {
                for exif in 1..=8 {
                    let mut stored = numbered(size.0, size.1, subsampling);
                    let before = pixels(&stored);
                    let mut upright = PlanarImage::default();
                    turn(&mut stored, Orientation::from_exif(exif).unwrap(), &mut upright);
                    let after = pixels(&upright);
                    for (y, row) in before.iter().enumerate() {
                        for (x, pixel) in row.iter().enumerate() {
                            let (ux, uy) = upright_of(exif, size, (x, y));
                            assert_eq!(after[uy][ux], *pixel, "exif {exif}, {subsampling:?}, {size:?}");
                        }
                    }
                }
            }
        }
    }
}
