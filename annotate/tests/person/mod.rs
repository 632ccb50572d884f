//! The person that the tests draw.

use cloudpose_wire::{Keypoint, Person, Skeleton, event::BoundingBox};

/// Where the joints are, from the nose.
const OFFSETS: [[f32; 2]; 17] = [
    [0., 0.],
    [4., -4.],
    [-4., -4.],
    [9., -2.],
    [-9., -2.],
    [22., 25.],
    [-22., 25.],
    [35., 55.],
    [-35., 55.],
    [40., 82.],
    [-40., 82.],
    [14., 80.],
    [-14., 80.],
    [16., 112.],
    [-16., 112.],
    [17., 145.],
    [-17., 145.],
];

/// Someone standing upright, 150 pixels tall times `scale`, the nose at (x, y), in a box.
pub(crate) fn standing([x, y]: [f32; 2], scale: f32) -> Person {
    let coco = Skeleton::coco_17();
    let keypoints = coco.keypoints().iter().zip(OFFSETS);
    Person {
        track_id: None,
        score: 0.9,
        bounding_box: BoundingBox {
            x: x - 45. * scale,
            y: y - 15. * scale,
            width: 90. * scale,
            height: 170. * scale,
        },
        keypoints: keypoints
            .map(|(kind, [dx, dy])| {
                let name = kind.name.clone();
                Keypoint { name, x: x + scale * dx, y: y + scale * dy, score: 0.9 }
            })
            .collect(),
        coarse: false,
    }
}
