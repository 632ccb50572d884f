//! Pictures in which it is known where everything is.

use bytes::Bytes;
use cloudpose_pixels::{Component, Decoder, Encoder, Limits, PlanarImage, Subsampling, bt601};
use cloudpose_wire::Person;

/// The colours of the kite's joints, in the skeleton's order.
pub(crate) const JOINTS: [[u8; 3]; 5] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]];
pub(crate) const WHITE: [u8; 3] = [255; 3];
pub(crate) const DARK: [u8; 3] = [16; 3];

/// A kite's joints in a picture, in pixels from its middle joint.
pub(crate) const KITE: [[i32; 2]; 5] = [[0, -60], [-60, 30], [60, 30], [0, 0], [0, 70]];

/// A picture in the making.
pub(crate) struct Painting(PlanarImage);

impl Painting {
    pub(crate) fn new(width: usize, height: usize, colour: [u8; 3]) -> Self {
        let mut painting = Self(PlanarImage::new(width, height, Subsampling::S444));
        painting.rectangle([0, 0], [width, height], colour);
        painting
    }

    /// Fills from the top left corner to the bottom right one, which is outside.
    pub(crate) fn rectangle(
        &mut self,
        [left, top]: [usize; 2],
        [right, bottom]: [usize; 2],
        colour: [u8; 3],
    ) {
        let ycc = bt601::ycc_from_rgb(colour);
        let (mut luma, chroma) = self.0.planes_mut();
        let [mut u, mut v] = chroma.unwrap();
        for y in top..bottom {
            for (plane, level) in [&mut luma, &mut u, &mut v].into_iter().zip(ycc) {
                plane.row_mut(y)[left..right].fill(level);
            }
        }
    }

    /// Squares of `side` pixels, the joints of a kite whose middle one is around (x, y).
    pub(crate) fn kite(mut self, middle: [i32; 2], offsets: [[i32; 2]; 5], side: i32) -> Self {
        for (offset, colour) in offsets.into_iter().zip(JOINTS) {
            let corner =
                |far: i32| [0, 1].map(|axis| (middle[axis] + offset[axis] - side / 2 + far) as usize);
            self.rectangle(corner(0), corner(side), colour);
        }
        self
    }

    pub(crate) fn jpeg(&self) -> Bytes {
        Encoder::new().unwrap().encode(&self.0, 100).unwrap()
    }
}

/// A kite of 320 × 240 pixels, whose joints a model input of 64 pixels shows to the pixel.
pub(crate) fn kite_at(middle: [i32; 2]) -> Bytes {
    Painting::new(320, 240, DARK).kite(middle, KITE, 20).jpeg()
}

/// Where the joints are of a kite around a point.
pub(crate) fn joints_at([x, y]: [i32; 2]) -> Vec<(f32, f32)> {
    KITE.iter().map(|[dx, dy]| ((x + dx) as f32, (y + dy) as f32)).collect()
}

/// Where a person's joints are said to be.
pub(crate) fn joints(person: &Person) -> Vec<(f32, f32)> {
    person.keypoints.iter().map(|keypoint| (keypoint.x, keypoint.y)).collect()
}

/// A picture to look at.
pub(crate) struct Seen(PlanarImage);

impl Seen {
    pub(crate) fn new(jpeg: &[u8]) -> Self {
        let mut image = PlanarImage::default();
        Decoder::new(Limits::default()).unwrap().decode(jpeg, &mut image).unwrap();
        Self(image)
    }

    pub(crate) fn size(&self) -> [usize; 2] {
        [self.0.width(), self.0.height()]
    }

    /// Whether the pixel is as dark as the ground was painted.
    pub(crate) fn is_bare(&self, [x, y]: [i32; 2]) -> bool {
        let (x, y) = (x as usize, y as usize);
        let (across, down) = self.0.subsampling().step();
        let chroma = |component| self.0.plane(component).unwrap().row(y / down)[x / across];
        let ycc = [self.0.luma().row(y)[x], chroma(Component::U), chroma(Component::V)];
        bt601::rgb_from_ycc(ycc).iter().zip(DARK).all(|(seen, dark)| seen.abs_diff(dark) < 24)
    }

    /// Asserts that the limbs of the kite around `middle` are drawn, and no others between its joints.
    pub(crate) fn shows_kite(&self, middle: [i32; 2]) {
        let between =
            |a: usize, b: usize| [0, 1].map(|axis| middle[axis] + (KITE[a][axis] + KITE[b][axis]) / 2);
        for limb in [[0, 3], [1, 3], [2, 3], [3, 4]] {
            assert!(!self.is_bare(between(limb[0], limb[1])), "{limb:?} is a limb of the kite at {middle:?}");
        }
        for none in [[0, 1], [0, 2], [1, 4], [2, 4]] {
            assert!(self.is_bare(between(none[0], none[1])), "{none:?} is no limb of the kite at {middle:?}");
        }
    }
}
