//! Tracks on real video: ids, smoothing, and the crop of SinglePose.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use cloudpose_infer::{Detail, Detection, Image, Job, Models, Past, Pipeline, StoreConfig};
use cloudpose_tracks::Registry;
use cloudpose_wire::{Output, Person, Prior, Skeleton};

const FPS: u64 = 60;

/// The JPEGs of the video, which have no thumbnails inside.
fn video() -> Vec<Vec<u8>> {
    let bytes =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/video/two_people.mjpeg")).unwrap();
    let mut starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, w)| *w == [0xff, 0xd8, 0xff]).map(|(i, _)| i).collect();
    starts.push(bytes.len());
    starts.windows(2).map(|range| bytes[range[0]..range[1]].to_vec()).collect()
}

fn pipeline() -> Pipeline {
    let models = Models::open(&StoreConfig::default()).unwrap();
    Pipeline::on_cpu(Arc::new(models), NonZeroUsize::MIN).unwrap()
}

fn detect(
    pipeline: &mut Pipeline,
    image: &[u8],
    model: &str,
    past: (&Prior, u64, bool),
) -> (Vec<Person>, Prior) {
    let found = look(pipeline, image, model, past);
    let Output::Poses { persons, .. } = found.output else { panic!("{:?}", found.output) };
    (persons, found.tracks.unwrap())
}

fn look(
    pipeline: &mut Pipeline,
    image: &[u8],
    model: &str,
    (prior, at, smooth): (&Prior, u64, bool),
) -> Detection {
    let past = Some(Past { prior, at, smooth });
    let model = &model.parse().unwrap();
    let job = Job {
        image: Image::Encoded(image),
        detail: Detail::Full,
        model,
        min_score: 0.2,
        top: cloudpose_wire::frame::USUAL_TOP,
        past,
        stream: None,
        pictures: None,
    };
    pipeline.detect(job).unwrap()
}

#[test]
fn two_people_keep_their_ids_though_workers_change_and_die() {
    let mut workers = [pipeline(), pipeline()];
    let mut registry = Registry::default();
    // What each worker has done and not yet told.
    let mut flying: [Option<Prior>; 2] = [None, None];
    let mut places: [Option<f32>; 2] = [None, None];
    let mut seen = [0; 2];
    let frames = video();
    assert_eq!(frames.len(), 100);
    for (number, image) in (0_u64..).zip(&frames) {
        let worker = number as usize % 2;
        if let Some(tracks) = flying[worker].take() {
            // The first worker dies with a frame, and a new one takes its place.
            if number == 40 {
                workers[worker] = pipeline();
            } else {
                registry.absorb(&Skeleton::coco_17(), tracks.into());
            }
        }
        let prior = registry.prior();
        let past = (&*prior, 1_000 + number * 1000 / FPS, true);
        let (persons, tracks) = detect(&mut workers[worker], image, "multipose", past);
        flying[worker] = Some(tracks);
        for person in persons {
            let Some(id) = person.track_id else { continue };
            assert!((1..=2).contains(&id), "frame {number}: a third id");
            // The two are some 80 pixels apart: an id that changed hands would leap.
            let x = person.bounding_box.x + person.bounding_box.width / 2.0;
            let before = places[id as usize - 1].replace(x).unwrap_or(x);
            assert!((x - before).abs() < 20.0, "frame {number}: {id} leapt from {before} to {x}");
            seen[id as usize - 1] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count >= 90), "{seen:?}");
}

#[test]
fn tracks_lead_to_people_whom_a_detector_finds_now_and_then() {
    let mut pipeline = pipeline();
    let mut registry = Registry::default();
    let (mut looks, mut frames) = (0, Vec::new());
    // 30 a second.
    for (image, number) in video().iter().step_by(2).zip(0..) {
        let past = (&*registry.prior(), 1_000 + number * 1000 / (FPS / 2), false);
        let found = look(&mut pipeline, image, "balanced", past);
        assert!(found.timings_ms.refine.is_some());
        looks += usize::from(found.timings_ms.inference > 0.0);
        registry.absorb(&Skeleton::coco_17(), found.tracks.unwrap().into());
        let Output::Poses { persons, .. } = found.output else { panic!("{:?}", found.output) };
        assert_eq!(persons.len(), 2, "frame {number}");
        assert!(persons.iter().all(|person| !person.coarse));
        frames.push(persons);
    }
    // Every eighth of 50, and the first ones, in which nobody is known yet.
    assert!((7..=9).contains(&looks), "{looks} looks");
    for id in 1..=2 {
        for joint in [5, 6, 11, 12] {
            let places = path(&frames, id, joint);
            assert_eq!(places.len(), 47, "an id comes with the fourth frame");
            let leap =
                places.windows(2).map(|w| (w[1][0] - w[0][0]).hypot(w[1][1] - w[0][1])).fold(0.0, f32::max);
            assert!(leap < 12.0, "joint {joint} of {id} leaps {leap} px");
        }
    }
}

