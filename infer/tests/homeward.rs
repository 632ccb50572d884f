//! What a worker found goes home as it was written once, whoever gets it.

use std::{num::NonZeroUsize, ptr, sync::Arc};

use bytes::Bytes;
use cloudpose_bus::{Bus, Capacity};
use cloudpose_infer::{Models, Pipeline, StoreConfig, Worker};
use cloudpose_testing::{golden::photo, sample, soon};
use cloudpose_wire::{
    Draw, Frame, FrameHeader, GatewayId, Kind, ModelId, Payload, Prior, SharedEvent, Stage, Want,
    frame::ResultBody,
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn listener_client_and_annotator_get_one_event_and_the_image_as_it_came() {
    let models = Arc::new(Models::open(&StoreConfig::default()).unwrap());
    let pipeline = Pipeline::on_cpu(models.clone(), NonZeroUsize::MIN).unwrap();
    let worker = Worker::with_pipelines(models, vec![pipeline]);
    let bus = Bus::local(Capacity::default());
    let mut events = bus.events().await;
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let stop = CancellationToken::new();
    let image = Bytes::from(photo());
    let frame = |seq, want| {
        let header = FrameHeader {
            want,
            deadline_ms: 240_000,
            model: ModelId::new("lightning").unwrap(),
            prior: Some(Arc::new(Prior::default())),
            ..sample::header(Kind::Still, seq)
        };
        Frame { header, event: None, image: image.clone().into() }
    };
    let same = |event: &SharedEvent, heard: &SharedEvent, seq| {
        assert_eq!(heard.event().unwrap().seq, seq);
        assert!(ptr::eq(event.json(), heard.json()), "the JSON of frame {seq} is written once");
    };
    let listen = async {
        bus.publish(Stage::Infer, frame(1, Want::Pose)).await.unwrap();
        let body = soon(results.next()).await.unwrap().body;
        let ResultBody::Done { event, tracks: Some(_), .. } = body else { panic!("{body:?}") };
        same(&event, &events.next().await.unwrap(), 1);

        bus.publish(Stage::Infer, frame(2, Want::Both)).await.unwrap();
        let next = soon(bus.pull(Stage::Annotate, 1)).await.remove(0);
        same(next.frame.event.as_ref().unwrap(), &events.next().await.unwrap(), 2);
        let Payload::Encoded(handed_on) = &next.frame.image else { panic!("it came encoded") };
        assert!(ptr::eq(&raw const handed_on[..], &raw const image[..]), "the image is not copied");
        next.ack().await;

        // Watched: the session gets its result as ever, and one copy for each way of drawing goes on beside it.
        let mut watched = frame(3, Want::Pose);
        watched.header.watched = vec![Draw::Overlay, Draw::Redacted];
        bus.publish(Stage::Infer, watched).await.unwrap();
        let result = soon(results.next()).await.unwrap();
        assert!(!result.aside);
        let ResultBody::Done { event, overlay: None, tracks: Some(_) } = result.body else {
            panic!("no poses")
        };
        let listened = events.next().await.unwrap();
        same(&event, &listened, 3);
        for draw in [Draw::Overlay, Draw::Redacted] {
            let copy = soon(bus.pull(Stage::Annotate, 1)).await.remove(0);
            assert_eq!((copy.frame.header.draw, copy.frame.header.aside), (draw, true));
            assert_eq!(copy.frame.header.route.kind(), Kind::Live, "it may be lost");
            same(copy.frame.event.as_ref().unwrap(), &listened, 3);
            copy.ack().await;
        }
        stop.cancel();
    };
    let ((), worked) = tokio::join!(listen, worker.run(bus.clone(), stop.clone()));
    worked.unwrap();
}
