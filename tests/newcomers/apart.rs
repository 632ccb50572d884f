//! Newcomers on NATS: each role on a connection of its own, and what subscribers see.

use async_nats::Subscriber;
use cloudpose_bus::{Bus, Capacity, nats};
use cloudpose_testing::{NatsServer, soon};
use cloudpose_wire::Output;
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::{
    folder::kite_json,
    house::{House, Session},
    painting::{Seen, joints, joints_at, kite_at},
};

const MIDDLE: [i32; 2] = [150, 110];

/// Roles apart, and who listens to a subject.
async fn apart(nats: &NatsServer, model: &str, subject: &'static str) -> (House, Subscriber) {
    let config = nats::Config::at(nats.url());
    let bus = async || Bus::nats(&config, Capacity::default()).await.unwrap();
    let house = House::apart(model, [bus().await, bus().await, bus().await]).await;
    let listener = async_nats::connect(nats.url()).await.unwrap();
    let events = listener.subscribe(subject).await.unwrap();
    cloudpose_testing::subscribed(&listener).await;
    (house, events)
}

async fn next(events: &mut Subscriber) -> (String, Value) {
    let message = soon(events.next()).await.unwrap();
    (message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap())
}

#[tokio::test]
async fn poses_name_their_skeleton_and_the_annotator_knows_it() {
    let nats = NatsServer::start();
    let (house, mut events) = apart(&nats, "tiny", "cloudpose.poses.*").await;
    assert_eq!(house.models().await["models"][0]["skeleton"], kite_json(), "as the worker announced it");
    let mut session =
        Session::open(&house, "stream=cam&want=both&mode=complete&smooth=false&quality=100").await;
    for seq in 1..=4 {
        session.image(kite_at(MIDDLE)).await;
        let (event, picture) = session.result().await;
        let persons = event.as_ref().unwrap().output.persons();
        assert_eq!(joints(&persons[0]), joints_at(MIDDLE));
        Seen::new(&picture.unwrap()).shows_kite(MIDDLE);
        let (subject, published) = next(&mut events).await;
        assert_eq!((subject.as_str(), &published["seq"]), ("cloudpose.poses.cam", &seq.into()));
        assert_eq!(published["skeleton"], "kite-5");
        assert!(published.get("classes").is_none());
        let told = if seq > 3 { Value::from(1) } else { Value::Null };
        assert_eq!(published["persons"][0]["track_id"], told, "frame {seq}");
    }
}

#[tokio::test]
async fn classes_have_a_subject_of_their_own() {
    let nats = NatsServer::start();
    let (house, mut events) = apart(&nats, "hue", "cloudpose.*.cam").await;
    let mut session = Session::open(&house, "stream=cam&want=both&mode=complete").await;
    session.image(kite_at(MIDDLE)).await;
    let (event, picture) = session.result().await;
    let event = event.unwrap();
    let Output::Classes(classes) = &event.output else { panic!("{event:?}") };
    assert!(picture.is_some(), "as it came");
    let (subject, published) = next(&mut events).await;
    assert_eq!(subject, "cloudpose.classes.cam");
    assert_eq!(published["classes"][0]["label"], classes[0].label.as_str());
    assert!(published.get("persons").is_none() && published.get("skeleton").is_none());
    session.text(r#"{"type":"configure","model":"tiny"}"#).await;
    session.image(kite_at(MIDDLE)).await;
    assert_eq!(next(&mut events).await.0, "cloudpose.poses.cam", "nothing else was said of the classes");
}
