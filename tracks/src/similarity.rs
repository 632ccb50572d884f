//! Object keypoint similarity (OKS), as COCO defines it for evaluation
//! (<https://cocodataset.org/#keypoints-eval>), between where a track's person is expected and a person
//! that was found.

use cloudpose_wire::{Keypoint, Skeleton, track::Track};

/// How far people stray from where they are expected, in their own sizes a second.
const DRIFT: f32 = 1.0;

/// Velocity counts for no longer than this, in seconds: later, people have stopped or turned.
const MOST_MOTION_S: f32 = 0.25;

/// A point that may be a track's joint: x and y in pixels, and its confidence.
pub(crate) type Point = (f32, f32, f32);

/// The keypoints of a person.
pub(crate) fn of_person(keypoints: &[Keypoint]) -> impl Iterator<Item = Point> {
    keypoints.iter().map(|k| (k.x, k.y, k.score))
}

/// The joints of a track.
pub(crate) fn of_track(track: &Track) -> impl Iterator<Item = Point> {
    track.joints.iter().map(|j| (j.x, j.y, j.score))
}

/// 1 where all points are as expected, towards 0 the further away they are. `elapsed` is from when the track
/// was seen to when the points were, in seconds; negative if they are older.
///
/// Beyond COCO's definition: keypoints weigh by their confidence in both, and the tolerance grows with
/// `elapsed`.
pub(crate) fn oks(
    skeleton: &Skeleton,
    track: &Track,
    elapsed: f32,
    points: impl Iterator<Item = Point>,
) -> f32 {
    let motion = elapsed.clamp(-MOST_MOTION_S, MOST_MOTION_S);
    let area = (track.size * track.size).max(1.0);
    let (mut sum, mut weights) = (0.0, 0.0);
    for ((joint, (x, y, score)), kind) in track.joints.iter().zip(points).zip(skeleton.keypoints()) {
        let dx = joint.x + joint.vx * motion - x;
        let dy = joint.y + joint.vy * motion - y;
        let tolerance = (2.0 * kind.sigma).powi(2) + (DRIFT * elapsed).powi(2);
        let weight = joint.score.min(score);
        sum += weight * (-(dx * dx + dy * dy) / (2.0 * area * tolerance)).exp();
        weights += weight;
    }
    // NaN, which a foreign prior might hold, compares as 0 too.
    if weights > 0.0 && sum.is_finite() { sum / weights } else { 0.0 }
}
