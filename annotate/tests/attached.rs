//! A frame that comes with its decoded picture, beside one that comes without, and one that waited too long.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{num::NonZeroUsize, ptr, sync::Arc};

use bytes::Bytes;
use cloudpose_annotate::{Config, Style};
use cloudpose_bus::{Attachment, Bus, Capacity};
use cloudpose_pixels::{Decoder, Encoder, PlanarImage, Pool, Subsampling};
use cloudpose_testing::sample;
use cloudpose_wire::{
    Decoded, DropReason, Event, Frame, FrameHeader, GatewayId, Keypoint, Kind, Output, Payload, Person,
    Prior, Skeleton, SkeletonName, Stage,
    event::{BoundingBox, TimingsMs},
    frame::{Draw, ResultBody},
    skeleton::KeypointKind,
};
use tokio_util::sync::CancellationToken;

fn jpeg(shade: u8) -> Bytes {
    let mut image = PlanarImage::new(320, 240, Subsampling::S420);
    let (mut luma, _) = image.planes_mut();
    for y in 0..luma.height {
        for (x, sample) in luma.row_mut(y).iter_mut().enumerate() {
            *sample = shade + (x / 4 + y / 3) as u8;
        }
    }
    Encoder::new().unwrap().encode(&image, 90).unwrap()
}

fn frame(seq: u64, image: impl Into<Payload>) -> Frame {
    let keypoint = |(i, kind): (usize, &KeypointKind)| Keypoint {
        name: kind.name.clone(),
        x: 40.0 + 13.0 * i as f32,
        y: if i % 2 == 0 { 60.0 } else { 180.0 },
        score: 0.9,
    };
    let person = Person {
        track_id: None,
        score: 0.9,
        bounding_box: BoundingBox::default(),
        keypoints: Skeleton::coco_17().keypoints().iter().enumerate().map(keypoint).collect(),
        coarse: false,
    };
    let header = FrameHeader { deadline_ms: 60_000, quality: 90, ..sample::header(Kind::Still, seq) };
    let FrameHeader { stream, model, .. } = header.clone();
    Frame {
        header,
        event: Some(
            Event {
                stream,
                seq,
                captured_at: 1,
                width: 320,
                height: 240,
                model,
                device: "cpu".into(),
                output: Output::Poses { skeleton: SkeletonName::default(), persons: vec![person] },
                timings_ms: TimingsMs::default(),
            }
            .into(),
        ),
        image: image.into(),
    }
}

#[tokio::test]
async fn the_overlay_is_the_same_with_the_picture_attached_and_it_is_not_decoded_again() {
    let bus = Bus::local(Capacity::default());
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let stop = CancellationToken::new();
    let config = Config { threads: NonZeroUsize::new(1), style: Style::default() };
    let worker = cloudpose_annotate::run(config, bus.clone(), stop.clone());

    let pool = Pool::new(1);
    let mut attached = pool.take().unwrap();
    let image = jpeg(30);
    Decoder::new(Default::default()).unwrap().decode(&image, &mut attached).unwrap();
    let decoded =
        Decoded::new(PlanarImage::clone(&attached), |_| Err("it does not leave this process".to_owned()));
    let frames = async {
        bus.publish(Stage::Annotate, frame(1, image)).await.unwrap();
        // Another image beside the picture: whichever is drawn on shows in the result.
        bus.publish_with(Stage::Annotate, frame(2, jpeg(90)), Attachment::new(attached)).await.unwrap();
        bus.publish_with(Stage::Annotate, frame(3, jpeg(90)), Attachment::new("no picture")).await.unwrap();
        bus.publish(Stage::Annotate, frame(4, jpeg(90))).await.unwrap();
        bus.publish(Stage::Annotate, frame(5, decoded)).await.unwrap();
        let mut overlays = Vec::new();
        for _ in 0..5 {
            match results.next().await.unwrap().body {
                ResultBody::Done { overlay, .. } => overlays.push(overlay.unwrap()),
                dropped => panic!("{dropped:?}"),
            }
        }
        stop.cancel();
        overlays
    };
    let (overlays, ran) = tokio::join!(frames, worker);
    ran.unwrap();
    assert_eq!(overlays[0], overlays[1], "drawn on the attached picture");
    assert_eq!(overlays[2], overlays[3], "what is no picture is left alone");
    assert_eq!(overlays[4], overlays[0], "the frame is itself a picture");
    assert_ne!(overlays[1], overlays[3]);
    assert!(pool.take().is_some(), "the picture came back to its pool");
}

