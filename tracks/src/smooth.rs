//! The One-Euro filter: Casiez, Roussel, Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for
//! Noisy Input in Interactive Systems", CHI 2012, algorithm 1.
//!
//! A low-pass filter whose cutoff rises with the speed: someone standing doesn't tremble, a fast arm
//! doesn't lag. Speed is in sizes of the person, so that near and far persons are treated alike.

use cloudpose_wire::Keypoint;
use cloudpose_wire::track::Joint;

/// Cutoff for someone who does not move, in Hz.
const MIN_CUTOFF: f32 = 1.5;
/// How much the cutoff rises with the speed, in Hz per size a second.
const BETA: f32 = 3.0;
/// Cutoff for the speed itself, in Hz: the authors' value.
const SPEED_CUTOFF: f32 = 1.0;

/// The new value's share after `elapsed` seconds.
fn share(cutoff: f32, elapsed: f32) -> f32 {
    let tau = 1.0 / (std::f32::consts::TAU * cutoff);
    1.0 / (1.0 + tau / elapsed)
}

/// Where a joint is, `elapsed` seconds (more than 0) after `before`, now that it was found at `found`.
/// `size` is the person's, in pixels. Without `smooth` the place is as found, and only the velocity is
/// filtered.
pub(crate) fn advance(before: &Joint, found: &Keypoint, elapsed: f32, size: f32, smooth: bool) -> Joint {
    let mix = |share: f32, new: f32, old: f32| old + share * (new - old);
    let speed_share = share(SPEED_CUTOFF, elapsed);
    let vx = mix(speed_share, (found.x - before.x) / elapsed, before.vx);
    let vy = mix(speed_share, (found.y - before.y) / elapsed, before.vy);
    let mut joint = Joint { x: found.x, y: found.y, vx, vy, score: found.score };
    if smooth {
        let share = share(MIN_CUTOFF + BETA * vx.hypot(vy) / size.max(1.0), elapsed);
        joint.x = mix(share, found.x, before.x);
        joint.y = mix(share, found.y, before.y);
    }
    joint
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_S: f32 = 1.0 / 30.0;

    fn at(x: f32) -> Keypoint {
        Keypoint { name: "left_wrist".parse().unwrap(), x, y: 5.0, score: 0.9 }
    }

    fn run(places: impl Iterator<Item = f32>, smooth: bool) -> Vec<f32> {
        let mut joint = Joint { x: 100.0, y: 5.0, score: 0.9, ..Joint::default() };
        places
            .map(|x| {
                joint = advance(&joint, &at(x), FRAME_S, 100.0, smooth);
                joint.x
            })
            .collect()
    }

    #[test]
    fn trembling_is_damped_and_a_fast_move_is_followed() {
        let trembling = run((0..60).map(|i| 100.0 + if i % 2 == 0 { 1.0 } else { -1.0 }), true);
        assert!(trembling[30..].iter().all(|x| (x - 100.0).abs() < 0.5), "{trembling:?}");
        // Three sizes a second: after a moment it is less than two frames behind.
        let moving = run((1..30).map(|i| 100.0 + 10.0 * i as f32), true);
        assert!(390.0 - moving[28] < 20.0, "{moving:?}");
    }

    #[test]
    fn without_smoothing_places_are_as_found_and_the_speed_is_known() {
        let mut joint = Joint { x: 100.0, y: 5.0, ..Joint::default() };
        for i in 1..90 {
            joint = advance(&joint, &at(100.0 + 2.0 * i as f32), FRAME_S, 100.0, false);
        }
        assert_eq!((joint.x, joint.y), (278.0, 5.0));
        assert!((joint.vx - 60.0).abs() < 1.0 && joint.vy == 0.0, "{joint:?}");
    }

    /// By the paper's algorithm 1, step by step: at 10 frames a second the speed's share is
    /// 1 / (1 + 1 / (2π · 1.0) / 0.1) = 0.385870; the place's is by a cutoff of 1.5 + 3.0 · speed / size.
    #[test]
    fn steps_are_those_of_the_paper() {
        let before = Joint { x: 100.0, y: 50.0, vx: 10.0, vy: -20.0, score: 0.2 };
        let found = Keypoint { x: 106.0, y: 42.0, ..at(0.0) };
        let joint = advance(&before, &found, 0.1, 200.0, true);
        // 10 + 0.385870 · (60 - 10) and -20 + 0.385870 · (-80 + 20).
        let close = |value: f32, expected: f32| (value - expected).abs() < 1e-3;
        assert!(close(joint.vx, 29.293_48) && close(joint.vy, -43.152_17), "{joint:?}");
        // The speed is 52.1557, the cutoff 2.282336 Hz, the share 0.589159.
        assert!(close(joint.x, 103.534_96) && close(joint.y, 45.286_73), "{joint:?}");
        assert_eq!(joint.score, 0.9);
    }
}
