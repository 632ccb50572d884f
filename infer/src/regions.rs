//! Where the stages of a pipeline look: around the persons that a detector found, or around those whom a stream's tracks
//! know already, which needs no detector.

use cloudpose_wire::{
    Keypoint, Person, Prior, Skeleton,
    event::BoundingBox,
    skeleton::KeypointKind,
    track::{Joint, Track},
};

use crate::{
    body::{self, Body},
    persons,
    preprocess::{Source, Square},
};

/// How far the square around a person reaches beyond their box: what is shown of it has a side that is this many times the
/// box's longer one. On COCO's photos, 1.15 and 1.4 place joints worse.
const BOX_MARGIN: f32 = 1.25;

/// Whom a detector is less sure of is nobody. More would be found below it, hardly any of them right.
pub(crate) const LEAST_SCORE: f32 = 0.05;

/// Who is less similar (OKS) to the person that was expected than this is somebody else. On COCO's photos anything from 0.1
/// to 0.5 finds a few more people, and none less.
pub(crate) const LIKE: f32 = 0.5;

/// Of who shows no torso, the joints' extent is less of the person than a box.
const JOINTS_MARGIN: f32 = 1.5;

/// A detector looks again after so many frames that the tracks were enough for, or after that time: somebody may have
/// come.
const LOOK_AFTER_FRAMES: u32 = 8;
const LOOK_AFTER_MS: u64 = 500;
/// Sooner, if a track's joints have a lower score than this on the average: they may be nobody's any more.
const UNSURE: f32 = 0.4;
const LOOK_AFTER_UNSURE_MS: u64 = 150;

/// A place to look closer at somebody.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Region {
    pub(crate) square: Square,
    /// Who is expected there.
    pub(crate) expected: Person,
    /// How it is known.
    pub(crate) origin: Origin,
}

/// What leads to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A detector found somebody in this frame.
    Detector,
    /// Somebody was there in the frame before.
    Track,
}

/// Whom to look closer at, and who stays as the detector found them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Closer {
    pub(crate) regions: Vec<Region>,
    pub(crate) rest: Vec<Person>,
}

/// A square around each of `persons`, of whom at most `most` are looked at: first the large ones of whom the detector is
/// not sure, who gain most. Whom one of `tracked` leads to is looked at there, as in the frames before: joints would leap
/// from one square to another. They have keypoints of those `kinds`; `reach` is that of whoever looks
/// ([`Fit::reach`](crate::preprocess::Fit::reach)).
pub(crate) fn around_persons(
    kinds: &[KeypointKind],
    mut persons: Vec<Person>,
    tracked: &[Region],
    source: Source,
    reach: [f32; 2],
    most: usize,
) -> Closer {
    let gain = |person: &Person| longer_side(person) * (1.0 - person.score);
    persons.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
    let mut closer = Closer::default();
    for person in persons {
        let likeness = |region: &&Region| persons::similarity(kinds, &region.expected, &person);
        let track = tracked.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let square = match track.filter(|track| likeness(track) >= LIKE) {
            Some(track) => Some(track.square),
            None => around_box(&person, source, reach),
        };
        match square {
            Some(square) if closer.regions.len() < most => {
                closer.regions.push(Region { square, expected: person, origin: Origin::Detector });
            }
            _ => closer.rest.push(person),
        }
    }
    closer
}

fn longer_side(person: &Person) -> f32 {
    person.bounding_box.width.max(person.bounding_box.height)
}

fn around_box(person: &Person, source: Source, reach: [f32; 2]) -> Option<Square> {
    let area = person.bounding_box;
    let side = BOX_MARGIN * (reach[0] * area.width).max(reach[1] * area.height);
    let (x, y) = (area.x + (area.width - side) / 2.0, area.y + (area.height - side) / 2.0);
    useful(Square { x, y, side }, source)
}

/// A square that shows something of the picture. Numbers that are none fail this too.
fn useful(square: Square, source: Source) -> Option<Square> {
    let (width, height) = (source.width as f32, source.height as f32);
    let Square { x, y, side } = square;
    let is_useful =
        side >= 1.0 && side.is_finite() && x < width && y < height && x + side > 0.0 && y + side > 0.0;
    is_useful.then_some(square)
}

