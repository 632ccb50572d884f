//! One stream, one session, where sessions are at several gateways on a real nats-server.

use std::time::Duration;

use cloudpose_bus::Capacity;
use cloudpose_ingest::Config;
use cloudpose_testing::{NatsServer, sample::bus};
use cloudpose_wire::ws::{ErrorCode, ServerMessage};

use crate::stage::{Client, Heard, Server, soon};

async fn gateway(nats: &NatsServer) -> Server {
    Server::with_bus(Config::default(), bus(nats, Capacity::default()).await).await
}

async fn is_told_that_it_is_taken(client: &mut Client) {
    client.error(ErrorCode::StreamTaken).await;
    assert_eq!(client.next().await, Heard::Closed(1008));
}

async fn is_refused(server: &Server, query: &str) {
    is_told_that_it_is_taken(&mut Client::connect(server, query).await).await;
}

#[tokio::test]
async fn a_stream_that_another_gateway_has_is_refused_or_taken_over() {
    let nats = NatsServer::start();
    let (one, other) = (gateway(&nats).await, gateway(&nats).await);
    let mut first = Client::greeted(&one, "?stream=cam").await;
    is_refused(&other, "?stream=cam&if_taken=refuse").await;
    // The gateways have heard of each other by now, and not yet of this stream.
    let _another = Client::greeted(&one, "?stream=lot").await;
    is_refused(&other, "?stream=lot&if_taken=refuse").await;
    let mut second = Client::greeted(&other, "?stream=cam").await;
    is_refused(&one, "?stream=cam&if_taken=refuse").await;
    let mut third = Client::greeted(&other, "?stream=cam&if_taken=take_over").await;
    is_told_that_it_is_taken(&mut first).await;
    is_told_that_it_is_taken(&mut second).await;
    for server in [&one, &other] {
        is_refused(server, "?stream=cam").await;
        is_refused(server, "?stream=cam&if_taken=refuse").await;
        Client::greeted(server, "?stream=another").await;
    }
    let fourth = Client::greeted(&one, "?stream=cam&if_taken=take_over").await;
    is_told_that_it_is_taken(&mut third).await;
    is_refused(&other, "?stream=cam").await;
    drop(fourth);
    soon(async {
        loop {
            let mut client = Client::connect(&other, "?stream=cam&if_taken=refuse").await;
            if let Heard::Message(ServerMessage::Hello { .. }) = client.next().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn of_two_who_take_a_stream_over_at_once_the_later_one_stays() {
    let nats = NatsServer::start();
    let (one, other) = (gateway(&nats).await, gateway(&nats).await);
    let mut earlier = Client::greeted(&one, "?stream=cam&if_taken=take_over").await;
    let later = Client::greeted(&other, "?stream=cam&if_taken=take_over").await;
    is_told_that_it_is_taken(&mut earlier).await;
    for server in [&one, &other] {
        is_refused(server, "?stream=cam").await;
    }
    drop(later);
    one.stop().await;
    other.stop().await;
}
