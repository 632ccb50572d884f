//! The number above a tracked person: a pill in their colour with digits drawn as lines.

use cloudpose_pixels::bt601;

use super::Pen;
use super::canvas::{Canvas, Paint, Point};
use super::palette::HALO;

/// A digit's strokes in a cell 4 wide and 6 high, origin top left.
type Glyph = &'static [&'static [[u8; 2]]];

const DIGITS: [Glyph; 10] = [
    &[&[[1, 0], [3, 0], [4, 1], [4, 5], [3, 6], [1, 6], [0, 5], [0, 1], [1, 0]]],
    &[&[[1, 1], [2, 0], [2, 6]], &[[1, 6], [3, 6]]],
    &[&[[0, 1], [1, 0], [3, 0], [4, 1], [4, 2], [0, 6], [4, 6]]],
    &[&[[0, 0], [4, 0], [2, 2], [3, 2], [4, 3], [4, 5], [3, 6], [1, 6], [0, 5]]],
    &[&[[3, 6], [3, 0], [0, 4], [4, 4]]],
    &[&[[4, 0], [0, 0], [0, 3], [1, 2], [3, 2], [4, 3], [4, 5], [3, 6], [1, 6], [0, 5]]],
    &[&[[3, 0], [1, 0], [0, 1], [0, 5], [1, 6], [3, 6], [4, 5], [4, 4], [3, 3], [0, 3]]],
    &[&[[0, 0], [4, 0], [1, 6]]],
    &[
        &[[1, 3], [0, 2], [0, 1], [1, 0], [3, 0], [4, 1], [4, 2], [3, 3], [1, 3], [0, 4], [0, 5]],
        &[[0, 5], [1, 6], [3, 6], [4, 5], [4, 4], [3, 3]],
    ],
    &[&[[4, 3], [1, 3], [0, 2], [0, 1], [1, 0], [3, 0], [4, 1], [4, 5], [3, 6], [1, 6]]],
];

/// Cells from one digit to the next.
const ADVANCE: f32 = 6.0;
const GLYPH_WIDTH: f32 = 4.0;
const GLYPH_HEIGHT: f32 = 6.0;

/// Draws `id` above a point, moved into the image where it would lie outside.
pub(super) fn draw(canvas: &mut Canvas<'_>, id: u32, above: Point, pen: Pen, color: [u8; 3]) {
    let digits: Vec<usize> = id.to_string().bytes().map(|digit| usize::from(digit - b'0')).collect();
    // One cell, in pixels: digits of about 14 pixels at 1280×720.
    let cell = (1.15 * pen.frame).max(0.9);
    let text_width = cell * (ADVANCE * (digits.len() - 1) as f32 + GLYPH_WIDTH);
    let half_height = 4.8 * cell;
    let half_width = text_width / 2.0 + half_height;

    let size = canvas.size();
    let inside = |v: f32, half: f32, len: f32| v.min(len - half - 1.0).max(half + 1.0);
    let lift = half_height + 7.0 * pen.limb + 2.0 * cell;
    let center = [inside(above[0], half_width, size[0]), inside(above[1] - lift, half_height, size[1])];

    let (left, right) = (center[0] - text_width / 2.0, center[0] + text_width / 2.0);
    canvas.capsule([left, center[1]], [right, center[1]], half_height + pen.halo, HALO);
    canvas.capsule([left, center[1]], [right, center[1]], half_height, color.into());

    let ink = ink_on(color);
    let top = center[1] - cell * GLYPH_HEIGHT / 2.0;
    for (i, &digit) in digits.iter().enumerate() {
        let left = left + cell * ADVANCE * i as f32;
        let place = |[x, y]: [u8; 2]| [left + cell * f32::from(x), top + cell * f32::from(y)];
        for stroke in DIGITS[digit] {
            for pair in stroke.windows(2) {
                canvas.capsule(place(pair[0]), place(pair[1]), 0.56 * cell, ink);
            }
        }
    }
}

/// Black or white, whichever stands out.
fn ink_on(color: [u8; 3]) -> Paint {
    if bt601::ycc_from_rgb(color)[0] > 110 { [10, 12, 20].into() } else { [255, 255, 255].into() }
}