/// A square around each person whom the tracks saw in the frame before, if that was of such pictures. `at`: when this frame
/// was received, on the clock of `prior`. `reach`: of whoever looks.
pub(crate) fn around_tracks(
    skeleton: &Skeleton,
    prior: &Prior,
    at: u64,
    source: Source,
    reach: [f32; 2],
) -> Vec<Region> {
    let is_of_this = [prior.width as usize, prior.height as usize] == [source.width, source.height]
        && prior.skeleton == *skeleton.name();
    let seen = prior.tracks.iter().filter(|track| is_of_this && track.seen_at == prior.at);
    let region = |track: &Track| {
        let expected = expected(skeleton, track, at);
        let square = around_joints(skeleton, &expected, reach).and_then(|square| useful(square, source))?;
        Some(Region { square, expected, origin: Origin::Track })
    };
    seen.filter_map(region).collect()
}

/// Whether a detector must look, though `tracked` lead to persons, because
/// - it has not for a while,
/// - somebody whom the last frame knew was not in it or leads nowhere, or joints are unsure, and it has not looked since,
/// - nobody is there, or more than `most`.
pub(crate) fn must_look(prior: &Prior, at: u64, tracked: &[Region], most: usize) -> bool {
    let since_look = at.saturating_sub(prior.looked_at);
    let (seen, lost): (Vec<&Track>, Vec<&Track>) =
        prior.tracks.iter().partition(|track| track.seen_at == prior.at);
    let is_news = |track: &Track| prior.looked_at <= track.seen_at;
    let is_unsure = |track: &&Track| mean_score(track) < UNSURE;
    tracked.is_empty()
        || tracked.len() > most
        || tracked.len() < seen.len()
        || since_look >= LOOK_AFTER_MS
        || prior.frames_since_look >= LOOK_AFTER_FRAMES - 1
        || lost.into_iter().any(is_news)
        || (since_look >= LOOK_AFTER_UNSURE_MS && seen.iter().any(is_unsure))
}

fn mean_score(track: &Track) -> f32 {
    track.joints.iter().map(|joint| joint.score).sum::<f32>() / track.joints.len().max(1) as f32
}

/// The person of a track where they should be at `at`.
fn expected(skeleton: &Skeleton, track: &Track, at: u64) -> Person {
    let elapsed = at.saturating_sub(track.seen_at) as f32 / 1000.0;
    let keypoint = |(kind, joint): (&KeypointKind, &Joint)| Keypoint {
        name: kind.name.clone(),
        x: joint.x + elapsed * joint.vx,
        y: joint.y + elapsed * joint.vy,
        score: joint.score,
    };
    let keypoints: Vec<_> = skeleton.keypoints().iter().zip(&track.joints).map(keypoint).collect();
    // Of the size that the track had; where it lies says nothing.
    let bounding_box = BoundingBox { x: 0.0, y: 0.0, width: track.size, height: track.size };
    Person { track_id: track.id, score: mean_score(track), bounding_box, keypoints, coarse: false }
}

/// Room around the joints of a person.
fn around_joints(skeleton: &Skeleton, person: &Person, reach: [f32; 2]) -> Option<Square> {
    let joints: Vec<_> = person.keypoints.iter().map(|k| [k.x, k.y, k.score]).collect();
    if let Some(Body { middle: [x, y], half }) = body::around(skeleton, &joints, reach) {
        return Some(Square { x: x - half, y: y - half, side: 2.0 * half });
    }
    let seen = joints.iter().filter(|[.., score]| *score > body::LEAST_SCORE);
    let [[left, top], [right, bottom]] = persons::extent(&seen.map(|&[x, y, _]| [x, y]).collect::<Vec<_>>())?;
    let side = JOINTS_MARGIN * (reach[0] * (right - left)).max(reach[1] * (bottom - top));
    Some(Square { x: (left + right - side) / 2.0, y: (top + bottom - side) / 2.0, side })
}

#[cfg(test)]
mod tests {
    use cloudpose_pixels::Scale;

    use super::*;

    const SOURCE: Source = Source { width: 1280, height: 720, scale: Scale::FULL };
    const AT: u64 = 10_000;
    const SQUARE: [f32; 2] = [1.0; 2];
    /// Inputs of 192×256 pixels.
    const UPRIGHT: [f32; 2] = [4.0 / 3.0, 1.0];

    /// Nobody's joints in a box.
    fn person(x: f32, side: f32, score: f32) -> Person {
        let bounding_box = BoundingBox { x, y: 100.0, width: side / 2.0, height: side };
        Person { track_id: None, score, bounding_box, keypoints: Vec::new(), coarse: false }
    }

