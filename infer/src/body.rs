//! How far a body reaches, from where its joints are: a square around the hips, wide enough for torso and limbs with a
//! margin, as MoveNet's authors prescribe (TensorFlow Hub, "MoveNet: Ultra fast and accurate pose detection model",
//! `determine_crop_region`).

use cloudpose_wire::{Skeleton, skeleton::Part};

/// Joints with a lower score say nothing of where the body is: the authors' `MIN_CROP_KEYPOINT_SCORE`.
pub(crate) const LEAST_SCORE: f32 = 0.2;
/// The square reaches this many times as far as the furthest joint of the torso, and of the whole body.
const TORSO_MARGIN: f32 = 1.9;
const BODY_MARGIN: f32 = 1.2;

/// A square around a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Body {
    /// Between the hips.
    pub(crate) middle: [f32; 2],
    /// Half of the side.
    pub(crate) half: f32,
}

/// The square around `joints`, `[x, y, score]` in the skeleton's order, so large that the part of it is enough by which it
/// is `reach` times wider and higher; none if no hip or no shoulder is seen.
pub(crate) fn around(skeleton: &Skeleton, joints: &[[f32; 3]], reach: [f32; 2]) -> Option<Body> {
    let of = |part| skeleton.of_part(part).filter_map(|index| joints.get(index)).collect::<Vec<_>>();
    let is_seen = |[.., score]: &&[f32; 3]| *score > LEAST_SCORE;
    let (hips, shoulders) = (of(Part::Hip), of(Part::Shoulder));
    if !hips.iter().copied().any(|hip| is_seen(&hip)) || !shoulders.iter().copied().any(|s| is_seen(&s)) {
        return None;
    }
    // The hips that are not seen lie somewhere near, too.
    let middle = [0, 1].map(|axis| hips.iter().map(|hip| hip[axis]).sum::<f32>() / hips.len() as f32);
    let furthest = |joints: &mut dyn Iterator<Item = &[f32; 3]>| {
        let distance =
            |[x, y, _]: &[f32; 3]| (reach[0] * (x - middle[0]).abs()).max(reach[1] * (y - middle[1]).abs());
        joints.filter(is_seen).map(distance).fold(0.0, f32::max)
    };
    let torso = furthest(&mut hips.iter().chain(&shoulders).copied());
    Some(Body { middle, half: (TORSO_MARGIN * torso).max(BODY_MARGIN * furthest(&mut joints.iter())) })
}
