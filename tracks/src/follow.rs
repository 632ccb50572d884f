//! One frame: its persons and the stream's past in, both brought up to date out.

use cloudpose_wire::track::{Joint, Prior, Track};
use cloudpose_wire::{Keypoint, Person, Skeleton};

use crate::associate::associate;
use crate::similarity::{of_person, oks};
use crate::smooth;

/// The most tracks of a prior that are looked at: more than any model finds, and what a foreign prior
/// can cost.
pub(crate) const MOST_TRACKS: usize = 32;

/// Two persons of one frame that are more alike than this are one person, found twice.
const SAME_PERSON: f32 = 0.7;

/// The shortest time between two frames of a stream, in seconds: clocks may stand still or go back.
const LEAST_ELAPSED_S: f32 = 0.001;

/// What is known of a frame beside its persons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// When it was received, in milliseconds, on the clock of the prior.
    pub at: u64,
    /// Size of the picture, upright, in pixels.
    pub width: u32,
    /// See `width`.
    pub height: u32,
}

/// Finds out who of `persons` is whom of `prior`. Moves them to where the smoothed tracks are, if
/// `smooth`, and gives them the ids of confirmed tracks. Returns the tracks as of this frame: those of
/// `prior`, brought up to date where the person was found, and one with key 0 for each newcomer.
///
/// A person found twice begins no second track. Tracks of another skeleton, or of pictures of another size, end.
pub fn follow(
    skeleton: &Skeleton,
    prior: &Prior,
    frame: Frame,
    persons: &mut [Person],
    smooth: bool,
) -> Prior {
    let is_of_this =
        (prior.width, prior.height) == (frame.width, frame.height) && prior.skeleton == *skeleton.name();
    let known = if is_of_this { &prior.tracks[..] } else { &[] };
    // A foreign prior may hold anything.
    let fits = |track: &&Track| track.joints.len() == skeleton.keypoints().len();
    let mut tracks: Vec<Track> = known.iter().filter(fits).take(MOST_TRACKS).cloned().collect();
    let elapsed =
        |track: &Track| (frame.at.saturating_sub(track.seen_at) as f32 / 1000.0).max(LEAST_ELAPSED_S);
    let pairs = associate(tracks.len(), persons.len(), |track, person| {
        oks(skeleton, &tracks[track], elapsed(&tracks[track]), of_person(&persons[person].keypoints))
    });
    let mut newcomers: Vec<Track> = Vec::new();
    // Tracks first, so that a newcomer can be compared with all who are known.
    for (person, track) in persons.iter_mut().zip(&pairs) {
        let Some(track) = track.map(|index| &mut tracks[index]) else { continue };
        let elapsed = elapsed(track);
        let size = size(person);
        for (joint, keypoint) in track.joints.iter_mut().zip(&mut person.keypoints) {
            *joint = smooth::advance(joint, keypoint, elapsed, size, smooth);
            (keypoint.x, keypoint.y) = (joint.x, joint.y);
        }
        (track.seen_at, track.size) = (frame.at, size);
        person.track_id = track.id;
    }
    for (person, _) in persons.iter().zip(&pairs).filter(|(_, track)| track.is_none()) {
        let seen_now = tracks.iter().filter(|track| track.seen_at == frame.at).chain(&newcomers);
        let is_known = |track: &Track| oks(skeleton, track, 0.0, of_person(&person.keypoints)) > SAME_PERSON;
        if !seen_now.into_iter().any(is_known) && tracks.len() + newcomers.len() < MOST_TRACKS {
            newcomers.push(begin(person, frame.at));
        }
    }
    tracks.append(&mut newcomers);
    let (width, height, skeleton) = (frame.width, frame.height, skeleton.name().clone());
    Prior { at: frame.at, width, height, skeleton, tracks, ..*prior }
}

fn begin(person: &Person, at: u64) -> Track {
    let joint = |k: &Keypoint| Joint { x: k.x, y: k.y, score: k.score, ..Joint::default() };
    Track {
        key: 0,
        id: None,
        seen_at: at,
        size: size(person),
        joints: person.keypoints.iter().map(joint).collect(),
    }
}

/// Square root of the area of the person's box, in pixels.
fn size(person: &Person) -> f32 {
    (person.bounding_box.width * person.bounding_box.height).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::{event::BoundingBox, skeleton::KeypointKind};

    use super::*;

    const FRAME: Frame = Frame { at: 1_000, width: 2_000, height: 1_000 };

    /// A person of 100 by 100 pixels, all of whose keypoints are at (x, y).
    fn person(x: f32, y: f32) -> Person {
        let keypoint = |kind: &KeypointKind| Keypoint { name: kind.name.clone(), x, y, score: 0.8 };
        let coco = Skeleton::coco_17();
        Person {
            track_id: None,
            score: 0.7,
            bounding_box: BoundingBox { x, y, width: 100.0, height: 100.0 },
            keypoints: coco.keypoints().iter().map(keypoint).collect(),
            coarse: false,
        }
    }

    fn found(prior: &Prior, frame: Frame, mut persons: Vec<Person>) -> Prior {
        follow(&Skeleton::coco_17(), prior, frame, &mut persons, false)
    }

    #[test]
    fn speeds_are_pixels_a_second() {
        let first = found(&Prior::default(), FRAME, vec![person(100.0, 50.0)]);
        let first =
            Prior { tracks: first.tracks.into_iter().map(|t| Track { key: 1, ..t }).collect(), ..first };
        let then = found(&first, Frame { at: 1_100, ..FRAME }, vec![person(104.0, 48.0)]);
        let joint = &then.tracks[0].joints[0];
        // 40 and -20 pixels a second, of which the first tenth of a second counts for 0.385870 (see `smooth`).
        assert!((joint.vx - 15.434_78).abs() < 1e-3 && (joint.vy + 7.717_39).abs() < 1e-3, "{joint:?}");
    }

    #[test]
    fn tracks_of_another_size_or_skeleton_are_not_followed() {
        let known = found(&Prior::default(), FRAME, vec![person(100.0, 50.0)]);
        let other = Prior { skeleton: "hand-21".parse().unwrap(), ..known.clone() };
        for (prior, frame) in [(&known, Frame { width: 1_000, ..FRAME }), (&other, FRAME)] {
            let tracks = found(prior, frame, vec![person(800.0, 50.0)]).tracks;
            assert_eq!(tracks.len(), 1);
        }
        assert_eq!(found(&known, FRAME, vec![person(800.0, 50.0)]).tracks.len(), 2);
    }

    #[test]
    fn a_crowd_is_followed_up_to_a_bound() {
        let crowd: Vec<Person> = (0_u8..40).map(|i| person(40.0 * f32::from(i), 500.0)).collect();
        assert_eq!(found(&Prior::default(), FRAME, crowd.clone()).tracks.len(), MOST_TRACKS);
        let some = found(&Prior::default(), FRAME, crowd[..20].to_vec());
        assert_eq!(found(&some, FRAME, crowd).tracks.len(), MOST_TRACKS);
    }
}
