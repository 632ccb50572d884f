//! A stream's tracks between frames.

use std::sync::Arc;

use cloudpose_wire::{
    Skeleton, SkeletonName,
    track::{Prior, Track},
};
use serde::{Deserialize, Serialize};

use crate::associate::associate;
use crate::follow::MOST_TRACKS;
use crate::similarity::{of_track, oks};

/// In how many frames a person must have been seen to get an id: a flicker gets none.
const CONFIRMED_AFTER: u32 = 3;
/// How long a confirmed track outlives its last sight, in milliseconds: people pass behind each other.
const MAX_AGE_MS: u64 = 1_500;

/// The tracks of one stream. Gives out keys and ids, and is the only one who does. Written down and read again it goes on as
/// it would have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    /// As in [`Prior`]; its tracks are in `records`.
    at: u64,
    size: (u32, u32),
    skeleton: SkeletonName,
    looked_at: u64,
    frames_since_look: u32,
    records: Vec<Record>,
    last_key: u32,
    last_id: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    track: Track,
    /// Frames that showed the person.
    hits: u32,
}

impl Registry {
    /// What the next frame should be followed from.
    pub fn prior(&self) -> Arc<Prior> {
        let (width, height) = self.size;
        let tracks = self.records.iter().map(|record| record.track.clone()).collect();
        let Self { at, looked_at, frames_since_look, ref skeleton, .. } = *self;
        let skeleton = skeleton.clone();
        Arc::new(Prior { at, width, height, skeleton, looked_at, frames_since_look, tracks })
    }

    /// Takes in what [`follow`](crate::follow) made of a frame. Frames may come in any order, and each may
    /// have been followed from any earlier prior; what it says of a person counts if it is newer than what
    /// is known. `skeleton` is that of `found`.
    pub fn absorb(&mut self, skeleton: &Skeleton, found: Arc<Prior>) {
        let found = Arc::unwrap_or_clone(found);
        let size = (found.width, found.height);
        if size != self.size || found.skeleton != self.skeleton {
            if found.at < self.at {
                return;
            }
            (self.size, self.skeleton) = (size, found.skeleton);
            self.records.clear();
        }
        self.at = self.at.max(found.at);
        if found.looked_at > self.looked_at {
            (self.looked_at, self.frames_since_look) = (found.looked_at, 0);
        } else if self.looked_at > 0 {
            self.frames_since_look = self.frames_since_look.saturating_add(1);
        }
        let (newcomers, followed): (Vec<Track>, Vec<Track>) =
            found.tracks.into_iter().partition(|track| track.key == 0);
        self.admit(skeleton, newcomers, &followed);
        for track in followed {
            match self.records.iter().position(|known| known.track.key == track.key) {
                Some(index) if track.seen_at == found.at => self.seen(index, track),
                Some(index) => self.missed(index, found.at),
                // Gone meanwhile: too old, or never confirmed.
                None => {}
            }
        }
        let now = self.at;
        self.records.retain(|record| now.saturating_sub(record.track.seen_at) <= MAX_AGE_MS);
        while self.records.len() > MOST_TRACKS {
            let rank = |record: &Record| (record.track.id.is_some(), record.track.seen_at);
            let (least, _) =
                self.records.iter().enumerate().min_by_key(|(_, r)| rank(r)).expect("there are too many");
            self.records.remove(least);
        }
    }

    /// Takes in who was new to a frame that knew of `followed`. Who came with another frame meanwhile, which
    /// this one did not know of, is not new.
    fn admit(&mut self, skeleton: &Skeleton, newcomers: Vec<Track>, followed: &[Track]) {
        let is_followed = |key: u32| followed.iter().any(|track| track.key == key);
        let unknown: Vec<usize> =
            (0..self.records.len()).filter(|&index| !is_followed(self.records[index].track.key)).collect();
        let pairs = associate(unknown.len(), newcomers.len(), |record, newcomer| {
            let (known, newcomer) = (&self.records[unknown[record]].track, &newcomers[newcomer]);
            let elapsed = (newcomer.seen_at as f64 - known.seen_at as f64) / 1000.0;
            oks(skeleton, known, elapsed as f32, of_track(newcomer))
        });
        for (track, known) in newcomers.into_iter().zip(pairs) {
            match known {
                Some(record) => self.seen(unknown[record], track),
                None => self.begin(track),
            }
        }
    }

