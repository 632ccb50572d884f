//! Every role works with the permissions that `deploy/nats/roles.conf` gives it, and can do no more.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod nats_server;
#[allow(dead_code, reason = "each test binary uses its part")]
mod sample;

use std::time::Duration;

use cloudpose_bus::{
    Bus, Limits,
    nats::{Config, Turn},
};
use cloudpose_wire::{GatewayId, Kind, Lane, Prefix, Stage, subject::DEFAULT_PREFIX};
use futures_util::StreamExt as _;
use nats_server::{NatsServer, PASSWORD};
use sample::{frame, pose};

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it never happens")
}

async fn bus(url: String) -> Bus {
    let prefix = Prefix::new(DEFAULT_PREFIX).unwrap();
    let config = Config { servers: vec![url], credentials: None, ca: None, prefix, turn: Turn::First };
    Bus::nats(&config, Limits::default()).await.unwrap()
}

#[tokio::test]
async fn roles_can_work_and_strangers_cannot() {
    let server = NatsServer::with("roles.conf");
    let [gateway, worker] = [bus(server.url_of("gateway")).await, bus(server.url_of("worker")).await];
    let listener = async_nats::ConnectOptions::with_user_and_password("listener".into(), PASSWORD.into());
    let listener = listener.connect(server.url()).await.unwrap();
    let mut heard = listener.subscribe("cloudpose.poses.>").await.unwrap();
    let mut overheard = listener.subscribe("cloudpose.results.>").await.unwrap();
    listener.flush().await.unwrap();
    let mut results = gateway.results(&GatewayId::new("g").unwrap()).await;

    for (kind, seq) in [(Kind::Live, 1), (Kind::Still, 2)] {
        gateway.publish(Stage::Infer, frame(kind, seq)).await.unwrap();
        // Handed back, and passed on from stage to stage, as workers do.
        soon(worker.pull(Stage::Infer, 1)).await.remove(0).hand_back().await;
        let taken = soon(worker.pull(Stage::Infer, 1)).await.remove(0);
        worker.publish_pose(&pose(seq), None).await;
        worker.publish(Stage::Annotate, taken.frame.clone()).await.unwrap();
        taken.ack().await;
        let drawn = soon(worker.pull(Stage::Annotate, 1)).await.remove(0);
        worker.reply(drawn.frame.header.done(pose(seq), None)).await;
        drawn.ack().await;
        assert_eq!(soon(results.next()).await.unwrap().seq, seq);
        assert!(!soon(heard.next()).await.unwrap().payload.is_empty());
    }

    listener.publish("cloudpose.infer.live.x", "intruder".into()).await.unwrap();
    listener.publish("cloudpose.poses.x", "intruder".into()).await.unwrap();
    listener.flush().await.unwrap();
    worker.publish_pose(&pose(3), None).await;
    let next = soon(heard.next()).await.unwrap();
    assert_ne!(&next.payload[..], b"intruder", "listeners only listen");
    assert_eq!(gateway.depth(Lane { stage: Stage::Infer, kind: Kind::Live }).await.frames, 0);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), overheard.next()).await.is_err(),
        "results are for gateways"
    );
    // A gateway takes no work away from the workers.
    worker.publish(Stage::Annotate, frame(Kind::Still, 4)).await.unwrap();
    let stolen = tokio::time::timeout(Duration::from_secs(1), gateway.pull(Stage::Annotate, 1)).await;
    assert!(stolen.is_err(), "{stolen:?}");
    let stranger = async_nats::connect(server.url()).await;
    assert!(stranger.is_err(), "nobody comes in without a name");
}
