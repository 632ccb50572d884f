//! A tenant's frames go to the same workers on NATS, and its events under subjects of its own.

#![expect(clippy::disallowed_methods, reason = "a test waits for its task")]

use std::time::Duration;

use cloudpose_bus::Capacity;
use cloudpose_testing::{
    NatsServer,
    sample::{bus, frame, pose},
    soon, subscribed,
};
use cloudpose_wire::{Kind, SessionId, Stage, Tenant};
use futures_util::StreamExt;

#[tokio::test]
async fn tenants_frames_reach_the_workers_and_its_events_are_apart() {
    let server = NatsServer::start();
    let bus = bus(&server, Capacity::default()).await;
    let acme = Tenant::new("acme").unwrap();
    for kind in [Kind::Live, Kind::Still] {
        let mut of_tenant = frame(kind, 1);
        of_tenant.header.caller.tenant = acme.clone();
        bus.publish(Stage::Infer, of_tenant.clone()).await.unwrap();
        let delivery = soon(bus.pull(Stage::Infer, 1)).await.remove(0);
        assert_eq!(delivery.frame.header.caller, of_tenant.header.caller);
        delivery.ack().await;
    }

    let client = async_nats::connect(server.url()).await.unwrap();
    let mut of_tenant = client.subscribe("test.tenants.acme.poses.*").await.unwrap();
    let mut of_others = client.subscribe("test.poses.>").await.unwrap();
    subscribed(&client).await;
    let mut all = bus.events().await;
    let session = SessionId::new("s-1").unwrap();
    bus.publish_event(&pose(1), &acme, Some(&session), None).await;
    bus.publish_event(&pose(2), &Tenant::default(), None, None).await;
    let told = soon(of_tenant.next()).await.unwrap();
    assert!(told.subject.starts_with("test.tenants.acme.poses."));
    let headers = told.headers.expect("an event says of which session it is");
    assert_eq!(headers.get("Cloudpose-Session").map(|name| name.as_str()), Some("s-1"));
    let other = soon(of_others.next()).await.unwrap();
    assert_eq!(other.headers, None, "nobody said of which");
    assert_eq!(other.payload, pose(2).json().get().as_bytes());
    let heard = [soon(all.next()).await.unwrap(), soon(all.next()).await.unwrap()];
    let mut seqs = heard.map(|event| event.event().unwrap().seq);
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2]);
}

#[tokio::test]
async fn who_waits_for_others_only_keeps_nothing_from_who_waits_for_anybody() {
    let server = NatsServer::start();
    let busy = bus(&server, Capacity::default()).await;
    let idle = bus(&server, Capacity::default()).await;
    // Its requests for both kinds stand with the broker when the live frame comes.
    let (first, ()) = tokio::join!(soon(busy.pull(Stage::Infer, 1)), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        busy.publish(Stage::Infer, frame(Kind::Live, 1)).await.unwrap();
    });
    let of_others = tokio::spawn({
        let busy = busy.clone();
        async move { busy.pull_others(Stage::Infer, &Tenant::default()).await }
    });
    // Longer than what nobody waits for is left standing.
    tokio::time::sleep(Duration::from_millis(200)).await;
    idle.publish(Stage::Infer, frame(Kind::Still, 2)).await.unwrap();
    let second = soon(idle.pull(Stage::Infer, 1)).await.remove(0);
    assert_eq!(second.frame.header.seq, 2);
    let mut of_acme = frame(Kind::Live, 3);
    of_acme.header.caller.tenant = Tenant::new("acme").unwrap();
    idle.publish(Stage::Infer, of_acme).await.unwrap();
    let third = soon(of_others).await.unwrap();
    assert_eq!(third.frame.header.seq, 3);
    for delivery in first.into_iter().chain([second, third]) {
        delivery.ack().await;
    }
}