    /// Hips at (500, 300), shoulders 60 above, everything else within 80, all moving to the right; seen at `AT`.
    fn track(score: f32) -> Track {
        let joint = |kind: &KeypointKind| {
            let (x, y) = match kind.name.as_str() {
                "left_hip" => (510.0, 300.0),
                "right_hip" => (490.0, 300.0),
                "left_shoulder" => (515.0, 240.0),
                "right_shoulder" => (485.0, 240.0),
                "left_ankle" => (505.0, 380.0),
                _ => (500.0, 290.0),
            };
            Joint { x, y, vx: 100.0, vy: 0.0, score }
        };
        let joints = Skeleton::coco_17().keypoints().iter().map(joint).collect();
        Track { key: 1, id: Some(1), seen_at: AT, size: 90.0, joints }
    }

    /// Looked everywhere a frame ago.
    fn prior(tracks: Vec<Track>) -> Prior {
        Prior { at: AT, width: 1280, height: 720, looked_at: AT - 33, tracks, ..Prior::default() }
    }

    fn around(persons: Vec<Person>, most: usize) -> Closer {
        around_persons(Skeleton::coco_17().keypoints(), persons, &[], SOURCE, SQUARE, most)
    }

    /// None: a detector must look.
    fn places(prior: &Prior, at: u64, most: usize) -> Option<Vec<Square>> {
        let regions = around_tracks(&Skeleton::coco_17(), prior, at, SOURCE, SQUARE);
        assert!(regions.iter().all(|region| region.origin == Origin::Track));
        let is_enough = !must_look(prior, at, &regions, most);
        is_enough.then(|| regions.into_iter().map(|region| region.square).collect())
    }

    #[test]
    fn a_detected_person_lies_in_the_middle_of_a_square_a_quarter_wider_than_their_box() {
        let expected = person(400.0, 200.0, 0.5);
        let found = around(vec![expected.clone()], usize::MAX);
        let square = Square { x: 450.0 - 125.0, y: 200.0 - 125.0, side: 250.0 };
        assert_eq!(found.regions, [Region { square, expected, origin: Origin::Detector }]);
        assert_eq!(found.rest, []);
    }

    #[test]
    fn a_person_is_in_the_part_of_the_square_that_is_shown() {
        let across = |width: f32, height: f32| {
            let bounding_box = BoundingBox { x: 400.0, y: 100.0, width, height };
            let person = Person { bounding_box, ..person(0.0, 1.0, 0.5) };
            around_persons(&[], vec![person], &[], SOURCE, UPRIGHT, 1).regions[0].square.side
        };
        // Higher than 4 : 3, and wider.
        assert_eq!((across(100.0, 200.0), across(300.0, 200.0)), (1.25 * 200.0, 1.25 * 400.0));
        let mut kicking = track(0.9);
        kicking.joints[15].x = 635.0;
        kicking.joints.iter_mut().for_each(|joint| joint.vx = 0.0);
        let regions = around_tracks(&Skeleton::coco_17(), &prior(vec![kicking]), AT, SOURCE, UPRIGHT);
        let side = regions[0].square.side;
        assert!((side - 2.0 * 1.2 * 180.0).abs() < 1e-3, "{side}");
    }

    #[test]
    fn boxes_lead_to_squares_as_persons_do() {
        let boxes = vec![person(0.0, 100.0, 0.9), person(300.0, 100.0, 0.2)];
        let found = around_persons(&[], boxes, &[], SOURCE, SQUARE, usize::MAX);
        let places: Vec<_> = found.regions.iter().map(|region| region.square.x).collect();
        assert_eq!(places, [325.0 - 62.5, 25.0 - 62.5]);
    }

    #[test]
    fn the_large_and_unsure_are_looked_at_first_and_the_rest_stays() {
        let persons = vec![person(0.0, 100.0, 0.9), person(300.0, 100.0, 0.2), person(600.0, 300.0, 0.5)];
        let found = around(persons.clone(), 2);
        let scores: Vec<_> = found.regions.iter().map(|region| region.expected.score).collect();
        assert_eq!(scores, [0.5, 0.2]);
        assert_eq!(found.rest, persons[..1]);
        assert_eq!(around(persons, 0).rest.len(), 3);
    }