    fn seen(&mut self, index: usize, track: Track) {
        let known = &mut self.records[index];
        known.hits += 1;
        if track.seen_at > known.track.seen_at {
            known.track = Track { key: known.track.key, id: known.track.id, ..track };
        }
        if known.track.id.is_none() && known.hits >= CONFIRMED_AFTER {
            self.last_id += 1;
            known.track.id = Some(self.last_id);
        }
    }

    /// A frame of time `at` knew of the person and does not show them. A flicker ends there.
    fn missed(&mut self, index: usize, at: u64) {
        let track = &self.records[index].track;
        if track.id.is_none() && track.seen_at <= at {
            self.records.remove(index);
        }
    }

    fn begin(&mut self, track: Track) {
        self.last_key += 1;
        self.records.push(Record { track: Track { key: self.last_key, id: None, ..track }, hits: 1 });
    }
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::{
        event::{BoundingBox, Keypoint, Person},
        skeleton::KeypointKind,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{Frame, follow};

    const FRAME_MS: u64 = 33;

    /// A standing person, 100 pixels wide and 200 high, whose box begins at (x, 100).
    fn person(x: f32) -> Person {
        let coco = Skeleton::coco_17();
        let keypoint = |(index, kind): (usize, &KeypointKind)| {
            let (name, index) = (kind.name.clone(), index as f32);
            Keypoint { name, x: x + 40.0 + 7.0 * (index % 3.0), y: 105.0 + 11.0 * index, score: 0.8 }
        };
        Person {
            track_id: None,
            score: 0.7,
            bounding_box: BoundingBox { x, y: 100.0, width: 100.0, height: 200.0 },
            keypoints: coco.keypoints().iter().enumerate().map(keypoint).collect(),
            coarse: false,
        }
    }

    /// Follows the persons at `places` in the frame of number `number`, from `prior`.
    fn frame(prior: &Prior, number: u64, places: &[f32]) -> (Vec<Option<u32>>, Prior) {
        let mut persons: Vec<Person> = places.iter().copied().map(person).collect();
        // Each a step nearer to the camera than the one before.
        for (person, row) in persons.iter_mut().zip(0_u8..) {
            person.keypoints.iter_mut().for_each(|keypoint| keypoint.y += 40.0 * f32::from(row));
        }
        let frame = Frame { at: 1_000 + number * FRAME_MS, width: 2_000, height: 1_000 };
        let tracks = follow(&Skeleton::coco_17(), prior, frame, &mut persons, true);
        (persons.iter().map(|p| p.track_id).collect(), tracks)
    }

    fn step(registry: &mut Registry, number: u64, places: &[f32]) -> Vec<Option<u32>> {
        let (ids, tracks) = frame(&registry.prior(), number, places);
        registry.absorb(&Skeleton::coco_17(), tracks.into());
        ids
    }

    #[test]
    fn an_id_comes_after_three_frames_and_stays_while_people_move() {
        let mut registry = Registry::default();
        for number in 0..40 {
            let walked = 4.0 * number as f32;
            let ids = step(&mut registry, number, &[100.0 + walked, 900.0 - walked]);
            let expected = if number < 3 { [None, None] } else { [Some(1), Some(2)] };
            assert_eq!(ids, expected, "frame {number}");
        }
    }

    #[test]
    fn what_was_written_down_goes_on_with_the_same_ids() {
        let mut registry = Registry::default();
        for number in 0..5 {
            step(&mut registry, number, &[100.0, 900.0]);
        }
        let written = serde_json::to_string(&registry).unwrap();
        let mut again: Registry = serde_json::from_str(&written).unwrap();
        assert_eq!(again, registry);
        for number in 5..10 {
            assert_eq!(step(&mut again, number, &[100.0, 900.0, 1500.0])[..2], [Some(1), Some(2)]);
        }
        assert_eq!(step(&mut again, 10, &[100.0, 900.0, 1500.0])[2], Some(3), "no id is given twice");
    }

    #[test]
    fn frames_since_somebody_looked_everywhere_are_counted() {
        let mut registry = Registry::default();
        let mut absorb = |at: u64, looked_at: u64| {
            let found = Prior { at, looked_at, width: 16, height: 16, ..Prior::default() };
            registry.absorb(&Skeleton::coco_17(), found.into());
            let prior = registry.prior();
            (prior.looked_at, prior.frames_since_look)
        };
        assert_eq!(absorb(10, 0), (0, 0), "of a model that does not");
        assert_eq!(absorb(20, 20), (20, 0));
        assert_eq!(absorb(30, 20), (20, 1));
        assert_eq!(absorb(50, 50), (50, 0));
        assert_eq!(absorb(40, 40), (50, 1), "a look that comes late is none any more");
    }

    #[test]
    fn a_flicker_gets_no_id_and_a_newcomer_the_next_one() {
        let mut registry = Registry::default();
        for number in 0..20 {
            let flickers = number % 4 < 2;
            let places: &[f32] = match (number >= 10, flickers) {
                (true, true) => &[100.0, 900.0, 500.0],
                (true, false) => &[100.0, 900.0],
                (false, true) => &[100.0, 500.0],
                (false, false) => &[100.0],
            };
            let ids = step(&mut registry, number, places);
            if number >= 13 {
                assert_eq!(ids[..2], [Some(1), Some(2)], "frame {number}");
                assert!(ids.get(2).is_none_or(Option::is_none), "frame {number}: {ids:?}");
            }
        }
    }

    #[test]
    fn an_id_outlives_a_short_occlusion_and_no_long_one() {
        for (gap, same) in [(20, true), (60, false)] {
            let mut registry = Registry::default();
            for number in 0..5 {
                step(&mut registry, number, &[100.0, 500.0]);
            }
            for number in 5..5 + gap {
                step(&mut registry, number, &[100.0]);
            }
            for number in 5 + gap..10 + gap {
                step(&mut registry, number, &[100.0, 510.0]);
            }
            let ids = step(&mut registry, 10 + gap, &[100.0, 510.0]);
            assert_eq!(ids, [Some(1), Some(if same { 2 } else { 3 })], "{gap} frames");
        }
    }

    #[test]
    fn a_person_found_twice_is_one_track() {
        let mut registry = Registry::default();
        for number in 0..6 {
            let (mut twice, at) = ([person(300.0), person(302.0)], 1_000 + number * FRAME_MS);
            let frame = Frame { at, width: 2_000, height: 1_000 };
            registry.absorb(
                &Skeleton::coco_17(),
                follow(&Skeleton::coco_17(), &registry.prior(), frame, &mut twice, true).into(),
            );
            let ids = twice.map(|person| person.track_id);
            assert_eq!(ids[1], None);
            assert_eq!(registry.prior().tracks.len(), 1);
            assert_eq!(ids[0], (number >= 3).then_some(1));
        }
    }

    #[test]
    fn people_close_together_stay_two() {
        let mut registry = Registry::default();
        for number in 0..12 {
            let (mut pair, at) = ([person(300.0), person(330.0)], 1_000 + number * FRAME_MS);
            let frame = Frame { at, width: 2_000, height: 1_000 };
            let found = follow(&Skeleton::coco_17(), &registry.prior(), frame, &mut pair, true);
            registry.absorb(&Skeleton::coco_17(), found.into());
            let expected = if number < 3 { [None, None] } else { [Some(1), Some(2)] };
            assert_eq!(pair.map(|person| person.track_id), expected, "frame {number}");
        }
    }

    #[test]
    fn newcomers_of_frames_with_one_prior_are_one_if_they_are_where_one_can_be() {
        // A person who is known, the newcomer's frames and places, and how many newcomers those are.
        let known = [900.0];
        for (known, sightings, expected) in [
            (&known[..], [(5, 100.0), (6, 101.0)], 1),
            (&known[..], [(6, 101.0), (5, 100.0)], 1),
            (&known[..], [(5, 100.0), (6, 500.0)], 2),
            (&[], [(5, 100.0), (6, 101.0)], 1),
            (&[], [(5, 100.0), (6, 500.0)], 2),
            // Nobody goes that far within a frame; within half a second they do.
            (&[], [(5, 100.0), (6, 160.0)], 2),
            (&[], [(5, 100.0), (20, 160.0)], 1),
        ] {
            let mut registry = Registry::default();
            (0..5).for_each(|number| drop(step(&mut registry, number, known)));
            let prior = registry.prior();
            for (number, place) in sightings {
                let places = [known, &[place]].concat();
                registry.absorb(&Skeleton::coco_17(), frame(&prior, number, &places).1.into());
            }
            let tracks = &registry.prior().tracks;
            assert_eq!(tracks.len(), known.len() + expected, "{sightings:?}");
            // What is known of one is of the later frame, whichever came first.
            let latest = sightings.into_iter().max_by_key(|(number, _)| *number).unwrap().0;
            assert!(
                tracks.iter().any(|t| t.key > known.len() as u32 && t.seen_at == 1_000 + latest * FRAME_MS)
            );
        }
    }

    #[test]
    fn whoever_a_frame_did_not_know_of_counts_as_seen_by_it() {
        let mut registry = Registry::default();
        let prior = registry.prior();
        for number in 0..3 {
            registry.absorb(&Skeleton::coco_17(), frame(&prior, number, &[100.0]).1.into());
        }
        let tracks = &registry.prior().tracks;
        assert_eq!(tracks.iter().map(|t| (t.key, t.id)).collect::<Vec<_>>(), [(1, Some(1))]);
    }

    #[test]
    fn of_two_frames_of_one_time_the_first_is_kept() {
        let mut registry = Registry::default();
        let prior = registry.prior();
        for place in [100.0, 101.0] {
            registry.absorb(&Skeleton::coco_17(), frame(&prior, 0, &[place]).1.into());
        }
        let tracks = &registry.prior().tracks;
        assert_eq!(tracks.iter().map(|track| track.joints[0].x).collect::<Vec<_>>(), [140.0]);
    }

    #[test]
    fn pictures_of_another_size_begin_anew() {
        let mut registry = Registry::default();
        for number in 0..5 {
            step(&mut registry, number, &[300.0]);
        }
        let other = Prior { at: 2_000, width: 640, height: 480, tracks: Vec::new(), ..Prior::default() };
        let late = registry.prior();
        registry.absorb(&Skeleton::coco_17(), other.into());
        assert!(registry.prior().tracks.is_empty());
        registry.absorb(&Skeleton::coco_17(), late);
        assert_eq!(registry.prior().width, 640, "an older frame does not bring the old size back");
        let beside = Prior { at: 2_000, width: 480, height: 640, tracks: Vec::new(), ..Prior::default() };
        registry.absorb(&Skeleton::coco_17(), beside.into());
        assert_eq!(registry.prior().width, 480, "one as old as the newest does");
    }

    #[test]
    fn nonsense_from_elsewhere_is_bounded_and_does_not_panic() {
        let track = Track { key: 0, id: Some(9), seen_at: 7, size: f32::NAN, joints: Vec::new() };
        let mut registry = Registry::default();
        registry.absorb(
            &Skeleton::coco_17(),
            Prior { at: 7, width: 1, height: 1, tracks: vec![track.clone(); 1_000], ..Prior::default() }
                .into(),
        );
        assert_eq!(registry.prior().tracks.len(), MOST_TRACKS);
        assert!(registry.prior().tracks.iter().all(|t| t.id.is_none() && t.key > 0));
        let mut persons = vec![person(f32::NAN), person(f32::INFINITY), person(3.0)];
        let prior =
            Prior { at: u64::MAX, width: 1, height: 1, tracks: vec![track; 1_000], ..Prior::default() };
        let found =
            follow(&Skeleton::coco_17(), &prior, Frame { at: 0, width: 1, height: 1 }, &mut persons, true);
        registry.absorb(&Skeleton::coco_17(), found.into());
    }

    proptest! {
        /// Up to three frames at once on different workers, which finish in any order, and now and then
        /// one that dies with its frame: two people walking past each other keep one id each.
        #[test]
        fn ids_do_not_depend_on_who_works_when(
            order in proptest::collection::vec((0_usize..3, prop::bool::weighted(0.1)), 120),
        ) {
            let mut registry = Registry::default();
            let mut flying = Vec::new();
            let mut shown = [None; 2];
            for (number, (which, dies)) in (0..).zip(order) {
                let walked = 3.0 * number as f32;
                let places = [100.0 + walked, 700.0 - walked];
                let (ids, tracks) = frame(&registry.prior(), number, &places);
                for (shown, id) in shown.iter_mut().zip(ids) {
                    prop_assert!(shown.is_none() || id.is_none() || *shown == id, "frame {}", number);
                    *shown = shown.or(id);
                }
                flying.push(tracks);
                if flying.len() == 3 {
                    let tracks = flying.remove(which);
                    if !dies {
                        registry.absorb(&Skeleton::coco_17(), tracks.into());
                    }
                }
            }
            prop_assert!(shown[0].is_some() && shown[1].is_some() && shown[0] != shown[1]);
        }
    }
}
