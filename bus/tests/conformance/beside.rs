//! What goes with a frame, or is in it, and means something in this process only.

use std::{ptr, sync::Arc};

use bytes::Bytes;
use cloudpose_bus::{Attachment, Bus};
use cloudpose_testing::sample::{FOREIGN, foreign, frame, header, pose, spaced};
use cloudpose_wire::{
    Decoded, DropReason, Frame, FrameHeader, GatewayId, Kind, Payload, Prior, Stage, Tenant,
    frame::ResultBody,
};

/// Whether attachments arrive at all is the bus's own affair: `arrives` says so.
pub(super) async fn attachments_leave_no_process_and_come_once(bus: Bus, arrives: bool) {
    let publish = async |value: u32| {
        let frame = frame(Kind::Still, value.into());
        bus.publish_with(Stage::Annotate, frame, Attachment::new(value)).await.unwrap();
    };
    publish(7).await;
    let mut first = bus.pull(Stage::Annotate, 1).await.remove(0);
    let taken = first.attachment.take();
    assert_eq!(taken.and_then(Attachment::take::<u32>), arrives.then_some(7));
    assert_eq!(bus.carries_attachments(), arrives, "and the bus says so");
    drop(first);
    let again = bus.pull(Stage::Annotate, 1).await.remove(0);
    assert_eq!((again.frame.header.seq, again.attempt), (7, 2), "the frame comes all the same");
    assert!(again.attachment.is_none(), "what the dead worker held died with it");
    again.ack().await;

    publish(8).await;
    let mut other = bus.pull(Stage::Annotate, 1).await.remove(0);
    let taken = other.attachment.take();
    assert_eq!(taken.and_then(Attachment::take::<String>), None, "it was not a string");
    other.ack().await;

    bus.publish(Stage::Annotate, frame(Kind::Live, 9)).await.unwrap();
    let plain = bus.pull(Stage::Annotate, 1).await.remove(0);
    assert!(plain.attachment.is_none());
    plain.ack().await;
}

/// Pixels stay what they are in one process, also for who gets the frame after a worker's death; others get them encoded.
pub(super) async fn decoded_images_arrive_as_pixels_or_encoded(bus: Bus, as_pixels: bool) {
    let image = |encode: fn(&Vec<u8>) -> Result<Bytes, String>| Decoded::new(vec![1u8, 2], encode).into();
    let of = |image| Frame { image, ..frame(Kind::Still, 5) };
    bus.publish(Stage::Infer, of(image(|_| Ok(Bytes::from_static(b"encoded"))))).await.unwrap();
    for attempt in [1, 2] {
        let delivery = bus.pull(Stage::Infer, 1).await.remove(0);
        assert_eq!(delivery.attempt, attempt);
        match &delivery.frame.image {
            Payload::Decoded(pixels) if as_pixels => assert_eq!(pixels.get(), Some(&vec![1u8, 2])),
            image => assert_eq!((image, as_pixels), (&Bytes::from_static(b"encoded").into(), false)),
        }
        if attempt == 2 {
            delivery.ack().await;
        }
    }

    let published = bus.publish(Stage::Infer, of(image(|_| Err("too dark".to_owned())))).await;
    match published {
        Ok(()) if as_pixels => bus.pull(Stage::Infer, 1).await.remove(0).ack().await,
        Err(error) if !as_pixels => {
            assert_eq!(error.reason(), DropReason::Undecodable);
            assert!(error.to_string().contains("too dark"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// What is known of a frame is handed on as it came: nobody on the way reads it, or writes it anew. In one process
/// nothing of it is copied either.
pub(super) async fn what_is_known_of_a_frame_is_handed_on_as_it_came(bus: Bus, in_process: bool) {
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let (event, prior) = (foreign(), Arc::new(Prior::default()));
    let header = FrameHeader { prior: Some(prior.clone()), ..header(Kind::Still, 1) };
    let image = Bytes::from_static(b"a picture");
    let sent = Frame { header, event: Some(event.clone()), image: image.clone().into() };
    bus.publish(Stage::Annotate, sent).await.unwrap();
    let delivery = bus.pull(Stage::Annotate, 1).await.remove(0);
    let Frame { header, event: Some(came), image: Payload::Encoded(seen) } = &delivery.frame else {
        panic!("{:?}", delivery.frame)
    };
    bus.reply(header.done(came.clone(), Some(image.clone()))).await.unwrap();
    let ResultBody::Done { event: back, overlay, tracks } = results.next().await.unwrap().body else {
        panic!("it was done")
    };
    for event_there in [came, &back] {
        assert_eq!(event_there.json().get(), FOREIGN);
        assert_eq!(ptr::eq(event_there.json(), event.json()), in_process);
    }
    for prior_there in [&header.prior, &tracks] {
        assert_eq!(prior_there.as_ref().unwrap(), &prior);
        assert_eq!(Arc::ptr_eq(prior_there.as_ref().unwrap(), &prior), in_process);
    }
    for image_there in [seen, &overlay.unwrap()] {
        assert_eq!(image_there, &image);
        assert_eq!(ptr::eq(&raw const image_there[..], &raw const image[..]), in_process);
    }
    delivery.ack().await;
}

/// An event is written for listeners as it is for everybody else.
pub(super) async fn listeners_get_the_event_as_it_was_written(bus: Bus, in_process: bool) {
    let mut events = bus.events().await;
    let event = spaced(&pose(1));
    bus.publish_event(&event, &Tenant::default(), None, None).await;
    let heard = events.next().await.unwrap();
    assert_eq!(heard.json().get(), event.json().get());
    assert_eq!(ptr::eq(heard.json(), event.json()), in_process);
}