    #[test]
    fn whom_a_track_leads_to_is_looked_at_where_it_leads() {
        let tracked = around_tracks(&Skeleton::coco_17(), &prior(vec![track(0.9)]), AT, SOURCE, SQUARE);
        let like = |x: f32| {
            let mut person = Person { score: 0.6, ..tracked[0].expected.clone() };
            person.keypoints.iter_mut().for_each(|keypoint| keypoint.x += x);
            person.bounding_box = BoundingBox { x: 460.0 + x, y: 230.0, width: 80.0, height: 160.0 };
            person
        };
        let skeleton = Skeleton::coco_17();
        let found =
            around_persons(skeleton.keypoints(), vec![like(5.0), like(300.0)], &tracked, SOURCE, SQUARE, 8);
        let squares: Vec<_> = found.regions.iter().map(|region| region.square).collect();
        assert_eq!(squares, [tracked[0].square, Square { x: 700.0, y: 210.0, side: 200.0 }]);
        assert!(found.regions.iter().all(|region| region.origin == Origin::Detector));
    }

    #[test]
    fn who_is_not_in_the_picture_is_not_looked_at() {
        for odd in [person(-400.0, 200.0, 0.9), person(0.0, 0.0, 0.9), person(f32::NAN, 100.0, 0.9)] {
            let found = around(vec![odd], 8);
            assert_eq!((found.regions.len(), found.rest.len()), (0, 1));
        }
        assert_eq!(around(vec![person(0.0, f32::INFINITY, 0.9)], 8).regions, []);
    }

    #[test]
    fn a_track_is_looked_at_where_it_will_be_with_the_authors_margins() {
        // 100 ms on, so 10 pixels to the right; 1.9 × 60 for the torso against 1.2 × 80 for the body.
        let square = Square { x: 510.0 - 114.0, y: 300.0 - 114.0, side: 228.0 };
        assert_eq!(places(&prior(vec![track(0.9)]), AT + 100, 8), Some(vec![square]));
        let mut kicking = track(0.9);
        kicking.joints[15].x = 620.0;
        assert_eq!(places(&prior(vec![kicking]), AT, 8).unwrap()[0].side, 2.0 * 1.2 * 120.0);
        let mut legless = track(0.9);
        [11, 12].into_iter().for_each(|hip| legless.joints[hip].score = 0.1);
        let square = places(&prior(vec![legless]), AT, 8).unwrap()[0];
        assert_eq!(square, Square { x: 500.0 - 105.0, y: 310.0 - 105.0, side: 1.5 * 140.0 });
    }

    #[test]
    fn a_detector_looks_when_there_is_reason_to() {
        let known = prior(vec![track(0.9)]);
        let looks = |prior: Prior, at: u64, most| places(&prior, at, most).is_none();
        assert!(!looks(known.clone(), AT + 33, 8));
        assert!(looks(Prior::default(), AT, 8), "a stream begins");
        assert!(looks(prior(Vec::new()), AT, 8), "nobody is there");
        assert!(looks(known.clone(), AT, 0), "more than are looked at");
        assert!(looks(Prior { width: 640, ..known.clone() }, AT, 8), "another size");
        assert!(looks(Prior { skeleton: "hand-21".parse().unwrap(), ..known.clone() }, AT, 8));
        assert!(looks(known.clone(), AT - 33 + LOOK_AFTER_MS, 8), "half a second");
        assert!(!looks(known.clone(), AT - 34 + LOOK_AFTER_MS, 8));
        for (frames, expected) in [(6, false), (7, true), (u32::MAX, true)] {
            assert_eq!(looks(Prior { frames_since_look: frames, ..known.clone() }, AT, 8), expected);
        }
    }

    #[test]
    fn who_was_lost_is_looked_for_once_and_who_is_unsure_now_and_then() {
        let lost = |seen_at: u64| Track { key: 2, seen_at, ..track(0.9) };
        let with = |tracks: Vec<Track>| places(&prior(tracks), AT + 33, 8).map(|squares| squares.len());
        assert_eq!(with(vec![track(0.9), lost(AT - 20)]), None, "nobody has looked since");
        assert_eq!(with(vec![track(0.9), lost(AT - 34)]), Some(1), "somebody has, and in vain");
        let unsure = |since_look| {
            let prior = Prior { looked_at: AT - since_look, ..prior(vec![track(0.3)]) };
            places(&prior, AT, 8)
        };
        assert!(unsure(149).is_some());
        assert!(unsure(150).is_none());
    }

    #[test]
    fn nonsense_in_a_foreign_prior_is_looked_at_by_a_detector() {
        for value in [f32::NAN, f32::INFINITY, -1e30] {
            let mut odd = track(0.9);
            odd.joints.iter_mut().for_each(|joint| (joint.x, joint.y) = (value, value));
            assert_eq!(places(&prior(vec![odd]), AT, 8), None);
        }
        let jointless = Track { joints: Vec::new(), ..track(0.9) };
        assert_eq!(places(&prior(vec![jointless]), AT + 33, 8), None);
    }
}
