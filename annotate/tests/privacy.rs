//! What must not be seen is not there: neither in the picture nor in what its file is padded with.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::num::NonZeroUsize;

use bytes::Bytes;
use cloudpose_annotate::{
    Config, Style,
    privacy::{Unplaced, cover_heads, plain},
};
use cloudpose_bus::{Attachment, Bus, Capacity};
use cloudpose_pixels::{Component, Decoder, Encoder, PlanarImage, Pool, Subsampling};
use cloudpose_testing::{sample, soon};
use cloudpose_wire::{
    DropReason, Event, Frame, FrameHeader, GatewayId, Kind, Output, Person, Skeleton, SkeletonName, Stage,
    event::TimingsMs,
    frame::{Draw, ResultBody},
};
use person::standing;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

mod person;

const WIDTH: usize = 161;
const HEIGHT: usize = 123;
/// Of the person that the tests draw, from the nose: ears, crown and chin are nearer.
const HEAD: f32 = 13.0;

/// A picture that looks different for each `seed`.
fn scene(seed: u8, subsampling: Subsampling) -> PlanarImage {
    let mut image = PlanarImage::new(WIDTH, HEIGHT, subsampling);
    let (luma, chroma) = image.planes_mut();
    for plane in [luma].into_iter().chain(chroma.into_iter().flatten()) {
        for (at, sample) in plane.samples.iter_mut().enumerate() {
            *sample = (at as u8).wrapping_mul(31).wrapping_add(seed.wrapping_mul(97));
        }
    }
    image
}

/// `image`, and in the heads of `persons` what `other` shows, padding included.
fn with_heads_of(image: &PlanarImage, other: &PlanarImage, persons: &[([f32; 2], f32)]) -> PlanarImage {
    let mut mixed = image.clone();
    let step = mixed.subsampling().step();
    let is_head = |x: f32, y: f32| {
        persons.iter().any(|([nose_x, nose_y], scale)| (x - nose_x).hypot(y - nose_y) <= HEAD * scale)
    };
    let (luma, chroma) = mixed.planes_mut();
    let planes = [(Component::Y, luma, (1, 1))]
        .into_iter()
        .chain(chroma.into_iter().flat_map(|[u, v]| [(Component::U, u, step), (Component::V, v, step)]));
    for (component, plane, (across, down)) in planes {
        let from = other.plane(component).unwrap();
        for (at, sample) in plane.samples.iter_mut().enumerate() {
            let (x, y) = (at % plane.stride * across, at / plane.stride * down);
            let mut pixels = (0..down).flat_map(|dy| (0..across).map(move |dx| (x + dx, y + dy)));
            if pixels.any(|(x, y)| is_head(x as f32 + 0.5, y as f32 + 0.5)) {
                *sample = from.samples[at];
            }
        }
    }
    mixed
}

fn samples(image: &PlanarImage) -> Vec<Vec<u8>> {
    let planes = [Component::Y, Component::U, Component::V].into_iter().filter_map(|c| image.plane(c));
    planes.map(|plane| plane.samples.to_vec()).collect()
}

fn covered(mut image: PlanarImage, persons: &[Person]) -> Vec<Vec<u8>> {
    cover_heads(&mut image, &Skeleton::coco_17(), persons).unwrap();
    samples(&image)
}

proptest! {
    /// Two pictures that differ in heads only are the same picture then.
    #[test]
    fn no_sample_of_a_head_is_left(
        places in prop::collection::vec(((-10.0_f32..170.0, -10.0_f32..130.0), 0.2_f32..3.0), 1..4),
        score in 0.16_f32..1.0,
        subsampling in 0..Subsampling::ALL.len(),
    ) {
        let subsampling = Subsampling::ALL[subsampling];
        let places: Vec<_> = places.into_iter().map(|((x, y), scale)| ([x, y], scale)).collect();
        let mut persons: Vec<Person> = places.iter().map(|&(nose, scale)| standing(nose, scale)).collect();
        persons.iter_mut().flat_map(|p| &mut p.keypoints).for_each(|joint| joint.score = score);
        let (one, other) = (scene(1, subsampling), scene(2, subsampling));
        let mixed = with_heads_of(&one, &other, &places);
        prop_assert_eq!(covered(one, &persons), covered(mixed, &persons));
    }

    #[test]
    fn no_coordinates_hurt(
        joints in prop::collection::vec((prop::num::f32::ANY, prop::num::f32::ANY, prop::num::f32::ANY), 17),
        side in prop::num::f32::ANY,
    ) {
        let mut someone = standing([80.0, 40.0], 1.0);
        someone.bounding_box.height = side;
        for (joint, (x, y, score)) in someone.keypoints.iter_mut().zip(joints) {
            (joint.x, joint.y, joint.score) = (x, y, score);
        }
        // Covered or not: it is an answer.
        cover_heads(&mut scene(1, Subsampling::S420), &Skeleton::coco_17(), &[someone]).ok();
    }
}