#[tokio::test]
async fn a_frame_that_is_wanted_as_it_came_comes_so() {
    let bus = Bus::local(Capacity::default());
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let stop = CancellationToken::new();
    let config = Config { threads: NonZeroUsize::new(1), style: Style::default() };
    let worker = cloudpose_annotate::run(config, bus.clone(), stop.clone());
    // What is behind its end, or in it beside the picture, comes too.
    let sent = Bytes::from([&jpeg(30)[..], b"and more"].concat());
    let mut planes = PlanarImage::default();
    Decoder::new(Default::default()).unwrap().decode(&sent, &mut planes).unwrap();
    let encoded = Encoder::new().unwrap().encode(&planes, 90).unwrap();
    let decoded = Decoded::new(planes, |_| Err("it does not leave this process".to_owned()));
    let frames = async {
        let mut bodies = Vec::new();
        for image in [Payload::from(sent.clone()), decoded.into(), Bytes::from_static(b"no image").into()] {
            let mut frame = frame(1, image);
            frame.header.draw = Draw::Frame;
            bus.publish(Stage::Annotate, frame).await.unwrap();
            let result = results.next().await.unwrap();
            assert_eq!(result.draw, Draw::Frame);
            bodies.push(result.body);
        }
        stop.cancel();
        bodies
    };
    let (bodies, ran) = tokio::join!(frames, worker);
    ran.unwrap();
    let pictures = bodies.iter().map(|body| match body {
        ResultBody::Done { overlay, .. } => overlay.clone(),
        ResultBody::Dropped { .. } => None,
    });
    assert_eq!(pictures.collect::<Vec<_>>(), [Some(sent), Some(encoded), None]);
}

#[tokio::test]
async fn the_result_has_the_event_and_the_tracks_that_the_frame_came_with() {
    let bus = Bus::local(Capacity::default());
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let stop = CancellationToken::new();
    let config = Config { threads: NonZeroUsize::new(1), style: Style::default() };
    let worker = cloudpose_annotate::run(config, bus.clone(), stop.clone());
    let mut sent = frame(1, jpeg(30));
    let (event, prior) = (sample::spaced(&sent.event.unwrap()), Arc::new(Prior::default()));
    (sent.event, sent.header.prior) = (Some(event.clone()), Some(prior.clone()));
    let frames = async {
        bus.publish(Stage::Annotate, sent).await.unwrap();
        let body = results.next().await.unwrap().body;
        stop.cancel();
        body
    };
    let (body, ran) = tokio::join!(frames, worker);
    ran.unwrap();
    let ResultBody::Done { event: back, tracks: Some(tracks), .. } = body else { panic!("{body:?}") };
    assert!(ptr::eq(back.json(), event.json()) && Arc::ptr_eq(&tracks, &prior), "neither is copied");
}

#[tokio::test]
async fn a_frame_that_waited_too_long_is_not_drawn() {
    let bus = Bus::local(Capacity::default());
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let stop = CancellationToken::new();
    let config = Config { threads: NonZeroUsize::new(1), style: Style::default() };
    let worker = cloudpose_annotate::run(config, bus.clone(), stop.clone());
    let frames = async {
        let mut late = frame(1, jpeg(30));
        late.header.deadline_ms = 0;
        bus.publish(Stage::Annotate, late).await.unwrap();
        let body = results.next().await.unwrap().body;
        stop.cancel();
        body
    };
    let (body, ran) = tokio::join!(frames, worker);
    ran.unwrap();
    assert!(matches!(body, ResultBody::Dropped { reason: DropReason::Expired, .. }), "{body:?}");
}