#[test]
fn more_people_than_are_looked_at_closer_stay_as_they_were_found() {
    let mut pipeline = pipeline().refining(1);
    let frames = video();
    let mut registry = Registry::default();
    for (image, number) in frames.iter().take(3).zip(0..) {
        let past = (&*registry.prior(), 1_000 + number * 33, false);
        let found = look(&mut pipeline, image, "balanced", past);
        registry.absorb(&Skeleton::coco_17(), found.tracks.unwrap().into());
        assert!(found.timings_ms.inference > 0.0, "only a detector sees the second one");
        let coarse: Vec<bool> = found.output.persons().iter().map(|person| person.coarse).collect();
        assert_eq!(coarse.iter().filter(|coarse| **coarse).count(), 1, "{coarse:?}");
        assert_eq!(coarse.len(), 2);
    }
}

/// The places of one joint of track `id`, frame by frame.
fn path(frames: &[Vec<Person>], id: u32, joint: usize) -> Vec<[f32; 2]> {
    let track = |persons: &Vec<Person>| persons.iter().find(|p| p.track_id == Some(id)).cloned();
    frames.iter().filter_map(track).map(|p| [p.keypoints[joint].x, p.keypoints[joint].y]).collect()
}

/// Mean second difference, in pixels.
fn jitter(path: &[[f32; 2]]) -> f32 {
    let second = |w: &[[f32; 2]]| (0..2).map(|i| (w[2][i] - 2.0 * w[1][i] + w[0][i]).abs()).sum::<f32>();
    path.windows(3).map(second).sum::<f32>() / (path.len() - 2) as f32
}

/// By how many frames `late` trails `path`: the shift, in tenths, at which they agree best.
fn lag(path: &[[f32; 2]], late: &[[f32; 2]]) -> f32 {
    let error = |shift: f32| -> f32 {
        let at = |t: f32, i: usize| {
            let (before, share) = (t as usize, t.fract());
            path[before][i] * (1.0 - share) + path[before + 1][i] * share
        };
        let squared = |t: usize, i: usize| (at(t as f32 - shift, i) - late[t][i]).powi(2);
        (5..path.len() - 1).map(|t| squared(t, 0) + squared(t, 1)).sum()
    };
    let shifts = (0..50).map(|tenths| tenths as f32 / 10.0);
    shifts.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap()
}

#[test]
fn smoothing_calms_those_who_stand_and_follows_a_fast_wrist() {
    // Every other frame: 30 a second.
    let frames: Vec<Vec<u8>> = video().into_iter().step_by(2).collect();
    let mut pipeline = pipeline();
    let [raw, smooth] = [false, true].map(|smooth| {
        let mut registry = Registry::default();
        let mut run = |(image, number): (&Vec<u8>, u64)| {
            let past = (&*registry.prior(), 1_000 + number * 1000 / (FPS / 2), smooth);
            let (persons, tracks) = detect(&mut pipeline, image, "multipose", past);
            registry.absorb(&Skeleton::coco_17(), tracks.into());
            persons
        };
        frames.iter().zip(0..).map(&mut run).collect::<Vec<_>>()
    });
    for id in 1..=2 {
        // Ankles and hips of people who keep their feet on the ground.
        let still = [11, 12, 15];
        let total =
            |frames: &[Vec<Person>]| still.iter().map(|joint| jitter(&path(frames, id, *joint))).sum::<f32>();
        let (before, after) = (total(&raw), total(&smooth));
        assert!(after < 0.6 * before, "track {id}: jitter {before} px, smoothed {after} px");
    }
    let wrists = (1..=2).flat_map(|id| [(id, 9), (id, 10)]);
    let length = |(id, joint): &(u32, usize)| -> f32 {
        let step = |w: &[[f32; 2]]| (w[1][0] - w[0][0]).hypot(w[1][1] - w[0][1]);
        path(&raw, *id, *joint).windows(2).map(step).sum()
    };
    let (id, joint) = wrists.max_by(|a, b| length(a).total_cmp(&length(b))).unwrap();
    let behind = lag(&path(&raw, id, joint), &path(&smooth, id, joint));
    assert!(behind < 2.0, "the fastest wrist is {behind} frames late");
}

#[test]
fn the_crop_shows_a_small_person_better() {
    let mut pipeline = pipeline();
    let mean = |person: &Person| person.keypoints.iter().map(|k| k.score).sum::<f32>() / 17.0;
    for model in ["lightning", "thunder"] {
        let (mut before, mut after) = (0.0, 0.0);
        for name in ["demo_f000", "demo_f060", "demo_f120", "demo_f180"] {
            let image = cloudpose_testing::golden::jpeg(name);
            let (whole, tracks) = detect(&mut pipeline, &image, model, (&Prior::default(), 1_000, false));
            let (cropped, _) = detect(&mut pipeline, &image, model, (&tracks, 1_033, false));
            assert!(!cropped.is_empty() || whole.is_empty(), "{model} {name}: lost in the crop");
            before += whole.first().map_or(0.0, mean);
            after += cropped.first().map_or(0.0, mean);
        }
        assert!(
            after > 1.1 * before,
            "{model}: mean score {} in the whole frame, {} in the crop",
            before / 4.0,
            after / 4.0
        );
        println!(
            "{model}: mean score {:.2} in the whole frame, {:.2} in the crop",
            before / 4.0,
            after / 4.0
        );
    }
}
