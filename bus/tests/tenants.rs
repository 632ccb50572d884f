//! A tenant's frames go to the same workers on NATS, and its events under subjects of its own.

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
