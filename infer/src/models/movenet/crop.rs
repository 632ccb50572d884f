//! Where to look for the person of a SinglePose model, from where they were in the frame before: a square around their
//! [`body`], so that a small person fills the model's input.

use cloudpose_wire::{Prior, Skeleton, track::Track};

use crate::{body, preprocess::Square};

/// The square to look in; none for the whole image, because nobody was there, their torso was not to be
/// seen, or they fill the image anyway.
pub(super) fn square(skeleton: &Skeleton, prior: &Prior, [width, height]: [usize; 2]) -> Option<Square> {
    if [prior.width as usize, prior.height as usize] != [width, height] || prior.skeleton != *skeleton.name()
    {
        return None;
    }
    // Who was not in the newest frame is looked for everywhere.
    let seen = prior.tracks.iter().filter(|track| track.seen_at == prior.at);
    let track = seen.max_by(|a, b| a.size.total_cmp(&b.size))?;
    around(skeleton, track, width as f32, height as f32)
}

fn around(skeleton: &Skeleton, track: &Track, width: f32, height: f32) -> Option<Square> {
    let joints: Vec<_> = track.joints.iter().map(|joint| [joint.x, joint.y, joint.score]).collect();
    let body::Body { middle: [x, y], half } = body::around(skeleton, &joints, [1.0; 2])?;
    if !(0.0..width).contains(&x) || !(0.0..height).contains(&y) {
        return None;
    }
    let to_edge = x.max(width - x).max(y).max(height - y);
    let half = half.min(to_edge);
    // NaN in a foreign prior fails this too.
    let is_useful = half >= 1.0 && half <= width.max(height) / 2.0;
    is_useful.then_some(Square { x: x - half, y: y - half, side: 2.0 * half })
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::{skeleton::KeypointKind, track::Joint};

    use super::*;

    const LEFT_ANKLE: usize = 15;

    /// Hips at (500, 300), shoulders 60 above, everything else within 80; all sure.
    fn track() -> Track {
        let joint = |kind: &KeypointKind| {
            let (x, y) = match kind.name.as_str() {
                "left_hip" => (510.0, 300.0),
                "right_hip" => (490.0, 300.0),
                "left_shoulder" => (515.0, 240.0),
                "right_shoulder" => (485.0, 240.0),
                "left_ankle" => (505.0, 380.0),
                _ => (500.0, 290.0),
            };
            Joint { x, y, score: 0.9, ..Joint::default() }
        };
        let joints = Skeleton::coco_17().keypoints().iter().map(joint).collect();
        Track { key: 1, id: Some(1), seen_at: 7, size: 90.0, joints }
    }

    fn prior(track: Track) -> Prior {
        Prior { at: 7, width: 1280, height: 720, tracks: vec![track], ..Prior::default() }
    }

    fn square(prior: &Prior, width: usize, height: usize) -> Option<Square> {
        super::square(&Skeleton::coco_17(), prior, [width, height])
    }

    #[test]
    fn the_square_has_the_hips_in_its_middle_and_the_authors_margins() {
        let crop = square(&prior(track()), 1280, 720).unwrap();
        // 1.9 × 60 for the torso against 1.2 × 80 for the body.
        assert_eq!(crop, Square { x: 500.0 - 114.0, y: 300.0 - 114.0, side: 228.0 });
        let mut kicking = track();
        kicking.joints[LEFT_ANKLE].x = 620.0;
        assert_eq!(square(&prior(kicking), 1280, 720).unwrap().side, 2.0 * 1.2 * 120.0);
    }

    #[test]
    fn without_a_torso_or_a_recent_sight_the_whole_image_is_searched() {
        for pair in [[5, 6], [11, 12]] {
            let mut hidden = track();
            pair.into_iter().for_each(|index| hidden.joints[index].score = 0.1);
            assert_eq!(square(&prior(hidden), 1280, 720), None, "{pair:?}");
        }
        let mut gone = prior(track());
        gone.at = 40;
        assert_eq!(square(&gone, 1280, 720), None);
        assert_eq!(square(&prior(track()), 640, 360), None, "another size");
        assert_eq!(square(&Prior::default(), 0, 0), None);
        let mut large = track();
        large.joints.iter_mut().for_each(|j| j.y = 6.0 * (j.y - 240.0));
        assert_eq!(square(&prior(large), 1280, 720), None, "fills the image");
    }

    #[test]
    fn of_several_persons_the_largest_of_the_newest_frame_is_looked_at() {
        let moved = |by: f32, size: f32| {
            let mut track = Track { size, ..track() };
            track.joints.iter_mut().for_each(|joint| joint.x += by);
            track
        };
        for (tracks, by) in [
            (vec![track(), moved(200.0, 120.0), moved(-100.0, 100.0)], 200.0),
            (vec![moved(200.0, 60.0), track(), moved(-100.0, 80.0)], 0.0),
            (vec![track(), Track { seen_at: 6, ..moved(200.0, 120.0) }], 0.0),
        ] {
            let crop = square(&Prior { tracks, ..prior(track()) }, 1280, 720).unwrap();
            assert_eq!(crop, Square { x: 386.0 + by, y: 186.0, side: 228.0 });
        }
    }

    #[test]
    fn the_square_reaches_over_an_edge_but_no_further_than_the_opposite_one() {
        let at = |x: f32, y: f32| {
            let mut moved = track();
            moved
                .joints
                .iter_mut()
                .for_each(|joint| (joint.x, joint.y) = (joint.x + x - 500.0, joint.y + y - 300.0));
            square(&prior(moved), 1280, 720)
        };
        for (x, y) in [(10.0, 300.0), (1270.0, 300.0), (500.0, 10.0), (500.0, 710.0)] {
            assert_eq!(at(x, y), Some(Square { x: x - 114.0, y: y - 114.0, side: 228.0 }));
        }
        // Hips outside of the picture were guessed.
        for (x, y) in [(-1.0, 300.0), (1280.0, 300.0), (500.0, -1.0), (500.0, 720.0)] {
            assert_eq!(at(x, y), None);
        }
        // A picture hardly larger than the person: 65 pixels are the furthest from the hips to an edge.
        let mut small = Prior { width: 130, height: 130, ..prior(track()) };
        small.tracks[0]
            .joints
            .iter_mut()
            .for_each(|joint| (joint.x, joint.y) = (joint.x - 435.0, joint.y - 235.0));
        assert_eq!(square(&small, 130, 130), Some(Square { x: 0.0, y: 0.0, side: 130.0 }));
    }

    #[test]
    fn nonsense_is_no_square() {
        for value in [f32::NAN, f32::INFINITY, -1e30] {
            let mut odd = track();
            odd.joints.iter_mut().for_each(|j| (j.x, j.y) = (value, value));
            assert_eq!(square(&prior(odd), 1280, 720), None);
        }
        let headless = Track { joints: Vec::new(), ..track() };
        assert_eq!(square(&prior(headless), 1280, 720), None);
    }
}
