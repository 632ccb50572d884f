//! A broker that does not answer, or is gone: clients are answered all the same.

use cloudpose_bus::Capacity;
use cloudpose_ingest::Config;
use cloudpose_testing::{NatsServer, sample::bus};
use cloudpose_wire::{DropReason, ws::ErrorCode};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::stage::{Client, Heard, JPEG, Server, finish, soon};

#[tokio::test]
async fn client_is_answered_while_the_broker_is_silent() {
    let broker = NatsServer::start();
    let server = Server::with_bus(Config::default(), bus(&broker, Capacity::default()).await).await;
    let mut client = Client::greeted(&server, "?max_age_ms=10000").await;
    client.text(r#"{"type":"configure","drops":true}"#).await;
    client.image(JPEG).await;
    // So the results are listened for.
    assert_eq!(server.work().await, 1);
    assert_eq!(client.result(false).await, 1);

    broker.silence();
    client.image(JPEG).await;
    client.text(r#"{"type":"configure","quality":0}"#).await;
    // Before the broker's time is up, which the next frame's drop tells.
    client.error(ErrorCode::BadMessage).await;
    assert_eq!(client.dropped().await, (2, DropReason::BusDown));
    client.image(JPEG).await;
    soon(client.0.send(Message::Ping("there?".into()))).await.unwrap();
    assert_eq!(soon(client.0.next()).await.unwrap().unwrap(), Message::Pong("there?".into()));
    soon(client.0.close(None)).await.unwrap();
    let ledger = server.ledger(|ledger| ledger.accepted == 3 && ledger.in_flight() == 0).await;
    assert_eq!(ledger.dropped.get(&DropReason::ClientGone), Some(&1));
    server.stop().await;
}

#[tokio::test]
async fn gateway_whose_broker_is_gone_as_it_starts_serves_and_stops() {
    let mut broker = NatsServer::start();
    let connected = bus(&broker, Capacity::default()).await;
    broker.kill();
    soon(connected.wait_until(false)).await;
    let server = Server::with_bus(Config::default(), connected).await;
    assert_eq!(soon(reqwest::get(server.url("/health"))).await.unwrap().status(), 200);
    let post = reqwest::Client::new().post(server.url("/v1/pose"));
    let posted = soon(post.header("content-type", "image/jpeg").body(JPEG).send()).await.unwrap();
    assert_eq!(posted.status(), 503);
    let mut client = Client::greeted(&server, "").await;
    server.token.cancel();
    client.error(ErrorCode::ShuttingDown).await;
    server.stop().await;
}

#[tokio::test]
async fn frame_that_came_before_the_broker_gets_its_result() {
    let mut broker = NatsServer::start();
    let connected = bus(&broker, Capacity::default()).await;
    broker.kill();
    soon(connected.wait_until(false)).await;
    let server = Server::with_bus(Config::default(), connected).await;
    let mut client = Client::greeted(&server, "?mode=complete").await;
    client.image(JPEG).await;
    client.text(r#"{"type":"end"}"#).await;
    server.ledger(|ledger| ledger.in_flight() == 1).await;
    broker.start_again();
    let frame = server.frame().await;
    finish(&server.bus, frame).await;
    assert_eq!(client.result(false).await, 1);
    assert_eq!(client.next().await, Heard::Closed(1000));
    server.stop().await;
}
