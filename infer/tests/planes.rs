//! A frame whose pixels are decoded already, by a door that reads video, is worked on as one that is not.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

use std::{num::NonZeroUsize, sync::Arc};

use cloudpose_bus::{Bus, Capacity};
use cloudpose_infer::{Detail, Image, Job, Models, Pipeline, StoreConfig, Worker};
use cloudpose_pixels::{Decoder, PlanarImage};
use cloudpose_testing::{golden, sample::frame};
use cloudpose_wire::{Decoded, Frame, Kind, ModelId, Payload, Stage};
use tokio_util::sync::CancellationToken;

fn planes(jpeg: &[u8]) -> PlanarImage {
    let mut planes = PlanarImage::default();
    Decoder::new(Default::default()).unwrap().decode(jpeg, &mut planes).unwrap();
    planes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decoded_pixels_are_looked_at_and_go_on_as_they_are() {
    let jpeg = golden::jpeg("demo_f000");
    let model = ModelId::new("lightning").unwrap();
    let models = Arc::new(Models::open(&StoreConfig::default()).unwrap());
    let mut pipeline = Pipeline::on_cpu(models.clone(), NonZeroUsize::MIN).unwrap();
    let job = |image| Job {
        image,
        detail: Detail::Full,
        model: &model,
        min_score: 0.2,
        top: cloudpose_wire::frame::USUAL_TOP,
        past: None,
        stream: None,
        pictures: None,
    };
    let pixels = planes(&jpeg);
    let expected = pipeline.detect(job(Image::Encoded(&jpeg))).unwrap();
    let found = pipeline.detect(job(Image::Planes(&pixels))).unwrap();
    assert_eq!((found.width, found.height), (expected.width, expected.height));
    assert_eq!(found.output, expected.output);

    let decoded = Decoded::new(pixels, |_| Err("it does not leave this process".to_owned()));
    let mut frame = Frame { event: None, image: decoded.clone().into(), ..frame(Kind::Live, 1) };
    (frame.header.model, frame.header.min_score) = (model.clone(), 0.2);
    let bus = Bus::local(Capacity::default());
    let worker = Worker::with_pipelines(models, vec![pipeline]);
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker.run(bus.clone(), stop.clone()));
    bus.publish(Stage::Infer, frame).await.unwrap();
    let mut passed_on = bus.pull(Stage::Annotate, 1).await.remove(0);
    assert_eq!(passed_on.frame.image, Payload::Decoded(decoded));
    assert!(passed_on.attachment.take().is_none(), "there is one copy of the picture");
    let event = passed_on.frame.event.as_ref().unwrap().event().unwrap().clone();
    assert_eq!(event.output, expected.output);
    passed_on.ack().await;
    stop.cancel();
    working.await.unwrap().unwrap();
}