#[test]
fn what_is_far_from_heads_stays() {
    let before = scene(1, Subsampling::S444);
    let after = covered(before.clone(), &[standing([80.0, 40.0], 0.5)]);
    let before = samples(&before);
    let far = (0..WIDTH * HEIGHT)
        .filter(|at| ((at % WIDTH) as f32 - 80.0).hypot((at / WIDTH) as f32 - 40.0) > 25.0);
    assert!(far.into_iter().all(|at| before[0][at] == after[0][at]));
}

#[test]
fn the_less_sure_the_wider() {
    let area = |score: f32| {
        let mut someone = standing([80.0, 60.0], 1.0);
        someone.keypoints.iter_mut().take(5).for_each(|joint| joint.score = score);
        let mut image = PlanarImage::new(WIDTH, HEIGHT, Subsampling::Grey);
        image.planes_mut().0.samples.fill(255);
        cover_heads(&mut image, &Skeleton::coco_17(), &[someone]).unwrap();
        image.luma().samples.iter().filter(|&&sample| sample != 255).count()
    };
    assert!(area(0.3) as f32 > 1.5 * area(0.95) as f32, "{} and {}", area(0.3), area(0.95));
}

#[test]
fn where_a_head_cannot_be_found_nothing_is_shown() {
    let cover =
        |persons: &[Person]| cover_heads(&mut scene(1, Subsampling::S420), &Skeleton::coco_17(), persons);
    let seen = standing([80.0, 40.0], 1.0);
    assert_eq!(cover(std::slice::from_ref(&seen)), Ok(()));
    assert_eq!(cover(&[]), Err(Unplaced), "nobody was found, which does not mean that nobody is there");
    let unplaced = |change: fn(&mut Person)| {
        let mut someone = standing([120.0, 40.0], 1.0);
        change(&mut someone);
        cover(&[seen.clone(), someone])
    };
    assert_eq!(unplaced(|p| p.keypoints.iter_mut().take(5).for_each(|j| j.score = 0.1)), Err(Unplaced));
    assert_eq!(unplaced(|p| p.keypoints.iter_mut().take(5).for_each(|j| j.x = f32::NAN)), Err(Unplaced));
    assert_eq!(unplaced(|p| p.keypoints.iter_mut().take(5).for_each(|j| j.y = -1e6)), Err(Unplaced));
    assert_eq!(unplaced(|p| p.keypoints.clear()), Err(Unplaced));
    let only_a_nose = |p: &mut Person| {
        p.keypoints.iter_mut().skip(1).for_each(|joint| joint.score = 0.0);
        p.bounding_box = Default::default();
    };
    assert_eq!(unplaced(only_a_nose), Err(Unplaced), "nothing says how large the head is");
}

#[test]
fn a_plain_ground_is_plain_in_a_buffer_that_was_used() {
    let mut image = scene(3, Subsampling::S444);
    plain(&mut image, WIDTH, HEIGHT);
    for plane in samples(&image) {
        assert!(plane.iter().all(|sample| *sample == plane[0]));
    }
}

fn frame(seq: u64, draw: Draw, image: Bytes, persons: Vec<Person>) -> Frame {
    let header = FrameHeader { deadline_ms: 60_000, draw, ..sample::header(Kind::Still, seq) };
    let event = Event {
        stream: header.stream.clone(),
        seq,
        captured_at: 1,
        width: WIDTH as u32,
        height: HEIGHT as u32,
        model: header.model.clone(),
        device: "cpu".into(),
        output: Output::Poses { skeleton: SkeletonName::default(), persons },
        timings_ms: TimingsMs::default(),
    };
    Frame { header, event: Some(event.into()), image: image.into() }
}

