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

#[cfg(test)]
mod tests {
    use cloudpose_wire::{Skeleton, track::Joint};

    use super::*;

    /// A track of the first two joints of COCO-17, 100 pixels in size: a nose (sigma 0.026) and a left eye (0.025).
    fn track(nose: Joint, eye: Joint) -> Track {
        Track { key: 1, id: None, seen_at: 0, size: 100.0, joints: vec![nose, eye] }
    }

    fn similarity(track: &Track, elapsed: f32, points: [Point; 2]) -> f32 {
        oks(&Skeleton::coco_17(), track, elapsed, points.into_iter())
    }

    #[track_caller]
    fn near(value: f32, expected: f32) {
        assert!((value - expected).abs() < 1e-5, "{value} is not {expected}");
    }

    #[test]
    fn a_moving_joint_is_expected_where_it_moved_to() {
        let nose = Joint { x: 10.0, y: 20.0, vx: 30.0, vy: -10.0, score: 0.5 };
        let eye = Joint { x: 50.0, y: 60.0, vx: -20.0, vy: 40.0, score: 0.5 };
        let track = track(nose, eye);
        near(similarity(&track, 0.1, [(13.0, 19.0, 0.9), (48.0, 64.0, 0.9)]), 1.0);
        near(similarity(&track, -0.1, [(7.0, 21.0, 0.9), (52.0, 56.0, 0.9)]), 1.0);
        // After a second the motion of a quarter of it is believed.
        near(similarity(&track, 1.0, [(17.5, 17.5, 0.9), (45.0, 70.0, 0.9)]), 1.0);
        near(similarity(&track, -1.0, [(2.5, 22.5, 0.9), (55.0, 50.0, 0.9)]), 1.0);
    }

    #[test]
    fn values_are_those_of_the_definition() {
        let joint = |x, y, score| Joint { x, y, score, ..Joint::default() };
        let track = track(joint(10.0, 20.0, 0.5), joint(50.0, 60.0, 1.0));
        // The nose is 5 pixels away: exp(-5^2 / (2 * 100^2 * (2 * 0.026)^2)) = exp(-0.462278) = 0.629847, and weighs
        // 0.5; the eye is where it should be, and weighs 0.25: (0.5 * 0.629847 + 0.25) / 0.75.
        near(similarity(&track, 0.0, [(13.0, 24.0, 0.8), (50.0, 60.0, 0.25)]), 0.753_231);
        // A tenth of a second later the tolerance is (2 * 0.026)^2 + 0.1^2: exp(-0.0983942) = 0.906291.
        near(similarity(&track, 0.1, [(13.0, 24.0, 0.8), (50.0, 60.0, 0.25)]), 0.937_527);
        near(similarity(&track, -0.1, [(13.0, 24.0, 0.8), (50.0, 60.0, 0.25)]), 0.937_527);
    }

    #[test]
    fn points_that_nobody_believes_in_are_like_nothing() {
        let track = track(Joint::default(), Joint::default());
        assert_eq!(similarity(&track, 0.0, [(0.0, 0.0, 0.9), (0.0, 0.0, 0.9)]), 0.0);
    }
}
