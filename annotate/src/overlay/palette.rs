//! Colours that tell persons apart, also on a busy picture.

use super::canvas::Paint;

/// Neighbours in the list lie far apart in hue, since small ids meet most often.
const PERSONS: [[u8; 3]; 10] = [
    [0, 212, 255],
    [255, 138, 0],
    [124, 255, 61],
    [255, 61, 154],
    [255, 225, 0],
    [76, 125, 255],
    [255, 77, 66],
    [0, 240, 168],
    [180, 107, 255],
    [255, 179, 160],
];

/// Under everything: lets bright lines stand out from bright backgrounds.
pub(super) const HALO: Paint = Paint { rgb: [10, 12, 20], opacity: 0.6 };

/// Around each joint.
pub(super) const RIM: Paint = Paint { rgb: [255, 255, 255], opacity: 1.0 };

/// Returns the RGB colour of a person.
pub(super) fn of(number: usize) -> [u8; 3] {
    PERSONS[number % PERSONS.len()]
}