/// What a worker draws of each of these frames, in their order; some come with the decoded picture.
async fn drawn(frames: Vec<(Frame, bool)>) -> Vec<Result<Bytes, DropReason>> {
    let bus = Bus::local(Capacity::default());
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let stop = CancellationToken::new();
    let config = Config { threads: NonZeroUsize::new(1), style: Style::default() };
    let pool = Pool::new(1);
    let talk = async {
        let mut all = Vec::new();
        for (frame, attached) in frames {
            let draw = frame.header.draw;
            if attached {
                let mut picture = pool.take().unwrap();
                Decoder::new(Default::default())
                    .unwrap()
                    .decode(&frame.image.encode().unwrap(), &mut picture)
                    .unwrap();
                bus.publish_with(Stage::Annotate, frame, Attachment::new(picture)).await.unwrap();
            } else {
                bus.publish(Stage::Annotate, frame).await.unwrap();
            }
            let result = soon(results.next()).await.unwrap();
            assert_eq!(result.draw, draw, "it says how it was drawn");
            all.push(match result.body {
                ResultBody::Done { overlay, .. } => Ok(overlay.unwrap()),
                ResultBody::Dropped { reason, .. } => Err(reason),
            });
        }
        stop.cancel();
        all
    };
    let worker = cloudpose_annotate::run(config, bus.clone(), stop.clone());
    let (all, worked) = tokio::join!(talk, worker);
    worked.unwrap();
    all
}

fn jpeg(seed: u8) -> Bytes {
    Encoder::new().unwrap().encode(&scene(seed, Subsampling::S420), 90).unwrap()
}

#[tokio::test]
async fn skeletons_stand_on_the_same_ground_whatever_the_picture_shows() {
    let persons = vec![standing([80.0, 30.0], 0.5)];
    let of = |seq, image, attached| (frame(seq, Draw::Skeleton, image, persons.clone()), attached);
    let broken = Bytes::from_static(b"it is not even looked at");
    let all = drawn(vec![of(1, jpeg(1), false), of(2, jpeg(2), true), of(3, broken, false)]).await;
    assert!(all[0].is_ok());
    assert!(all[0] == all[1] && all[1] == all[2]);
    let mut huge = frame(1, Draw::Skeleton, jpeg(1), persons.clone());
    let mut event = huge.event.take().unwrap().event().unwrap().clone();
    (event.width, event.height) = (1 << 20, 1 << 20);
    huge.event = Some(event.into());
    assert_eq!(drawn(vec![(huge, false)]).await, [Err(DropReason::AnnotateFailed)]);
}

#[tokio::test]
async fn redacted_pictures_show_what_is_no_head_or_nothing() {
    let seen = standing([80.0, 30.0], 0.5);
    let mut unplaced = standing([120.0, 30.0], 0.5);
    unplaced.keypoints.iter_mut().take(5).for_each(|joint| joint.score = 0.1);
    let all = drawn(vec![
        (frame(1, Draw::Redacted, jpeg(1), vec![seen.clone()]), false),
        (frame(2, Draw::Redacted, jpeg(1), vec![seen.clone()]), true),
        (frame(3, Draw::Overlay, jpeg(1), vec![seen.clone()]), false),
        (frame(4, Draw::Redacted, jpeg(1), vec![seen.clone(), unplaced.clone()]), false),
        (frame(5, Draw::Skeleton, jpeg(1), vec![seen.clone(), unplaced.clone()]), false),
        (frame(6, Draw::Redacted, jpeg(1), vec![]), true),
        (frame(7, Draw::Skeleton, jpeg(1), vec![]), false),
    ])
    .await;
    assert_eq!(all[0], all[1], "with the decoded picture and without");
    assert_ne!(all[0], all[2]);
    assert_eq!(all[3], all[4], "a head that was not found: nothing of the picture");
    assert_eq!(all[5], all[6], "nobody was found: nothing of the picture");
}
